"""Duels: pairs of runs of challenger and incumbent that took turns on the machine, and what their difference is worth.

Both runs of a duel meet the same machine, so its speed cancels in the difference of their scores. What is left is the
luck of two seeds and a small rest. A study estimates the standard deviation of such a difference from three sources:
the prior below, which is the luck of seeds as eight runs of one code with equal steps on two cores gave it; the
baseline's runs, each corrected for its own speed; and pairs of codes that met more than once.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from .drift import speeds_and_scores
from .types import Experiment, Run, is_trusted

DuelMode = Literal["auto", "always", "never"]
DUEL_MODES: tuple[DuelMode, ...] = ("auto", "always", "never")

PRIOR_SPEED = 0.05  # prior standard deviation of a duel's difference, as a difference of the logarithm of the speed
FORMER_PRIOR_SPEED = 0.028  # of studies that do not name theirs, which began before 0.11
PRIOR_DEGREES = 7  # of freedom behind it: eight seeds
PAYS = 0.7  # a duel pays where its difference has less than this share of the sd of the difference of two single runs
MEMORY_SHARE = 0.8  # of the device's memory that both sides together may need
FEWEST_RUNS = 3  # of the baseline, before its runs say what is left when speed is taken off


@dataclass(frozen=True)
class Duel:
    """Two scored runs that took turns."""

    challenger: Run
    incumbent: Run

    @property
    def difference(self) -> float:
        """Challenger less incumbent, bits per byte; negative is better."""
        assert self.challenger.val_bpb is not None and self.incumbent.val_bpb is not None
        return self.challenger.val_bpb - self.incumbent.val_bpb


def duels_between(challenger: Experiment, incumbent: Experiment) -> list[Duel]:
    """The duels of two experiments in which both runs have a score, oldest first."""
    found = []
    for mine in challenger.runs:
        if mine.duel is None or mine.duel[0] != incumbent.number or mine.val_bpb is None:
            continue
        theirs = next((run for run in incumbent.runs if run.index == mine.duel[1]), None)
        if theirs is not None and theirs.duel == (challenger.number, mine.index) and theirs.val_bpb is not None:
            found.append(Duel(mine, theirs))
    return found


@dataclass(frozen=True)
class DuelNoise:
    """How much the difference of a duel of equal codes scatters."""

    sd: float  # bits per byte
    degrees_of_freedom: int  # behind it


def duel_noise(experiments: Sequence[Experiment], worth: float, prior_speed: float = PRIOR_SPEED) -> DuelNoise:
    """The standard deviation of a duel's difference, as the study knows it.

    Args:
        worth: bits per byte for a factor of e in speed.
        prior_speed: PRIOR_SPEED as the study began with it.
    """
    squares, degrees = PRIOR_DEGREES * (prior_speed * worth) ** 2, PRIOR_DEGREES
    left = _left_at_equal_speed(experiments[0], worth) if experiments else []
    if len(left) >= FEWEST_RUNS:
        squares += 2 * (len(left) - 1) * statistics.variance(left)
        degrees += len(left) - 1
    for differences in _met_again(experiments):
        squares += sum((d - statistics.fmean(differences)) ** 2 for d in differences)
        degrees += len(differences) - 1
    return DuelNoise(math.sqrt(squares / degrees), degrees)


def _left_at_equal_speed(baseline: Experiment, worth: float) -> list[float]:
    """The baseline's scores without what each run's own speed was worth: a user wrote its code, so it is believed."""
    return [
        score + worth * math.log(speed) for speed, score in speeds_and_scores(baseline.on("").runs, is_trusted=True)
    ]


def _met_again(experiments: Sequence[Experiment]) -> Iterator[list[float]]:
    """The differences of each pair of codes that met more than once."""
    by_pair: dict[tuple[int, int], list[float]] = defaultdict(list)
    for challenger in experiments:
        for number in {run.duel[0] for run in challenger.runs if run.duel and run.duel[0] < challenger.number}:
            by_pair[challenger.number, number] += [
                duel.difference for duel in duels_between(challenger, experiments[number])
            ]
    return (differences for differences in by_pair.values() if len(differences) > 1)


# --- when


def duel_pays(noise: DuelNoise, sigma: float | None, is_unsteady: bool) -> bool:
    """Whether the machine's speed wanders so much that a duel tells more than its two trainings alone would."""
    return is_unsteady or (sigma is not None and noise.sd < PAYS * math.sqrt(2) * sigma)


def fits_twice(challenger: Experiment, incumbent: Experiment, device_mb: float | None, on_gpu: bool) -> bool:
    """Whether the memory holds both sides at once; on a GPU only where that is known.

    Args:
        device_mb: memory of the device; None where it is not known.
    """
    needed = [_peak_mb(experiment, on_gpu) for experiment in (challenger, incumbent)]
    if device_mb is None or not all(needed):
        return not on_gpu
    return sum(filter(None, needed)) <= MEMORY_SHARE * device_mb


def _peak_mb(experiment: Experiment, on_gpu: bool) -> float | None:
    """The most memory that a run of the experiment needed: as the supervisor measured it, on a GPU as it reported."""
    name = "peak_memory_mb" if on_gpu else "process_peak_memory_mb"
    peaks = [run.measured[name] for run in experiment.runs if run.measured.get(name) and is_trusted(run)]
    return max(peaks, default=None)
