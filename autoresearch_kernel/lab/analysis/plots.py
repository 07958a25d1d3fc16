"""Figures of an analysed study: gains as a waterfall, seconds, noise, speed, themes; marks as in progress.png."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ...core.drift import STEADY
from ...core.format import MINUS, duration, percent, plain, signed, with_error
from ...core.types import Status
from ...show.plot_style import BLUE, DPI, GREEN, GREY, INK, ORANGE, PALE, RED, plain_frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ...core.contrast import Contrast
    from .data import StudyData

WIDTH_INCHES, ROW_INCHES, FRAME_INCHES, LEGEND_INCHES = 8.0, 0.24, 0.5, 0.28
MOST_ROWS = 24  # of a picture; beyond, the words no longer fit beside it
WORDS_SHARE = 0.38  # of the width, for what stands left of the axes
NAME_CHARACTERS = 32  # of what stands there after a number
WIDEST_SIGMAS = 12.0  # differences beyond this are drawn at the edge
SECOND_COLOURS = {
    "training": GREEN,
    "start-up": BLUE,
    "dev score and hand-over": "#A6CEE3",
    "shutdown": "#C9C9C9",
    "scoring": ORANGE,
    "audit": "#FDBF6F",
    "attribution": "#CAB2D6",
}


def waterfall_figure(rows: Sequence[Mapping[str, Any]], unit: str = "bits per byte") -> Figure:
    """From the baseline down, a step for each kept change as it was judged."""
    shown = rows[-MOST_ROWS:]
    start = shown[0]["gain"] - shown[0]["cumulative"]  # of what earlier changes gained; 0 when all are shown
    figure, axes = _rows_figure(len(shown) + 1)
    levels = [start, *(-row["cumulative"] for row in shown)]
    span = (max(levels) - min(levels)) or 1e-3
    for place, row in enumerate(shown):
        before, after = levels[place], levels[place + 1]
        colour = GREEN if after < before else GREY
        axes.barh(place, after - before, left=before, height=0.62, color=colour, alpha=0.85, zorder=3, gid="gain")
        axes.plot([after, after], [place - 0.31, place + 1.31], color=GREY, linewidth=0.6, zorder=2)
        part = f"   {percent(row['share'])}".replace("-", MINUS) if row["share"] is not None else ""
        right = max(before, after) + 0.012 * span
        gained = with_error(after - before, row["standard_error"])
        axes.text(right, place, f"{gained}{part}", va="center", fontsize=8, color=INK)
    axes.plot([levels[-1]], [len(shown)], "o", color=GREEN, markersize=6.5, markeredgecolor="white", zorder=5)
    axes.text(
        levels[-1] + 0.022 * span, len(shown), with_error(levels[-1], shown[-1]["cumulative_standard_error"]),
        va="center", fontsize=8.5, color=GREEN, fontweight="bold",
    )  # fmt: skip
    axes.set_xlim(min(levels) - 0.04 * span, max(levels) + 0.5 * span)
    axes.xaxis.set_major_formatter(lambda x, _: signed(x) if abs(x) > 1e-12 else "0")
    axes.locator_params(axis="x", nbins=5)
    _name_rows(axes, [*(f"{row['number']:04d} {plain(row['idea'], NAME_CHARACTERS)}" for row in shown), "in all"])
    axes.set_xlabel(f"gained since the baseline, {unit} (lower is better)", fontsize=8.5, color=INK)
    return figure


def effects_figure(rows: Sequence[Mapping[str, Any]], unit: str = "bits per byte") -> Figure:
    """What the champion loses without each kept change: the mean and its 95 % interval."""
    shown = [row for row in rows if row["gain"] is not None][-MOST_ROWS:]
    figure, axes = _rows_figure(len(shown))
    axes.axvline(0, color=GREY, linewidth=0.8, zorder=1)
    for place, row in enumerate(shown):
        colour = {"carries": GREEN, "costs": RED}.get(row["part"], GREY)
        axes.plot([row["low"], row["high"]], [place, place], color=colour, linewidth=1.6, zorder=3, gid="interval")
        axes.plot([row["gain"]], [place], "o", color=colour, markeredgecolor="white", zorder=4, gid="gain")
    low, high = min(0.0, *(row["low"] for row in shown)), max(0.0, *(row["high"] for row in shown))
    pad = 0.06 * ((high - low) or 1e-3)
    axes.set_xlim(low - pad, high + pad)
    axes.xaxis.set_major_formatter(lambda x, _: signed(x) if abs(x) > 1e-12 else "0")
    axes.locator_params(axis="x", nbins=5)
    _name_rows(axes, [f"{row['number']:04d} {plain(row['idea'], NAME_CHARACTERS)}" for row in shown])
    axes.set_xlabel(f"lost without it, {unit}, with the 95 % interval", fontsize=8.5, color=INK)
    return figure


def seconds_figure(where: Mapping[str, float]) -> Figure:
    """Where the seconds went, as one bar."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_INCHES, 1.0), dpi=DPI, facecolor="white")
    axes = figure.add_axes((0.02, 0.58, 0.96, 0.34))
    axes.set_axis_off()
    whole, left = sum(where.values()), 0.0
    for name, seconds in where.items():
        share, colour = seconds / whole, SECOND_COLOURS.get(name, PALE)
        axes.barh(0, share, left=left, color=colour, edgecolor="white", linewidth=0.8, label=name, gid="seconds")
        if share > 0.07:
            ink = "white" if colour == GREEN else INK
            axes.text(left + share / 2, 0, percent(share), ha="center", va="center", fontsize=8.5, color=ink)
        left += share
    axes.set_xlim(0, 1)
    handles, names = axes.get_legend_handles_labels()
    words = [f"{name} {duration(where[name])}" for name in names]
    figure.legend(
        handles, words, loc="lower left", bbox_to_anchor=(0.01, 0.0), ncols=3, frameon=False, fontsize=8,
        handlelength=1.0, handleheight=0.9, columnspacing=1.6, labelcolor=INK, labelspacing=0.25,
    )  # fmt: skip
    return figure


