"""The picture of a study: every experiment, one column each, and the line of the incumbent.

A kept change is a filled green circle, a discarded one a hollow grey circle, one that the audit refused an orange
triangle. On the floor line stand those without a score: a failed one as a red cross, one that was ended early as a
hollow circle. A confirmation run is a short tick, a later run of the incumbent a hollow triangle that points down, a
run of the baseline a green diamond. The line goes through the scores that the decisions were made on; its band is one
standard deviation. Figures are made without pyplot, and matplotlib is imported when one is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from ..core.decide import is_better
from ..core.drift import STEADY
from ..core.format import count, thousands
from ..core.types import FAILED, Experiment
from ..system.files import write_atomic
from .plot_labels import label_extremes, label_keeps
from .plot_scale import Points, later_runs, points_of, score_of, scored_runs, set_scale
from .plot_style import (
    BLUE,
    DPI,
    FLOOR,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PALE,
    RED,
    THIN_ABOVE,
    array,
    plain_frame,
    png,
    thinned,
)
from .study_words import correction_words, gain_words, is_clear
from .words import with_mistrust

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.typing import FillStyleType

PROGRESS_INCHES = (11.0, 5.6)
MOST_CHANGES = 3  # of the machine's speed that are told in words


def progress_figure(
    experiments: Sequence[Experiment],
    *,
    title: str,
    sigma: float | None = None,
    speeds: Sequence[tuple[float, float]] = (),
    unit: str = "bits per byte",
) -> Figure:
    """The whole study, one column an experiment.

    Args:
        title: the study's name.
        sigma: its run-to-run standard deviation in bits per byte.
        speeds: of the machine, (column, relative to the study's start), oldest first: see `core/drift.py`.
        unit: of the scores.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=PROGRESS_INCHES, dpi=DPI, facecolor="white", layout=None)
    changes = _speed_changes(speeds)
    axes = figure.add_axes((0.075, 0.15, 0.845, 0.62 if changes else 0.70))
    points = points_of(experiments)
    last = max((place for e in experiments for place in (e.number, *(run.num_decided for run in e.runs))), default=0)
    _frame(axes, last, unit)
    title = with_mistrust(title, experiments, " · ")
    figure.text(0.075, 0.945, title, fontsize=14, fontweight="bold", color=INK, va="center", parse_math=False)
    figure.text(0.075, 0.893, _summary(experiments, points, unit, not changes), fontsize=10, color=INK, va="center")
    if points.scored:
        limits = set_scale(axes, points, sigma)
        _draw_points(axes, points, last)
        _draw_incumbent(axes, points, sigma)
        label_extremes(axes, points, limits)
        label_keeps(axes, points)
    else:
        _draw_nothing(axes, "No experiment has a score yet" if experiments else "No experiment yet")
    _draw_floor(axes, points, last)
    if changes:
        _draw_speeds(figure, axes, speeds, changes)
    _legend(figure, axes)
    return figure


def _draw_nothing(axes: Axes, words: str) -> None:
    axes.set_ylim(0, 1)
    axes.set_yticks([])
    axes.text(0.5, 0.5, words, transform=axes.transAxes, ha="center", color=GREY, fontsize=12)


def draw_progress(experiments: Sequence[Experiment], path: str | Path, **facts: Any) -> Path:
    """Write `progress_figure` as PNG to `path`, whole or not at all. Raises OSError when it cannot."""
    write_atomic(path, png(progress_figure(experiments, **facts)))
    return Path(path)


def _summary(experiments: Sequence[Experiment], points: Points, unit: str, is_steady: bool = True) -> str:
    """`1.5512 → 1.4312 bits per byte, 0.1200 ± 0.0024 better (7.7 %)   ·   23 experiments, 5 kept, 2 failed`.

    On a machine that changed its speed it says that both scores are from the hours of their decisions.
    """
    proposals = sum(e.number > 0 for e in experiments)
    tail = f"{count(proposals, 'experiment')}, {thousands(sum(e.number > 0 for e in points.keeps))} kept"
    tail += f", {thousands(len(points.ended))} ended early" if points.ended else ""
    tail += f", {thousands(len(points.floor))} failed" if points.floor else ""
    tail += f", {thousands(len(points.rejected))} refused by the audit" if points.rejected else ""
    tail += f", {corrected}" if (corrected := correction_words(experiments)) else ""
    if not points.keeps:
        return tail
    baseline, incumbent = points.keeps[0], points.keeps[-1]
    if baseline is incumbent:
        return f"baseline {score_of(baseline):.4f} {unit}   ·   {tail}"
    scores = f"{score_of(baseline):.4f} → {score_of(incumbent):.4f} {unit}"
    when = "" if is_steady else ", as each was decided"
    return f"{scores}, {_gain(baseline, incumbent)}{when}   ·   {tail}"


