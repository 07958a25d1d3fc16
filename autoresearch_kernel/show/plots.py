"""Pictures of a study and of a run, rebuilt from the record at any time. The home of matplotlib.

`progress_figure` shows every experiment with the marks used everywhere: a kept one is a filled
green circle, a discarded one a small hollow grey circle, one that failed a red cross on the floor
line, one that was ended early a hollow grey circle there, one the audit refused an orange triangle, a
confirmation run a short tick on the same column, one more run of the incumbent a hollow triangle that points
down, at the column where it happened; each run of the baseline is a green diamond. The incumbent is a step
line with a band of one standard deviation. Each kind of mark has a shape of its own.
Nothing is left out: scores far from the rest are drawn in a compressed strip at the edge of the axis,
with their values. A machine that did not keep its speed gets a strip of its own above the axes.

`curve_png` shows the training loss of one run against the incumbent's.

Figures are plain objects (`matplotlib.figure.Figure`, no pyplot, no global state), and matplotlib is
only imported when one is drawn.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from autoresearch_kernel.core.drift import STEADY
from autoresearch_kernel.core.format import count, number, thousands
from autoresearch_kernel.core.types import Experiment, Status
from autoresearch_kernel.show.words import correction_words, idea, is_ended_early, with_mistrust
from autoresearch_kernel.system.files import write_atomic

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text
    from matplotlib.typing import FillStyleType

# Okabe-Ito hues, darkened where thin; shapes say it too.
GREEN, GREY, RED, ORANGE, BLUE, INK, PALE = "#008A63", "#8C8C8C", "#C0392B", "#E69F00", "#56A0D3", "#303030", "#E4E4E4"
FAILED = {Status.CRASH, Status.TIMEOUT, Status.INVALID, Status.INTERRUPTED}
PROGRESS_INCHES, CURVE_INCHES, DPI = (11.0, 5.6), (7.0, 3.0), 144
FLOOR = 0.045  # height of the floor line, as a share of the axes
STRIP = 0.13  # height of a compressed strip, as a share of the linear part
MOST_LABELS, MOST_LABELS_WHEN_CROWDED, CROWDED = 16, 10, 300  # kept changes that carry their words; experiments
LABEL_CHARACTERS = 38
LABELS_KEEP_CLEAR_OF = {
    "keep", "discard", "refused by the audit", "not decided yet", "baseline run", "confirmation", "incumbent again",
}  # fmt: skip
MOST_CHANGES = 3  # of the machine's speed that are told in words
THIN_ABOVE = 20_000  # points of one kind; beyond, one per pixel is drawn
SETTLED = 0.12  # share of a run after which its loss is drawn to scale


def progress_figure(
    experiments: Sequence[Experiment],
    *,
    title: str,
    sigma: float | None,
    speeds: Sequence[tuple[float, float]] = (),
) -> Figure:
    """The whole study, one column an experiment.

    Args:
        title: the study's name.
        sigma: its run-to-run standard deviation in bits per byte.
        speeds: of the machine, (column, relative to the study's start), oldest first: see `core/drift.py`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=PROGRESS_INCHES, dpi=DPI, facecolor="white", layout=None)
    changes = _speed_changes(speeds)
    axes = figure.add_axes((0.075, 0.15, 0.845, 0.62 if changes else 0.70))
    points = points_of(experiments)
    last = max((place for e in experiments for place in (e.number, *(run.num_decided for run in e.runs))), default=0)
    _frame(axes, last)
    title = with_mistrust(title, experiments, " · ")
    figure.text(0.075, 0.945, title, fontsize=14, fontweight="bold", color=INK, va="center", parse_math=False)
    figure.text(0.075, 0.893, _summary(experiments, points), fontsize=10, color=INK, va="center")
    if points.scored:
        limits = _scale(axes, points, sigma)
        _draw_points(axes, points, last)
        _draw_incumbent(axes, points, sigma)
        _label_extremes(axes, points, limits)
        _label_keeps(axes, points)
    else:
        axes.set_ylim(0, 1)
        axes.set_yticks([])
        words = "No experiment has a score yet" if experiments else "No experiment yet"
        axes.text(0.5, 0.5, words, transform=axes.transAxes, ha="center", color=GREY, fontsize=12)
    _draw_floor(axes, points, last)
    if changes:
        _draw_speeds(figure, axes, speeds, changes)
    _legend(figure, axes)
    return figure


def draw_progress(
    experiments: Sequence[Experiment],
    path: str | Path,
    *,
    title: str,
    sigma: float | None = None,
    speeds: Sequence[tuple[float, float]] = (),
) -> Path:
    """Write `progress_figure` as PNG to `path`, whole or not at all. Raises OSError when it cannot."""
    write_atomic(path, png(progress_figure(experiments, title=title, sigma=sigma, speeds=speeds)))
    return Path(path)


# What is drawn


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


def _summary(experiments: Sequence[Experiment], points: Points) -> str:
    """ "1.5512 → 1.4312 bpb, 0.1200 better (7.7 %): 23 experiments, 5 kept, 2 failed"."""
    proposals = sum(e.number > 0 for e in experiments)
    tail = f"{count(proposals, 'experiment')}, {thousands(sum(e.number > 0 for e in points.keeps))} kept"
    tail += f", {thousands(len(points.ended))} ended early" if points.ended else ""
    tail += f", {thousands(len(points.floor))} failed" if points.floor else ""
    tail += f", {thousands(len(points.rejected))} refused by the audit" if points.rejected else ""
    tail += f", {corrected}" if (corrected := correction_words(experiments)) else ""
    if not points.keeps:
        return tail
    first, best = _bpb(points.keeps[0]), _bpb(points.keeps[-1])
    if len(points.keeps) == 1:
        return f"baseline {first:.4f} bits per byte   ·   {tail}"
    gain = first - best
    word = "better" if gain >= 0 else "worse"  # a machine that slowed down
    return f"{first:.4f} → {best:.4f} bits per byte, {abs(gain):.4f} {word} ({abs(gain) / first:.1%})   ·   {tail}"


def _bpb(experiment: Experiment) -> float:
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


def _frame(axes: Axes, last: int) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GREY)
    axes.tick_params(colors=INK, labelsize=9, length=3)
    margin = max(0.5, 0.015 * last)
    axes.set_xlim(-max(margin, 0.027 * max(last, 4)), max(last, 4) + margin)  # room for the baseline's marks
    axes.xaxis.set_major_locator(MaxNLocator(nbins=12, integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: thousands(x) if x >= 0 else ""))
    axes.set_xlabel("experiment", color=INK, fontsize=10)
    axes.yaxis.set_label_coords(-0.068, 0.5)
    axes.set_ylabel("validation bits per byte (lower is better)", color=INK, fontsize=10)


