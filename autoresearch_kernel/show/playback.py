"""A recorded study played again: a View of its files as they were at the moment where the replay is.

What is shown is the fold of the events up to that moment, and nothing of what came later but the length of a training,
which the moving part of its curve needs. With the quiz on, the replay stops before each verdict until it is answered.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core import quiz
from ..core.format import number
from ..core.playback import Playhead, Timeline, neighbour
from ..core.quiz import Call, Outcome, Question, Shown
from ..core.state import Event, StudyState
from ..core.types import Experiment, Run
from ..record.curves import read_curve
from ..record.history_reader import Readable, readable_events
from ..record.study import Study, StudyError
from ..system.files import seconds_of
from .follow import past_of, tokens_per_second
from .snapshot import Past, Snapshot, Work

Clock = Callable[[], float]
ACTIVITIES = {  # after an event: what the supervisor did then, until the next one
    "proposed": "starting", "started": "training", "trained": "scoring", "scored": "deciding", "audited": "deciding",
    "interrupted": "deciding", "decided": "proposing", "opened": "proposing", "called": "proposing",
}  # fmt: skip
OF_A_RUN = frozenset({"started", "trained", "scored", "audited", "interrupted"})
PHASES = {"paused": "paused", "review": "reviewing", "waiting": "waiting for the machine", "stopped": "stopped"}


class Playback:
    """A replay of one recorded study; `clock` is the viewer's, in seconds."""

    def __init__(self, study: Study, clock: Clock = time.monotonic) -> None:
        """Raises StudyError for a study without a history."""
        if not study.paths.history.is_file():
            raise StudyError(f"{study.paths.folder} has no history.jsonl, so there is nothing to replay.")
        readable = readable_events(study.paths.history)
        self.study, self.damage, self._clock = study, readable.damage, clock
        self.timeline = Timeline.of(readable.events, seconds_of)
        self.questions = quiz.questions(readable.events)
        self.head = Playhead()
        self.is_quiz = False
        self.calls: dict[int, Call] = {}  # by the index of the question
        self._asked_from = 0  # events: a jump leaves out the questions before it
        self._lock = threading.RLock()  # a browser asks while a thread looks
        self._past: tuple[int, Past] | None = None
        self._curves: dict[Path, Sequence[Mapping[str, Any]]] = {}
        self._outcome: tuple[int, Outcome] | None = None  # after so many answers

    # --- where it is

    @property
    def question(self) -> Question | None:
        """The question at which it stands; None while it stands at none."""
        if not self.is_quiz:
            return None
        reached = self.timeline.count_at(self._unstopped())
        asked = (q for q in self.questions if q.index >= self._asked_from and q.index not in self.calls)
        found = next(asked, None)
        return found if found is not None and found.count <= reached else None

    @property
    def moment(self) -> float:
        """Seconds of the study's time."""
        question = self.question
        return self._unstopped() if question is None else self.timeline.moments[question.index]

    @property
    def count(self) -> int:
        """How many events are shown."""
        question = self.question
        return self.timeline.count_at(self._unstopped()) if question is None else question.count

    @property
    def events(self) -> Sequence[Event]:
        return self.timeline.events[: self.count]

    @property
    def is_playing(self) -> bool:
        """Whether the moment moves by itself now."""
        return self.head.is_playing and not self.is_over and self.question is None

    @property
    def is_over(self) -> bool:
        return self.count >= len(self.timeline.events)

    def _unstopped(self) -> float:
        return self.head.at(self._clock(), self.timeline.seconds)

    # --- what a viewer does

    def play(self) -> None:
        """Go on; from the beginning where it has come to the end."""
        with self._lock:
            if self.is_over:
                self.seek(0.0)
            self.head = self.head.played(self._clock())

    def pause(self) -> None:
        with self._lock:
            self.head = self.head.moved(self.moment, self._clock()).paused(self._clock(), self.timeline.seconds)

    def set_speed(self, speed: float) -> None:
        """Times the study's own. Raises ValueError for what is no speed."""
        with self._lock:
            self.head = self.head.moved(self.moment, self._clock())
            self.head = self.head.at_speed(speed, self._clock(), self.timeline.seconds)

    def skip_to_question(self) -> None:
        """Go as far as the next question, or to the end."""
        with self._lock:
            self.head = self.head.moved(self.timeline.seconds, self._clock())

    def seek(self, moment: float) -> None:
        """Show another moment; questions before it are left out."""
        with self._lock:
            self.head = self.head.moved(min(moment, self.timeline.seconds), self._clock())
            self._asked_from = self.timeline.count_at(self.head.moment)

    def jump(self, experiment: int) -> None:
        """To the beginning of an experiment. Raises StudyError where there is none."""
        moment = self.timeline.moment_of(experiment)
        if moment is None:
            last = max(self.timeline.experiments, default=None)
            known = "it has none" if last is None else f"it has 0 to {last}"
            raise StudyError(f"Study {self.study.name} has no experiment {experiment}: {known}.")
        self.seek(moment)

    def step(self, by: int) -> None:
        """To the experiment `by` further, or back; stays where there is none."""
        number = neighbour(self.timeline, self.moment, by)
        if number is not None:
            self.jump(number)

    def ask(self, is_quiz: bool) -> None:
        """Turn the quiz on or off. Questions from this moment on are asked."""
        with self._lock:
            moment = self.moment
            self.is_quiz = is_quiz
            self._asked_from = self.timeline.count_at(moment)
            self.head = self.head.moved(moment, self._clock())

    def answer(self, call: Call) -> Question:
        """Answer the question at which it stands, and go on. Raises StudyError where it stands at none."""
        with self._lock:
            question = self.question
            if question is None:
                raise StudyError("No question is open: the replay asks before each verdict while the quiz is on.")
            if call not in quiz.CALLS:
                raise StudyError(f"{call!r} is no answer: say keep, discard or confirm.")
            self.head = self.head.moved(self.timeline.moments[question.index], self._clock())
            self.calls[question.index] = call
            return question

    # --- what is seen

    def shown(self) -> Shown | None:
        """What a viewer knows at the open question; None where there is none."""
        with self._lock:
            question = self.question
            return None if question is None else quiz.shown(question, self._fold(question.count).state)

    def outcome(self) -> Outcome:
        """How the calls so far compare with the rule's and with later runs."""
        if self._outcome is None or self._outcome[0] != len(self.calls):
            self._outcome = len(self.calls), quiz.outcome(self.timeline.events, self.calls)
        return self._outcome[1]

    def look(self) -> Snapshot:
        """The study at this moment."""
        with self._lock:
            count, moment = self.count, self.moment
        past = self._fold(count)
        work = _work(past.state, self.timeline.events[:count], past)
        parent = work.experiment.parent if work.experiment is not None and work.experiment.status is None else None
        incumbent = past.state.incumbent if parent is None else past.state.experiments[parent]
        fraction = self._fraction(count, moment) if work.activity == "training" else 0.0
        curve = self._curve(work.experiment, work.run, fraction if work.activity == "training" else 1.0)
        budget = self.study.time_budget_seconds
        opened = next((i for i in range(count - 1, -1, -1) if self.timeline.events[i]["event"] == "opened"), 0)
        return Snapshot(
            **vars(past),
            **vars(work),
            study=self.study,
            holder=None,
            curve=curve,
            incumbent=incumbent,
            incumbent_curve=self._curve(incumbent, incumbent.runs[0] if incumbent and incumbent.runs else None, 1.0),
            fraction=fraction,
            seconds_left=budget * (1 - fraction) if work.activity == "training" else None,
            tokens_per_second=tokens_per_second(curve),
            time=self._unix_time(count, moment),
            study_seconds=moment,
            supervisor_seconds=self.timeline.seconds_since(opened, moment) if count else 0.0,
        )

    def _fold(self, count: int) -> Past:
        if self._past is None or self._past[0] != count:
            self._past = count, past_of(Readable(list(self.timeline.events[:count]), self.damage))
        return self._past[1]

    def _unix_time(self, count: int, moment: float) -> float:
        if not count:
            return seconds_of(self.timeline.events[0]["time"]) if self.timeline.events else 0.0
        return seconds_of(self.timeline.events[count - 1]["time"]) + self.timeline.seconds_since(count - 1, moment)

    def _fraction(self, count: int, moment: float) -> float:
        """How far the training is: the share of the time until it ended in the record."""
        events, moments = self.timeline.events, self.timeline.moments
        begun = next(i for i in range(count - 1, -1, -1) if events[i]["event"] == "started")
        ends = (i for i in range(count, len(events)) if events[i]["event"] in ("trained", "interrupted", "opened"))
        end = next(ends, len(events) - 1)
        length = moments[end] - moments[begun]
        return min(1.0, (moment - moments[begun]) / length) if length > 0 else 1.0

    def _curve(self, experiment: Experiment | None, run: Run | None, upto: float) -> tuple[Mapping[str, Any], ...]:
        """The points of a run's curve up to a share of its training."""
        if experiment is None or run is None:
            return ()
        path = self.study.experiment(experiment.number).metrics(run.index)
        if path not in self._curves:
            self._curves[path] = read_curve(path)
        points = self._curves[path]
        return tuple(p for p in points if (number(p.get("progress")) or 0.0) <= upto) if upto < 1.0 else tuple(points)


def _work(state: StudyState, events: Sequence[Event], past: Past) -> Work:
    """What the supervisor did after the last of these events, as far as they say it."""
    known = (e for e in reversed(events) if e["event"] in ACTIVITIES or e["event"] in PHASES)
    last = next(known, None)
    if past.is_finished or last is None:
        return Work("finished" if past.is_finished else "not started", "", None, None, "", "", ())
    if last["event"] in PHASES:
        return Work(PHASES[last["event"]], "", state.unfinished, None, "", "", ())
    activity = ACTIVITIES[last["event"]]
    experiment = run = None
    if last["event"] in OF_A_RUN:
        experiment = state.experiments[last["experiment"]]
        run = experiment.runs[last["run"]]
    elif last["event"] == "proposed":
        experiment = state.experiments[last["experiment"]]
    return Work(_phase(experiment, activity, past), activity, experiment, run, "", "", ())


def _phase(experiment: Experiment | None, activity: str, past: Past) -> str:
    if past.is_finishing:
        return "finishing"
    if past.is_attributing:
        return "attributing"
    if experiment is not None and experiment.number == 0 and experiment.status is None:
        return "measuring the baseline"
    if experiment is not None and experiment.status is not None:
        return "re-running the incumbent"
    return activity
