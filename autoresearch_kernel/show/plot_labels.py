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
    from matplotlib.path import Path
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

MOST_LABELS, MOST_LABELS_WHEN_CROWDED, CROWDED = 16, 10, 300  # kept changes that carry their words; experiments

LABEL_CHARACTERS = 38
MOST_COST = 60.0  # of a label's place; one that would cost more is left out
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


def label_keeps(axes: Axes, points: Points) -> None:
    """Words for the kept changes that gained most, each where it covers least and never over another."""
    import numpy as np
    from matplotlib.transforms import Bbox

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
        area=Bbox.from_extents(area.x0 + 2, area.y0 + (FLOOR + 0.025) * area.height, area.x1, area.y1),
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

    area: Bbox
    taken: list[Bbox]
    marks: np.ndarray  # (n, 2)
    line: np.ndarray  # (n, 2): points along the incumbent's line
    leaders: list[Path]  # the lines from mark to label


def _box(text: Text) -> Bbox:
    """The extent of the words alone: that of an annotation includes its arrow."""
    from matplotlib.text import Text

    text.get_window_extent()  # places an annotation, which otherwise happens when it is drawn
    return Text.get_window_extent(text)


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
    from matplotlib.path import Path
    from matplotlib.patheffects import withStroke
    from matplotlib.transforms import Bbox

    place = experiment.number, score_of(experiment)
    text = axes.annotate(
        label_of(experiment), place, xytext=(0, 0), textcoords="offset points",
        fontsize=8, color=INK, va="center", ha="left", zorder=8, gid="keep label", parse_math=False,
        arrowprops={"arrowstyle": "-", "color": GREEN, "linewidth": 0.6, "shrinkA": 1, "shrinkB": 3, "alpha": 0.8},
    )  # fmt: skip
    text.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
    extent = _box(text)
    width, height = extent.width + 6.0, extent.height + 3.0
    anchor = axes.transData.transform(place)
    scale = float(axes.figure.dpi) / 72
    spots = []
    for dx, dy in _OFFSETS:
        left = float(anchor[0]) + dx * scale - (width if dx < 0 else width / 2 if dx == 0 else 0.0)
        box = Bbox.from_bounds(left, float(anchor[1]) + dy * scale - height / 2, width, height)
        spots.append((_cost(room, box, anchor, dx, dy), dx, dy, box))
    cost, dx, dy, box = min(spots, key=lambda spot: spot[0])
    if cost >= MOST_COST:
        text.remove()
        return
    text.set_position((dx + math.copysign(3 / scale, dx) if dx else 0.0, dy))
    text.set_horizontalalignment("right" if dx < 0 else "left" if dx > 0 else "center")
    room.taken.append(box)
    room.leaders.append(Path(array([*anchor, *_middle(box)]).reshape(2, 2)))


def _cost(room: _Room, box: Bbox, anchor: np.ndarray, dx: float, dy: float) -> float:
    """How bad a label is at `box`: infinite outside the axes, over another label, a mark or the incumbent's line."""
    from matplotlib.path import Path

    is_inside = room.area.containsx(box.x0) and room.area.containsx(box.x1)
    is_inside = is_inside and room.area.containsy(box.y0) and room.area.containsy(box.y1)
    if not is_inside or box.count_overlaps(room.taken):
        return math.inf
    if box.padded(3).count_contains(room.line) or box.padded(5).count_contains(room.marks):
        return math.inf
    leader = Path(array([*anchor, *_middle(box)]).reshape(2, 2))
    struck = sum(leader.intersects_bbox(other, filled=False) for other in room.taken)
    struck += sum(other.intersects_bbox(box, filled=False) for other in room.leaders)
    crossed = sum(leader.intersects_path(other, filled=False) for other in room.leaders)
    return MOST_COST * struck + 20.0 * crossed + 0.08 * math.hypot(dx, 1.5 * dy)


def _middle(box: Bbox) -> tuple[float, float]:
    """The middle of a label, where matplotlib ends the line from the mark."""
    return (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2
