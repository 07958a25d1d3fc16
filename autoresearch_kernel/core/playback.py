"""A recorded study as it was at each moment: a timeline of its events, and where one is on it. Pure.

A moment is in seconds of the study's own time. Time during which no supervisor ran the study is left out, and so is a
clock that was set back, so moments never fall from one event to the next.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from .state import Event

SPEEDS = (1.0, 10.0, 60.0, 300.0, 1800.0)  # that a view offers, times the study's own
USUAL_SPEED = 60.0  # a minute a second


@dataclass(frozen=True)
class Timeline:
    """The events of a study, oldest first, and when each of them was."""

    events: tuple[Event, ...]
    moments: tuple[float, ...]  # seconds of the study's time, one for each event, from 0.0 on

    @staticmethod
    def of(events: Sequence[Event], seconds_of: Callable[[str], float]) -> Timeline:
        """`seconds_of` gives the Unix time of a time stamp."""
        times = [seconds_of(event["time"]) for event in events]
        gaps = [
            0.0 if after["event"] == "opened" else max(0.0, now - then)
            for (then, now), after in zip(pairwise(times), events[1:], strict=True)
        ]
        return Timeline(tuple(events), tuple(accumulate(gaps, initial=0.0)) if events else ())

    @property
    def seconds(self) -> float:
        """How long the study took."""
        return self.moments[-1] if self.moments else 0.0

    @property
    def seconds_of_experiments(self) -> float:
        """How long the experiments took: without what `finish` and `attribute` did after, before or between them.

        A session counts up to its last event of an experiment that was not decided before.
        """
        decided, whole, began, ended = set[int](), 0.0, 0.0, 0.0
        for event, moment in zip(self.events, self.moments, strict=True):
            if event["event"] == "opened":
                whole, began, ended = whole + ended - began, moment, moment
            if (number := event.get("experiment")) is not None and number not in decided:
                ended = moment
            if event["event"] == "decided":
                decided.add(event["experiment"])
        return whole + ended - began

    def seconds_before(self, kind: str) -> float:
        """How long it took to come to the events of a kind, each from the event before it."""
        steps = zip(self.events[1:], pairwise(self.moments), strict=True)
        return math.fsum(now - then for event, (then, now) in steps if event["event"] == kind)

    def count_at(self, moment: float) -> int:
        """How many events there were by then."""
        return bisect_right(self.moments, moment)

    def seconds_since(self, index: int, moment: float) -> float:
        """How long ago event `index` was at that moment."""
        return max(0.0, moment - self.moments[index])

    def next_event(self, moment: float) -> float | None:
        """The moment of the next event; None after the last."""
        index = self.count_at(moment)
        return self.moments[index] if index < len(self.moments) else None

    def moment_of(self, experiment: int) -> float | None:
        """When an experiment was proposed; None where there is no such experiment."""
        found = (i for i, e in enumerate(self.events) if e["event"] == "proposed" and e["experiment"] == experiment)
        index = next(found, None)
        return None if index is None else self.moments[index]

    def experiment_at(self, moment: float) -> int | None:
        """The number of the last experiment that was proposed by then; None before the first."""
        proposed = (e["experiment"] for e in reversed(self.events[: self.count_at(moment)]) if e["event"] == "proposed")
        return next(proposed, None)

    @property
    def experiments(self) -> tuple[int, ...]:
        """Numbers of all experiments."""
        return tuple(event["experiment"] for event in self.events if event["event"] == "proposed")


@dataclass(frozen=True)
class Playhead:
    """Where a replay is, and whether it moves; `now` is always the seconds of the viewer's clock."""

    moment: float = 0.0  # at `since`, or for as long as it rests
    speed: float = USUAL_SPEED
    since: float | None = None  # of the viewer's clock, when it began to move; None while it rests

    @property
    def is_playing(self) -> bool:
        return self.since is not None

    def at(self, now: float, until: float) -> float:
        """The moment that is shown, `until` at most."""
        moved = 0.0 if self.since is None else self.speed * max(0.0, now - self.since)
        return min(until, self.moment + moved)

    def played(self, now: float) -> Playhead:
        return self if self.is_playing else replace(self, since=now)

    def paused(self, now: float, until: float) -> Playhead:
        return replace(self, moment=self.at(now, until), since=None)

    def moved(self, moment: float, now: float) -> Playhead:
        """At another moment, still moving if it moved."""
        return replace(self, moment=max(0.0, moment), since=None if self.since is None else now)

    def at_speed(self, speed: float, now: float, until: float) -> Playhead:
        """Raises ValueError for a speed that is none."""
        if not 0 < speed < float("inf"):
            raise ValueError(f"{speed!r} is no speed: give a number above 0, as 60 for a minute a second.")
        return replace(self.moved(self.at(now, until), now), speed=speed)


def neighbour(timeline: Timeline, moment: float, step: int) -> int | None:
    """The experiment `step` after (or before, below 0) the one of this moment; None where there is none.

    One step back from the middle of an experiment is its own beginning.
    """
    numbers, present = timeline.experiments, timeline.experiment_at(moment)
    if not numbers:
        return None
    if present is None:
        return numbers[0] if step > 0 else None
    index, begun = numbers.index(present), timeline.moment_of(present)
    if step < 0 and begun is not None and moment > begun:
        index += 1
    wanted = index + step
    return numbers[wanted] if 0 <= wanted < len(numbers) else None
