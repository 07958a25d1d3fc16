"""What a study does at one moment, as values: the phase, the run in work, its curve. `follow.py` makes these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..core.state import Event, StudyState
from ..core.types import Experiment, Run
from ..record.study import Study

WAITING_FOR_MACHINE = "waiting for the machine"  # the phase in which another training holds it
WAITING_FOR_QUIET = "waiting for a quieter machine"  # the phase in which other processes keep it busy
PHASES = (
    "not started", "starting", "measuring the baseline", "proposing", "dry run", "reviewing", "training", "scoring",
    "auditing",
    "deciding", "re-running the incumbent", "concluding", "finishing", "attributing",
    WAITING_FOR_MACHINE, WAITING_FOR_QUIET,
    "paused", "finished", "stopped", "gone",
)  # fmt: skip
ENDED = frozenset({"not started", "finished", "stopped", "gone"})  # phases in which nothing goes on
WAITING = frozenset({"paused", "reviewing"})
AT_WORK = frozenset({"waiting", "quiet", "training", "scoring", "auditing"})  # on a run


@dataclass(frozen=True)
class Past:
    """What follows from the history alone. Times are UTC ISO 8601, "" before there is one."""

    state: StudyState
    last: Mapping[str, Event]  # the last event of each kind, of an earlier supervisor perhaps
    is_finishing: bool  # the last supervisor measures the study's result, or ended before it was measured
    is_attributing: bool  # the same of the attribution of its kept changes
    is_finished: bool  # the last supervisor came to the end of what was asked, to the result, or to the attribution
    began_at: str  # the study
    opened_at: str  # the present or last supervisor
    last_event_at: str
    experiments_per_hour: float | None  # of this supervisor, the baseline not counted
    one_slot_per_hour: float | None  # what one slot would do; None where the machine is not divided
    damage: str  # what of the history is left out here, and what to do; "" for a whole one
    notes: tuple[Event, ...]  # since the supervisor began
    commands: tuple[Event, ...]  # the same, with their answers

    @property
    def finished(self) -> Event | None:
        return self.last.get("finished")

    def seq(self, kind: str) -> int:
        """The number of the last event of that kind; 0 before there is one."""
        return self.last[kind]["seq"] if kind in self.last else 0


@dataclass(frozen=True)
class Work:
    """What a study does, as its supervisor says in activity.json; without a supervisor, where it stopped."""

    phase: str  # one of PHASES
    activity: str  # "proposing", "dry run", "waiting" (for the machine), "quiet" (waits for it), "training", "scoring",
    # "auditing", "deciding"; "" while nothing goes on
    experiment: Experiment | None  # that is in work, or was when the supervisor went away
    run: Run | None  # of it
    rerun_reason: str  # why the incumbent runs again; "" otherwise
    agent_writes: str  # the last lines of what the agent writes now, for the next experiment perhaps; "" for nothing
    slots: tuple[Mapping[str, Any], ...]  # what each does, where there is more than one: see `record/activity.py`


@dataclass(frozen=True)
class Snapshot(Work, Past):
    """A study at one moment. None is what cannot be known."""

    study: Study
    holder: dict[str, Any] | None  # pid, host, boot_id, since of the process that runs the study
    curve: tuple[Mapping[str, Any], ...]  # of the run
    incumbent: Experiment | None  # that the run is compared with: its parent, for a re-run itself
    incumbent_curve: tuple[Mapping[str, Any], ...]  # of its first run
    fraction: float  # of the training, 0..1
    seconds_left: float | None  # of the training
    tokens_per_second: float | None  # lately
    time: float  # Unix time of this snapshot
    study_seconds: float  # from its beginning until now, or until its last event when no supervisor runs it
    supervisor_seconds: float

    @property
    def is_running(self) -> bool:
        return self.phase not in ENDED

    def doing(self, number: int) -> str:
        """What an experiment that is not decided does now; on several slots each has a phase of its own."""
        if not self.is_running:
            return "unfinished"
        if self.slots:
            phases = (str(row["phase"]) for row in self.slots if row["phase"] and row.get("experiment") == number)
            return next(phases, "waits")
        is_it = self.experiment is not None and self.experiment.number == number
        return self.activity or "waits" if is_it else "unfinished"
