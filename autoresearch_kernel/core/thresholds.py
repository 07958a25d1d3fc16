"""The two scores that a challenger's mean is compared with, and the constants of the rule. Pure.

A verdict is one comparison: a mean below `keep_below` is kept, else a mean below `confirm_below` is trained once more,
else it is discarded. The reasons for the constants are in `core/decide.py`, which calls this module; a `decided` event
keeps what both thresholds were computed from. Raise RULE_VERSION with each change that changes a threshold.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import Literal

from .student import quantile

RULE_VERSION = 1

CHANCE_AT_ONCE = 1e-5  # a score that chance brings so far below the incumbent no more often is not luck
MOST_SIGMAS = 30.0  # that this may ask for: sigma has a floor, so it is not as uncertain as Student's t takes it to be
CHANCE_WORSE = 0.01  # the same above the incumbent, for "clearly worse"
NUM_RUNS_CONFIRMED = 2  # runs behind a keep that was not clear at once
LEAST_WIN_SIGMAS = 0.25  # that the mean of these runs must be below the incumbent

BOLD_SHARE = 1 / 8  # of the proposals clearly worse: the rule is bold
SURE_SHARE = 2 / 5  # of the proposals clearly worse: the rule confirms nothing
LUCK_SIGMAS = {1: 1.0, 2: 0.4}  # number of runs -> how much better an incumbent looks than it is
BOLD_KEEP_AT_ONCE_SIGMAS, SURE_KEEP_SIGMAS = 0.75, 0.3
TIE_SIGMAS, TIE_SIGMAS_CONFIRMED = 1.0, 0.25  # how far above a simplification may be, after 1 and 2 runs
# Standard errors of the difference that a duel's win needs, in the cautious mode and in the bold one; see core/duel.py.
DUEL_WIN_ERRORS, BOLD_DUEL_WIN_ERRORS = 1.0, 0.5

Verdict = Literal["keep", "discard", "confirm"]


@dataclass(frozen=True)
class Thresholds:
    """In bits per byte; None where no score is low enough."""

    keep_below: float | None
    confirm_below: float | None

    def verdict(self, score: float) -> Verdict:
        """Of a mean over the challenger's runs."""
        if self.keep_below is not None and score < self.keep_below:
            return "keep"
        if self.confirm_below is not None and score < self.confirm_below:
            return "confirm"
        return "discard"


@dataclass(frozen=True)
class Bar:
    """What a challenger with so many runs has to beat, and how far chance reaches."""

    num_runs: int
    level: float  # the incumbent's mean at the challenger's speed of the machine
    luck: float  # by how much that mean is taken to be too low
    sigma: float | None
    unit: float | None  # sigma, or the standard error of the incumbent's mean, where that is larger
    at_once: float  # how many of these a single score must be below; infinite where none is enough
    worse_share: float

    @property
    def is_bold(self) -> bool:
        return self.worse_share >= BOLD_SHARE

    @property
    def is_sure(self) -> bool:
        """Nothing is confirmed."""
        return self.worse_share >= SURE_SHARE and self.at_once < math.inf

    def thresholds(self, is_simpler: bool = False) -> Thresholds:
        """Of this challenger; `is_simpler`: it has less code, so a tie is enough."""
        beaten, unit = self.level + self.luck, self.unit or 0.0
        if self.num_runs >= NUM_RUNS_CONFIRMED:
            tie = self._tie(TIE_SIGMAS_CONFIRMED) if is_simpler else None
            return Thresholds(_higher(beaten - (0.0 if self.is_bold else LEAST_WIN_SIGMAS * unit), tie), None)
        tie = self._tie(TIE_SIGMAS) if is_simpler else None
        if self.unit is None:
            return Thresholds(None, beaten)
        keep = beaten - self._margin * self.unit if self.at_once < math.inf else None
        return Thresholds(keep, tie if self.is_sure else _higher(beaten, tie))

    @property
    def _margin(self) -> float:
        """How many units below the incumbent a single score is kept at once."""
        return SURE_KEEP_SIGMAS if self.is_sure else BOLD_KEEP_AT_ONCE_SIGMAS if self.is_bold else self.at_once

    def _tie(self, sigmas: float) -> float | None:
        """The score from which a simplification is too far above; None while sigma is unknown."""
        return None if self.sigma is None else self.level + sigmas * self.sigma


def bar(
    num_runs: int,
    level: float,
    num_incumbent_runs: int,
    sigma: float | None,
    degrees_of_freedom: int | None,
    level_error: float | None,
    is_like: bool,
    worse_share: float,
    is_lucky: bool,
) -> Bar:
    """What a challenger has to beat. The arguments are those of `decide`, with the incumbent's mean as `level`."""
    is_chosen = is_lucky and worse_share >= BOLD_SHARE
    luck = (LUCK_SIGMAS.get(num_incumbent_runs, 0.0) if is_chosen else 0.0) * (sigma or 0.0)
    unit = None if sigma is None else max(sigma, level_error or 0.0)
    at_once = sigmas_of_chance(CHANCE_AT_ONCE, degrees_of_freedom) * math.sqrt(1 + 1 / num_incumbent_runs)
    return Bar(num_runs, level, luck, sigma, unit, at_once if is_like else math.inf, worse_share)


def duel_thresholds(
    level: float, error: float, degrees_of_freedom: int, worse_share: float, is_simpler: bool
) -> Thresholds:
    """Of a challenger that met the incumbent in a duel.

    Args:
        level: the incumbent's mean, with the weights of the duel.
        error: standard error of the difference of both means.
    """
    needed = BOLD_DUEL_WIN_ERRORS if worse_share >= BOLD_SHARE else DUEL_WIN_ERRORS
    needed *= quantile(CHANCE_WORSE, degrees_of_freedom) / sigmas_of_chance(CHANCE_WORSE, None)
    tie = level + TIE_SIGMAS_CONFIRMED * error if is_simpler else None
    return Thresholds(_higher(level - needed * error, tie), None)


def sigmas_of_chance(chance: float, degrees_of_freedom: int | None) -> float:
    """How many sigma chance reaches with this probability, one-sided; None degrees for a sigma known exactly."""
    if not degrees_of_freedom:
        return -statistics.NormalDist().inv_cdf(chance)
    return min(MOST_SIGMAS, quantile(chance, degrees_of_freedom))


def _higher(one: float, other: float | None) -> float:
    return one if other is None else max(one, other)
