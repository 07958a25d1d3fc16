"""Marks and the vertical axis of the picture of a study: to scale where scores matter, compressed at the edges.

The linear part holds every kept score and nearly all others; scores far from these are drawn in a strip.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..core.types import FAILED, Experiment, Status
from .plot_style import FLOOR, GREY, PALE, array
from .words import is_ended_early

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

STRIP = 0.13  # height of a compressed strip, as a share of the linear part


@dataclass(frozen=True)
class Limits:
    """Scores in [low, high] are drawn to scale; those out to `bottom` and `top` in compressed strips."""

    low: float
    high: float
    bottom: float
    top: float

    @property
    def strip(self) -> float:
        return STRIP * (self.high - self.low)

    def forward(self, y: np.ndarray) -> np.ndarray:
        """Score -> drawn height, in bpb of the linear part."""
        return self._changed_beyond(y, self._squeeze)

    def inverse(self, height: np.ndarray) -> np.ndarray:
        return self._changed_beyond(height, self._stretch)

    def _changed_beyond(self, y: np.ndarray, change: Callable[[np.ndarray, float], np.ndarray]) -> np.ndarray:
        """`y`, with `change` applied to what lies beyond the linear part."""
        import numpy as np

        y = np.asarray(y, dtype=float)
        above = self.high + change(np.maximum(y - self.high, 0), self.top - self.high)
        below = self.low - change(np.maximum(self.low - y, 0), self.low - self.bottom)
        return np.where(y > self.high, above, np.where(y < self.low, below, y))

    def _squeeze(self, excess: np.ndarray, most: float) -> np.ndarray:
        import numpy as np

        if most <= self.strip:  # nothing beyond the linear part, or it fits without compression
            return excess
        return self.strip * np.log1p(excess / self.strip) / math.log1p(most / self.strip)

    def _stretch(self, height: np.ndarray, most: float) -> np.ndarray:
        import numpy as np

        if most <= self.strip:
            return height
        return self.strip * np.expm1(np.minimum(height / self.strip, 3.0) * math.log1p(most / self.strip))


def limits_of(points: Points, sigma: float | None) -> Limits:
    """The linear part holds every kept score and nearly all others, unless they would flatten the kept ones."""
    import numpy as np

    scores = array([*map(score_of, points.scored), *(y for e in points.scored for _, y in scored_runs(e))])
    honest = array([score_of(e) for e in points.discards + points.pending] or [score_of(points.scored[0])])
    kept = array([score_of(e) for e in points.keeps] or [float(np.median(honest))])
    noise = sigma or 0.0
    span = max(float(np.ptp(kept)), 8 * noise, 1e-3 * abs(float(kept[0])), 1e-6)
    low = float(kept.min()) - 1.5 * noise
    high = float(kept.max()) + 1.5 * noise
    high = max(high, min(float(np.quantile(honest, 0.9)), high + 1.5 * span))
    if high - low < 0.1 * span:  # one score and no sigma
        low, high = low - 0.5 * span, high + 0.5 * span
    slack = 0.35 * (high - low)  # a little more room is cheaper than a strip
    bottom, top = float(scores.min()), float(scores.max())
    low = min(low, bottom) if bottom > low - slack else low
    high = max(high, top) if top < high + slack else high
    return Limits(low, high, min(bottom, low), max(top, high))


def set_scale(axes: Axes, points: Points, sigma: float | None) -> Limits:
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

    limits = limits_of(points, sigma)
    axes.set_yscale("function", functions=(limits.forward, limits.inverse))
    floor, ceiling = (float(v) for v in limits.forward(array([limits.bottom, limits.top])))
    room = (ceiling - floor) / (0.97 - FLOOR - 0.06)  # data between the floor line and just below the top
    bottom = floor - (FLOOR + 0.06) * room
    axes.set_ylim(*(float(v) for v in limits.inverse(array([bottom, bottom + room]))))
    inner = [t for t in MaxNLocator(7).tick_values(limits.low, limits.high) if limits.low <= t <= limits.high]
    outer = [t for t in (limits.bottom, limits.top) if not limits.low <= t <= limits.high]
    axes.yaxis.set_major_locator(FixedLocator(inner + outer))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:.4f}" if abs(y) < 100 else f"{y:.2g}"))
    axes.set_axisbelow(True)
    axes.grid(axis="y", color=PALE, linewidth=0.6)
    for edge, far in ((limits.high, limits.top), (limits.low, limits.bottom)):
        if edge != far:
            axes.axhspan(*sorted((edge, far)), color="#F6F6F6", zorder=0, linewidth=0)
            axes.axhline(edge, color=GREY, linewidth=0.6, linestyle=(0, (2, 3)), zorder=1)
            axes.annotate(
                "not to scale", (0.997, edge), xycoords=axes.get_yaxis_transform(), ha="right", fontsize=7.5,
                xytext=(0, 3 if far > edge else -3), textcoords="offset points", va="bottom" if far > edge else "top",
                color=GREY, gid="strip",
            )  # fmt: skip
    return limits


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
        for run in experiment.on(experiment.machine).runs
        if run.val_bpb is not None and math.isfinite(run.val_bpb)
    ]


def later_runs(experiment: Experiment) -> list[tuple[int, float]]:
    """Those of `scored_runs` that were made after it was decided."""
    return [(column, score) for column, score in scored_runs(experiment) if column > experiment.number]
