"""Two studies of one corpus and one budget beside each other: whose gain is larger, and whether that can be told.

`source/compare.py` compares two train.py, `core/comparison.py` an experiment with its incumbent. Here each side is a
whole study, so each side is one draw of a method: an agent, its model, its program.md.

Values only.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .state import StudyState
from .student import quantile
from .types import Result, SealedScore, Spent

CONFIDENCE = 0.95  # of an interval
ROUNDING = 1e-9  # of degrees of freedom that are a whole number but for rounding
Interval = tuple[float, float]  # its low and its high end


@dataclass(frozen=True)
class Estimate:
    """A figure in bits per byte with its standard error.

    Example:
        >>> low, high = Estimate(-0.01, 0.002, 4).interval
        >>> f"{low:.4f} {high:.4f}"
        '-0.0156 -0.0044'
    """

    value: float
    error: float | None = None  # None where it is not known
    degrees_of_freedom: float | None = None  # behind the error; None for an error that is known exactly

    @property
    def interval(self) -> Interval | None:
        """That of CONFIDENCE, by Student's t; None where the error is not known."""
        if self.error is None:
            return None
        tail = (1 - CONFIDENCE) / 2
        if self.degrees_of_freedom is None:
            factor = statistics.NormalDist().inv_cdf(1 - tail)
        else:
            factor = quantile(tail, max(1, math.floor(self.degrees_of_freedom + ROUNDING)))
        return self.value - factor * self.error, self.value + factor * self.error

    def __sub__(self, other: Estimate) -> Estimate:
        """The difference of two independent figures; degrees of freedom by Welch and Satterthwaite."""
        value = self.value - other.value
        if self.error is None or other.error is None:
            return Estimate(value)
        variances = self.error**2, other.error**2
        parts = zip(variances, (self.degrees_of_freedom, other.degrees_of_freedom), strict=True)
        uncertain = math.fsum(variance**2 / freedom for variance, freedom in parts if freedom)
        error = math.hypot(self.error, other.error)
        return Estimate(value, error, sum(variances) ** 2 / uncertain if uncertain else None)


NO_GAIN = Estimate(0.0, 0.0)  # of a study that kept nothing: its champion is its baseline


def mean_of(scores: Sequence[float]) -> Estimate:
    """The mean of independent scores, with the error that their own scatter gives it."""
    if len(scores) < 2:
        return Estimate(statistics.fmean(scores))
    return Estimate(statistics.fmean(scores), statistics.stdev(scores) / math.sqrt(len(scores)), len(scores) - 1)


@dataclass(frozen=True)
class Found:
    """What one study has found, on one kind of rows."""

    baseline: Estimate | None  # None where it was not measured on these rows
    champion: Estimate | None
    gain: Estimate  # champion less baseline, negative is better


@dataclass(frozen=True)
class Side:
    """One of the two studies."""

    name: str
    champion: int  # number of the experiment; 0 where nothing was kept
    num_experiments: int  # without the baseline
    num_kept: int
    num_failed: int
    spent: Spent
    start_sha256: str  # of the baseline's train.py
    on_test: Found | None = None  # None while `finish` has measured no result
    on_validation: Found | None = None
    settings: Mapping[str, str] = field(default_factory=dict)  # what may differ between two studies, in words
    program: str | None = None  # program.md as its agent last got it; None where no copy is kept


@dataclass(frozen=True)
class Contrast:
    """Two studies, and the difference of what they found: the first less the second."""

    first: Side
    second: Side
    is_sealed: bool  # of results on the sealed test split; else of the validation scores that chose the champions
    is_of_gains: bool  # of each study's gain over its own baseline; else of the champions' scores
    difference: Estimate | None  # None where a study has no figure

    @property
    def better(self) -> Side | None:
        """The study that found more; None where that cannot be told."""
        interval = self.difference.interval if self.difference else None
        if interval is None or interval[0] <= 0 <= interval[1]:
            return None
        return self.first if interval[1] < 0 else self.second

    def found(self, side: Side) -> Found | None:
        """What is compared of a side."""
        return _on_test(side) if self.is_sealed else side.on_validation


def _on_test(side: Side) -> Found | None:
    """A study that kept nothing needs no measurement: its champion is its baseline."""
    return Found(None, None, NO_GAIN) if side.on_test is None and not side.champion else side.on_test


