"""Follows a study from outside, from its files alone: what another process does with it at this moment.

`look` gives a Snapshot; a `View` gives many and reads only what was added since the last one. `follow` yields what
happens as it happens, for `autoresearch attach`. An agent's code writes the curve: only finite numbers in it count.
"""

from __future__ import annotations

import stat
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..core.format import last_number, number, plain
from ..core.sanitize import readable
from ..core.state import Event, StudyState
from ..core.types import Experiment, MachineHolder, Progress, Status
from ..record.activity import Activity, read_activity
from ..record.curves import Tail, curve_points, read_curve
from ..record.history_reader import HistoryReader, Readable, views_of
from ..record.study import Study
from ..system.files import lock_holder, seconds_of
from .snapshot import AT_WORK, WAITING, WAITING_FOR_MACHINE, WAITING_FOR_QUIET, Past, Snapshot, Work
from .status import command_line, doing, next_step, trained_share
from .study_words import drift_words, waiting_words
from .words import given_back_words

CURVE_LIMIT_POINTS = 10_000  # a real curve has about 200
RECENT_POINTS = 10  # of the curve, behind the tokens a second of this moment
LOOK_EVERY_SECONDS = 0.25
PURPOSES = {  # of a supervisor's work, and the phases that they are shown as
    "baseline": "measuring the baseline", "rerun": "re-running the incumbent", "conclusion": "concluding",
    "result": "finishing", "attribution": "attributing",
}  # fmt: skip


def look(study: Study) -> Snapshot:
    """A study at this moment; of a damaged history what can be trusted, see `Snapshot.damage`."""
    return View(study).look()


def follow(study: Study, *, every_seconds: float = LOOK_EVERY_SECONDS) -> Iterator[Experiment | Progress]:
    """Yield what happens from now on: each decided experiment, notes, and the progress of the run; until it ends.

    Unless it was finished, the last value is a note that says how it ended and what to do next.
    """
    view = View(study)
    known: int | None = None
    while True:
        now = view.look()
        if known is None:
            trainings = [progress for progress in _progress(now) if progress.phase == "training"]
            yield from (replace(progress, phase="starting", fraction=0.0, metrics={}) for progress in trainings)
        for event in view.events[len(view.events) if known is None else known :]:
            yield from news(event, now.state)
        known = len(view.events)
        if not now.is_running:
            if now.phase != "finished":  # what was found says that better
                yield Progress("note", text=next_step(now))
            return
        yield from _progress(now)
        time.sleep(every_seconds)


def news(event: Event, state: StudyState) -> Iterator[Experiment | Progress]:
    """What `attach` prints for an event."""
    kind = event["event"]
    if kind == "decided":
        yield state.experiments[event["experiment"]]
    elif kind == "started":
        experiment = state.experiments[event["experiment"]]
        yield Progress("starting", experiment.number, event["run"], experiment.hypothesis, slot=event.get("slot") or "")
    elif kind == "note":
        yield Progress("note", text=plain(event["text"]))
    elif kind == "command":
        yield Progress("note", text=command_line(event))
    elif kind == "drift":
        yield Progress("note", text=drift_words(event["is_moved"], event["machine_speed"]))
    elif kind == "waiting":
        yield Progress("note", text=waiting_words(MachineHolder(event["study"], event["pid"], event["since"])))
    elif kind == "refused" and not event.get("is_draft"):  # a note says it of a user's own train.py
        yield Progress("note", text=given_back_words(event["objection"], event["why"]))
    elif kind in ("paused", "resumed"):
        yield Progress("note", text=f"{kind.capitalize()}: {plain(event['reason'])}")


def _progress(now: Snapshot) -> Iterator[Progress]:
    """What is done now; where there are several slots, what each of them does."""
    if now.phase in WAITING or not any(slot["phase"] for slot in now.slots):
        yield _of_one(now)
        return
    for slot in now.slots:
        if not slot["phase"]:
            yield Progress("", slot=slot["slot"])
            continue
        known = now.state.experiments[slot["experiment"] :][:1]  # the history may be read later than the activity
        hypothesis = known[0].hypothesis if known else ""
        share = trained_share(slot, now)
        about = slot["experiment"], slot["run"], hypothesis, share
        yield Progress(slot["phase"], *about, writes=now.agent_writes, slot=slot["slot"])


