"""The rule on machines that others use: histories as they were recorded, and campaigns with known truth."""

from __future__ import annotations

import pytest

from autoresearch_kernel.core.drift import void_by_speed
from autoresearch_kernel.core.next_step import Action, next_step
from autoresearch_kernel.core.state import StudyState
from autoresearch_kernel.core.types import Audit, Experiment, Run, Status
from benchmarks import busy_machine

FINE = Audit(True, 0.0, 0.0, 256, 0, "", 1.0)
FACTS = {"hardware": {"device": "cpu"}, "time_budget_seconds": 20}


def runs(*speeds_and_scores: tuple[float, float], is_measured: bool = False, at: int = 0) -> tuple[Run, ...]:
    """As recorded: the speed in any unit, by the code's report or by the supervisor's measure too."""
    return tuple(
        Run(i, i, val_bpb=score, num_decided=at, audit=FINE,
            measured={"tokens_per_second": speed} | ({"machine_speed": speed} if is_measured else {}))
        for i, (speed, score) in enumerate(speeds_and_scores)
    )  # fmt: skip


def baseline(*speeds_and_scores: tuple[float, float], decided: bool, is_measured: bool = False) -> StudyState:
    status = Status.KEEP if decided else None
    found = Experiment(0, "", "", None, runs=runs(*speeds_and_scores, is_measured=is_measured), status=status)
    return StudyState(FACTS, (found,), found if decided else None)


def challenged(state: StudyState, *speeds_and_scores: tuple[float, float], is_measured: bool = False) -> StudyState:
    """With a challenger; its speed relative to the incumbent's is 1 where nothing else is said."""
    incumbent = state.incumbent
    assert incumbent is not None
    mine = runs(*speeds_and_scores, is_measured=is_measured, at=1)
    challenger = Experiment(1, "", "", 0, runs=mine)
    return StudyState(FACTS, (incumbent, challenger), incumbent)


TWO_AGREE = ((1.0, 2.4544), (1.68, 2.2256), (1.0, 2.4487))


@pytest.mark.parametrize("is_measured", [True, False])
def test_two_runs_that_agree_by_chance_are_no_estimate_of_the_noise(is_measured: bool) -> None:
    """Recorded: sigma 0.0041 of the two slow runs; a no-op of 2.4411 was kept at "-3.2 sigma"."""
    begun = next_step(baseline(*TWO_AGREE, decided=False, is_measured=is_measured))
    assert (begun.action, begun.experiment, begun.run) == (Action.TRAIN, 0, 3) and "like speed" in begun.why
    old = challenged(
        baseline(*TWO_AGREE, decided=True, is_measured=is_measured), (1.0, 2.4411), is_measured=is_measured
    )
    assert old.is_unsteady and old.sigma == pytest.approx(0.130, abs=0.001), "the sd of all three"
    step = next_step(old)
    assert step.status is not Status.KEEP, "a study of before this rule goes on with what it has, and keeps no no-op"


@pytest.mark.parametrize("is_measured", [True, False])
def test_a_run_on_a_machine_that_was_faster_is_not_kept_for_that(is_measured: bool) -> None:
    """Recorded: a schedule was kept at "50.7 sigma", in a run 1.75 times as fast."""
    steady = baseline((1.0, 2.4544), (1.01, 2.4517), (1.0, 2.4487), decided=True, is_measured=is_measured)
    assert steady.incumbent is not None
    state = challenged(steady, (1.75, 2.2408), is_measured=is_measured)
    fast = state.experiments[1].runs[0]
    again = void_by_speed(fast.measured, steady.incumbent, fast.causes)
    assert ("1.73 times" in again) is is_measured, "only what the supervisor measured makes it again"
    facts = {"measured": fast.measured | {"relative_speed": 1.75}}
    told = Experiment(1, "", "", 0, runs=(Run(**vars(fast) | facts),))
    step = next_step(StudyState(FACTS, (steady.experiments[0], told), steady.incumbent))
    assert (step.action, step.experiment) == (Action.TRAIN, 0) and "1.7" in step.why
    worse = Experiment(1, "", "", 0, runs=(Run(**vars(fast) | facts | {"val_bpb": 2.9}),))
    step = next_step(StudyState(FACTS, (steady.experiments[0], worse), steady.incumbent))
    assert (step.experiment, step.status) == ((0, None) if is_measured else (1, Status.DISCARD))


def test_a_challenger_is_not_compared_with_the_slowest_run_of_the_incumbent_alone() -> None:
    """Recorded: runs of 99, 84 and 47 steps; 72 steps and 2.1516 were kept "at once, -7.0 sigma"."""
    recorded = ((99.0, 2.0916), (84.0, 2.1209), (47.0, 2.2961))
    assert next_step(baseline(*recorded, decided=False)).run == 3
    for is_measured in (True, False):
        state = challenged(baseline(*recorded, decided=True, is_measured=is_measured), (72.0, 2.1516))
        step = next_step(state)
        assert step.action is Action.TRAIN or step.status is Status.DISCARD
        level = state.level_for(state.experiments[1])
        assert level is not None and len(level.runs) == 3 and level.bpb == pytest.approx(2.1695, abs=0.0001)


def test_a_confirmation_at_three_times_the_speed_is_made_again_and_then_not_believed() -> None:
    """Recorded: a confirmation at 3.12 times the incumbent's speed was believed, and became the level."""
    state = baseline((1.0, 2.45), (1.01, 2.46), (1.0, 2.44), decided=True, is_measured=True)
    assert state.incumbent is not None
    assert void_by_speed({"machine_speed": 3.12}, state.incumbent, ())
    both = challenged(state, (1.0, 2.445), (3.12, 2.19), is_measured=True)
    level = both.level_for(both.experiments[1])
    assert level is not None and not level.is_like
    assert level.bpb == pytest.approx(2.45 - both.noise.worth * 0.5 * 1.135, abs=0.002)
    fast = challenged(state, (3.12, 2.19), is_measured=True)
    _, error = fast.judged_against(fast.experiments[1])
    assert error is not None and fast.sigma is not None and error > 10 * fast.sigma, "a guess as yet"
    assert next_step(both).experiment == 0, "the incumbent runs beside it"


def test_false_keeps_on_a_busy_machine_are_few_and_none_is_above_three_sigma() -> None:
    """40 campaigns in which every proposal is the incumbent's own code; docs/decisions.md has 100 of each kind."""
    landscape = busy_machine.Landscape(busy_machine.NOTHING)
    found = [busy_machine.Player(landscape, seed).play() for seed in range(40)]
    assert sum(c.keeps for c in found) < 0.055 * sum(c.experiments for c in found)
    assert sum(c.above_3_sigma for c in found) == 0, "of about 3,500 experiments"


@pytest.mark.parametrize("times", [0.5, 2.0])
def test_a_wrong_idea_of_what_speed_is_worth_lets_no_more_through(times: float) -> None:
    landscape = busy_machine.Landscape(busy_machine.NOTHING, assumed_worth=times)
    found = [busy_machine.Player(landscape, seed).play() for seed in range(10)]
    assert sum(c.keeps for c in found) < 0.07 * sum(c.experiments for c in found)
