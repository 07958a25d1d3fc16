"""Follows a study from outside: what another process does with it at this moment, from its files alone.

`look` gives a Snapshot; a `View` gives many and reads only what was added since the last one, so a client may ask
several times a second. `follow` yields what happens as it happens, for `autoresearch attach`. This module writes
nothing and asks no process: the history says what was done, the lock who does it now, and the curve how far the
running training is. The curve comes from code that an agent wrote: only finite numbers in it count.
"""

from __future__ import annotations

import stat
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..core.format import last_number, number, plain
from ..core.state import Event, StudyState, replay
from ..core.types import Experiment, MachineHolder, Progress, Run, Status
from ..record.activity import Activity, read_activity
from ..record.curves import Tail, curve_points, read_curve
from ..record.history_reader import HistoryReader
from ..record.study import Study
from ..system.files import lock_holder, seconds_of
from .snapshot import AT_WORK, WAITING, WAITING_FOR_MACHINE, Snapshot
from .status import command_line, next_step
from .study_words import waiting_words

CURVE_LIMIT_POINTS = 10_000  # a real curve has about 200
RECENT_POINTS = 10  # of the curve, behind the tokens a second of this moment
LOOK_EVERY_SECONDS = 0.25
PURPOSES = {  # of a supervisor's work, and the phases that they are shown as
    "baseline": "measuring the baseline", "rerun": "re-running the incumbent", "conclusion": "concluding",
    "result": "finishing",
}  # fmt: skip
FROM_HISTORY = (  # parts of a Snapshot that follow from the history alone
    "state", "is_finishing", "began_at", "opened_at", "last_event_at", "experiments_per_hour", "notes",
    "commands",
)  # fmt: skip


def look(study: Study) -> Snapshot:
    """A study at this moment. Raises HistoryDamaged when its history cannot be trusted."""
    return View(study).look()


def follow(study: Study, *, every_seconds: float = LOOK_EVERY_SECONDS) -> Iterator[Experiment | Progress]:
    """What happens from now on: each experiment as it is decided, notes, and how far the run is; until it ends.

    Unless it was finished, the last value is a note that says how it ended and what to do next.
    """
    view = View(study)
    known: int | None = None
    while True:
        now = view.look()
        if known is None and now.activity == "training":
            yield replace(_progress(now), phase="starting", fraction=0.0, metrics={})
        for event in view.events[len(view.events) if known is None else known :]:
            yield from _news(event, now.state)
        known = len(view.events)
        if not now.is_running:
            if now.phase != "finished":  # what was found says that better
                yield Progress("note", text=next_step(now))
            return
        yield _progress(now)
        time.sleep(every_seconds)


def _news(event: Event, state: StudyState) -> Iterator[Experiment | Progress]:
    """What `attach` prints for an event."""
    kind = event["event"]
    if kind == "decided":
        yield state.experiments[event["experiment"]]
    elif kind == "started":
        experiment = state.experiments[event["experiment"]]
        yield Progress("starting", experiment.number, event["run"], experiment.hypothesis)
    elif kind == "note":
        yield Progress("note", text=plain(event["text"]))
    elif kind == "command":
        yield Progress("note", text=command_line(event))
    elif kind == "waiting":
        yield Progress("note", text=waiting_words(MachineHolder(event["study"], event["pid"], event["since"])))
    elif kind == "refused":
        yield Progress("note", text=f"Given back ({event['objection']}): {plain(event['why'])[:200]}")
    elif kind in ("paused", "resumed"):
        yield Progress("note", text=f"{kind.capitalize()}: {plain(event['reason'])}")


def _progress(now: Snapshot) -> Progress:
    if now.phase in WAITING:
        return Progress(now.phase, text=next_step(now))
    if now.experiment is None:
        return Progress(now.activity, len(now.state.experiments))
    loss, speed = last_number(now.curve, "train_loss"), now.tokens_per_second
    metrics = {"train_loss": loss, "tokens_per_second": speed} if now.activity == "training" else {}
    run = now.run.index if now.run else 0
    return Progress(now.activity, now.experiment.number, run, now.experiment.hypothesis, now.fraction, metrics)


