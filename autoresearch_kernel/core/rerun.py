"""Does the difference that a study claims hold on another machine? Pure.

An experiment and its parent are trained again, with fresh seeds and in turns. Their difference here is compared with
the difference that the study was decided by; scores of different machines are never compared. Both differences have
errors: the claim rests on few runs, and so does this answer. `shortfall` is by how much less of the claimed effect was
found:

- *contradicts*: the shortfall is above zero by more than chance;
- *agrees*: the effect has the claimed direction by more than chance, and chance does not explain a shortfall of
  INFLATED_SIGMAS of the study's run-to-run deviations;
- *cannot tell*: neither; more seeds may tell.

The command looks again after each further pair, so the chance of a wrong answer over all looks is larger than that of
one. A look that others may follow therefore asks for more (CHANCE_BETWEEN) than the last one, which has nearly the
whole chance for itself. docs/sharing-verify.md has the shares that a simulation found, and tests/core/test_rerun.py
repeats it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .decide import mean
from .student import quantile

FIRST_SEEDS, MOST_SEEDS = 3, 24  # pairs of trainings before the first look, and at most
CHANCE_BETWEEN = 0.01  # one-sided, of each look that others may follow
CHANCE_CONTRADICTS, CHANCE_AGREES = 0.035, 0.04  # the same of the last look: of a shortfall, and of none of 3 sigma
CHANCE_OF_DIRECTION = 0.01  # that an effect without the claimed direction seems to have it
INFLATED_SIGMAS = 3.0
INTERVAL = 0.025  # of the shown interval, on each side

Answer = Literal["agrees", "contradicts", "cannot tell"]


@dataclass(frozen=True)
class Difference:
    """Experiment less parent in bits per byte, negative is better, and its standard error."""

    bpb: float
    error: float
    degrees_of_freedom: int | None  # behind the error; None for one that is known exactly

    @property
    def interval(self) -> tuple[float, float]:
        """Of 95 %."""
        reach = _reach(INTERVAL, self.degrees_of_freedom) * self.error
        return self.bpb - reach, self.bpb + reach


@dataclass(frozen=True)
class Claim:
    """What a study says of an experiment."""

    difference: Difference
    sigma: float  # run-to-run standard deviation of that study


@dataclass(frozen=True)
class Rerun:
    """The answer, and what it rests on."""

    answer: Answer
    claim: Claim
    here: Difference
    shortfall: Difference  # of the effect that was claimed; above zero where less was found
    num_seeds: int

    @property
    def can_more_seeds_tell(self) -> bool:
        """Whether the claim is known so well that enough seeds here would tell."""
        claim = self.claim.difference
        both = sum(_reach(chance, claim.degrees_of_freedom) for chance in (CHANCE_CONTRADICTS, CHANCE_AGREES))
        return both * claim.error < INFLATED_SIGMAS * self.claim.sigma


def rerun_says(claim: Claim, mine: Sequence[float], theirs: Sequence[float], is_last: bool = True) -> Rerun:
    """The answer of these runs.

    Args:
        mine, theirs: scores of the experiment and of its parent on this machine, at least two each.
        is_last: no more runs follow where these cannot tell.
    """
    of_contradiction, of_agreement = (CHANCE_CONTRADICTS, CHANCE_AGREES) if is_last else (CHANCE_BETWEEN,) * 2
    here, claimed = difference_of(mine, theirs), claim.difference
    direction = math.copysign(1.0, claimed.bpb)
    shortfall = Difference(
        direction * (claimed.bpb - here.bpb), math.hypot(here.error, claimed.error), _joint_degrees(here, claimed)
    )
    excluded = shortfall.bpb - INFLATED_SIGMAS * claim.sigma
    answer: Answer = "cannot tell"
    if _is_above_zero(shortfall.bpb, shortfall, of_contradiction):
        answer = "contradicts"
    elif _is_above_zero(direction * here.bpb, here, CHANCE_OF_DIRECTION) and _is_above_zero(
        -excluded, shortfall, of_agreement
    ):
        answer = "agrees"
    return Rerun(answer, claim, here, shortfall, min(len(mine), len(theirs)))


def difference_of(mine: Sequence[float], theirs: Sequence[float]) -> Difference:
    """Of two means over seeds; both codes are taken to scatter alike, so their squares are pooled."""
    centres = mean(mine), mean(theirs)
    squares = sum((score - centres[0]) ** 2 for score in mine) + sum((score - centres[1]) ** 2 for score in theirs)
    degrees = len(mine) + len(theirs) - 2
    if degrees < 1:
        raise ValueError("One run of each says nothing of how runs scatter: train at least two of each.")
    error = math.sqrt(squares / degrees * (1 / len(mine) + 1 / len(theirs)))
    return Difference(centres[0] - centres[1], error, degrees)


def _is_above_zero(value: float, measured: Difference, chance: float) -> bool:
    return value > _reach(chance, measured.degrees_of_freedom) * measured.error


def _reach(chance: float, degrees_of_freedom: int | None) -> float:
    return quantile(chance, degrees_of_freedom or MANY_DEGREES)


MANY_DEGREES = 100_000  # where Student's t is the normal distribution


def _joint_degrees(here: Difference, claim: Difference) -> int:
    """Degrees of freedom behind the error of the difference of both (Welch and Satterthwaite)."""
    parts = [(d.error**4, d.degrees_of_freedom or MANY_DEGREES) for d in (here, claim)]
    spread = sum(square / degrees for square, degrees in parts)
    if spread == 0.0:
        return MANY_DEGREES
    return max(1, min(MANY_DEGREES, int((here.error**2 + claim.error**2) ** 2 / spread)))
