"""A replay that asks before each verdict: keep, discard or once more? Pure.

A question stands right after the score of a run, before its audit: a run is only audited when the rule would keep it or
train it once more. The rule's answer is what the record says next of the experiment: another run, or its decision.
Where there is none, as after an audit that refused the score, there is no question.

The truth is what later runs of the same code say, runs that had no part in the scores on which the question was asked:
confirmations, and re-runs of what became the incumbent. It is known where their interval against the incumbent of that
time, a 95 % interval of Student's t, has zero outside.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from .comparison import Comparison
from .decide import mean, standard_error
from .drift import level
from .state import Event, StudyState, replay
from .student import quantile
from .types import Experiment, Run, Status, scores_of

Call = Literal["keep", "discard", "confirm"]
CALLS: tuple[Call, ...] = get_args(Call)
VERDICTS: dict[str, Call] = {Status.KEEP: "keep", Status.DISCARD: "discard"}
CHANCE = 0.025  # on each side of the interval
Truth = Literal["better", "worse", "cannot tell"]


@dataclass(frozen=True)
class Question:
    """Before one verdict of the rule."""

    index: int  # of the event `scored`, after which it is asked
    experiment: int
    run: int
    verdict: Call  # the rule's
    parent: int  # the incumbent of that time

    @property
    def count(self) -> int:
        """How many events there were when it is asked."""
        return self.index + 1


def questions(events: Sequence[Event]) -> tuple[Question, ...]:
    """All that can be asked of a history, in its order."""
    found: list[Question] = []
    parents: dict[int, int | None] = {}
    decided: set[int] = set()
    for index, event in enumerate(events):
        kind, number = event["event"], event.get("experiment")
        if kind == "proposed":
            parents[event["experiment"]] = event["parent"]
        elif kind == "decided":
            decided.add(event["experiment"])
        elif kind == "scored" and event.get("val_bpb") is not None and isinstance(number, int):
            parent, verdict = parents.get(number), _verdict(events, index)
            if parent is not None and number not in decided and verdict is not None:
                found.append(Question(index, number, event["run"], verdict, parent))
    return tuple(found)


def _verdict(events: Sequence[Event], index: int) -> Call | None:
    """What the rule said after a score: `confirm` where another run of the code starts, else its decision."""
    number, run = events[index]["experiment"], events[index]["run"]
    for event in events[index + 1 :]:
        if event.get("experiment") != number:
            continue
        if event["event"] == "started":
            return "confirm" if event["run"] > run else None
        if event["event"] == "audited" and event["run"] == run and not event["accepted"]:
            return None
        if event["event"] == "beat":
            return "keep"
        if event["event"] == "decided":
            return VERDICTS.get(event["status"])
    return None


@dataclass(frozen=True)
class Shown:
    """What a viewer knows when a question is asked."""

    question: Question
    experiment: Experiment  # as it was then
    compared: Comparison | None  # with the incumbent at the machine's speed of that time; None where nothing can be
    incumbent_runs: int  # behind that
    sigma: float | None  # run-to-run standard deviation, as it was known then

    @property
    def scores(self) -> tuple[float, ...]:
        """val_bpb of the runs so far."""
        return self.experiment.scores


def shown(question: Question, state: StudyState) -> Shown:
    """`state` is the fold of the events up to the question."""
    experiment = state.experiments[question.experiment]
    against = state.level_for(experiment)
    if against is None:
        return Shown(question, experiment, None, 0, state.sigma)
    mine = standard_error(len(experiment.scores), state.sigma)
    theirs = against.standard_error(state.sigma, state.noise.worth_error)
    degrees = state.noise.degrees_of_freedom
    compared = Comparison(mean(experiment.scores), against.bpb, mine, theirs, state.sigma, degrees_of_freedom=degrees)
    return Shown(question, experiment, compared, len(against.runs), state.sigma)


# --- how the calls compare


@dataclass(frozen=True)
class Answer:
    """One question with the viewer's call, the rule's and the truth."""

    question: Question
    call: Call
    truth: Truth | None  # None where no later run of the code is in the record
    difference: float | None = None  # of the later runs to the incumbent's, negative is better
    error: float | None = None  # its standard error


@dataclass(frozen=True)
class Tally:
    """How many calls of one side were right where the truth is known; `confirm` is neither right nor wrong."""

    right: int
    wrong: int
    once_more: int


@dataclass(frozen=True)
class Outcome:
    """How a viewer's calls compare with the rule's, and with the truth of later runs."""

    answers: tuple[Answer, ...]
    num_questions: int

    @property
    def as_the_rule(self) -> int:
        return sum(answer.call == answer.question.verdict for answer in self.answers)

    @property
    def known(self) -> tuple[Answer, ...]:
        """Those whose truth is known."""
        return tuple(answer for answer in self.answers if answer.truth in ("better", "worse"))

    @property
    def untold(self) -> int:
        """Questions that later runs cannot tell, though there are some."""
        return sum(answer.truth == "cannot tell" for answer in self.answers)

    @property
    def without_runs(self) -> int:
        """Questions for which the record has no later run of the code."""
        return sum(answer.truth is None for answer in self.answers)

    @property
    def viewer(self) -> Tally:
        return _tally((answer.call, answer.truth) for answer in self.known)

    @property
    def rule(self) -> Tally:
        return _tally((answer.question.verdict, answer.truth) for answer in self.known)


def _tally(pairs: Iterable[tuple[Call, Truth | None]]) -> Tally:
    counted = {"right": 0, "wrong": 0, "once_more": 0}
    for call, truth in pairs:
        right = (call == "keep") == (truth == "better")
        counted["once_more" if call == "confirm" else "right" if right else "wrong"] += 1
    return Tally(**counted)


def outcome(events: Sequence[Event], calls: Mapping[int, Call]) -> Outcome:
    """`calls` maps the index of a question to the viewer's call."""
    asked, final = questions(events), replay(events)
    answers = tuple(_answer(question, calls[question.index], final) for question in asked if question.index in calls)
    return Outcome(answers, len(asked))