# The vertical axis: linear where it matters, compressed where it does not


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
        import numpy as np

        y = np.asarray(y, dtype=float)
        above = self.high + self._squeeze(np.maximum(y - self.high, 0), self.top - self.high)
        below = self.low - self._squeeze(np.maximum(self.low - y, 0), self.low - self.bottom)
        return np.where(y > self.high, above, np.where(y < self.low, below, y))

    def inverse(self, height: np.ndarray) -> np.ndarray:
        import numpy as np

        height = np.asarray(height, dtype=float)
        above = self.high + self._stretch(np.maximum(height - self.high, 0), self.top - self.high)
        below = self.low - self._stretch(np.maximum(self.low - height, 0), self.low - self.bottom)
        return np.where(height > self.high, above, np.where(height < self.low, below, height))

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

    scores = _array([*map(_bpb, points.scored), *(y for e in points.scored for _, y in scored_runs(e))])
    honest = _array([_bpb(e) for e in points.discards + points.pending] or [_bpb(points.scored[0])])
    kept = _array([_bpb(e) for e in points.keeps] or [float(np.median(honest))])
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


def _scale(axes: Axes, points: Points, sigma: float | None) -> Limits:
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

    limits = limits_of(points, sigma)
    axes.set_yscale("function", functions=(limits.forward, limits.inverse))
    floor, ceiling = (float(v) for v in limits.forward(_array([limits.bottom, limits.top])))
    room = (ceiling - floor) / (0.97 - FLOOR - 0.06)  # data between the floor line and just below the top
    bottom = floor - (FLOOR + 0.06) * room
    axes.set_ylim(*(float(v) for v in limits.inverse(_array([bottom, bottom + room]))))
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


def _array(values: Sequence[float]) -> np.ndarray:
    import numpy as np

    return np.array(values, dtype=float)


# Marks