class View:
    """One study, looked at again and again. `events` are those of the last look."""

    def __init__(self, study: Study, clock: Callable[[], float] = time.time) -> None:
        self.study = study
        self._clock = clock
        self._history = HistoryReader(study.paths.history)
        self._folded = _fold([])
        self._curve: _CurveReader | None = None
        self._incumbent_curve: tuple[int, tuple[Mapping[str, Any], ...]] | None = None

    @property
    def events(self) -> Sequence[Event]:
        return self._history.events

    def look(self) -> Snapshot:
        holder = lock_holder(self.study.paths.lock)
        if self._history.read():
            self._folded = _fold(self._history.events)
        if holder is None and _phase_without_supervisor(self._folded) == "gone":
            holder = lock_holder(self.study.paths.lock)  # another supervisor may have resumed it while we read
        work = _work(self.study, self._folded, holder)
        folded, incumbent, now = self._folded, self._compared_with(work.experiment), self._clock()
        curve = self._read_curve(work)
        fraction = seconds_left = None
        if work.activity == "training":
            fraction, seconds_left = self._training_left(curve, now)
        until = now if holder is not None or not folded.last_event_at else seconds_of(folded.last_event_at)
        return Snapshot(
            **{name: getattr(folded, name) for name in FROM_HISTORY},
            **vars(work),
            study=self.study,
            finished=folded.last.get("finished"),
            holder=holder,
            curve=curve,
            incumbent=incumbent,
            incumbent_curve=self._read_incumbent_curve(incumbent),
            fraction=_fraction(curve) if fraction is None else fraction,
            seconds_left=seconds_left,
            tokens_per_second=_tokens_per_second(curve),
            time=now,
            study_seconds=_seconds_since(folded.began_at, until),
            supervisor_seconds=_seconds_since(folded.opened_at, until),
        )

    def _compared_with(self, experiment: Experiment | None) -> Experiment | None:
        parent = experiment.parent if experiment is not None and experiment.status is None else None
        return self._folded.state.incumbent if parent is None else self._folded.state.experiments[parent]

    def _read_curve(self, work: _Work) -> tuple[Mapping[str, Any], ...]:
        """Of the run in work; the curve of an attempt that was cut off earlier is not its own."""
        last, run = self._folded.last, work.run
        if work.experiment is None or run is None or not _has_begun(run, last):
            self._curve = None
            return ()
        path = self.study.experiment(work.experiment.number).metrics(run.index)
        key = (path, last["started"]["seq"])
        if self._curve is None or self._curve.key != key:
            self._curve = _CurveReader(key)
        return self._curve.read()

    def _read_incumbent_curve(self, incumbent: Experiment | None) -> tuple[Mapping[str, Any], ...]:
        if incumbent is None:
            return ()
        if self._incumbent_curve is None or self._incumbent_curve[0] != incumbent.number:
            path = self.study.experiment(incumbent.number).metrics(0)
            self._incumbent_curve = incumbent.number, tuple(read_curve(path)[:CURVE_LIMIT_POINTS])
        return self._incumbent_curve[1]

    def _training_left(self, curve: Sequence[Mapping[str, Any]], now: float) -> tuple[float, float]:
        """Share of the training that is done, and seconds left; it goes on between two points of the curve."""
        budget = self.study.time_budget_seconds
        progress = last_number(curve, "progress")
        if progress is None or self._curve is None:
            return 0.0, budget
        done = progress + max(0.0, now - self._curve.written_at) / budget
        return min(1.0, max(0.0, done)), min(budget, max(0.0, budget * (1 - done)))


class _CurveReader:
    """The points of a growing metrics.jsonl, which an agent's code may replace by anything at any time."""

    def __init__(self, key: tuple[Path, int]) -> None:
        self.key, self.path = key, key[0]  # the key tells attempts apart
        self._forget()

    def _forget(self) -> None:
        self._tail = Tail(self.path)
        self._points: list[dict[str, Any]] = []
        self._inode: int | None = None
        self.written_at = 0.0  # Unix time

    def read(self) -> tuple[Mapping[str, Any], ...]:
        try:
            facts = self.path.stat()
        except OSError:
            self._forget()
            return ()
        if facts.st_ino != self._inode or facts.st_size < self._tail.offset:
            self._forget()
            self._inode = facts.st_ino
        if stat.S_ISREG(facts.st_mode) and len(self._points) < CURVE_LIMIT_POINTS:
            self._points += curve_points(self._tail.read_lines())
        self.written_at = facts.st_mtime
        return tuple(self._points)


@dataclass(frozen=True)
class _Folded:
    """All that follows from the history alone: worked out anew only when there is a new event."""

    state: StudyState
    last: Mapping[str, Event]  # the last event of each kind
    is_finishing: bool  # measuring the study's result
    is_finished: bool
    began_at: str
    opened_at: str
    last_event_at: str
    experiments_per_hour: float | None
    notes: tuple[Event, ...]
    commands: tuple[Event, ...]