def noise_figure(data: StudyData, rows: Sequence[Mapping[str, Any]]) -> Figure:
    """What was kept or run again: first score and mean of the later ones, against the noise of a run."""
    assert data.sigma
    shown, sigma = rows[-MOST_ROWS:], data.sigma
    figure, axes = _rows_figure(len(shown), legend=True)
    axes.axvspan(-1, 1, color=BLUE, alpha=0.20, linewidth=0, zorder=0.5, label="± 1 sd of a run")
    axes.axvline(0, color=GREY, linewidth=0.8, zorder=1)
    for place, row in enumerate(shown):
        is_kept = row["status"] == Status.KEEP
        colour = GREEN if is_kept else GREY
        sign, of = ("D", "duels") if row["by_duels"] else ("o", "first run")  # a duel's first run is of another hour
        first = row["first_delta"] / sigma
        later = None if row["later_delta"] is None else row["later_delta"] / sigma
        if later is not None and not row["by_duels"]:
            axes.annotate(
                "", (later, place), (first, place), zorder=2,
                arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.8, "shrinkA": 3, "shrinkB": 0},
            )  # fmt: skip
            axes.plot([later], [place], "|", color=INK, markersize=9, markeredgewidth=1.4, zorder=5, gid="later runs")
        axes.plot(
            [first], [place], sign, color=colour, markersize=6.5 if is_kept else 5, zorder=4, gid=of,
            markerfacecolor=colour if is_kept else "white", markeredgecolor="white" if is_kept else colour,
        )  # fmt: skip
    handles = [
        _mark("o", GREEN, "keep, first run"),
        _mark("o", GREY, "discard, first run", hollow=True),
        *([_mark("D", GREY, "judged by duels")] if any(row["by_duels"] for row in shown) else []),
        _mark("|", INK, "mean of its later runs"),
        axes.get_legend_handles_labels()[0][0],
    ]
    _legend(figure, handles)
    _name_rows(axes, [f"{row['number']:04d} {plain(row['idea'], NAME_CHARACTERS)}" for row in shown])
    axes.margins(x=0.06)
    axes.set_xlabel(f"difference to the incumbent, in σ of {sigma:.4f} bpb (left is better)", fontsize=8.5, color=INK)
    return figure


