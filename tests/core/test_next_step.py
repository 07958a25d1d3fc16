"""The order of an experiment, as one pure function of the state: each case is a history and what comes next in it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from autoresearch_kernel.core.next_step import Action, Step, next_step
from autoresearch_kernel.core.types import Audit, Status
from tests.record.test_history import Study as Events

FINE = Audit(True, 0.0, 0.0, 256, 0, "", 1.0)


def audit(events: Events, number: int, run: int, accepted: bool = True) -> Events:
    return events.add("audited", experiment=number, run=run, **vars(FINE) | {"accepted": accepted})


def scored(number: int, *scores: float, is_audited: bool = False) -> Events:
    """A baseline of 1.44, 1.45, 1.46 (sigma 0.01), and an experiment with these scores."""
    events = Events().baseline().propose(number)
    for run, val_bpb in enumerate(scores):
        events.train(number, run).score(number, run, val_bpb)
        if is_audited:
            audit(events, number, run)
    return events


def baseline(*scores: float) -> Events:
    events = Events().propose(0, parent=None)
    for run, val_bpb in enumerate(scores):
        events.train(0, run).score(0, run, val_bpb)
    return events


CASES: dict[str, tuple[Callable[[], Events], Step]] = {
    "an empty study gets its baseline": (Events, Step(Action.PROPOSE, 0)),
    "a baseline trains": (lambda: baseline(), Step(Action.TRAIN, 0, 0)),
    "and is scored": (lambda: baseline().train(0, 0), Step(Action.SCORE, 0, 0)),
    "three times": (lambda: baseline(1.44, 1.45), Step(Action.TRAIN, 0, 2)),
    "its last run is audited": (lambda: baseline(1.44, 1.45, 1.46), Step(Action.AUDIT, 0, 2)),
    "an idea follows": (lambda: Events().baseline(), Step(Action.PROPOSE, 1)),
    "a run that was cut off trains again": (
        lambda: Events().baseline().propose(1).add("started", experiment=1, run=0, seed=10),
        Step(Action.TRAIN, 1, 0),
    ),
    "a win is audited first": (lambda: scored(1, 1.30), Step(Action.AUDIT, 1, 0)),
    "a small win is confirmed": (lambda: scored(1, 1.425, is_audited=True), Step(Action.TRAIN, 1, 1)),
    "with two degrees of freedom no win is clear": (lambda: scored(1, 1.30, is_audited=True), Step(Action.TRAIN, 1, 1)),
    "a win that was confirmed is decided": (lambda: scored(1, 1.30, 1.31, is_audited=True), Step(Action.DECIDE, 1, 0)),
    "the confirmation is audited": (
        lambda: scored(1, 1.30, is_audited=True).train(1, 1).score(1, 1, 1.31),
        Step(Action.AUDIT, 1, 1),
    ),
    "a later run of the incumbent is audited": (
        lambda: (
            scored(1, 1.30, 1.31, is_audited=True).decide(1, "keep", 1.305, sigma=0.01).train(1, 2).score(1, 2, 1.32)
        ),
        Step(Action.AUDIT, 1, 2),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_comes_next(case: str) -> None:
    events, step = CASES[case]
    found = next_step(events().state)
    assert (found.action, found.experiment, found.run) == (step.action, step.experiment, step.run)


def test_a_discard_is_decided_without_an_audit_and_says_why() -> None:
    step = next_step(scored(1, 1.60).state)
    assert (step.action, step.status) == (Action.DECIDE, Status.DISCARD) and "1.6000" in step.why


def test_a_score_that_the_audit_refuses_is_decided_as_rejected() -> None:
    state = audit(scored(1, 1.10), 1, 0, accepted=False).state
    assert (next_step(state).action, next_step(state).status) == (Action.DECIDE, Status.REJECTED)


def test_a_crash_is_decided_and_a_run_that_was_interrupted_twice_as_well() -> None:
    crashed = Events().baseline().propose(1).train(1, 0, "crash", "RuntimeError").state
    assert next_step(crashed).status is Status.CRASH
    events = Events().baseline().propose(1)
    for _ in range(2):
        events.add("started", experiment=1, run=0, seed=10).add("interrupted", experiment=1, run=0, reason="gone")
    assert next_step(events.state).status is Status.INTERRUPTED


def test_the_incumbent_runs_again_after_twenty_experiments() -> None:
    events = Events().baseline()
    for number in range(1, 21):
        events.propose(number).train(number, 0).score(number, 0, 1.6).decide(number, "discard", 1.6)
    step = next_step(events.state)
    assert (step.action, step.experiment, step.run) == (Action.TRAIN, 0, 3) and "20 experiments" in step.why
    assert next_step(events.state, is_ending=True) == Step(Action.CONCLUDE, 0)


def test_at_the_end_the_champion_runs_until_it_can_be_compared() -> None:
    events = scored(1, 1.30, 1.31, is_audited=True).decide(1, "keep", 1.305, sigma=0.01)
    step = next_step(events.state, is_ending=True)
    assert (step.action, step.experiment, step.run) == (Action.TRAIN, 1, 2) and "fresh seeds" in step.why
    assert next_step(events.state) == Step(Action.PROPOSE, 2)
    audit(events.train(1, 2).score(1, 2, 1.30), 1, 2)
    assert next_step(events.state, is_ending=True) == Step(Action.CONCLUDE, 1)


def test_a_last_run_of_the_champion_that_fails_does_not_keep_a_study_from_its_end() -> None:
    events = (
        scored(1, 1.30, 1.31, is_audited=True).decide(1, "keep", 1.305, sigma=0.01).train(1, 2, "crash", "no memory")
    )
    assert next_step(events.state, is_ending=True) == Step(Action.CONCLUDE, 1)
