"""The two thresholds of the rule: one comparison says what the rule, as docs/decisions.md tells it, says in steps."""

from __future__ import annotations

import math
import random

import pytest

from autoresearch_kernel.core.decide import decide, mean
from autoresearch_kernel.core.grounds import BaselineGrounds, DuelGrounds, Grounds, read_grounds, recorded
from autoresearch_kernel.core.thresholds import CHANCE_AT_ONCE, RULE_VERSION, Thresholds, sigmas_of_chance


def told(grounds: Grounds) -> str:
    """The rule, step by step."""
    y, m, count = (
        mean(grounds.scores),
        mean(grounds.incumbent_scores) + grounds.speed_bpb,
        len(grounds.incumbent_scores),
    )
    sigma, bold, sure = grounds.sigma, grounds.worse_share >= 1 / 8, grounds.worse_share >= 2 / 5 and grounds.is_like
    luck = {1: 1.0, 2: 0.4}.get(count, 0.0) * (sigma or 0.0) if bold and grounds.is_lucky else 0.0
    unit = max(sigma or 0.0, grounds.level_error or 0.0)
    reach = sigmas_of_chance(CHANCE_AT_ONCE, grounds.degrees_of_freedom) * math.sqrt(1 + 1 / count)
    tie = {1: 1.0, 2: 0.25}[min(2, len(grounds.scores))] * (sigma or 0.0)
    is_tie = grounds.is_simpler and sigma is not None and y < m + tie
    if len(grounds.scores) > 1:
        return "keep" if y < m + luck - (0.0 if bold else 0.25 * unit) or is_tie else "discard"
    if y >= m + luck:
        return "confirm" if is_tie else "discard"
    if sigma is None:
        return "confirm"
    if grounds.is_like and y < m + luck - (0.3 if sure else 0.75 if bold else reach) * unit:
        return "keep"
    return "discard" if sure and not is_tie else "confirm"


def chosen(dice: random.Random) -> Grounds:
    sigma = dice.choice((None, 0.0, 0.001, 0.002))
    scores = tuple(dice.gauss(1.5, 0.002) for _ in range(dice.choice((1, 2, 3))))
    theirs = tuple(dice.gauss(1.5, 0.001) for _ in range(dice.choice((1, 2, 3, 6))))
    return Grounds(
        4, tuple(range(len(scores))), scores, tuple(range(len(theirs))), theirs,
        speed_bpb=dice.choice((0.0, -0.001)), sigma=sigma, degrees_of_freedom=dice.choice((1, 2, 8, 60)),
        level_error=None if sigma is None else dice.choice((0.0, 0.003)), is_like=dice.random() < 0.8,
        worse_share=dice.choice((0.0, 0.2, 0.5)), is_lucky=dice.random() < 0.5, is_simpler=dice.random() < 0.4,
    )  # fmt: skip


def test_one_comparison_says_what_the_rule_says_in_steps() -> None:
    dice, seen = random.Random(11), set()
    for _ in range(4_000):
        grounds = chosen(dice)
        decision = grounds.decision()
        assert decision.verdict == decision.thresholds.verdict(decision.val_bpb) == told(grounds), grounds
        seen.add((decision.verdict, len(grounds.scores) > 1, grounds.worse_share, grounds.is_simpler))
    assert len(seen) > 20


def test_what_an_event_holds_gives_the_same_decision_again() -> None:
    dice = random.Random(12)
    for _ in range(200):
        grounds = chosen(dice)
        rule = recorded(grounds)
        assert rule["version"] == RULE_VERSION and rule["kind"] == "runs"
        assert read_grounds(rule) == grounds
        limits = Thresholds(rule["keep_below"], rule["confirm_below"])
        assert limits.verdict(mean(grounds.scores)) == grounds.decision().verdict


def test_a_duel_and_a_baseline_are_held_too() -> None:
    duel = DuelGrounds(0, (0,), (1.49,), 1.5, 0.002, ((1, 3),), ((1.489, 1.5),), 0.001, 7, 0.0, False)
    assert read_grounds(recorded(duel)) == duel and recorded(duel)["keep_below"] < 1.5
    assert duel.decision().verdict == "keep"
    for runs, is_like, verdict in ((2, True, "confirm"), (3, True, "keep"), (3, False, "confirm"), (8, False, "keep")):
        baseline = BaselineGrounds(tuple(range(runs)), (1.5,) * runs, is_like)
        assert baseline.verdict() == verdict and read_grounds(recorded(baseline)) == baseline


def test_a_rule_that_lacks_a_part_or_has_another_kind_is_refused_in_words() -> None:
    rule = recorded(chosen(random.Random(1)))
    with pytest.raises(ValueError, match=r"it lacks (is_like, sigma|sigma, is_like)"):
        read_grounds({name: value for name, value in rule.items() if name not in ("sigma", "is_like")})
    with pytest.raises(ValueError, match="no kind luck of numbers"):
        read_grounds(rule | {"kind": "luck"})


def test_a_decision_names_its_thresholds() -> None:
    limits = decide([1.49], [1.5, 1.5, 1.5], 0.001).thresholds
    assert limits.confirm_below == 1.5 and limits.keep_below == pytest.approx(1.5 - 4.26489 * math.sqrt(4 / 3) * 0.001)
    assert decide([1.49, 1.49], [1.5], 0.001).thresholds == Thresholds(1.5 - 0.25 * 0.001, None)