def _draw_incumbent(axes: Axes, points: Points, sigma: float | None) -> None:
    """The step line to the right edge, its band, and the incumbent's score beside its end. It can rise."""
    if not points.keeps:
        return
    incumbent = points.keeps[-1]
    x = _array([e.number for e in points.keeps] + [axes.get_xlim()[1]])
    y = _array([_bpb(e) for e in points.keeps] + [_bpb(incumbent)])
    axes.step(x, y, where="post", color=GREEN, linewidth=1.5, zorder=4, label="incumbent", gid="incumbent line")
    if sigma:
        axes.fill_between(
            x, y - sigma, y + sigma, step="post", color=BLUE, alpha=0.20, linewidth=0, zorder=1.5,
            label="noise, ± 1 sd of a run",
        )  # fmt: skip
    beside: dict[str, Any] = {
        "xycoords": axes.get_yaxis_transform(),
        "textcoords": "offset points",
        "color": GREEN,
        "va": "center",
    }
    axes.annotate("incumbent", (1, y[-1]), xytext=(8, 13), fontsize=8.5, **beside)
    axes.annotate(f"{y[-1]:.4f}", (1, y[-1]), xytext=(8, 0), fontsize=11, fontweight="bold", gid="incumbent", **beside)
    if incumbent.standard_error:
        axes.annotate(f"± {incumbent.standard_error:.4f}", (1, y[-1]), xytext=(8, -13), fontsize=8.5, **beside)


def _draw_points(axes: Axes, points: Points, last: int) -> None:
    small = 5.0 if last <= 150 else 4.0 if last <= 600 else 2.8
    large = small + (2.5 if last <= 600 else 2.0)
    faint = 0.9 if last <= 300 else 0.6 if last <= 3000 else 0.35
    keeps = [e for e in points.keeps if not _baseline_scores(e)]
    _marks(axes, keeps, "o", large, GREEN, "keep", zorder=6, edge=0.6 if last <= 3000 else 0.0)
    _marks(axes, points.discards, "o", small, GREY, "discard", hollow=True, alpha=faint, zorder=2)
    _marks(axes, points.rejected, "^", small + 2, ORANGE, "refused by the audit", zorder=5)
    pending = [e for e in points.pending if not _baseline_scores(e)]
    _marks(axes, pending, "o", small, BLUE, "not decided yet", hollow=True, zorder=3, fillstyle="left")
    for e in points.keeps + points.pending:
        _draw_baseline(axes, e, points.keeps, large)
    _draw_runs(axes, points, small)


def _baseline_scores(experiment: Experiment) -> list[float]:
    """The baseline's first runs, which are drawn one by one; of any other experiment none."""
    if experiment.parent is not None:
        return []
    return [score for column, score in scored_runs(experiment) if column == experiment.number]


def _draw_baseline(axes: Axes, experiment: Experiment, keeps: Sequence[Experiment], size: float) -> None:
    """A diamond a run: the first side by side, so that equal scores are as many marks; later ones where they happened.

    A later run while it was still the incumbent is no baseline run but the incumbent again.
    """
    scores = _baseline_scores(experiment)
    if not scores:
        return
    low, high = axes.get_xlim()
    step = (high - low) / axes.get_window_extent().width * (size + 2) * DPI / 72
    places = [(experiment.number + (i - (len(scores) - 1) / 2) * step, score) for i, score in enumerate(scores)]
    places += [place for place in later_runs(experiment) if not _was_incumbent(experiment, place[0], keeps)]
    axes.plot(
        _array([x for x, _ in places]), _array([y for _, y in places]), linestyle="none", marker="D", color=GREEN,
        markersize=0.8 * size, zorder=6, markeredgecolor="white", markeredgewidth=0.6, gid="baseline run",
        label=f"baseline run {len(places)}",
    )  # fmt: skip


def _was_incumbent(experiment: Experiment, column: int, keeps: Sequence[Experiment]) -> bool:
    """Whether nothing else had been kept when a run of it was made: only the baseline runs again after that."""
    return experiment.parent is not None or not any(experiment.number < keep.number < column for keep in keeps)


def _marks(
    axes: Axes, which: Sequence[Experiment], marker: str, size: float, color: str, label: str, *, zorder: float,
    hollow: bool = False, alpha: float = 1.0, edge: float = 0.6, fillstyle: FillStyleType = "full",
) -> None:  # fmt: skip
    if not which:
        return
    x, y = _thinned(axes, _array([e.number for e in which]), _array([_bpb(e) for e in which]))
    axes.plot(
        x, y, linestyle="none", marker=marker, markersize=size, color=color, alpha=alpha, zorder=zorder, gid=label,
        label=f"{label} {thousands(sum(e.number > 0 for e in which))}", fillstyle=fillstyle,
        markerfacecolor="none" if hollow and fillstyle == "full" else color,
        markeredgecolor=color if hollow else "white", markeredgewidth=0.9 if hollow else edge,
    )  # fmt: skip