def speed_figure(data: StudyData, speeds: Sequence[tuple[float, float]], reruns: Sequence[Mapping[str, Any]]) -> Figure:
    """The machine's speed during the study; below it the incumbents' re-runs."""
    from matplotlib.figure import Figure

    known = [row for row in reruns if row["delta"] is not None]
    figure = Figure(figsize=(WIDTH_INCHES, 2.9 if known else 1.7), dpi=DPI, facecolor="white")
    last = max([place for place, _ in speeds] + [row["at"] for row in known])
    strip = figure.add_axes((0.1, 0.60, 0.87, 0.33) if known else (0.1, 0.28, 0.87, 0.62))
    plain_frame(strip)
    strip.axhspan(1 - STEADY, 1 + STEADY, color=PALE, alpha=0.7, linewidth=0, zorder=0.5)
    strip.axhline(1, color=GREY, linewidth=0.6, zorder=1)
    strip.step(
        [p for p, _ in speeds], [s for _, s in speeds], where="mid", color=INK, linewidth=1.3, zorder=3, gid="speed"
    )
    strip.set_ylabel("speed, ×", fontsize=8.5, color=INK)
    values = [s for _, s in speeds]
    strip.set_ylim(min(0.85, min(values) - 0.05), max(1.15, max(values) + 0.05))
    lower = strip
    if known:
        strip.set_xticklabels([])
        lower = figure.add_axes((0.1, 0.17, 0.87, 0.33))
        plain_frame(lower)
        unit = data.sigma or 1.0
        if data.sigma:
            lower.axhspan(-1, 1, color=BLUE, alpha=0.20, linewidth=0, zorder=0.5)
        lower.axhline(0, color=GREY, linewidth=0.6, zorder=1)
        lower.plot(
            [row["at"] for row in known], [row["delta"] / unit for row in known], "_", color=GREEN, markersize=11,
            markeredgewidth=2.0, zorder=4, gid="re-run",
        )  # fmt: skip
        lower.set_ylabel("re-run Δ, σ" if data.sigma else "re-run Δ, bpb", fontsize=8.5, color=INK)
        low, high = lower.get_ylim()
        lower.set_ylim(
            min(low, -2.2 * (unit if not data.sigma else 1)), max(high, 2.2 * (unit if not data.sigma else 1))
        )
    for axes in (strip, lower):
        axes.set_xlim(-0.5, max(last, 4) + 0.5)
    lower.set_xlabel("experiment", fontsize=8.5, color=INK)
    return figure


def themes_figure(data: StudyData, rows: Sequence[Mapping[str, Any]]) -> Figure:
    """A row for each subject, a mark for each experiment at its difference to the incumbent."""
    shown = [row for row in rows if row["tried"]][:MOST_ROWS]
    sigma = data.sigma
    figure, axes = _rows_figure(len(shown), legend=True)
    deltas = [delta for row in shown for _, _, delta in row["deltas"]]
    edge = WIDEST_SIGMAS * sigma if sigma else 3 * sorted(map(abs, deltas))[len(deltas) // 2] or 1e-3
    unit = sigma or 1.0
    if sigma:
        axes.axvspan(-1, 1, color=BLUE, alpha=0.20, linewidth=0, zorder=0.5, label="± 1 sd of a run")
    axes.axvline(0, color=GREY, linewidth=0.8, zorder=1)
    low = min([-3 * unit if sigma else 0.0, *deltas, *([] if sigma else [-1e-4])]) / unit
    right = min(max(deltas), edge) / unit
    span = max(right - low, 1e-9)
    for place, row in enumerate(shown):
        axes.axhline(place, color=PALE, linewidth=0.6, zorder=0.6)
        for _, status, delta in row["deltas"]:
            _draw_delta(axes, min(delta, edge) / unit, place, status, is_beyond=delta > edge)
        if row["failed"]:
            axes.plot(
                [right + 0.09 * span + 0.025 * span * k for k in range(min(row["failed"], 4))],
                [place] * min(row["failed"], 4), "x", color=RED, markersize=5, markeredgewidth=1.3, gid="failed",
            )  # fmt: skip
    failed = any(row["failed"] for row in shown)
    axes.set_xlim(low - 0.05 * span, right + (0.2 if failed else 0.06) * span)
    names = [
        row["subject"] if row["subject"] == row["theme"] else f"{row['theme']} · {row['subject']}" for row in shown
    ]
    _name_rows(axes, [plain(name, NAME_CHARACTERS + 5) for name in names])
    handles = [_mark("o", GREEN, "keep"), _mark("o", GREY, "discard", hollow=True)]
    handles += [_mark("x", RED, "failed")] if failed else []
    handles += [_mark(">", GREY, "further right", hollow=True)] if any(d > edge for d in deltas) else []
    _legend(figure, handles + (axes.get_legend_handles_labels()[0][:1] if sigma else []))
    what = f"in σ of {sigma:.4f} bpb" if sigma else f"in {data.unit}"
    axes.set_xlabel(f"difference to the incumbent, {what} (left is better)", fontsize=8.5, color=INK)
    return figure


def _draw_delta(axes: Axes, x: float, place: int, status: str, is_beyond: bool) -> None:
    kept, refused = status == Status.KEEP, status == Status.REJECTED
    colour = GREEN if kept else ORANGE if refused else GREY
    axes.plot(
        [x], [place], ">" if is_beyond else "^" if refused else "o", color=colour, zorder=5 if kept else 4,
        markersize=6.5 if kept else 5, gid=status, markerfacecolor="none" if not kept and not refused else colour,
        markeredgecolor="white" if kept else colour, markeredgewidth=0.6 if kept else 0.9,
    )  # fmt: skip


def _rows_figure(num_rows: int, legend: bool = False) -> tuple[Figure, Axes]:
    """A figure whose axes have a row, counted from the top, for each of so many things with names at the left."""
    from matplotlib.figure import Figure

    below = FRAME_INCHES + (LEGEND_INCHES if legend else 0.0)
    height = ROW_INCHES * num_rows + below + 0.12
    figure = Figure(figsize=(WIDTH_INCHES, height), dpi=DPI, facecolor="white")
    axes = figure.add_axes((WORDS_SHARE, below / height, 0.98 - WORDS_SHARE, 1 - (below + 0.12) / height))
    plain_frame(axes)
    axes.set_ylim(num_rows - 0.5, -0.5)
    return figure, axes


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names, fontsize=8, parse_math=False)
    axes.tick_params(axis="y", length=0)


