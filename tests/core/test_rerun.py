"""What a rerun says of a claim: the three answers, and how often they are wrong in simulated studies."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from autoresearch_kernel.core.rerun import FIRST_SEEDS, MOST_SEEDS, Claim, Difference, difference_of, rerun_says
from benchmarks.rerun import CLAIMS, Case, answer_to, best_possible, chosen_claims, claim_of_gain, inflated

CLAIM = Claim(Difference(-0.012, 0.001, 20), 0.002)
THEIRS = [1.500, 1.501, 1.499]


def shares(dice: random.Random, cases: int, make: Callable[[], Case], most: int = MOST_SEEDS) -> dict[str, float]:
    answers = [answer_to(dice, *make(), FIRST_SEEDS, most)[0] for _ in range(cases)]
    return {answer: answers.count(answer) / cases for answer in ("agrees", "contradicts", "cannot tell")}


def test_the_same_effect_agrees_a_missing_one_contradicts_and_wide_noise_cannot_tell() -> None:
    assert rerun_says(CLAIM, [1.488, 1.489, 1.487], THEIRS).answer == "agrees"
    assert rerun_says(CLAIM, [1.500, 1.499, 1.501], THEIRS).answer == "contradicts"
    assert rerun_says(CLAIM, [1.47, 1.51, 1.49], [1.49, 1.53, 1.48]).answer == "cannot tell"


def test_an_effect_that_is_there_and_much_smaller_than_claimed_contradicts() -> None:
    found = rerun_says(CLAIM, [1.496, 1.497, 1.495], THEIRS)
    assert found.answer == "contradicts" and found.here.bpb == pytest.approx(-0.004)
    assert found.shortfall.bpb == pytest.approx(0.008)


def test_a_larger_effect_than_claimed_agrees() -> None:
    assert rerun_says(CLAIM, [1.46, 1.461, 1.459], THEIRS).answer == "agrees"


def test_a_claimed_loss_is_judged_in_its_own_direction() -> None:
    loss = Claim(Difference(0.012, 0.001, 20), 0.002)
    assert rerun_says(loss, [1.512, 1.513, 1.511], THEIRS).answer == "agrees"
    assert rerun_says(loss, [1.500, 1.499, 1.501], THEIRS).answer == "contradicts"


def test_the_interval_is_students() -> None:
    """Two groups of three with variance 1: 4 degrees of freedom, t = 2.776."""
    found = difference_of([0.0, 1.0, 2.0], [10.0, 11.0, 12.0])
    low, high = found.interval
    assert found.degrees_of_freedom == 4 and found.error == pytest.approx(math.sqrt(2 / 3))
    assert (low, high) == (
        pytest.approx(-10 - 2.7764 * 0.8165, abs=1e-3),
        pytest.approx(-10 + 2.7764 * 0.8165, abs=1e-3),
    )
    with pytest.raises(ValueError, match="at least two of each"):
        difference_of([1.0], [2.0])


def test_the_error_of_the_claim_counts() -> None:
    """The same runs contradict a sharp claim, and cannot contradict a claim that rests on little."""
    runs = [1.496, 1.497, 1.495], THEIRS
    vague = Claim(Difference(-0.012, 0.008, 2), 0.007)
    assert rerun_says(CLAIM, *runs).answer == "contradicts" and rerun_says(vague, *runs).answer == "cannot tell"
    assert rerun_says(CLAIM, *runs).can_more_seeds_tell and not rerun_says(vague, *runs).can_more_seeds_tell


def test_runs_without_any_scatter_are_no_division_by_zero() -> None:
    exact = Claim(Difference(-0.012, 0.0, None), 0.002)
    assert rerun_says(exact, [1.488, 1.488], [1.5, 1.5]).answer == "agrees"


# --- how often it is wrong: benchmarks/rerun.py has more cases, and docs/sharing-verify.md the table


def test_an_honest_claim_is_seldom_contradicted_whatever_it_rests_on() -> None:
    for runs, theirs in CLAIMS:
        dice = random.Random(100 * runs + theirs)
        found = shares(dice, 1_000, lambda d=dice, a=runs, b=theirs: claim_of_gain(d, 4.0, a, b, 12))
        assert found["contradicts"] <= 0.05 and found["agrees"] > 10 * found["contradicts"], (runs, theirs, found)


def test_a_gain_inflated_by_3_sigma_is_contradicted_where_the_claim_rests_on_six_runs_of_each() -> None:
    dice = random.Random(66)
    found = shares(dice, 1_500, lambda: inflated(claim_of_gain(dice, 4.0, 6, 6, 12)))
    assert found["contradicts"] >= 0.95 and found["agrees"] <= 0.05, found
    alone = shares(dice, 500, lambda: inflated(claim_of_gain(dice, 4.0, 6, 6, 12)), FIRST_SEEDS)
    assert alone["contradicts"] < 0.87, "three seeds are too few"


def test_an_honest_claim_is_confirmed_where_it_rests_on_six_runs_of_each() -> None:
    dice = random.Random(67)
    found = shares(dice, 1_500, lambda: claim_of_gain(dice, 4.0, 6, 6, 12))
    assert found["agrees"] >= 0.95, found


def test_a_claim_that_rests_on_few_runs_stays_open_more_often_and_is_as_seldom_confirmed_wrongly() -> None:
    dice = random.Random(23)
    found = shares(dice, 1_000, lambda: inflated(claim_of_gain(dice, 4.0, 2, 3, 12)))
    assert found["agrees"] <= 0.05 and 0.84 < found["contradicts"] < best_possible(2, 3), found
    assert found["cannot tell"] > 0.05, found


def test_no_number_of_seeds_makes_up_for_a_claim_of_two_runs_against_three() -> None:
    """The bound is below 95 % for machines that know all; that of two runs against six is not, nor that of six."""
    assert [best_possible(*runs) >= 0.95 for runs in CLAIMS] == [False, False, True, True]
    dice, right = random.Random(31), 0
    for _ in range(20_000):  # the true difference is known, so the middle between both claims decides
        true, claim = claim_of_gain(dice, 4.0, 2, 3, 12)
        right += true - claim.difference.bpb < 1.5
    assert right / 20_000 == pytest.approx(best_possible(2, 3), abs=0.005)


def test_a_look_that_others_may_follow_asks_for_more_than_the_last_one() -> None:
    runs = [1.4936, 1.4946, 1.4926], THEIRS
    vague = Claim(Difference(-0.012, 0.0024, 20), 0.0027)
    assert rerun_says(vague, *runs, is_last=False).answer == "cannot tell"
    assert rerun_says(vague, *runs, is_last=True).answer == "contradicts"


def test_a_change_that_was_kept_by_luck_is_not_confirmed() -> None:
    """Of what the rule kept, the claims without any true gain."""
    dice = random.Random(9)
    lucky = (case for case in chosen_claims(dice, 12) if case[0] >= 0)
    found = shares(dice, 300, lambda: next(lucky))
    assert found["agrees"] <= 0.05, found
