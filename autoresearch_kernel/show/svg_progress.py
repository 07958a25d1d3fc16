"""The picture of a study as SVG: the marks and the scale of `plot_progress`, with a link at each experiment. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ..core.format import bpb, thousands
from ..core.types import Experiment
from . import svg
from .plot_scale import Limits, Points, as_drawn, later_runs, limits_of, points_of, score_of, scored_runs
from .plot_style import array
from .words import difference, status_word, title

LEFT, RIGHT, TOP, BOTTOM = 52.0, 62.0, 14.0, 40.0  # pixels around the plot
FLOOR = 22.0  # pixels below the scores, where experiments without a score stand
CHARACTER = 7.0  # pixels of one character of a label
LARGE, SMALL = 5.0, 3.5  # radius of a kept mark and of another one


def progress_svg(
    experiments: Sequence[Experiment],
    *,
    sigma: float | None,
    width: float,
    height: float,
    words: str,
    target: Callable[[int], str] = lambda number: "",
    name: str = "",
) -> str:
    """One column for each experiment, the line of the incumbent, and the noise around it.

    Args:
        sigma: run-to-run standard deviation in bits per byte.
        words: what the picture shows, for readers without pictures.
        target: the page of an experiment, "" for none.
        name: class of the picture.
    """
    points = points_of(experiments)
    last = max((place for e in experiments for place in (e.number, *(run.num_decided for run in e.runs))), default=0)
    frame = svg.Frame(LEFT, TOP, width - RIGHT, height - BOTTOM)
    if not points.scored:
        nothing = svg.label((width / 2, height / 2), "No experiment has a score yet", anchor="middle")
        return svg.picture(width, height, words, [nothing], name)
    drawing = Drawing(frame, limits_of(points, sigma), max(last, 4), target)
    parts = [*drawing.axes(), *drawing.incumbent(points, sigma), *drawing.runs(points), *drawing.marks(points)]
    return svg.picture(width, height, words, parts, name)


@dataclass(frozen=True)
class Drawing:
    """Where experiments and scores are in the picture."""

    frame: svg.Frame
    limits: Limits
    last: int  # the last column
    target: Callable[[int], str]

    @property
    def floor(self) -> float:
        return self.frame.bottom - 6

    def x(self, column: float) -> float:
        inset = 12.0
        return self.frame.left + inset + (self.frame.right - self.frame.left - inset) * column / self.last

    def y(self, score: float) -> float:
        bottom, drawn, top = (
            float(value) for value in self.limits.forward(array([self.limits.bottom, score, self.limits.top]))
        )
        share = (drawn - bottom) / ((top - bottom) or 1.0)
        lowest = self.frame.bottom - FLOOR
        return lowest - (lowest - self.frame.top) * share

    def axes(self) -> Iterator[str]:
        frame = self.frame
        for score in svg.ticks(self.limits.low, self.limits.high):
            yield svg.line((frame.left, self.y(score)), (frame.right, self.y(score)), "grid")
            yield svg.label((frame.left - 6, self.y(score) + 4), bpb(score), anchor="end")
        for edge, far in ((self.limits.high, self.limits.top), (self.limits.low, self.limits.bottom)):
            if edge != far:
                yield svg.line((frame.left, self.y(edge)), (frame.right, self.y(edge)), "edge")
                yield svg.label((frame.right, self.y(edge) + (-4 if far > edge else 12)), "not to scale", anchor="end")
        yield svg.line((frame.left, self.floor), (frame.right, self.floor), "grid")
        for column in svg.ticks(0, self.last, most=max(2, int((frame.right - frame.left) / 80))):
            if column == int(column):
                yield svg.label((self.x(column), frame.bottom + 12), thousands(column), anchor="middle")
        yield svg.label((frame.left, frame.bottom + 32), "experiment; validation bits per byte, lower is better")

    def incumbent(self, points: Points, sigma: float | None) -> Iterator[str]:
        """The step line to the right edge, its band of one sigma, and the incumbent's score at its end."""
        keeps = points.keeps
        if not keeps:
            return
        ends = [self.x(e.number) for e in keeps[1:]] + [self.frame.right]
        steps = f"M{self.x(keeps[0].number):.1f} {self.y(score_of(keeps[0])):.1f}"
        for keep, end in zip(keeps, ends, strict=True):
            score = score_of(keep)
            if sigma:
                band = svg.Frame(self.x(keep.number), self._within(score + sigma), end, self._within(score - sigma))
                yield svg.rectangle(band, "band")
            steps += f"V{self.y(score):.1f}H{end:.1f}"
        yield svg.path(steps, "line")
        yield svg.label((self.frame.right + 6, self.y(score_of(keeps[-1])) + 4), bpb(keeps[-1].val_bpb), "strong")

    def _within(self, score: float) -> float:
        return min(self.frame.bottom - FLOOR, max(self.frame.top, self.y(score)))

    def runs(self, points: Points) -> Iterator[str]:
        """A tick for each further run of an experiment, and a triangle where a kept one ran again later."""
        for experiment in points.keeps + points.discards + points.rejected:
            at_once = [self.y(score) for column, score in scored_runs(experiment) if column == experiment.number]
            if len(at_once) > 1:
                x = self.x(experiment.number)
                yield svg.line((x, min(at_once)), (x, max(at_once)), "run")
                yield from (svg.line((x - 4, y), (x + 4, y), "run") for y in at_once)
            for column, score in later_runs(experiment):
                again = f"{experiment.number:04d} again: {bpb(score)}"
                yield svg.path(svg.triangle((self.x(column), self.y(score)), -4), "again", again)

    def marks(self, points: Points) -> Iterator[str]:
        for experiment in points.floor:
            yield self._path(experiment, svg.cross((self.x(experiment.number), self.floor), 4), "failed")
        for experiment in points.ended:
            yield self._circle(experiment, (self.x(experiment.number), self.floor), SMALL, "discard")
        for kind, which in (("discard", points.discards), ("pending", points.pending)):
            for experiment in which:
                yield self._circle(experiment, self._at(experiment), SMALL, kind)
        for experiment in points.rejected:
            yield self._path(experiment, svg.triangle(self._at(experiment), 5), "rejected")
        yield from self._keeps(points.keeps)

    def _keeps(self, keeps: Sequence[Experiment]) -> Iterator[str]:
        """Kept changes with their numbers, where these have room."""
        free_from = 0.0
        for experiment in keeps:
            at = self._at(experiment)
            if experiment.parent is None:
                yield self._path(experiment, svg.diamond(at, LARGE), "keep")
                continue
            yield self._circle(experiment, at, LARGE, "keep")
            half = len(str(experiment.number)) * CHARACTER / 2
            if at[0] - half > free_from:
                free_from = at[0] + half + 4
                yield svg.label((at[0], at[1] + 18), str(experiment.number), "number", anchor="middle")

    def _at(self, experiment: Experiment) -> svg.Point:
        return self.x(experiment.number), self.y(score_of(as_drawn(experiment)))

    def _circle(self, experiment: Experiment, at: svg.Point, radius: float, kind: str) -> str:
        return svg.link(self.target(experiment.number), svg.circle(at, radius, kind, _words(experiment)))

    def _path(self, experiment: Experiment, points: str, kind: str) -> str:
        return svg.link(self.target(experiment.number), svg.path(points, kind, _words(experiment)))


def _words(experiment: Experiment) -> str:
    """`0012 · DEPTH 1 → 2: keep, 1.4312, −0.0124 ± 0.0025 (−6.2 σ)`."""
    score = bpb(experiment.val_bpb) if experiment.val_bpb is not None else ""
    return f"{title(experiment)}: {', '.join(filter(None, (status_word(experiment), score, difference(experiment))))}"
