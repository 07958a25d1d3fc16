"""The pictures of lesson 4. Each takes numbers and returns a Picture that stays in a saved notebook."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist, fmean, stdev
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from ...show.plot_style import BLUE, DPI, GREEN, GREY, INK, ORANGE, PALE, RED, plain_frame, png
from ..pictures import Picture
from .simulated_nights import SimulatedNight, mean_and_error

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH_INCHES = 7.0
NORMAL = NormalDist()
MARGIN_BPB = 0.02  # of the picture of a night, above and below


def scores_figure(scores: Sequence[float], more: Sequence[float] = ()) -> Picture:
    """Scores of one code around their mean, with a band of one standard deviation; `more` are other ones, below."""
    figure, axes = _figure(1.5 if not more else 2.0)
    for row, values in enumerate(filter(len, (scores, more))):
        centre, spread = fmean(values), stdev(values)
        axes.barh(-row, 2 * spread, left=-spread, height=0.5, color=PALE, zorder=1)
        axes.plot([0], [-row], "|", color=INK, markersize=18, zorder=2)
        axes.plot(
            [value - centre for value in values],
            [-row] * len(values),
            "o",
            color=GREEN,
            markersize=5,
            alpha=0.6,
            zorder=3,
        )
        words = f"{len(values)} runs: mean {centre:.4f}, sd {spread:.4f}"
        axes.annotate(words, (0.0, -row + 0.36), xycoords=("axes fraction", "data"), fontsize=8, color=INK)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_ylim(-0.5 - bool(more), 0.75)
    axes.set_xlabel(
        "val_bpb less the mean, one dot for each run of the same code (left is better)", fontsize=8.5, color=INK
    )
    return Picture(png(figure), f"{len(scores)} scores of one code, from {min(scores):.4f} to {max(scores):.4f}")


def winner_figure(count: int, sigma: float) -> Picture:
    """How the scores of one code are distributed, and how the lowest of `count` of them is."""
    figure, axes = _figure(2.4)
    places = [-4.5 + i * 0.02 for i in range(401)]
    one = [NORMAL.pdf(x) for x in places]
    lowest = [count * NORMAL.pdf(x) * (1 - NORMAL.cdf(x)) ** (count - 1) for x in places]
    centre = sum(x * y for x, y in zip(places, lowest, strict=True)) / sum(lowest)
    axes.fill_between([x * sigma for x in places], one, color=PALE, label="one score")
    axes.plot([x * sigma for x in places], lowest, color=GREEN, linewidth=1.6, label=f"the lowest of {count}")
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.axvline(centre * sigma, color=GREEN, linewidth=0.8, linestyle="--")
    axes.set_yticks([])
    axes.set_xlim(-4.5 * max(sigma, 1e-9), 3.5 * max(sigma, 1e-9))
    axes.set_xlabel("score less the truth, bits per byte", fontsize=8.5, color=INK)
    axes.legend(frameon=False, fontsize=8, loc="upper right")
    words = f"The lowest of {count} scores of the same code is {-centre * sigma:.5f} too low on average."
    axes.set_title(words, fontsize=9, color=INK, loc="left")
    return Picture(png(figure), words)


def night_figure(scores: Sequence[float], greedy: Sequence[int], kept: Sequence[int]) -> Picture:
    """First scores of a recorded night: what greedy keeps, and what the study kept."""
    figure, axes = _figure(2.8)
    axes.plot(range(len(scores)), scores, "o", color=GREY, markersize=3.5, markerfacecolor="white", label="first score")
    axes.plot(kept, [scores[i] for i in kept], "o", color=GREEN, markersize=6, label="the study kept it")
    steps = [0, *greedy, len(scores) - 1]
    levels = [scores[i] for i in steps[:-1]] + [scores[steps[-2]]]
    axes.step(steps, levels, where="post", color=ORANGE, linewidth=1.3, label="lowest so far (greedy)")
    axes.set_ylim(min(scores) - MARGIN_BPB, highest_shown(scores))
    axes.set_xlabel("experiment", fontsize=8.5, color=INK)
    axes.set_ylabel("val_bpb", fontsize=8.5, color=INK)
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    return Picture(png(figure), f"{len(scores)} first scores; greedy keeps {len(greedy)}, the study kept {len(kept)}")


def highest_shown(scores: Sequence[float]) -> float:
    """The upper edge of the picture of a night: a few very high scores would press all others together."""
    return sorted(scores)[int(0.95 * len(scores))] + MARGIN_BPB


def pairs_figure(pairs: Sequence[tuple[float, float]]) -> Picture:
    """First score and second score of each code that ran again."""
    figure, axes = _figure(2.4)
    for place, (first, second) in enumerate(pairs):
        axes.plot([place, place], [first, second], color=GREY, linewidth=0.9, zorder=1)
    axes.plot([first for first, _ in pairs], "o", color=GREEN, markersize=5, label="first run")
    axes.plot([second for _, second in pairs], "_", color=RED, markersize=10, markeredgewidth=2, label="second run")
    axes.set_xticks([])
    axes.set_ylabel("val_bpb", fontsize=8.5, color=INK)
    axes.set_xlabel("experiments that ran twice before their decision", fontsize=8.5, color=INK)
    axes.legend(frameon=False, fontsize=8, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
    higher = sum(second > first for first, second in pairs)
    return Picture(png(figure), f"The second score was higher in {higher} of {len(pairs)} cases")


def threshold_figure(found: Mapping[float, Sequence[SimulatedNight]]) -> Picture:
    """True and reported gain of the greedy rule over its threshold, with standard errors."""
    figure, axes = _figure(2.6)
    places = [*found]
    for name, colour in (("true_gain", GREEN), ("reported_gain", ORANGE)):
        pairs = [mean_and_error([1000 * getattr(night, name) for night in nights]) for nights in found.values()]
        label = "gained in truth" if name == "true_gain" else "reported"
        axes.errorbar(places, [m for m, _ in pairs], [e for _, e in pairs], color=colour, marker="o", label=label,
                      capsize=3, markersize=4)  # fmt: skip
    axes.set_ylim(bottom=0)
    axes.set_xlabel("threshold of the greedy rule, in sigma", fontsize=8.5, color=INK)
    axes.set_ylabel("gain, thousandths", fontsize=8.5, color=INK)
    axes.legend(frameon=False, fontsize=8)
    best = max(found, key=lambda at: fmean(night.true_gain for night in found[at]))
    return Picture(png(figure), f"The true gain is largest at a threshold of {best:g} sigma")


def gain_figure(found: Mapping[str, Sequence[SimulatedNight]]) -> Picture:
    """The mean true gain over the trainings of a night, a line for each rule."""
    figure, axes = _figure(2.6)
    for (name, nights), colour in zip(found.items(), (ORANGE, GREEN, BLUE, RED), strict=False):
        length = min(len(night.truth) for night in nights)
        lines = [[1000 * night.truth[i] for night in nights] for i in range(length)]
        means, errors = zip(*map(mean_and_error, lines), strict=True)
        axes.plot(range(1, length + 1), means, color=colour, linewidth=1.6, label=name)
        low, high = ([m + sign * e for m, e in zip(means, errors, strict=True)] for sign in (-1, 1))
        axes.fill_between(range(1, length + 1), low, high, color=colour, alpha=0.2, linewidth=0)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("trainings", fontsize=8.5, color=INK)
    axes.set_ylabel("true gain, thousandths", fontsize=8.5, color=INK)
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    return Picture(png(figure), "True gain over the trainings of a night: " + ", ".join(found))


def errors_figure(sigma: float, most_runs: int = 20) -> Picture:
    """The standard error of a difference of two means, over the runs of each."""
    figure, axes = _figure(2.0)
    runs = range(1, most_runs + 1)
    axes.plot(runs, [sigma * math.sqrt(2 / n) for n in runs], "o-", color=GREEN, markersize=3.5, linewidth=1.2)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("runs of each code", fontsize=8.5, color=INK)
    axes.set_ylabel("error, bits per byte", fontsize=8.5, color=INK)
    return Picture(png(figure), "The error of a difference falls with the root of the number of runs")


def _figure(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH_INCHES, height), dpi=DPI, facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    plain_frame(axes)
    return figure, axes
