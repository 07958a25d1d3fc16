"""Words beside the marks: each kept change gets a label where it covers no mark, no line and no other label."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from ..core.format import plain
from ..core.types import Experiment
from .plot_scale import Limits, Points, score_of
from .plot_style import FLOOR, GREEN, INK, array, thinned
from .words import idea

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.text import Text


MOST_LABELS, MOST_LABELS_WHEN_CROWDED, CROWDED = 16, 10, 300  # kept changes that carry their words; experiments


LABEL_CHARACTERS = 38
LABELS_KEEP_CLEAR_OF = {
    "keep", "discard", "refused by the audit", "not decided yet", "baseline run", "confirmation", "incumbent again",
}  # fmt: skip


def label_extremes(axes: Axes, points: Points, limits: Limits) -> None:
    """The value of the highest and lowest score in the compressed strips, which the axis cannot show to scale."""
    beyond = [e for e in points.scored if not limits.low <= score_of(e) <= limits.high]
    if not beyond:
        return
    worst, best = max(beyond, key=score_of), min(beyond, key=score_of)
    for e, outside in ((worst, score_of(worst) > limits.high), (best, score_of(best) < limits.low)):
        if outside:
            left = e.number > 0.9 * axes.get_xlim()[1]
            axes.annotate(
                f"{score_of(e):.4f}", (e.number, score_of(e)), xytext=(-6 if left else 6, 0),
                textcoords="offset points", ha="right" if left else "left", va="center", fontsize=8, color=INK,
                gid="extreme",
            )  # fmt: skip


def label_of(experiment: Experiment) -> str:
    """A few words for what an experiment changed, shortened to what fits beside its mark."""
    return plain("baseline" if experiment.parent is None else idea(experiment).split(": ")[0], LABEL_CHARACTERS)


_Box = tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels


def label_keeps(axes: Axes, points: Points) -> None:
    """Words for the kept changes that gained most, each where it covers least and never over another."""
    import numpy as np

    keeps = points.keeps
    if not keeps:
        return
    gains = {e.number: score_of(before) - score_of(e) for before, e in pairwise(keeps)}
    ordered = [keeps[-1], *sorted(keeps[:-1], key=lambda e: -gains.get(e.number, math.inf))]
    most = MOST_LABELS if axes.get_xlim()[1] <= CROWDED else MOST_LABELS_WHEN_CROWDED
    drawn = [line.get_xydata() for line in axes.lines if line.get_gid() in LABELS_KEEP_CLEAR_OF]
    places = np.concatenate(drawn) if drawn else np.zeros((0, 2))
    x, y = thinned(axes, places[:, 0], places[:, 1])
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
        corners += [(e.number, score_of(e)), (until, score_of(e))]
    pixels = axes.transData.transform(array([v for c in corners for v in c]).reshape(-1, 2))
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
        label_of(experiment), (experiment.number, score_of(experiment)), xytext=(0, 0), textcoords="offset points",
        fontsize=8, color=INK, va="center", ha="left", zorder=8, gid="keep label", parse_math=False,
        arrowprops={"arrowstyle": "-", "color": GREEN, "linewidth": 0.6, "shrinkA": 1, "shrinkB": 3, "alpha": 0.8},
    )  # fmt: skip
    text.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
    x0, y0, x1, y1 = _box(text)
    width, height = x1 - x0 + 6.0, y1 - y0 + 3.0
    anchor = axes.transData.transform((experiment.number, score_of(experiment)))
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
    return array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])


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
