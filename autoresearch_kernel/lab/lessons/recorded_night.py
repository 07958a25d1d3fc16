"""What lesson 4 reads of the recorded night of a scripted model that comes with the project.

Its changes are numbered here in the order in which they got a score; those that failed have none.
"""

from __future__ import annotations

from functools import cache

from ...core.types import Experiment, Status
from ...record.bundle import SCRIPTED_MODEL, night_path, unpacked_study
from ..analysis.load import analyse


@cache
def scored() -> tuple[Experiment, ...]:
    """The experiments of the recorded night that have a score, the baseline first."""
    return tuple(e for e in analyse(unpacked_study(night_path(SCRIPTED_MODEL))).experiments if e.scores)


def first_scores() -> list[float]:
    """The score of the first run of each change; that of the baseline, number 0, is the mean of its first three."""
    baseline, *others = scored()
    return [sum(baseline.scores[:3]) / 3, *(e.scores[0] for e in others)]


def kept_numbers() -> list[int]:
    """The changes that the study kept."""
    return [number for number, e in enumerate(scored()) if number and e.status is Status.KEEP]


def pairs_run_twice() -> list[tuple[float, float]]:
    """First and second score of each change that the rule let run again before it decided."""
    return [(runs[0].val_bpb or 0.0, runs[1].val_bpb or 0.0) for e in scored()[1:] if len(runs := e.judged_runs) >= 2]