def contrast(first: Side, second: Side) -> Contrast:
    """Compare two studies.

    Gains over the own baseline are compared where both began with the same code, because each baseline trained in its
    own study, on the machine as it was then: so a machine that was faster in one of the nights is not taken for a
    better method. Where the beginnings differ, only the champions' scores can be compared.
    """
    is_of_gains = bool(first.start_sha256) and first.start_sha256 == second.start_sha256
    measured = [_on_test(side) if is_of_gains else side.on_test for side in (first, second)]
    is_sealed = None not in measured and bool(first.champion or second.champion)
    one, other = measured if is_sealed else (first.on_validation, second.on_validation)
    return Contrast(first, second, is_sealed, is_of_gains, _difference(one, other, is_of_gains))


def _difference(one: Found | None, other: Found | None, is_of_gains: bool) -> Estimate | None:
    if one is None or other is None:
        return None
    if is_of_gains:
        return one.gain - other.gain
    return one.champion - other.champion if one.champion and other.champion else None


# --- what a study has found


def found_on_test(state: StudyState) -> Found | None:
    """By `finish`, over fresh seeds; None while there is no result of the present champion."""
    result = state.result
    if result is None:
        return None
    return found_by(result, *(_scores_of(state.tested, number) for number in (0, result.champion)))


def found_by(result: Result, baseline_scores: Sequence[float], champion_scores: Sequence[float]) -> Found:
    """What a result says, with the errors that the scores on the test split give it, in the order of their runs."""
    baseline = _tested(baseline_scores, result.num_baseline_runs, result.baseline_test_bpb)
    champion = _tested(champion_scores, result.num_champion_runs, result.champion_test_bpb)
    gain = champion - baseline
    if gain.error is None:
        gain = Estimate(result.test_difference, result.test_standard_error, 1)
    return Found(baseline, champion, gain)


def interval_on_test(state: StudyState) -> Interval | None:
    """Of the result's difference, champion less baseline, by Student's t; None while there is no result."""
    found = found_on_test(state)
    return None if found is None else found.gain.interval


def _scores_of(tested: Sequence[SealedScore], number: int) -> list[float]:
    """Of the models of an experiment that were scored on the test split, in the order of their runs."""
    runs = sorted((t for t in tested if t.experiment == number), key=lambda t: t.run)
    return [t.test_bpb for t in runs if t.test_bpb is not None]


def _tested(scores: Sequence[float], count: int, mean: float) -> Estimate:
    """The mean of the runs that the result is of, with its error where the record still shows these runs."""
    scores = scores[-count:]
    if len(scores) == count and math.isclose(statistics.fmean(scores), mean, abs_tol=1e-9):
        return mean_of(scores)
    return Estimate(mean)


def found_on_validation(state: StudyState) -> Found | None:
    """By the decisions that led to the champion; None before the baseline is decided."""
    champion, baseline = state.incumbent, state.experiments[0] if state.experiments else None
    if champion is None or baseline is None or champion.val_bpb is None or baseline.val_bpb is None:
        return None
    freedom = state.noise.degrees_of_freedom or 1
    return Found(
        Estimate(baseline.val_bpb, baseline.standard_error, freedom),
        Estimate(champion.val_bpb, champion.standard_error, freedom),
        Estimate(*judged_difference(state, champion.number), freedom) if champion.number else NO_GAIN,
    )


def judged_difference(state: StudyState, champion: int) -> tuple[float, float | None]:
    """Champion less baseline by the scores that chose it: the differences of the decisions that led to it, added up.

    Each of them is of runs of one hour. The means of baseline and champion themselves may be of different hours, and
    of a machine of different speeds. The second figure is the standard error; None where it is not known, as after a
    change on the way was refused later, whose difference then counts as nothing.
    """
    steps, number = [], champion
    while number > 0:
        experiment = state.experiments[number]
        assert experiment.parent is not None, "only the baseline has no parent"
        steps.append(experiment)
        number = experiment.parent
    errors = [step.delta_standard_error if step.delta_bpb is not None else None for step in steps]
    known = [error for error in errors if error is not None]
    error = math.hypot(*known) if len(known) == len(errors) else None
    return math.fsum(step.delta_bpb or 0.0 for step in steps), error
