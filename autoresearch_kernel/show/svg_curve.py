"""The picture of one training as SVG: its loss over time, beside that of another run. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from . import svg
from .words import curve_words, losses

LEFT, RIGHT, TOP, BOTTOM = 44.0, 12.0, 22.0, 36.0  # pixels around the plot
SETTLED = 0.12  # share of a run after which its loss is drawn to scale
MOST_POINTS = 200  # of a curve that are drawn
Curve = Sequence[Mapping[str, Any]]


def curve_svg(
    curve: Curve, other: Curve = (), *, label: str, other_label: str = "", width: float = 640, height: float = 240
) -> str:
    """Training loss of a run, and dashed that of the run that it is compared with; "" without any point."""
    key = "seconds" if all("seconds" in point for point in (*curve, *other)) else "progress"
    mine, theirs = _thinned(losses(curve, at=key)), _thinned(losses(other, at=key))
    if not mine:
        return ""
    frame = svg.Frame(LEFT, TOP, width - RIGHT, height - BOTTOM)
    parts = list(_drawn(frame, mine, theirs, key))
    parts.append(svg.label((frame.left, 14), f"— {label}", "mine"))
    if theirs:
        parts.append(svg.label((frame.right, 14), f"┄ {other_label}", "theirs", anchor="end"))
    words = curve_words([{"train_loss": loss} for _, loss in losses(curve, at=key)])
    return svg.picture(width, height, words, parts, "curve")


def _thinned(points: list[svg.Point]) -> list[svg.Point]:
    """In the order of time; a training may write anything."""
    points = sorted(point for point in points if point[0] >= 0)
    step = max(1, len(points) // MOST_POINTS)
    return points[::step] + (points[-1:] if points and (len(points) - 1) % step else [])


def _drawn(frame: svg.Frame, mine: list[svg.Point], theirs: list[svg.Point], key: str) -> Iterator[str]:
    """Axes and lines; the steep fall at the beginning leaves through the top."""
    curves = [points for points in (theirs, mine) if points]
    longest = max(points[-1][0] for points in curves) or 1.0
    low = min(loss for points in curves for _, loss in points)
    high = max(max(loss for place, loss in points if place >= SETTLED * points[-1][0]) for points in curves)
    high += 0.05 * (high - low) or 0.5
    scale = (frame.bottom - frame.top) / (high - low)

    def at(place: float, loss: float) -> svg.Point:
        x = frame.left + (frame.right - frame.left) * place / longest
        return x, frame.bottom - scale * (loss - low)

    for loss in svg.ticks(low, high, 4):
        y = at(0, loss)[1]
        yield svg.line((frame.left, y), (frame.right, y), "grid")
        yield svg.label((frame.left - 6, y + 4), f"{loss:g}"[:6], anchor="end")
    for place in svg.ticks(0, longest, 5):
        yield svg.label((at(place, low)[0], frame.bottom + 14), f"{place:g}"[:6], anchor="middle")
    what = "seconds of training" if key == "seconds" else "share of the budget"
    yield svg.label((frame.left, frame.bottom + 30), f"{what}; train loss in nats per token")
    for kind, points in (("theirs", theirs), ("mine", mine)):
        if points:
            yield svg.polyline([at(*point) for point in points if point[1] <= high], kind)