def _answer(question: Question, call: Call, final: StudyState) -> Answer:
    experiment, parent = final.experiments[question.experiment], final.experiments[question.parent]
    experiment, parent = experiment.on(experiment.machine), parent.on(experiment.machine)
    later = [run for run in experiment.runs if run.index > question.run and run.val_bpb is not None]
    if not later:
        return Answer(question, call, None)
    found = _difference(later, parent, question, final)
    if found is None:
        return Answer(question, call, "cannot tell")
    difference, error = found
    reach = error * quantile(CHANCE, max(1, final.noise.degrees_of_freedom))
    truth: Truth = "better" if difference + reach < 0 else "worse" if difference - reach > 0 else "cannot tell"
    return Answer(question, call, truth, difference, error)


def _difference(
    later: Sequence[Run], parent: Experiment, question: Question, final: StudyState
) -> tuple[float, float] | None:
    """Of the later runs to the incumbent's, and its error; None where nothing can be compared."""
    noise = final.noise
    against = level(later, fair_runs(parent), noise.like_speed, noise.worth)
    error = against.standard_error(noise.sigma, noise.worth_error) if against else None
    if against is None or error is None or noise.sigma is None:
        return None
    scores = scores_of(later)
    return mean(scores) - against.bpb, math.hypot(noise.sigma / math.sqrt(len(scores)), error)


def fair_runs(experiment: Experiment) -> tuple[Run, ...]:
    """Runs of a kept experiment that it was not chosen by; all of them where there are no others.

    The baseline was chosen by nothing. Of a kept change the first run was low, or it would not have been kept.
    """
    if experiment.number == 0:
        return experiment.runs
    fair = tuple(run for run in experiment.runs if run.index > 0 and run.val_bpb is not None)
    return fair or experiment.runs