def _gain(baseline: Experiment, incumbent: Experiment) -> str:
    """`0.1200 ± 0.0024 better (7.7 %)`; what is not clear is not called better or worse."""
    compared = incumbent.against(baseline)
    assert compared is not None, "both have a score"
    difference, error = compared.difference, compared.error
    if not is_clear(difference, error):
        return gain_words(difference, error)
    word = "better" if is_better(difference, 0.0) else "worse"
    return f"{abs(difference):.4f} ± {error:.4f} {word} ({abs(difference) / score_of(baseline):.1%})"


def _frame(axes: Axes, last: int, unit: str) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    what = "validation bits per byte" if unit == "bits per byte" else unit
    plain_frame(axes)
    axes.tick_params(labelsize=9)
    margin = max(0.5, 0.015 * last)
    axes.set_xlim(-max(margin, 0.027 * max(last, 4)), max(last, 4) + margin)  # room for the baseline's marks
    axes.xaxis.set_major_locator(MaxNLocator(nbins=12, integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: thousands(x) if x >= 0 else ""))
    axes.set_xlabel("experiment", color=INK, fontsize=10)
    axes.yaxis.set_label_coords(-0.068, 0.5)
    axes.set_ylabel(f"{what} (lower is better)", color=INK, fontsize=10)


def _draw_incumbent(axes: Axes, points: Points, sigma: float | None) -> None:
    """The step line to the right edge, its band, and the incumbent's score beside its end. It can rise."""
    if not points.keeps:
        return
    incumbent = points.keeps[-1]
    x = array([e.number for e in points.keeps] + [axes.get_xlim()[1]])
    y = array([score_of(e) for e in points.keeps] + [score_of(incumbent)])
    axes.step(x, y, where="post", color=GREEN, linewidth=1.5, zorder=4, label="incumbent", gid="incumbent line")
    if sigma:
        axes.fill_between(
            x, y - sigma, y + sigma, step="post", color=BLUE, alpha=0.20, linewidth=0, zorder=1.5,
            label="noise, ± 1 sd of a run",
        )  # fmt: skip
    beside = partial(
        axes.annotate, xy=(1, y[-1]), xycoords=axes.get_yaxis_transform(), textcoords="offset points", color=GREEN,
        va="center",
    )  # fmt: skip
    beside("incumbent", xytext=(8, 13), fontsize=8.5)
    beside(f"{y[-1]:.4f}", xytext=(8, 0), fontsize=11, fontweight="bold", gid="incumbent")
    if incumbent.standard_error:
        beside(f"± {incumbent.standard_error:.4f}", xytext=(8, -13), fontsize=8.5)


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
    """A diamond for each run, the first ones side by side; a later run while it was the incumbent is drawn as such."""
    scores = _baseline_scores(experiment)
    if not scores:
        return
    low, high = axes.get_xlim()
    step = (high - low) / axes.get_window_extent().width * (size + 2) * DPI / 72
    places = [(experiment.number + (i - (len(scores) - 1) / 2) * step, score) for i, score in enumerate(scores)]
    places += [place for place in later_runs(experiment) if not _was_incumbent(experiment, place[0], keeps)]
    axes.plot(
        array([x for x, _ in places]), array([y for _, y in places]), linestyle="none", marker="D", color=GREEN,
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
    x, y = thinned(axes, array([e.number for e in which]), array([score_of(e) for e in which]))
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
            *thinned(axes, array([column for column, _ in again]), array([score for _, score in again])),
            linestyle="none", marker="v", markersize=1.2 * small, markeredgewidth=1.0, color=GREEN, zorder=6.2,
            markerfacecolor="none", label=f"incumbent again {thousands(len(again))}", gid="incumbent again",
        )  # fmt: skip
    if not x:
        return
    ends = array([v for pair in spans for v in pair]).reshape(-1, 2)
    many = len(x) > 1000
    if not many:
        axes.plot(ends[:, 0], ends[:, 1], color=INK, linewidth=0.6, alpha=0.45, zorder=3)
    axes.plot(
        *thinned(axes, array(x), array(y)), linestyle="none", marker="_", markersize=1.6 * small,
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
    x = array(sorted({e.number for e in which}))
    x = x[:: math.ceil(len(x) / THIN_ABOVE)]
    axes.plot(x, [FLOOR] * len(x), transform=axes.get_xaxis_transform(), linestyle="none", **style)


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
    x = array([column for column, _ in speeds] + [axes.get_xlim()[1]])
    y = array([speed for _, speed in speeds] + [speeds[-1][1]])
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
