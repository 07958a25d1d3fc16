"""Duels as values: which runs are a pair, how much their difference scatters, when one is due, and what it decides."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from autoresearch_kernel.core.decide import decide_duel
from autoresearch_kernel.core.duel import (
    PRIOR_DEGREES,
    PRIOR_SPEED,
    DuelNoise,
    duel_noise,
    duel_pays,
    duels_between,
    fits_twice,
)
from autoresearch_kernel.core.next_step import Action, Step, next_step
from autoresearch_kernel.core.state import StudyState
from autoresearch_kernel.core.types import Audit, Experiment, Run, Status

FINE = Audit(True, 0.0, 0.0, 256, 0, "", 1.0)
WORTH = 0.23


def run(index: int, val_bpb: float | None, place: int = 0, **others: Any) -> Run:
    return Run(index, index, val_bpb=val_bpb, audit=FINE, num_decided=place, **others)


BASELINE = Experiment(
    0, "", "", None, status=Status.KEEP, runs=tuple(run(i, y) for i, y in enumerate((1.44, 1.46, 1.45)))
)


def met(mine: float | None, theirs: float | None, first: float = 1.42) -> StudyState:
    """A challenger whose confirmation was a duel with these scores."""
    pair = run(1, mine, 1, duel=(0, 3)), run(3, theirs, 1, duel=(1, 1))
    challenger = Experiment(1, "", "", 0, runs=(run(0, first, 1), pair[0]))
    baseline = replace(BASELINE, runs=(*BASELINE.runs, pair[1]))
    return StudyState(experiments=(baseline, challenger), incumbent=baseline, can_duel=True, duels="always")


def test_a_pair_are_two_scored_runs_that_name_each_other() -> None:
    baseline, challenger = met(1.43, 1.47).experiments
    (duel,) = duels_between(challenger, baseline)
    assert duel.difference == pytest.approx(-0.04)
    baseline, challenger = met(1.43, None).experiments
    assert duels_between(challenger, baseline) == []
    alone = replace(baseline, runs=BASELINE.runs)
    assert duels_between(challenger, alone) == []


def test_the_noise_of_a_duel_is_the_prior_until_runs_of_known_speed_refine_it() -> None:
    prior = PRIOR_SPEED * WORTH
    assert duel_noise([BASELINE], WORTH) == DuelNoise(pytest.approx(prior), PRIOR_DEGREES)
    speeds = (1000.0, 1100.0, 1200.0)
    lucks = (0.002, -0.002, 0.0)
    runs = [
        run(i, 1.5 - WORTH * math.log(speed) + luck, measured={"tokens_per_second": speed})
        for i, (speed, luck) in enumerate(zip(speeds, lucks, strict=True))
    ]
    known = duel_noise([replace(BASELINE, runs=tuple(runs))], WORTH)
    assert known.degrees_of_freedom == PRIOR_DEGREES + 2
    assert known.sd == pytest.approx(math.sqrt((PRIOR_DEGREES * prior**2 + 2 * 2 * 0.002**2) / (PRIOR_DEGREES + 2)))


def test_codes_that_met_twice_say_how_much_a_difference_scatters() -> None:
    pairs = [(1, 1.43, 3, 1.47), (2, 1.43, 4, 1.45)]
    challenger = Experiment(1, "", "", 0, runs=tuple(run(i, y, 1, duel=(0, j)) for i, y, j, _ in pairs))
    baseline = replace(BASELINE, runs=(*BASELINE.runs, *(run(j, m, 1, duel=(1, i)) for i, _, j, m in pairs)))
    known = duel_noise([baseline, challenger], WORTH)
    assert known.degrees_of_freedom == PRIOR_DEGREES + 1
    squares = PRIOR_DEGREES * (PRIOR_SPEED * WORTH) ** 2 + 2 * 0.01**2
    assert known.sd == pytest.approx(math.sqrt(squares / (PRIOR_DEGREES + 1)))


STEADY, WANDERING, UNSTEADY = (0.0034, False, False), (0.0133, False, True), (None, True, True)


@pytest.mark.parametrize(("sigma", "is_unsteady", "pays"), [STEADY, WANDERING, UNSTEADY])
def test_a_duel_pays_where_speed_makes_most_of_the_noise(sigma: float | None, is_unsteady: bool, pays: bool) -> None:
    assert duel_pays(DuelNoise(0.0064, 7), sigma, is_unsteady) is pays


def test_both_sides_have_to_fit_into_the_memory_and_on_a_gpu_that_must_be_known() -> None:
    def with_peak(name: str, mb: float) -> Experiment:
        return replace(BASELINE, runs=(run(0, 1.4, measured={name: mb}),))

    half = with_peak("peak_memory_mb", 45_000)
    assert not fits_twice(half, half, 80_000, on_gpu=True)
    assert fits_twice(half, half, 140_000, on_gpu=True)
    assert not fits_twice(half, half, None, on_gpu=True)
    assert not fits_twice(BASELINE, BASELINE, 80_000, on_gpu=True)
    small = with_peak("process_peak_memory_mb", 900)
    assert fits_twice(small, small, 4_000, on_gpu=False) and fits_twice(BASELINE, BASELINE, None, on_gpu=False)
    assert not fits_twice(small, small, 2_000, on_gpu=False)


def confirmation(**others: Any) -> Step:
    challenger = Experiment(1, "", "", 0, runs=(run(0, 1.42, 1),))
    facts = {"experiments": (BASELINE, challenger), "incumbent": BASELINE, "can_duel": True, "duels": "always"}
    return next_step(StudyState(**facts | others))


def test_a_confirmation_is_a_duel_where_one_is_possible_and_asked_for() -> None:
    assert confirmation() == Step(Action.TRAIN, 1, 1, against=0)
    for others in ({"can_duel": False}, {"duels": "never"}):
        assert confirmation(**others) == Step(Action.TRAIN, 1, 1)
    assert confirmation(duels="auto") == Step(Action.TRAIN, 1, 1, against=0)  # sigma is 0.01 here
    assert confirmation(study={"hardware": {"device": "cuda", "gpu_memory_mb": 80_000}}) == Step(Action.TRAIN, 1, 1)


def test_the_incumbents_side_is_scored_before_the_challenger_is_judged() -> None:
    assert next_step(met(1.43, None)) == Step(Action.SCORE, 0, 3)
    decided = next_step(met(1.43, 1.47))
    assert (decided.action, decided.status) == (Action.DECIDE, Status.KEEP) and decided.why.startswith("in a duel ")


def test_an_incumbent_that_lost_to_the_same_machine_is_not_saved_by_its_older_runs() -> None:
    """1.50 is worse than all that the incumbent has, and the incumbent did 1.53 beside it."""
    assert next_step(met(1.50, 1.53)).status is Status.KEEP
    assert next_step(met(1.50, 1.47)).status is Status.DISCARD


def test_each_difference_has_the_weight_of_its_error() -> None:
    decision = decide_duel(1.40, 1.44, 0.02, [(1.50, 1.49)], 0.01, degrees_of_freedom=1000)
    weights = 1 / 0.02**2, 1 / 0.01**2
    expected = (-0.04 * weights[0] + 0.01 * weights[1]) / sum(weights)
    assert decision.val_bpb - decision.incumbent_bpb == pytest.approx(expected) == pytest.approx(0.0)
    assert decision.difference_error == pytest.approx(1 / math.sqrt(sum(weights)))
    assert decision.verdict == "discard"
    alone = decide_duel(None, 0.0, 0.0, [(1.40, 1.42)], 0.01, degrees_of_freedom=1000)
    assert (alone.verdict, alone.val_bpb, alone.incumbent_bpb) == ("keep", pytest.approx(1.40), pytest.approx(1.42))


def test_few_degrees_of_freedom_ask_for_more_and_simpler_code_may_tie() -> None:
    pair = [(1.40, 1.411)]
    assert decide_duel(None, 0.0, 0.0, pair, 0.01, degrees_of_freedom=1000).verdict == "keep"
    assert decide_duel(None, 0.0, 0.0, pair, 0.01, degrees_of_freedom=4).verdict == "discard"
    tie = decide_duel(None, 0.0, 0.0, [(1.40, 1.399)], 0.01, degrees_of_freedom=4, is_simpler=True)
    assert tie.verdict == "keep" and "a tie" in tie.reason
