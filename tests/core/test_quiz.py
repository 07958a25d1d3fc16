"""The questions of a quiz, and how calls compare with the rule's and with later runs of the same code."""

from __future__ import annotations

from typing import Any

import pytest

from autoresearch_kernel.core import quiz
from autoresearch_kernel.core.state import Event, replay
from tests import recorded_night

ACCEPTED = {
    "accepted": True, "correction_bpb": 0.0, "standard_error": 0.0, "num_cuts": 256, "num_mismatches": 0, "reason": "",
    "seconds": 1.0,
}  # fmt: skip


class Writer:
    """Events in memory."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def add(self, event: str, **fields: Any) -> None:
        time = f"2026-11-23T{len(self.events) // 60:02d}:{len(self.events) % 60:02d}:00.000Z"
        self.events.append({"seq": len(self.events) + 1, "time": time, "event": event, **fields})

    def propose(self, number: int, parent: int | None = 0) -> None:
        self.add("proposed", experiment=number, parent=parent, hypothesis="h", agent="search")

    def run(self, number: int, score: float, run: int = 0, audit: bool | None = None) -> None:
        self.add("started", experiment=number, run=run, seed=100 * number + run)
        self.add("trained", experiment=number, run=run, status=None, measured={"tokens_per_second": 1000.0})
        self.add("scored", experiment=number, run=run, val_bpb=score, standard_error=0.001)
        if audit is not None:
            self.add("audited", experiment=number, run=run, **ACCEPTED | {"accepted": audit})

    def decide(self, number: int, status: str, score: float | None) -> None:
        self.add("decided", experiment=number, status=status, val_bpb=score, incumbent_bpb=1.5 if number else None)

    def baseline(self) -> None:
        self.propose(0, None)
        for run, score in enumerate((1.499, 1.5, 1.501)):
            self.run(0, score, run)
        self.decide(0, "keep", 1.5)


def small_night() -> list[Event]:
    """1 is kept after a confirmation and runs again; 2 is discarded; 3 is refused by its audit; 4 crashes."""
    night = Writer()
    night.baseline()
    night.propose(1)
    night.run(1, 1.48, audit=True)
    night.run(1, 1.49, run=1, audit=True)
    night.decide(1, "keep", 1.485)
    night.propose(2, parent=1)
    night.run(2, 1.6)
    night.decide(2, "discard", 1.6)
    night.propose(3, parent=1)
    night.run(3, 1.2, audit=False)
    night.decide(3, "rejected", None)
    night.propose(4, parent=1)
    night.add("started", experiment=4, run=0, seed=400)
    night.add("trained", experiment=4, run=0, status="crash", measured={})
    night.decide(4, "crash", None)
    night.run(1, 1.488, run=2)
    night.run(1, 1.486, run=3)
    return night.events


def test_a_question_stands_before_each_verdict_and_before_the_audit_that_would_tell_it() -> None:
    events = small_night()
    asked = quiz.questions(events)
    assert [(q.experiment, q.run, q.verdict) for q in asked] == [(1, 0, "confirm"), (1, 1, "keep"), (2, 0, "discard")]
    assert [events[q.index]["event"] for q in asked] == ["scored"] * 3
    assert [events[q.count]["event"] for q in asked[:2]] == ["audited"] * 2
    assert {q.parent for q in asked} == {0, 1}


def test_what_is_shown_at_a_question_is_what_was_known_then() -> None:
    events = small_night()
    first, second, _ = quiz.questions(events)
    shown = quiz.shown(second, replay(events[: second.count]))
    assert shown.scores == (1.48, 1.49) and shown.compared is not None and shown.incumbent_runs == 3
    assert (shown.compared.mine, shown.compared.theirs) == pytest.approx((1.485, 1.5))
    assert shown.compared.error is not None and shown.sigma is not None and shown.sigma > 0
    assert quiz.shown(first, replay(events[: first.count])).scores == (1.48,)


def test_calls_are_compared_with_the_rule_and_with_later_runs() -> None:
    events = small_night()
    first, second, third = (q.index for q in quiz.questions(events))
    found = quiz.outcome(events, {first: "keep", second: "discard", third: "discard"})
    assert (len(found.answers), found.num_questions, found.as_the_rule) == (3, 3, 1)
    assert [answer.truth for answer in found.answers] == ["better", "better", None]
    assert found.viewer == quiz.Tally(right=1, wrong=1, once_more=0)
    assert found.rule == quiz.Tally(right=1, wrong=0, once_more=1)
    assert (found.without_runs, found.untold) == (1, 0)
    after_the_decision = found.answers[1].difference
    assert after_the_decision == pytest.approx((1.488 + 1.486) / 2 - 1.5)
    assert found.answers[1].error is not None and found.answers[1].error > 0


def test_questions_that_were_not_answered_are_left_out() -> None:
    events = small_night()
    assert quiz.outcome(events, {}).answers == () and quiz.outcome(events, {}).num_questions == 3


def test_the_recorded_example_has_a_question_for_each_score_that_was_judged() -> None:
    events, state = recorded_night.EVENTS, recorded_night.STATE
    asked = quiz.questions(events)
    verdicts = {(q.experiment, q.run): q.verdict for q in asked}
    for e in state.decided[1:]:
        if e.status in ("keep", "discard") and e.scores:
            last = e.judged_runs[-1].index
            assert verdicts[e.number, last] == e.status
            assert all(verdicts[e.number, run.index] == "confirm" for run in e.judged_runs[:-1])
    found = quiz.outcome(events, {q.index: q.verdict for q in asked})
    assert found.as_the_rule == len(asked) and found.viewer == found.rule
    assert len(found.known) + found.untold + found.without_runs == len(asked)
