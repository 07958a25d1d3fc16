"""The checks of a backend: this machine passes them, and each finds a backend that does wrong."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autoresearch_kernel.core.types import Evaluation, RunOutcome, Status
from autoresearch_kernel.run import conformance
from autoresearch_kernel.run.backend import LOCAL, Backend
from autoresearch_kernel.run.conformance import Bench, Finding, check_backend
from autoresearch_kernel.run.outcome import EndRun
from autoresearch_kernel.run.training import Listener, Training
from autoresearch_kernel.scoring.job import ScoringSettings
from autoresearch_kernel.scoring.scorer_process import ScoringFailed
from autoresearch_kernel.system.slot import Slot, TooManySlots, present_seat, usable_cpus
from tests.pretended import ACCEPTED, Machine

SETTINGS = ScoringSettings("cpu", "float32", 32, 1)


def findings(backend: Backend, project: Path, corpus: Path, *checks: Callable[[Bench], None]) -> list[Finding]:
    heldout = corpus.parents[1] / "heldout" / corpus.name
    return [*check_backend(backend, project, corpus, heldout, SETTINGS, checks or conformance.CHECKS)]


def test_this_machine_does_what_a_study_needs(project: Path, small_corpus: Path) -> None:
    found = findings(LOCAL, project, small_corpus)
    assert [finding for finding in found if finding.problem] == []
    assert len(found) == len(conformance.CHECKS) > 9 and all(finding.seconds >= 0 for finding in found)
    assert not list((project / "studies").iterdir()), "nothing is left"


@pytest.mark.skipif(len(usable_cpus()) == 1, reason="this machine has one processor, and no slots")
def test_two_slots_of_this_machine_train_at_the_same_time(project: Path, small_corpus: Path) -> None:
    trained: dict[str, tuple[float, float]] = {}

    def train(training: Training, listener: Listener) -> RunOutcome:
        seat, began = present_seat(), time.monotonic()
        outcome = LOCAL.train(training, listener)
        if seat is not None:
            trained[seat.slot.name] = began, time.monotonic()
        return outcome

    (found,) = findings(replace(LOCAL, train=train), project, small_corpus, conformance.trains_on_each_slot)
    assert found.problem == "" and {*trained} == {slot.name for slot in LOCAL.divide(2)}
    (began, ended), (other_began, other_ended) = trained.values()
    assert began < other_ended and other_began < ended


def test_a_backend_that_cannot_be_divided_has_one_slot(project: Path, small_corpus: Path) -> None:
    asked: list[int] = []

    def divide(num_slots: int) -> tuple[Slot, ...]:
        asked.append(num_slots)
        if num_slots > 1:
            raise TooManySlots("It has one GPU.")
        return (Slot(0, "GPU 0"),)

    hold = Machine.hold
    (found,) = findings(replace(GOOD, divide=divide, hold=hold), project, small_corpus, conformance.trains_on_each_slot)
    assert found.problem == "" and asked == [2, 1]


# --- backends that do wrong: each pretends, but for one thing, to be one that does right


def pretended(training: Training, listener: Listener) -> RunOutcome:
    """A training as a good backend does it, without training."""
    paths = training.paths
    if training.source == "def (":
        return RunOutcome(Status.INVALID, "line 1: invalid syntax", None, None)
    paths.handover(0).mkdir(parents=True)
    paths.notebook(0).write_text('{"cells": [{"execution_count": 1}]}')
    if "planted" in training.source:
        return RunOutcome(Status.CRASH, "ValueError: planted", None, paths.notebook(0))
    if "sleep(3600)" in training.source:
        return RunOutcome(Status.TIMEOUT, "14 s", None, paths.notebook(0))
    try:
        for step in range(3):
            assert listener.on_metrics is not None
            listener.on_metrics({"step": step})
            if listener.on_tick is not None:
                listener.on_tick(float(step))
    except EndRun as end:
        return RunOutcome(end.status, end.reason, None, paths.notebook(0))
    paths.metrics(0).write_text("".join(f'{{"step": {step}}}\n' for step in range(3)))
    paths.artefact(0).write_bytes(b"a model")
    facts = {"num_steps": conformance.NUM_STEPS, "train_loss": 5.0}
    return RunOutcome(None, "", paths.artefact(0), paths.notebook(0), facts)


def score(job: Any, nll_path: Path) -> Evaluation:
    if job.artefact.read_bytes() == b"no model":
        raise ScoringFailed("it cannot be loaded")
    nll = np.full(job.heldout.rows[:, 1:].shape, 5.0, dtype=np.float32)
    np.save(nll_path, nll)
    val_bpb, error = conformance.bits_per_byte(nll, job.heldout.num_bytes)
    return Evaluation(val_bpb, error, nll.size, nll.size, 0.1, nll_path)


def audit(job: Any, nll: np.ndarray, *, cuts_path: Path | None = None, **facts: Any) -> Any:
    if cuts_path is not None:
        np.save(cuts_path, np.zeros(1))
    return ACCEPTED if nll.max() > 4.0 else replace(ACCEPTED, accepted=False, reason="it says something else")


GOOD = replace(LOCAL, train=pretended, score=score, audit=audit)


def without_status(training: Training, listener: Listener) -> RunOutcome:
    """Takes any end for a success."""
    return replace(pretended(training, listener), status=None)


def elsewhere(training: Training, listener: Listener) -> RunOutcome:
    outcome = pretended(training, listener)
    return outcome if outcome.artefact is None else replace(outcome, artefact=outcome.artefact.with_name("other.pkl"))


def forgets_a_point(training: Training, listener: Listener) -> RunOutcome:
    told = listener.on_metrics or (lambda point: None)
    return pretended(training, replace(listener, on_metrics=lambda point: told(point) if point["step"] else None))


def swallows(training: Training, listener: Listener) -> RunOutcome:
    def told(point: dict[str, Any]) -> None:
        try:
            assert listener.on_metrics is not None
            listener.on_metrics(point)
        except BaseException as error:
            errors.append(error)

    errors: list[BaseException] = []
    return pretended(training, replace(listener, on_metrics=told))


losses = iter(range(5, 100))


def never_the_same(training: Training, listener: Listener) -> RunOutcome:
    return replace(pretended(training, listener), measured={"train_loss": float(next(losses))})


def takes_anything(job: Any, nll_path: Path) -> Evaluation:
    return score(replace(job, artefact=Path(__file__)), nll_path)


def says_less(job: Any, nll_path: Path) -> Evaluation:
    return replace(score(job, nll_path), val_bpb=1.0)


def believes_all(job: Any, nll: Any, *, cuts_path: Path | None = None, **facts: Any) -> Any:
    return audit(job, np.full_like(nll, 5.0), cuts_path=cuts_path)


def two_of_one_name(number: int) -> Any:
    (slot,) = LOCAL.divide(1)
    return slot, slot


WRONG: dict[str, tuple[dict[str, Any], Callable[[Bench], None], str]] = {
    "a crash that is told as a success": ({"train": without_status}, conformance.tells_a_crash, "ended with a model"),
    "a timeout that is": ({"train": without_status}, conformance.ends_what_hangs, "ended with a model"),
    "no program that is": ({"train": without_status}, conformance.refuses_what_is_no_program, "ended with a model"),
    "an end that is": ({"train": without_status}, conformance.obeys_its_listener, "ended with a model"),
    "a model elsewhere": ({"train": elsewhere}, conformance.trains, "its model is not in its folder"),
    "a point that is lost": ({"train": forgets_a_point}, conformance.trains, "not told once each"),
    "an end that is swallowed": ({"train": swallows}, conformance.obeys_its_listener, "ended with a model"),
    "an exception that is": ({"train": swallows}, conformance.passes_exceptions_on, "it was swallowed"),
    "losses that differ": ({"train": never_the_same}, conformance.repeats, "the last losses were"),
    "a score of no model": ({"score": takes_anything}, conformance.refuses_a_model_that_cannot_answer, "its score is"),
    "a score that is not its nats": ({"score": says_less}, conformance.scores, "it is 1.000000, and the nats say"),
    "an audit that believes all": (
        {"audit": believes_all},
        conformance.audits,
        "a claim of half the nats was accepted",
    ),
    "slots of one name": ({"divide": two_of_one_name}, conformance.trains_on_each_slot, "two slots have one name"),
    "one that breaks": ({"train": lambda *_: 1 / 0}, conformance.trains, "it raised ZeroDivisionError"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_a_backend_does_wrong_is_found(what: str, project: Path, small_corpus: Path) -> None:
    parts, check, words = WRONG[what]
    (found,) = findings(replace(GOOD, **parts), project, small_corpus, check)
    assert words in found.problem and found.check == check.__name__.replace("_", " ")
    (good,) = findings(GOOD, project, small_corpus, check)
    assert good.problem == ""
