"""What a study does at one moment, as values: the phase, the run in work, its curve. `follow.py` makes these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..core.state import Event, StudyState
from ..core.types import Experiment, Run
from ..record.study import Study

WAITING_FOR_MACHINE = "waiting for the machine"  # the phase in which another training holds it
PHASES = (
    "not started", "starting", "measuring the baseline", "proposing", "dry run", "reviewing", "training", "scoring",
    "auditing",
    "deciding", "re-running the incumbent", "concluding", "finishing", WAITING_FOR_MACHINE, "paused", "finished",
    "stopped", "gone",
)  # fmt: skip
ENDED = frozenset({"not started", "finished", "stopped", "gone"})  # phases in which nothing goes on
WAITING = frozenset({"paused", "reviewing"})
AT_WORK = frozenset({"waiting", "training", "scoring", "auditing"})  # on a run


@dataclass(frozen=True)
class Snapshot:
    """A study at one moment. Times are seconds unless they are UTC ISO 8601; None is what cannot be known."""

    study: Study
    state: StudyState
    finished: Event | None  # the last `finished` event, of an earlier supervisor perhaps
    holder: dict[str, Any] | None  # pid, host, boot_id, since of the process that runs the study
    phase: str  # one of PHASES
    activity: str  # "proposing", "dry run", "waiting" (for the machine), "training", "scoring", "auditing", "deciding";
    # "" while nothing goes on
    experiment: Experiment | None  # that is in work, or was when the supervisor went away
    run: Run | None  # of it
    rerun_reason: str  # why the incumbent runs again; "" otherwise
    is_finishing: bool  # the last supervisor measures the study's result, or ended before it was measured
    curve: tuple[Mapping[str, Any], ...]  # of the run
    incumbent: Experiment | None  # that the run is compared with: its parent, for a re-run itself
    incumbent_curve: tuple[Mapping[str, Any], ...]  # of its first run
    fraction: float  # of the training, 0..1
    seconds_left: float | None  # of the training
    tokens_per_second: float | None  # lately
    time: float  # Unix time of this snapshot
    began_at: str  # the study; "" before it did
    opened_at: str  # the present or last supervisor
    last_event_at: str
    study_seconds: float  # from its beginning until now, or until its last event when no supervisor runs it
    supervisor_seconds: float
    experiments_per_hour: float | None  # of this supervisor, the baseline not counted
    notes: tuple[Event, ...]  # since the supervisor began
    commands: tuple[Event, ...]  # the same, with their answers

    @property
    def is_running(self) -> bool:
        return self.phase not in ENDED