def _draw_runs(axes: Axes, points: Points, small: float) -> None:
    """A short tick per confirmation run, joined to the first by a hairline; a mark where the incumbent ran again."""
    import numpy as np

    x, y, spans = [], [], []
    again: list[tuple[int, float]] = []
    for e in points.keeps + points.discards + points.rejected:
        runs = scored_runs(e)
        again += [place for place in later_runs(e) if _was_incumbent(e, place[0], points.keeps)]
        scores = [score for column, score in runs if column == e.number]
        if len(scores) > 1 and not _baseline_scores(e):
            spans += [(e.number, min(scores)), (e.number, max(scores)), (np.nan, np.nan)]
            x += [e.number] * (len(scores) - 1)
            y += scores[1:]
    if again:
        axes.plot(
            *_thinned(axes, _array([column for column, _ in again]), _array([score for _, score in again])),
            linestyle="none", marker="v", markersize=1.2 * small, markeredgewidth=1.0, color=GREEN, zorder=6.2,
            markerfacecolor="none", label=f"incumbent again {thousands(len(again))}", gid="incumbent again",
        )  # fmt: skip
    if not x:
        return
    ends = _array([v for pair in spans for v in pair]).reshape(-1, 2)
    many = len(x) > 1000
    if not many:
        axes.plot(ends[:, 0], ends[:, 1], color=INK, linewidth=0.6, alpha=0.45, zorder=3)
    axes.plot(
        *_thinned(axes, _array(x), _array(y)), linestyle="none", marker="_", markersize=1.6 * small,
        zorder=2.5 if many else 6.5, markeredgewidth=0.18 * small, alpha=0.3 if many else 0.8,
        color=INK, label="confirmation run", gid="confirmation",
    )  # fmt: skip


def _draw_floor(axes: Axes, points: Points, last: int) -> None:
    """The line at the bottom where experiments without a score stand."""
    axes.plot([0, 1], [FLOOR, FLOOR], transform=axes.transAxes, color=PALE, linewidth=0.8, zorder=1)
    size = 6.0 if last <= 150 else 4.0 if last <= 1000 else 3.0
    faint = 1.0 if last <= 3000 else 0.3
    kinds = [e.status.value if e.status in FAILED else "no score" for e in points.floor]
    counted = ", ".join(f"{kind} {thousands(kinds.count(kind))}" for kind in dict.fromkeys(sorted(kinds)))
    early = f"ended early {thousands(len(points.ended))}"
    _on_floor(
        axes, points.floor, label=counted, gid="failed", marker="x", color=RED, zorder=5, markersize=size,
        markeredgewidth=1.3 if last <= 600 else 0.8, alpha=faint,
    )  # fmt: skip
    _on_floor(
        axes, points.ended, label=early, gid="ended early", marker="o", color=GREY, zorder=4, markersize=0.8 * size,
        markeredgewidth=0.9, markerfacecolor="white", alpha=faint,
    )  # fmt: skip


def _on_floor(axes: Axes, which: Sequence[Experiment], **style: Any) -> None:
    if not which:
        return
    x = _array(sorted({e.number for e in which}))
    x = x[:: math.ceil(len(x) / THIN_ABOVE)]
    axes.plot(x, [FLOOR] * len(x), transform=axes.get_xaxis_transform(), linestyle="none", **style)


# The machine's speed, in a strip of its own


def _speed_changes(speeds: Sequence[tuple[float, float]]) -> list[tuple[float, float | None, float]]:
    """Stretches in which the machine was not what it had been: (from, to, median speed); `to` None while one lasts."""
    changes = []
    for is_steady, stretch in groupby(speeds, key=lambda item: abs(item[1] - 1) <= STEADY):
        columns = list(stretch)
        if not is_steady:
            lasts = columns[-1] == speeds[-1]
            changes.append((columns[0][0], None if lasts else columns[-1][0], median(s for _, s in columns)))
    return changes


