"""What lesson 4 reads of the recorded night of a scripted model that comes with the project."""

from __future__ import annotations

from functools import cache

from ...core.types import Experiment, Status
from ...record.bundle import SCRIPTED_MODEL, night_path, unpacked_study
from ..analysis.load import analyse


@cache
def night() -> tuple[Experiment, ...]:
    """The decided experiments of the recorded night, the baseline first."""
    return analyse(unpacked_study(night_path(SCRIPTED_MODEL))).experiments


def first_scores() -> list[float]:
    """The score of the first run of each experiment; that of the baseline, number 0, is the mean of its first three."""
    baseline, *others = night()
    return [sum(baseline.scores[:3]) / 3, *(e.scores[0] for e in others if e.scores)]


def kept_numbers() -> list[int]:
    """The experiments that the study kept, without the baseline."""
    return [e.number for e in night() if e.number and e.status is Status.KEEP]


def pairs_run_twice() -> list[tuple[float, float]]:
    """First and second score of each experiment that the rule let run again before it decided."""
    return [
        (runs[0].val_bpb or 0.0, runs[1].val_bpb or 0.0)
        for e in night()
        if e.number and len(runs := e.judged_runs) >= 2
    ]