@dataclass(frozen=True)
class _Work:
    """What a study does, as its supervisor says in activity.json; without a supervisor, where it stopped."""

    phase: str
    activity: str
    experiment: Experiment | None
    run: Run | None
    rerun_reason: str


def _fold(events: Sequence[Event]) -> _Folded:
    last = {event["event"]: event for event in events}
    opened = last.get("opened") or (events[0] if events else {})
    session = events[opened["seq"] - 1 :] if events else []
    return _Folded(
        state=replay(events),
        last=last,
        is_finishing=_is_finishing(last, opened),
        is_finished=_is_finished(last, opened),
        began_at=events[0]["time"] if events else "",
        opened_at=opened.get("time", ""),
        last_event_at=events[-1]["time"] if events else "",
        experiments_per_hour=_per_hour(session),
        notes=tuple(event for event in session if event["event"] == "note"),
        commands=tuple(event for event in session if event["event"] == "command"),
    )


def _work(study: Study, folded: _Folded, holder: Mapping[str, Any] | None) -> _Work:
    state, unfinished = folded.state, folded.state.unfinished
    activity = None if holder is None else read_activity(study.paths.activity, holder.get("pid"))
    last_run = unfinished.runs[-1] if unfinished is not None and unfinished.runs else None
    if holder is None or folded.is_finished:
        return _Work(_phase_without_supervisor(folded), "", unfinished, last_run, "")
    if activity is None or activity.phase in WAITING:
        return _Work("starting" if activity is None else activity.phase, "", unfinished, last_run, "")
    experiment = run = None
    if activity.phase not in ("proposing", "dry run") and activity.experiment < len(state.experiments):
        experiment = state.experiments[activity.experiment]
        run = experiment.runs[activity.run] if activity.run < len(experiment.runs) else None
    return _Work(_phase(activity), activity.phase, experiment, run, activity.why if activity.purpose == "rerun" else "")


def _phase(activity: Activity) -> str:
    if activity.purpose in PURPOSES and (activity.purpose != "rerun" or activity.phase in AT_WORK):
        return PURPOSES[activity.purpose]
    return WAITING_FOR_MACHINE if activity.phase == "waiting" else activity.phase


def _phase_without_supervisor(folded: _Folded) -> str:
    if folded.is_finished:
        return "finished"
    return "stopped" if folded.state.stopped else "gone" if folded.state.experiments else "not started"


def _has_begun(run: Run, last: Mapping[str, Event]) -> bool:
    """Whether the present supervisor has begun the run, or the run has ended."""
    return _seq(last, "started") > _seq(last, "opened") or run.status is not Status.INTERRUPTED


def _is_finishing(last: Mapping[str, Event], opened: Event) -> bool:
    return _seq(last, "finishing") > max(opened.get("seq", 0), _seq(last, "result"))


def _is_finished(last: Mapping[str, Event], opened: Event) -> bool:
    """Whether the last supervisor came to the end of what was asked, or to the study's result."""
    ended = max(_seq(last, "finished"), _seq(last, "result"))
    return ended > max(opened.get("seq", 0), _seq(last, "proposed"))


def _seq(last: Mapping[str, Event], kind: str) -> int:
    return last[kind]["seq"] if kind in last else 0


def _per_hour(session: Sequence[Event]) -> float | None:
    """Experiments decided in an hour, counted from the beginning of the first one to the end of the last."""
    proposed = next((e["time"] for e in session if e["event"] == "proposed" and e["experiment"] > 0), "")
    decided = [e["time"] for e in session if e["event"] == "decided" and e["experiment"] > 0 and e["time"] >= proposed]
    hours = (seconds_of(decided[-1]) - seconds_of(proposed)) / 3600 if proposed and decided else 0.0
    return len(decided) / hours if hours > 0 else None


def _seconds_since(utc: str, until: float) -> float:
    return max(0.0, until - seconds_of(utc)) if utc else 0.0


def _fraction(curve: Sequence[Mapping[str, Any]]) -> float:
    """Share of the training that the curve covers."""
    progress = last_number(curve, "progress")
    return min(1.0, max(0.0, progress or 0.0))


def _tokens_per_second(curve: Sequence[Mapping[str, Any]]) -> float | None:
    speeds = [number(point.get("tokens_per_second")) for point in curve[-RECENT_POINTS:]]
    known = [speed for speed in speeds if speed is not None]
    return statistics.median(known) if known else None
