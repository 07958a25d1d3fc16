"""Waves: experiments on several slots that are tried together, and the merges, called *stacks*, of the promising ones.

A wave is twice as many proposals as there are slots, each made from the incumbent at that time and trained once. It is
discarded at once unless its one run is *promising*, by the rule and against its own parent. When all of a wave are
tried, the promising ones are stacked: the changes of the best one, the best two, three, four, six, eight, ... are
merged into the incumbent, and each of these stacks is an experiment of its own with fresh seeds, which the rule judges
as usual. The best stack that beats the incumbent is kept. Meanwhile the incumbent runs again.

So many small gains are found together, none of which a run or two could tell from luck; docs/machines.md has the
figures. `slots.py` says what a free slot does next, and asks the functions here.
"""

from __future__ import annotations

import math
from collections.abc import Set
from dataclasses import dataclass, replace

from .decide import mean
from .next_step import Action, Step, of_undecided
from .state import Stacking, StudyState
from .types import Experiment, Status

STACK = "stack"  # the name of the agent of a stack
PROPOSALS_OF_A_SLOT = 2  # in a wave
RERUNS, MOST_RUNS = 2, 8  # of the incumbent while stacks are tried, as long as it has fewer runs than this
Busy = Set[tuple[int, int | None]]  # what is in work: an experiment and one run of it, or None for all of it


def due(experiment: Experiment, state: StudyState, is_ending: bool = False) -> Step | None:
    """The next step of an experiment in work; None while it is promising, or has won, and waits for its wave."""
    step = of_undecided(experiment, state)
    if step.experiment != experiment.number:  # a run of the incumbent comes first
        return step
    if is_win(step) and state.incumbent is not None and experiment.beat == state.incumbent.number:
        return None
    is_promising = is_win(step) or (step.action is Action.TRAIN and step.run > 0 and bool(experiment.scores))
    return None if is_promising and not is_judged_alone(experiment, state, is_ending) else step


def is_win(step: Step) -> bool:
    """Whether a step would keep an experiment, which then waits for the others of its wave."""
    return step.action is Action.DECIDE and step.status is Status.KEEP


def is_stack(experiment: Experiment) -> bool:
    """Whether it is a merge of promising experiments; a user may have edited it before it trained."""
    return bool(experiment.details.get("merged"))


def is_judged_alone(experiment: Experiment, state: StudyState, is_ending: bool) -> bool:
    """Whether further runs decide on it: a stack, the best of a wave, and at the end all that is promising."""
    incumbent, stacking = state.incumbent, state.stacking
    if incumbent is None or is_stack(experiment):
        return True
    if experiment.machine:
        return False
    if experiment.parent != incumbent.number:
        return False
    return is_ending or (stacking is not None and experiment.number == next(iter(stacking.candidates), None))


@dataclass(frozen=True)
class Wave:
    """Experiments that are all tried."""

    candidates: tuple[Experiment, ...]  # the promising ones, the best first
    end: int  # number of the first experiment after the wave


def wave_to_stack(state: StudyState, busy: Busy, num_slots: int) -> Wave | None:
    """The wave whose promising experiments are to be merged now; None while it is not complete."""
    since = 1 if state.stacking is None else state.stacking.wave_end
    members = [e for e in state.experiments if e.number >= since and e.number > 0 and not is_stack(e)]
    members = members[: PROPOSALS_OF_A_SLOT * num_slots]
    numbers = {number for number, _ in busy}
    is_tried = all(e.status is not None or (e.number not in numbers and due(e, state) is None) for e in members)
    if len(members) < PROPOSALS_OF_A_SLOT * num_slots or not is_tried:
        return None
    candidates = [e for e in members if e.status is None]
    is_mixed = len({e.machine for e in candidates}) > 1  # then in the order of what each has gained on its kind
    candidates.sort(key=(lambda e: _gain(e, state)) if is_mixed else _score)
    return Wave(tuple(candidates), members[-1].number + 1)


def stack_to_propose(state: StudyState) -> tuple[int, ...]:
    """The numbers of the experiments whose merged changes are proposed next; () where there is none."""
    stacking, incumbent = state.stacking, state.incumbent
    if stacking is None or incumbent is None or incumbent.number != stacking.incumbent:
        return ()
    tried = [tuple(e.details.get("merged") or ()) for e in state.experiments if e.number >= stacking.number]
    return next((stack for stack in stacking.stacks if stack not in tried and stack not in stacking.refused), ())