def _draw_speeds(
    figure: Figure,
    axes: Axes,
    speeds: Sequence[tuple[float, float]],
    changes: Sequence[tuple[float, float | None, float]],
) -> None:
    """A line over the same columns, with the greatest changes in words."""
    strip = figure.add_axes((0.075, 0.795, 0.845, 0.045), gid="machine speed")
    strip.set_axis_off()
    strip.set_xlim(axes.get_xlim())
    x = _array([column for column, _ in speeds] + [axes.get_xlim()[1]])
    y = _array([speed for _, speed in speeds] + [speeds[-1][1]])
    low, high = min(0.85, float(y.min())), max(1.15, float(y.max()))
    strip.set_ylim(low - 0.1 * (high - low), high + 0.1 * (high - low))
    strip.axhline(1.0, color=GREY, linewidth=0.6, linestyle=(0, (2, 3)))
    strip.fill_between(x, 1.0, y, step="post", color=ORANGE, alpha=0.25, linewidth=0)
    strip.step(x, y, where="post", color=INK, linewidth=1.0, gid="machine speed line")
    by_size = sorted(range(len(changes)), key=lambda i: -abs(math.log(changes[i][2])))
    greatest = [changes[i] for i in sorted(by_size[:MOST_CHANGES])]
    words = ", ".join(f"{speed:.2f} × {_between(start, end)}" for start, end, speed in greatest)
    strip.annotate(
        f"{y[-1]:.2f} ×", (1, y[-1]), xycoords=strip.get_yaxis_transform(), xytext=(8, 0),
        textcoords="offset points", fontsize=8.5, color=INK, va="center",
    )  # fmt: skip
    strip.text(
        0, 1.1, f"machine speed, 1.0 = at the start: {words}", transform=strip.transAxes, fontsize=8, color=INK,
        va="bottom",
    )  # fmt: skip


def _between(start: float, end: float | None) -> str:
    if end is None:
        return f"from {thousands(start)} on"
    return f"at {thousands(start)}" if start == end else f"from {thousands(start)} to {thousands(end)}"


