"""How far a study goes on, how far it has come, and what its caller has heard of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from ..core.drift import present_speed
from ..core.format import count
from ..core.next_step import is_drifting
from ..core.types import Experiment, Progress
from ..show.study_words import drift_words
from .steps import Steps


@dataclass
class Goal:
    """How far a study goes on, and how far it has come."""

    session: Steps
    experiments: int | None
    hours: float | None
    slot_hours: float | None = None  # of all slots together
    told: set[int] = field(default_factory=set)  # decided experiments that the caller has got
    begun: int = 0  # proposals that were decided before this loop began
    why_ending: str = ""  # why nothing more is proposed; "" while something is
    _ends: dict[str, float] = field(init=False, default_factory=dict)  # when each limit is reached, by its words
    _num_slots: int = field(init=False, default=1)

    def __post_init__(self) -> None:
        self._num_slots = self.session.backend.num_slots or self.session.study.num_slots
        now = self.session.clock.real_seconds()
        if self.hours is not None:
            self._ends[f"{self.hours:g} hours"] = now + 3600 * self.hours
        if self.slot_hours is not None:
            self._ends[self._slot_words] = now + 3600 * self.slot_hours / self._num_slots

    @property
    def _slot_words(self) -> str:
        return f"{self.slot_hours:g} slot hours"

    def share_slot_hours(self, num_slots: int) -> None:
        """There are so many slots from now on: what is left of the slot hours is used up sooner, or later."""
        if self.slot_hours is not None:
            now = self.session.clock.real_seconds()
            self._ends[self._slot_words] = now + (self._ends[self._slot_words] - now) * self._num_slots / num_slots
        self._num_slots = num_slots

    def begin(self) -> None:
        """Count from here: what is decided now was decided before."""
        self.told = {e.number for e in self.session.state.decided}
        self.begun = self.tried

    @property
    def tried(self) -> int:
        """Proposals that are decided; the baseline is none."""
        return max(0, len(self.session.state.decided) - 1)

    def look(self) -> None:
        """Between two experiments: record a drift, and notice that the goal is reached."""
        record_drift(self.session)
        if not self.why_ending and self.session.state.incumbent is not None:
            self.why_ending = self.reached()

    def reached(self, in_work: int = 0) -> str:
        """Why nothing more is to be proposed, after so many that are in work; "" while something is."""
        if self.experiments is not None and self.tried - self.begun + in_work >= self.experiments:
            return count(self.experiments, "experiment")
        first = min(self._ends, key=lambda words: self._ends[words], default="")
        return first if first and self.session.clock.real_seconds() >= self._ends[first] else ""

    def left(self, in_work: int = 0) -> tuple[int | None, float | None]:
        """Experiments and seconds until nothing more is proposed, after so many that are in work; None for no limit."""
        experiments = None if self.experiments is None else max(0, self.experiments + self.begun - self.tried - in_work)
        end = min(self._ends.values(), default=None)
        seconds = None if end is None else max(0.0, end - self.session.clock.real_seconds())
        return experiments, seconds

    def news(self) -> Iterator[Experiment]:
        """Experiments that were decided since the last call."""
        new = [e for e in self.session.state.decided if e.number not in self.told]
        for experiment in sorted(new, key=lambda e: e.order):
            self.told.add(experiment.number)
            yield experiment


def record_drift(session: Steps) -> None:
    """Record that the machine has left the speed that it had at the start, or is back at it."""
    state = session.state
    if state.incumbent is None or (is_moved := is_drifting(state)) == state.is_drifting:
        return
    speed = present_speed(state.experiments)
    session.history.append("drift", is_moved=is_moved, machine_speed=round(speed, 4))
    session.watch(Progress("note", text=drift_words(is_moved, speed)))
