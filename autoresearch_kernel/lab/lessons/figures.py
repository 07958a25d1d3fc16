"""Pictures of the lessons, in the colours of all other pictures. They show what a list of numbers hides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ...show.plot_style import BLUE, DPI, GREEN, GREY, INK, ORANGE, PALE, RED, plain_frame, png
from ..pictures import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = (GREEN, ORANGE, BLUE, RED, INK, GREY)


def ladder(models: Mapping[str, float]) -> Picture:
    """Models and their bits per byte as bars, in the given order."""
    figure, axes = _frame(7.0, 0.6 + 0.3 * len(models))
    for place, value in enumerate(models.values()):
        axes.barh(place, value, height=0.6, color=GREEN, alpha=0.85, zorder=3)
        axes.text(value + 0.08, place, f"{value:.2f}", va="center", fontsize=8, color=INK)
    axes.set_yticks(range(len(models)), list(models), fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 8.8)
    axes.set_xlabel("bits per byte (lower is better)", fontsize=8)
    return _picture(figure, "; ".join(f"{name}: {value:.2f} bits per byte" for name, value in models.items()))


def lengths(found: Mapping[int, tuple[float, float]]) -> Picture:
    """Bits per byte against the bytes that a model looks back: on its own text, and on text that it never saw."""
    figure, axes = _frame(6.0, 2.8)
    for index, (name, colour) in enumerate((("the text that was counted", GREY), ("val, never counted", GREEN))):
        values = [pair[index] for pair in found.values()]
        axes.plot(list(found), values, "o-", color=colour, linewidth=1.5, markersize=4, label=name)
    axes.set_xlabel("bytes before, that the model looks at", fontsize=8)
    axes.set_ylabel("bits per byte", fontsize=8)
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8, frameon=False)
    words = "; ".join(f"{before}: {train:.2f} and {val:.2f}" for before, (train, val) in found.items())
    return _picture(figure, f"Bits per byte by bytes before, on the counted text and on val: {words}")


def curves(found: Mapping[str, Sequence[Mapping[str, float]]]) -> Picture:
    """Several curves of train_loss over the seconds of training."""
    figure, axes = _frame(7.0, 3.0)
    for colour, (name, curve) in zip(COLOURS, found.items(), strict=False):
        seconds, losses = ([point[key] for point in curve] for key in ("seconds", "train_loss"))
        axes.plot(seconds, losses, color=colour, linewidth=1.4, label=name)
    axes.set_xlabel("seconds of training", fontsize=8)
    axes.set_ylabel("train loss, nats per token", fontsize=8)
    axes.legend(fontsize=8, frameon=False)
    ends = "; ".join(f"{name} ends at {curve[-1]['train_loss']:.2f}" for name, curve in found.items())
    return _picture(figure, f"Training loss over time: {ends}")


def expectations(rows: Sequence[tuple[str, float, float, float | None]]) -> Picture:
    """Intervals that were expected, and what came: name, low, high, and the result (None when there is none)."""
    figure, axes = _frame(7.0, 0.7 + 0.34 * len(rows))
    axes.axvline(0.0, color=PALE, linewidth=1.2, zorder=1)
    for place, (_, low, high, result) in enumerate(rows):
        axes.plot([low, high], [place, place], color=GREY, linewidth=5, alpha=0.45, solid_capstyle="butt", zorder=2)
        if result is not None:
            is_hit = low <= result <= high
            axes.plot(result, place, "o" if is_hit else "x", color=GREEN if is_hit else RED, markersize=7, zorder=3)
    axes.set_yticks(range(len(rows)), [row[0] for row in rows], fontsize=8)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("change of val_bpb (left is better); bar: expected, mark: what came", fontsize=8)
    hits = sum(result is not None and low <= result <= high for _, low, high, result in rows)
    return _picture(figure, f"{hits} of {len(rows)} results are within the interval that was expected")


def _frame(width: float, height: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    plain_frame(axes)
    return figure, axes


def _picture(figure: Figure, words: str) -> Picture:
    return Picture(png(figure), words)