def _of_one(now: Snapshot) -> Progress:
    if now.phase in WAITING:
        return Progress(now.phase, text=next_step(now))
    if now.activity == "quiet" and now.experiment is not None:
        return Progress(now.activity, now.experiment.number, text=next_step(now))
    if now.phase == "attributing" and now.state.attribution is not None:
        return Progress(now.activity, now.state.attribution.champion, hypothesis=doing(now))
    if now.experiment is None:
        return Progress(now.activity, len(now.state.experiments), writes=now.agent_writes)
    loss, speed = last_number(now.curve, "train_loss"), now.tokens_per_second
    metrics = {"train_loss": loss, "tokens_per_second": speed} if now.activity == "training" else {}
    run, about = now.run.index if now.run else 0, now.experiment
    return Progress(now.activity, about.number, run, about.hypothesis, now.fraction, metrics, writes=now.agent_writes)


class View:
    """One study, looked at again and again. `events` are those of the last look."""

    def __init__(self, study: Study, clock: Callable[[], float] = time.time) -> None:
        self.study = study
        self._clock = clock
        self._history = HistoryReader(study.paths.history)
        self._past = past_of(Readable([]))
        self._curve: _CurveReader | None = None
        self._incumbent_curve: tuple[int, tuple[Mapping[str, Any], ...]] | None = None

    @property
    def events(self) -> Sequence[Event]:
        return self._history.events

    def look(self) -> Snapshot:
        holder = lock_holder(self.study.paths.lock)
        if self._history.read():
            self._past = past_of(Readable(self._history.events, self._history.damage))
        if holder is None and _phase_without_supervisor(self._past) == "gone":
            holder = lock_holder(self.study.paths.lock)  # another supervisor may have resumed it while we read
        work = _work(self.study, self._past, holder)
        past, experiment, now = self._past, work.experiment, self._clock()
        parent = experiment.parent if experiment is not None and experiment.status is None else None
        incumbent = past.state.incumbent if parent is None else past.state.experiments[parent]
        curve = self._read_curve(work)
        progress = last_number(curve, "progress")
        fraction, seconds_left = progress or 0.0, None
        if work.activity == "training":
            fraction, seconds_left = self._training_left(progress, now)
        until = now if holder is not None or not past.last_event_at else seconds_of(past.last_event_at)
        return Snapshot(
            **vars(past),
            **vars(work),
            study=self.study,
            holder=holder,
            curve=curve,
            incumbent=incumbent,
            incumbent_curve=self._read_incumbent_curve(incumbent),
            fraction=min(1.0, max(0.0, fraction)),
            seconds_left=seconds_left,
            tokens_per_second=tokens_per_second(curve),
            time=now,
            study_seconds=_seconds_since(past.began_at, until),
            supervisor_seconds=_seconds_since(past.opened_at, until),
        )

    def _read_curve(self, work: Work) -> tuple[Mapping[str, Any], ...]:
        """The curve of the present run, without that of an attempt that was cut off earlier."""
        past, run = self._past, work.run
        has_begun = past.seq("started") > past.seq("opened")  # else only the curve of a run that has ended counts
        if work.experiment is None or run is None or not (has_begun or run.status is not Status.INTERRUPTED):
            self._curve = None
            return ()
        key = (self.study.experiment(work.experiment.number).metrics(run.index), past.seq("started"))
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

    def _training_left(self, progress: float | None, now: float) -> tuple[float, float]:
        """Share of the training that is done, and seconds left; it goes on between two points of the curve."""
        budget = self.study.time_budget_seconds
        if progress is None or self._curve is None:
            return 0.0, budget
        done = progress + max(0.0, now - self._curve.written_at) / budget
        return done, min(budget, max(0.0, budget * (1 - done)))


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


def past_of(readable: Readable) -> Past:
    """What follows from the records of a history alone."""
    events = readable.events
    state, damage = views_of(readable)
    last = {event["event"]: event for event in events}
    opened = last.get("opened") or (events[0] if events else {"seq": 0, "time": ""})
    session = [event for event in events if event["seq"] >= opened["seq"]]

    def since(kind: str, *others: str) -> bool:
        """Whether the present supervisor recorded such an event, and none of the others after it."""
        seqs = [opened["seq"], *(last[other]["seq"] for other in others if other in last)]
        return kind in last and last[kind]["seq"] > max(seqs)

    has_ended = last.get("attribution", {}).get("what") == "ended"
    return Past(
        state=state,
        last=last,
        is_finishing=since("finishing", "result"),
        is_attributing=since("attribution", "proposed") and not has_ended,
        is_finished=any(since(kind, "proposed") for kind in ("finished", "result"))
        or (since("attribution", "proposed") and has_ended),
        began_at=events[0]["time"] if events else "",
        opened_at=opened["time"],
        last_event_at=events[-1]["time"] if events else "",
        experiments_per_hour=_per_hour(session),
        one_slot_per_hour=_one_slot_per_hour(session, state) if state.slots else None,
        damage=damage,
        notes=tuple(event for event in session if event["event"] == "note"),
        commands=tuple(event for event in session if event["event"] == "command"),
    )


