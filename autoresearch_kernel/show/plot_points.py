"""Which mark each experiment gets in the picture of a study, and where its runs stand. Values only, no matplotlib."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..core.types import FAILED, Experiment, Status
from .words import is_ended_early


@dataclass(frozen=True)
class Points:
    """Experiments sorted by mark; every sequence oldest first."""

    keeps: list[Experiment]
    discards: list[Experiment]
    rejected: list[Experiment]  # refused by the audit, with a score
    floor: list[Experiment]  # failed: no score to show
    ended: list[Experiment]  # ended early: no score wanted
    pending: list[Experiment]  # scored, not decided

    @property
    def scored(self) -> list[Experiment]:
        return self.keeps + self.discards + self.rejected + self.pending


def as_drawn(experiment: Experiment) -> Experiment:
    """A rejected experiment at the score that it claimed: it has no other."""
    if experiment.status is Status.REJECTED and experiment.val_bpb is None:
        return replace(experiment, val_bpb=experiment.claimed_bpb)
    return experiment


def points_of(experiments: Sequence[Experiment]) -> Points:
    points = Points([], [], [], [], [], [])
    for e in map(as_drawn, experiments):
        finite = e.val_bpb is not None and math.isfinite(e.val_bpb)
        if is_ended_early(e):
            points.ended.append(e)
        elif e.status in FAILED or (e.status is not None and not finite):
            points.floor.append(e)
        elif not finite:
            continue
        elif e.status is Status.KEEP:
            points.keeps.append(e)
        elif e.status is Status.REJECTED:
            points.rejected.append(e)
        elif e.status is Status.DISCARD:
            points.discards.append(e)
        else:
            points.pending.append(e)
    return points


def score_of(experiment: Experiment) -> float:
    assert experiment.val_bpb is not None
    return experiment.val_bpb


def scored_runs(experiment: Experiment) -> list[tuple[int, float]]:
    """(column, score) of each run: its own column, or where it happened when the incumbent was run again later."""
    return [
        (max(run.num_decided, experiment.number), run.val_bpb)
        for run in experiment.runs
        if run.val_bpb is not None and math.isfinite(run.val_bpb)
    ]


def later_runs(experiment: Experiment) -> list[tuple[int, float]]:
    """Those of `scored_runs` that were made after it was decided."""
    return [(column, score) for column, score in scored_runs(experiment) if column > experiment.number]
