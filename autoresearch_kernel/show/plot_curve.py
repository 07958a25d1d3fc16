"""The picture of one training: its loss over time, beside the incumbent's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .plot_style import DPI, GREEN, GREY, INK, array, plain_frame, png
from .words import losses

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CURVE_INCHES = (7.0, 3.0)
SETTLED = 0.12  # share of a run after which its loss is drawn to scale


def curve_png(
    curve: Sequence[Mapping[str, Any]], incumbent_curve: Sequence[Mapping[str, Any]] | None = None, **labels: str
) -> bytes:
    """`curve_figure` as a small PNG."""
    return png(curve_figure(curve, incumbent_curve, **labels))


def curve_figure(
    curve: Sequence[Mapping[str, Any]],
    incumbent_curve: Sequence[Mapping[str, Any]] | None = None,
    *,
    label: str = "this run",
    incumbent_label: str = "incumbent",
) -> Figure:
    """Training loss over time: raw faint, smoothed over a twentieth of the run strong, the incumbent's dashed.

    A curve is the rows of metrics.jsonl; those without a number are skipped.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=CURVE_INCHES, dpi=DPI, facecolor="white")
    axes = figure.add_axes((0.09, 0.17, 0.74, 0.76))
    plain_frame(axes)
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
    """Times and training losses of the rows that have both; a row without any time counts as its step."""
    points = losses([{key: index, **row} for index, row in enumerate(curve)], at=key)
    return array([x for x, _ in points]), array([y for _, y in points])


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
