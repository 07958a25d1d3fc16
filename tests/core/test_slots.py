"""What comes next on several slots: the pure order of waves, stacks and parallel runs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autoresearch_kernel.core.grounds import Grounds, grounds_of
from autoresearch_kernel.core.next_step import Action, of_undecided, rule_says
from autoresearch_kernel.core.slots import next_for_slots, of_run
from autoresearch_kernel.core.state import Stacking, StudyState
from autoresearch_kernel.core.types import Audit, Cause, Experiment, Run, Status
from autoresearch_kernel.core.waves import STACK, due, stack_sizes, stack_to_propose, wave_to_stack

BASELINE_RUNS = tuple(Run(index, seed=index, val_bpb=1.5 + index / 1000) for index in range(4))
BASELINE = Experiment(0, "", "baseline", None, runs=BASELINE_RUNS, status=Status.KEEP, val_bpb=1.5)


def tried(number: int, score: float, status: Status | None = None, **others: object) -> Experiment:
    audit = Audit(True, 0.0, 0.0, 256, 0, "", 0.1)
    run = Run(0, seed=number, val_bpb=score, audit=audit, num_decided=min(1, number))
    facts = {"runs": (run,), "status": status, "val_bpb": score if status else None} | others
    return Experiment(number, f"Idea {number}", "search", 0, **facts)  # type: ignore[arg-type]


def state(*experiments: Experiment, incumbent: int | None = 0) -> StudyState:
    every = (BASELINE, *experiments)
    return StudyState(experiments=every, incumbent=None if incumbent is None else every[incumbent])


@pytest.mark.parametrize(
    ("num_candidates", "sizes"),
    [(0, []), (1, [1]), (2, [1, 2]), (5, [1, 2, 3, 4, 5]), (13, [1, 2, 3, 4, 6, 8, 12, 13])],
)
def test_stacks_grow_by_halves_and_hold_all_candidates_at_last(num_candidates: int, sizes: list[int]) -> None:
    assert stack_sizes(num_candidates) == sizes


def test_what_is_promising_waits_and_the_next_one_is_proposed() -> None:
    promising = tried(1, 1.2)
    assert due(promising, state(promising)) is None
    step = next_for_slots(state(promising, tried(2, 1.6)), {(2, None)}, 2)
    assert step is not None and step.action is Action.PROPOSE


def test_a_wave_is_stacked_once_all_of_it_are_tried() -> None:
    members = [tried(1, 1.2), tried(2, 1.6, Status.DISCARD), tried(3, 1.1), tried(4, 1.6, Status.DISCARD)]
    assert wave_to_stack(state(*members), {(3, None)}, 2) is None
    wave = wave_to_stack(state(*members), set(), 2)
    assert wave is not None and [e.number for e in wave.candidates] == [3, 1] and wave.end == 5
    step = next_for_slots(state(*members), set(), 2)
    assert step is not None and step.action is Action.STACK
    assert wave_to_stack(state(*members[:3]), set(), 2) is None


def test_the_best_of_those_that_have_won_is_kept_and_the_others_are_not() -> None:
    stacking = Stacking(2, 0, (1,), ((1, 9),), wave_end=2, num_runs=4)
    won = [tried(1, 1.2, beat=0), replace(tried(2, 1.1, beat=0, details={"merged": [1, 9]}), agent=STACK)]
    step = next_for_slots(replace(state(*won), stacking=stacking), set(), 2)
    assert step is not None and step.experiment == 2 and step.action is Action.DECIDE
    kept = replace(won[1], status=Status.KEEP, val_bpb=1.1)
    after = replace(state(won[0], kept, incumbent=2), stacking=stacking)
    step = next_for_slots(after, set(), 2)
    assert step is not None and (step.experiment, step.status, step.wave) == (1, Status.DISCARD, (2,))


def test_a_run_of_the_incumbent_that_something_waits_for_is_not_given_out_twice() -> None:
    slow = replace(tried(1, 1.4), decided_before=5)
    measured = {"relative_machine_speed": 0.5, "relative_speed": 0.5}
    now = state(replace(slow, runs=(replace(slow.runs[0], measured=measured, causes=(Cause.SLOW,)),)))
    step = of_undecided(now.experiments[1], now)
    assert (step.experiment, step.run) == (0, 4), "else this says nothing"
    assert next_for_slots(now, set(), 2) == step
    other = next_for_slots(now, {(0, 4)}, 2)
    assert other is not None and other.action is Action.PROPOSE


def test_the_runs_of_the_baseline_fill_the_slots_to_the_last_round() -> None:
    now = StudyState(experiments=(replace(BASELINE, runs=(), status=None, val_bpb=None),))
    busy: set[tuple[int, int | None]] = set()
    for _ in range(4):
        step = next_for_slots(now, busy, 2)
        assert step is not None and step.action is Action.TRAIN
        busy.add((0, step.run))
    assert busy == {(0, run) for run in range(4)}, "three are needed, and four fill two slots twice"
    assert next_for_slots(now, busy, 2) is None


def test_a_study_ends_when_nothing_is_in_work() -> None:
    assert next_for_slots(state(tried(1, 1.6)), {(1, None)}, 2, is_ending=True) is None
    step = next_for_slots(state(tried(1, 1.6, Status.DISCARD)), set(), 2, is_ending=True)
    assert step is not None and step.action is Action.CONCLUDE and step.experiment == 0


def test_stacks_are_proposed_one_after_the_other_and_not_those_that_users_refused() -> None:
    stacking = Stacking(3, 0, (2, 1), ((2, 1), (2, 1, 3)), wave_end=3, num_runs=4)
    now = replace(state(tried(1, 1.2), tried(2, 1.1)), stacking=stacking)
    assert stack_to_propose(now) == (2, 1)
    stack = replace(tried(3, 1.05, details={"merged": [2, 1]}), agent=STACK)
    assert stack_to_propose(replace(now, experiments=(*now.experiments, stack))) == (2, 1, 3)
    refused = replace(stacking, refused=((2, 1), (2, 1, 3)))
    assert stack_to_propose(replace(now, stacking=refused)) == ()


def test_a_challenger_is_compared_with_its_parent_where_another_one_was_kept_meanwhile() -> None:
    newer = tried(1, 1.2, Status.KEEP)
    late, present = tried(2, 1.4), replace(tried(3, 1.4), parent=1)
    now = state(newer, late, present, incumbent=1)
    assert now.reference_for(late) is now.experiments[0] and now.reference_for(present) is now.incumbent
    assert "its parent's" in rule_says(late, now)[1] and "the incumbent's" in rule_says(present, now)[1]
    refused = state(replace(newer, status=Status.REJECTED), replace(tried(2, 1.4), parent=1))
    assert refused.reference_for(refused.experiments[2]) is refused.incumbent


def test_a_run_among_several_is_resumed_from_where_it_stands() -> None:
    cut_off = Run(1, seed=1, status=Status.INTERRUPTED)
    twice = replace(cut_off, attempts=2, causes=(Cause.GONE,))
    challenger = replace(tried(1, 1.2), runs=(tried(1, 1.2).runs[0], cut_off))
    step = of_run(challenger, 1)
    assert step is not None and step.action is Action.TRAIN
    assert of_run(replace(challenger, runs=(challenger.runs[0], twice)), 1) is None
    trained = replace(challenger, runs=(challenger.runs[0], Run(1, seed=1)))
    step = of_run(trained, 1)
    assert step is not None and step.action is Action.SCORE


def test_nothing_is_compared_with_a_run_of_the_incumbent_that_awaits_its_audit() -> None:
    """It is in work on another slot; `verify` computes a decision from the record, which has that score already."""
    kept = tried(1, 1.2, Status.KEEP)
    late = Run(1, seed=9, val_bpb=1.3, num_decided=2)
    audited = replace(late, audit=kept.runs[0].audit)
    challenger = replace(tried(2, 1.22), parent=1)
    found = {}
    for name, runs in {"one run": (), "in work": (late,), "complete": (audited,)}.items():
        now = state(replace(kept, runs=(*kept.runs, *runs)), challenger, incumbent=1)
        found[name] = grounds_of(challenger, now)
    assert found["in work"] == found["one run"] != found["complete"]
    assert isinstance(found["complete"], Grounds) and found["complete"].incumbent_runs == (0, 1)


def test_on_another_kind_of_machine_nothing_is_proposed_before_the_incumbent_has_two_audited_runs_there() -> None:
    """Else an experiment would be proposed again and again that no slot may take."""
    kept = tried(1, 1.2, Status.KEEP)
    audit = kept.runs[0].audit
    there = [Run(n, seed=n, val_bpb=1.21, num_decided=2, machine="X", audit=audit) for n in (1, 2)]
    in_audit = replace(there[1], audit=None)
    kinds = {"": 2, "X": 2}
    for late, busy, action in ((in_audit, {(1, 2)}, None), (there[1], set[tuple[int, int | None]](), Action.PROPOSE)):
        now = state(replace(kept, runs=(*kept.runs, there[0], late)), incumbent=1)
        step = next_for_slots(now, busy, 4, machine="X", kinds=kinds)
        assert (step and step.action) is action