def _work(study: Study, past: Past, holder: Mapping[str, Any] | None) -> Work:
    state, unfinished = past.state, past.state.unfinished
    activity = None if holder is None else read_activity(study.paths.activity, holder.get("pid"))
    last_run = unfinished.runs[-1] if unfinished is not None and unfinished.runs else None
    if holder is None or past.is_finished:
        return Work(_phase_without_supervisor(past), "", unfinished, last_run, "", "", ())
    if activity is None or activity.phase in WAITING:
        slots = () if activity is None else tuple(activity.slots)
        return Work("starting" if activity is None else activity.phase, "", unfinished, last_run, "", "", slots)
    experiment = run = None
    is_of_run = activity.phase not in ("proposing", "dry run") and activity.purpose != "attribution"
    if is_of_run and activity.experiment < len(state.experiments):
        experiment = state.experiments[activity.experiment]
        run = experiment.runs[activity.run] if activity.run < len(experiment.runs) else None
    why = activity.why if activity.purpose == "rerun" else ""
    writes = readable(str(activity.writes))
    return Work(_phase(activity), activity.phase, experiment, run, why, writes, tuple(activity.slots))


def _phase(activity: Activity) -> str:
    if activity.phase == "quiet":
        return WAITING_FOR_QUIET
    if activity.purpose in PURPOSES and (activity.purpose != "rerun" or activity.phase in AT_WORK):
        return PURPOSES[activity.purpose]
    return WAITING_FOR_MACHINE if activity.phase == "waiting" else activity.phase


def _phase_without_supervisor(past: Past) -> str:
    if past.is_finished:
        return "finished"
    return "stopped" if past.state.stopped else "gone" if past.state.experiments else "not started"


def _per_hour(session: Sequence[Event]) -> float | None:
    """Experiments decided in an hour, counted from the beginning of the first one to the end of the last."""
    proposed, decided = _decided(session)
    hours = (seconds_of(decided[-1]) - seconds_of(proposed)) / 3600 if proposed and decided else 0.0
    return len(decided) / hours if hours > 0 else None


def _decided(session: Sequence[Event]) -> tuple[str, list[str]]:
    """When the first experiment was proposed, "" for none, and when each was decided since."""
    proposed = next((e["time"] for e in session if e["event"] == "proposed" and e["experiment"] > 0), "")
    decided = [e["time"] for e in session if e["event"] == "decided" and e["experiment"] > 0 and e["time"] >= proposed]
    return proposed, decided


def _one_slot_per_hour(session: Sequence[Event], state: StudyState) -> float | None:
    """Experiments that one slot would decide in an hour: by how long the work on those that are decided took.

    That is the time of their runs, scores, audits and dry runs, with what the incumbent ran again; not the time in
    which an experiment waits for others of its wave.
    """
    proposed, decided = _decided(session)
    since: dict[tuple[int, int], float] = {}
    seconds = 0.0
    for event in session:
        kind, number = event["event"], event.get("experiment") or 0
        is_done = number < len(state.experiments) and state.experiments[number].status is not None
        if not is_done or not decided or not proposed <= event["time"] <= decided[-1]:
            continue
        if kind in ("audited", "dry_run"):
            seconds += event.get("seconds") or 0.0
        elif kind == "started":
            since[number, event["run"]] = seconds_of(event["time"])
        elif kind in ("trained", "scored", "interrupted") and (number, event["run"]) in since:
            seconds += seconds_of(event["time"]) - since[number, event["run"]]
            since[number, event["run"]] = seconds_of(event["time"])
    return 3600 * len(decided) / seconds if seconds > 0 else None


def _seconds_since(utc: str, until: float) -> float:
    return max(0.0, until - seconds_of(utc)) if utc else 0.0


def tokens_per_second(curve: Sequence[Mapping[str, Any]]) -> float | None:
    """Of the last points of a curve, the median."""
    speeds = [number(point.get("tokens_per_second")) for point in curve[-RECENT_POINTS:]]
    known = [speed for speed in speeds if speed is not None]
    return statistics.median(known) if known else None