def stack_sizes(num_candidates: int) -> list[int]:
    """How many are merged: 1, 2, 3, 4, 6, 8, 12, 16, ... and all of them."""
    sizes = [size for power in range(num_candidates.bit_length() + 1) for size in (2**power, 3 * 2**power // 2)]
    return sorted({size for size in (*sizes, num_candidates) if 1 <= size <= num_candidates})


def of_wave(state: StudyState, busy: Busy, num_slots: int, is_ending: bool) -> Step | None:
    """What the present wave needs beside the steps of its experiments; None for nothing now."""
    incumbent, stacking = state.incumbent, state.stacking
    assert incumbent is not None
    if not is_ending and stack_to_propose(state):
        return Step(Action.PROPOSE, len(state.experiments), why=STACK)
    numbers, complete = {number for number, _ in busy}, without_runs(state, busy)
    alone = [e for e in state.in_work if is_judged_alone(e, state, is_ending)]
    if alone and all(e.beat == incumbent.number and e.number not in numbers for e in alone):
        step = of_undecided(min(alone, key=_score), complete)
        return None if step.experiment == incumbent.number and incumbent.number in numbers else step
    if alone:
        rerun = _rerun(incumbent, stacking) if not is_ending and stacking is not None else None
        return None if rerun is not None and (rerun.experiment, rerun.run) in busy else rerun
    if not is_ending and wave_to_stack(state, busy, num_slots) is not None:
        return Step(Action.STACK, len(state.experiments))
    return None


def _rerun(incumbent: Experiment, stacking: Stacking) -> Step | None:
    """A run of the incumbent beside the stacks that are compared with it."""
    is_enough = len(incumbent.on("").runs) >= min(MOST_RUNS, stacking.num_runs + RERUNS)
    if is_enough or incumbent.number != stacking.incumbent:
        return None
    return Step(Action.TRAIN, incumbent.number, incumbent.next_run, "stacks are compared with it")


def _score(experiment: Experiment) -> float:
    return mean(experiment.scores)


def _gain(experiment: Experiment, state: StudyState) -> float:
    """Difference to what it is compared with, on its own kind of machine; negative is better."""
    level = state.level_for(experiment)
    return mean(experiment.scores) - level.bpb if level is not None else math.inf


def discard_after_wave(experiment: Experiment, state: StudyState, is_ending: bool) -> Step | None:
    """The discard of an experiment that waited for its wave and is not judged alone; None for any other."""
    incumbent, stacking = state.incumbent, state.stacking
    assert incumbent is not None

    def discard(why: str, *wave: int) -> Step:
        return Step(Action.DECIDE, experiment.number, why=why, status=Status.DISCARD, wave=wave)

    if experiment.beat not in (None, incumbent.number):
        why = f"it beat {experiment.beat:04d}, and {incumbent.number:04d} of the same wave did so by more"
        return discard(why, incumbent.number)
    if not experiment.scores or is_judged_alone(experiment, state, is_ending):
        return None
    if stacking is not None and experiment.number in stacking.candidates and not stack_to_propose(state):
        if state.study.get("agent") == "replay":
            why = "promising, but a recorded study is made again without stacks, and another one is best of its wave"
            return discard(why, *stacking.candidates)
        if not any(experiment.number in stack for stack in stacking.stacks):
            return discard("promising, but a better one of its wave changed the same lines", *stacking.candidates)
        numbers = ", ".join(f"{number:04d}" for number in stacking.candidates)
        return discard(f"promising: its change is tried together with others, of {numbers}", *stacking.candidates)
    if is_ending and due(experiment, state) is None:
        return discard(f"promising against {experiment.parent:04d}, but its wave was not completed", incumbent.number)
    return None


def without_runs(state: StudyState, busy: Busy) -> StudyState:
    """The state without the runs that are in work."""
    experiments = tuple(
        replace(e, runs=tuple(run for run in e.runs if (e.number, run.index) not in busy)) for e in state.experiments
    )
    incumbent = None if state.incumbent is None else experiments[state.incumbent.number]
    return replace(state, experiments=experiments, incumbent=incumbent)