def _thinned(axes: Axes, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All points, or one per pixel when there are far more than pixels: the picture is the same."""
    import numpy as np

    if len(x) <= THIN_ABOVE:
        return x, y
    pixels = np.floor(axes.transData.transform(np.column_stack([x, y]))).astype(np.int64)
    _, first = np.unique(pixels[:, 0] * 100_003 + pixels[:, 1], return_index=True)
    return x[np.sort(first)], y[np.sort(first)]


def _legend(figure: Figure, axes: Axes) -> None:
    """One row under the axes, in two when it would not fit."""
    handles, labels = axes.get_legend_handles_labels()
    for rows in (1, 2) if handles else ():
        legend = figure.legend(
            handles, labels, loc="lower left", bbox_to_anchor=(0.065, 0.0), ncols=math.ceil(len(handles) / rows),
            frameon=False, fontsize=9 if rows == 1 else 8, handletextpad=0.5, columnspacing=1.6, labelcolor=INK,
            labelspacing=0.2, borderpad=0.3,
        )  # fmt: skip
        if rows == 2 or legend.get_window_extent().x1 < figure.bbox.x1:
            return
        legend.remove()


# Words beside the marks


def _label_extremes(axes: Axes, points: Points, limits: Limits) -> None:
    """The value of the highest and lowest score in the compressed strips, which the axis cannot show to scale."""
    beyond = [e for e in points.scored if not limits.low <= _bpb(e) <= limits.high]
    if not beyond:
        return
    worst, best = max(beyond, key=_bpb), min(beyond, key=_bpb)
    for e, outside in ((worst, _bpb(worst) > limits.high), (best, _bpb(best) < limits.low)):
        if outside:
            left = e.number > 0.9 * axes.get_xlim()[1]
            axes.annotate(
                f"{_bpb(e):.4f}", (e.number, _bpb(e)), xytext=(-6 if left else 6, 0), textcoords="offset points",
                ha="right" if left else "left", va="center", fontsize=8, color=INK, gid="extreme",
            )  # fmt: skip


def label_of(experiment: Experiment) -> str:
    """A few words for what an experiment changed, shortened to what fits beside its mark."""
    text = "baseline" if experiment.parent is None else idea(experiment).split(": ")[0]
    return text if len(text) <= LABEL_CHARACTERS else text[: LABEL_CHARACTERS - 1].rstrip(" ,.") + "…"


_Box = tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels


def _label_keeps(axes: Axes, points: Points) -> None:
    """Words for the kept changes that gained most, each where it covers least and never over another."""
    import numpy as np

    keeps = points.keeps
    if not keeps:
        return
    gains = {e.number: _bpb(before) - _bpb(e) for before, e in pairwise(keeps)}
    ordered = [keeps[-1], *sorted(keeps[:-1], key=lambda e: -gains.get(e.number, math.inf))]
    most = MOST_LABELS if axes.get_xlim()[1] <= CROWDED else MOST_LABELS_WHEN_CROWDED
    drawn = [line.get_xydata() for line in axes.lines if line.get_gid() in LABELS_KEEP_CLEAR_OF]
    places = np.concatenate(drawn) if drawn else np.zeros((0, 2))
    x, y = _thinned(axes, places[:, 0], places[:, 1])
    area = axes.get_window_extent()
    room = _Room(
        area=(area.x0 + 2, area.y0 + (FLOOR + 0.025) * area.height, area.x1, area.y1),
        taken=[_box(text) for text in axes.texts if text.get_gid() in ("extreme", "strip")],
        marks=axes.transData.transform(np.column_stack([x, y])) if len(x) else np.zeros((0, 2)),
        line=_line_pixels(axes, keeps),
        leaders=[],
    )
    num_others = len(room.taken)
    for experiment in ordered[: 4 * most]:
        if len(room.taken) < num_others + most:
            _place(axes, experiment, room)


@dataclass
class _Room:
    """What is already on the axes, in pixels: labels may cover none of it."""

    area: _Box
    taken: list[_Box]
    marks: np.ndarray  # (n, 2)
    line: np.ndarray  # (n, 2): points along the incumbent's line
    leaders: list[tuple[np.ndarray, np.ndarray]]  # ends of the lines from label to mark


def _box(text: Text) -> _Box:
    """Of the words alone: an annotation's own extent counts its arrow too."""
    from matplotlib.text import Text

    text.get_window_extent()  # places an annotation, whose position is otherwise settled when it is drawn
    extent = Text.get_window_extent(text)
    return extent.x0, extent.y0, extent.x1, extent.y1


def _line_pixels(axes: Axes, keeps: Sequence[Experiment]) -> np.ndarray:
    """Points along the step line, about every 6 pixels: (n, 2) display coordinates."""
    import numpy as np

    corners = []
    for e, following in zip(keeps, [*keeps[1:], None], strict=True):
        until = following.number if following else axes.get_xlim()[1]
        corners += [(e.number, _bpb(e)), (until, _bpb(e))]
    pixels = axes.transData.transform(_array([v for c in corners for v in c]).reshape(-1, 2))
    parts = [np.linspace(a, b, max(2, int(np.abs(b - a).max() / 6))) for a, b in pairwise(pixels)]
    return np.concatenate(parts) if parts else pixels


# Where a label may go, in points from its mark to its nearer side (0: centred) and to its middle. Below and to the
# left of a falling line is empty. Where there is no room so near, the label is left out.
_OFFSETS: list[tuple[float, float]] = [
    *((dx, dy) for dy in (-10, -14, -20, -27) for dx in (-6, -14, -22, 0)),
    *((dx, dy) for dy in (-10, -14, -20, -27, 10, 14, 20, 27) for dx in (6, 14, 22)),
    *((dx, dy) for dy in (10, 14, 20, 27) for dx in (0, -6, -14)),
]


def _place(axes: Axes, experiment: Experiment, room: _Room) -> None:
    """Annotate `experiment` at the cheapest free spot beside it; leave it out when there is none."""
    from matplotlib.patheffects import withStroke

    text = axes.annotate(
        label_of(experiment), (experiment.number, _bpb(experiment)), xytext=(0, 0), textcoords="offset points",
        fontsize=8, color=INK, va="center", ha="left", zorder=8, gid="keep label", parse_math=False,
        arrowprops={"arrowstyle": "-", "color": GREEN, "linewidth": 0.6, "shrinkA": 1, "shrinkB": 3, "alpha": 0.8},
    )  # fmt: skip
    text.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
    x0, y0, x1, y1 = _box(text)
    width, height = x1 - x0 + 6.0, y1 - y0 + 3.0
    anchor = axes.transData.transform((experiment.number, _bpb(experiment)))
    scale = float(axes.figure.dpi) / 72
    best: tuple[float, float, float, _Box] | None = None
    for dx, dy in _OFFSETS:
        left = float(anchor[0]) + dx * scale - (width if dx < 0 else width / 2 if dx == 0 else 0.0)
        middle = float(anchor[1]) + dy * scale
        box = (left, middle - height / 2, left + width, middle + height / 2)
        cost = _cost(room, box, anchor, dx, dy)
        if cost < (best[0] if best else 60.0):
            best = (cost, dx, dy, box)
    if best is None:
        text.remove()
        return
    _, dx, dy, box = best
    text.set_position((dx + math.copysign(3 / scale, dx) if dx else 0.0, dy))
    text.set_horizontalalignment("right" if dx < 0 else "left" if dx > 0 else "center")
    room.taken.append(box)
    room.leaders.append((anchor, _end_of_leader(box, anchor)))


def _end_of_leader(box: _Box, anchor: np.ndarray) -> np.ndarray:
    """Where the line from the mark meets the label: the middle of it, as matplotlib draws it."""
    return _array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])