def _mark(marker: str, colour: str, label: str, hollow: bool = False) -> Any:
    """A handle for the legend."""
    from matplotlib.lines import Line2D

    face = "white" if hollow else colour
    return Line2D(
        [], [], linestyle="none", marker=marker, color=colour, markerfacecolor=face, label=label, markersize=6
    )


def _legend(figure: Figure, handles: Sequence[Any]) -> None:
    figure.legend(
        handles=list(handles), loc="lower left", bbox_to_anchor=(0.16, 0.0), ncols=5, frameon=False,
        fontsize=8, handletextpad=0.4, columnspacing=1.4, labelcolor=INK, borderpad=0.2,
    )  # fmt: skip


def contrast_figure(contrast: Contrast) -> Figure:
    """Two studies: the gain, or the champion's score, of each with its interval, and below them the difference."""
    figure, axes = _rows_figure(3)
    found = [contrast.found(side) for side in (contrast.first, contrast.second)]
    sides = [(one.gain if contrast.is_of_gains else one.champion) if one else None for one in found]
    shift = 0.0 if contrast.is_of_gains or sides[1] is None else sides[1].value  # scores are drawn about the second
    for place, (estimate, colour) in enumerate(zip([*sides, contrast.difference], (BLUE, ORANGE, INK), strict=True)):
        if estimate is None:
            continue
        value = estimate.value - (shift if place < 2 else 0.0)
        if estimate.interval is not None:
            low, high = (edge - estimate.value + value for edge in estimate.interval)
            axes.plot([low, high], [place, place], color=colour, linewidth=2.2, zorder=3, gid="interval")
        axes.plot([value], [place], "o", color=colour, markersize=6.5, markeredgecolor="white", zorder=4, gid="figure")
    axes.axvline(0, color=GREY, linewidth=0.8, zorder=1)
    axes.xaxis.set_major_formatter(lambda x, _: signed(x) if abs(x) > 1e-12 else "0")
    axes.locator_params(axis="x", nbins=5)
    axes.margins(x=0.08)
    names = [plain(side.name, NAME_CHARACTERS // 2) for side in (contrast.first, contrast.second)]
    _name_rows(axes, [*names, f"{names[0]} less {names[1]}"])
    what = "gain over the own baseline" if contrast.is_of_gains else "score less that of the second study"
    axes.set_xlabel(f"{what}, bits per byte, 95 % intervals (left is better)", fontsize=8.5, color=INK)
    return figure