def _cost(room: _Room, box: _Box, anchor: np.ndarray, dx: float, dy: float) -> float:
    """How bad a label is at `box`: infinite outside the axes, over another label, a mark or the incumbent's line."""
    import numpy as np

    if not _inside(box, room.area) or any(_overlap(box, other) for other in room.taken):
        return math.inf
    if _within(room.line, box, 3).any() or _within(room.marks, box, 5).any():
        return math.inf
    end = _end_of_leader(box, anchor)
    path = np.linspace(anchor, end, 24)[4:]
    path = path[~_within(path, box)]
    struck = sum(bool(_within(path, other).any()) for other in room.taken)
    struck += sum(bool(_within(np.linspace(a, b, 24), box).any()) for a, b in room.leaders)
    crossed = sum(_cross(anchor, end, a, b) for a, b in room.leaders)
    return 60.0 * struck + 20.0 * crossed + 0.08 * math.hypot(dx, 1.5 * dy)


def _cross(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> bool:
    """Whether the segments ab and cd cross."""

    def side(p: np.ndarray, q: np.ndarray, r: np.ndarray) -> bool:
        return bool((q[0] - p[0]) * (r[1] - p[1]) > (q[1] - p[1]) * (r[0] - p[0]))

    return side(a, b, c) != side(a, b, d) and side(c, d, a) != side(c, d, b)


def _within(points: np.ndarray, box: _Box, pad: float = 0.0) -> np.ndarray:
    """Which of the (n, 2) points lie in the box: (n,) bool."""
    x, y = points[:, 0], points[:, 1]
    return (x > box[0] - pad) & (x < box[2] + pad) & (y > box[1] - pad) & (y < box[3] + pad)


def _inside(inner: tuple[float, ...], outer: tuple[float, ...]) -> bool:
    return inner[0] >= outer[0] and inner[1] >= outer[1] and inner[2] <= outer[2] and inner[3] <= outer[3]


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


# The curve of one run


def curve_png(
    curve: Sequence[Mapping[str, Any]],
    incumbent_curve: Sequence[Mapping[str, Any]] | None = None,
    *,
    label: str = "this run",
    incumbent_label: str = "incumbent",
) -> bytes:
    """Training loss over time as a small PNG; points are the rows of metrics.jsonl, those without a number skipped."""
    return png(curve_figure(curve, incumbent_curve, label=label, incumbent_label=incumbent_label))


def curve_figure(
    curve: Sequence[Mapping[str, Any]],
    incumbent_curve: Sequence[Mapping[str, Any]] | None = None,
    *,
    label: str = "this run",
    incumbent_label: str = "incumbent",
) -> Figure:
    """The figure behind `curve_png`: raw loss faint, smoothed over a twentieth of the run strong, incumbent dashed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=CURVE_INCHES, dpi=DPI, facecolor="white")
    axes = figure.add_axes((0.09, 0.17, 0.74, 0.76))
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GREY)
    axes.tick_params(colors=INK, labelsize=8, length=3)
    key = _time_key([curve, incumbent_curve or []])
    mine, theirs = _losses(curve, key), _losses(incumbent_curve or [], key)
    axes.set_xlabel({"seconds": "seconds of training", "progress": "share of the budget"}.get(key, key), fontsize=8)
    axes.set_ylabel("train loss, nats per token", fontsize=8)
    if not len(mine[0]):
        axes.set_xticks([]), axes.set_yticks([])
        axes.text(0.5, 0.5, "No training step was recorded", transform=axes.transAxes, ha="center", color=GREY)
        return figure
    ends = []
    for (x, y), color, dash, name in ((theirs, INK, (0, (4, 2)), incumbent_label), (mine, GREEN, "-", label)):
        if not len(x):
            continue
        smooth = _smoothed(y)
        axes.plot(x, y, color=color, linewidth=0.6, alpha=0.30, zorder=2)
        axes.plot(x, smooth, color=color, linewidth=1.5, linestyle=dash, label=name, zorder=3,
                  marker="o" if len(x) == 1 else None)  # fmt: skip
        ends.append((float(x[-1]), float(smooth[-1]), color, name))
    _curve_limits(axes, [c for c in (mine, theirs) if len(c[0])])
    _end_labels(axes, ends)
    return figure


def _time_key(curves: Sequence[Sequence[Mapping[str, Any]]]) -> str:
    rows = [row for curve in curves for row in curve]
    return next((key for key in ("seconds", "progress") if rows and all(key in row for row in rows)), "step")


def _losses(curve: Sequence[Mapping[str, Any]], key: str) -> tuple[np.ndarray, np.ndarray]:
    """(time, train_loss) of the rows that have both as finite numbers."""
    rows = [(row.get(key, index), row.get("train_loss")) for index, row in enumerate(curve)]
    kept = [(a, b) for x, y in rows if (a := number(x)) is not None and (b := number(y)) is not None]
    return _array([x for x, _ in kept]), _array([y for _, y in kept])


def _smoothed(y: np.ndarray) -> np.ndarray:
    """Mean over a twentieth of the run around each point: no lag at the steep start, looking back at the end."""
    import numpy as np

    half = len(y) // 40
    index = np.arange(len(y))
    left = np.minimum(half, index)
    right = np.minimum(left, len(y) - 1 - index)
    sums = np.concatenate([[0.0], np.cumsum(y)])
    return (sums[index + right + 1] - sums[index - left]) / (left + right + 1)


def _curve_limits(axes: Axes, curves: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
    """Show the loss from a tenth of the run on; the fall before it leaves through the top, its start in words."""
    low = min(float(y.min()) for _, y in curves)
    settled = max(float(y[x >= x[0] + SETTLED * (x[-1] - x[0])].max()) for x, y in curves)
    pad = 0.06 * max(settled - low, 1.0 if settled == low else 0.0)
    longest = max(float(x[-1]) for x, _ in curves) or 1.0
    axes.set_xlim(-0.02 * longest, 1.01 * longest)
    axes.ticklabel_format(useOffset=False)
    axes.set_ylim(low - pad, settled + pad)
    x, y = curves[-1]
    if y[0] > settled + pad:
        leaves = x[max(0, int((y > settled + pad).sum()) - 1)]
        axes.annotate(
            f"from {y[0]:.2f}", (leaves, 0.98), xycoords=axes.get_xaxis_transform(), xytext=(9, 0), color=GREY,
            textcoords="offset points", fontsize=7.5, va="top",
        )  # fmt: skip


def _end_labels(axes: Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Name and last value at the end of each line: beside the axes, or inside when the run ended early."""
    low, high = axes.get_ylim()
    start, end = axes.get_xlim()
    words: dict[str, Any] = {"fontsize": 8, "va": "center", "linespacing": 1.1, "parse_math": False}
    early = [e for e in ends if e[0] < start + 0.85 * (end - start)]
    for x, y, color, name in early:
        axes.annotate(
            f"{name}\n{y:.4f}", (x, min(max(y, low), high)), xytext=(5, -9), textcoords="offset points", color=color,
            **words,
        )  # fmt: skip
    height = 0.15 * (high - low)
    ordered = sorted((e for e in ends if e not in early), key=lambda e: e[1])
    heights = [e[1] for e in ordered]
    if len(heights) == 2 and heights[1] - heights[0] < height:
        middle = sum(heights) / 2
        heights = [middle - height / 2, middle + height / 2]
    lift = max(0.0, low + height / 2 - min(heights, default=high))
    for y, (_, value, color, name) in zip(heights, ordered, strict=True):
        axes.text(1.015, y + lift, f"{name}\n{value:.4f}", transform=axes.get_yaxis_transform(), color=color, **words)


def png(figure: Figure) -> bytes:
    """The picture as bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()
