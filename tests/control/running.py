"""A study that runs in a thread, with training pretended, for the tests of clients that propose from outside."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from autoresearch_kernel.agents.replay import HumanAgent
from autoresearch_kernel.core.agent import Agent
from autoresearch_kernel.core.state import Event
from autoresearch_kernel.core.types import Evaluation, RunOutcome, Status
from autoresearch_kernel.record.commands import send
from autoresearch_kernel.record.history import read_events
from autoresearch_kernel.record.study import Study
from autoresearch_kernel.run.training import Listener, Training
from autoresearch_kernel.scoring.job import ScoringJob
from autoresearch_kernel.study.loop import research
from autoresearch_kernel.system.files import lock_holder
from tests.conftest import COUNTING_TRAIN
from tests.pretended import Machine

END_SECONDS = 120.0  # for a study that is asked to end: the machine may be busy
TYPING_ERROR = "raise RuntimeError('a typing error')"
WHOLE = 'batches = make_dataloader(tokenizer, 16, MAX_SEQ_LEN, "train", seed=SEED)'


@contextmanager
def running(study: Study, machine: Machine, agent: Agent | None = None, **options: Any) -> Iterator[threading.Thread]:
    """Within this block the study runs; at its end it is stopped, if it has not ended. What it raises is raised."""
    failures: list[BaseException] = []

    def work() -> None:
        try:
            list(research(study, agent or HumanAgent(), backend=machine.backend, **options))
        except BaseException as error:  # raised below
            failures.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    until(lambda: lock_holder(study.paths.lock) is not None or not thread.is_alive())
    try:
        yield thread
    finally:
        if thread.is_alive():
            send(study.paths.commands, "stop now")
        thread.join(END_SECONDS)
    assert not thread.is_alive(), "the study did not end"
    assert failures == []


def prepare(machine: Machine) -> Machine:
    """ALPHA alone counts, later experiments are worse, and a dry run finds a typing error."""

    def dry_run(training: Training, listener: Listener) -> RunOutcome:
        crash = RunOutcome(Status.CRASH, "RuntimeError: a typing error", None, None)
        return crash if "a typing error" in training.source else machine.pretend_dry_run(training, listener)

    def score(job: ScoringJob) -> Evaluation:
        number, source = int(job.artefact.parents[1].name), (job.artefact.parents[1] / "train.py").read_text()
        smoothing = float(source.split("ALPHA = ")[1].split()[0])
        noise = 3e-4 * int(job.artefact.parent.name.removeprefix("handover").removeprefix("-") or 0)
        return Evaluation(1.5 + smoothing / 5 + 0.02 * (number > 1) + noise, 0.001, 1000, 3000, 0.1)

    machine.dry_run, machine.score = dry_run, score
    return machine


def alpha(value: float, source: str = COUNTING_TRAIN) -> str:
    before = source.split("ALPHA = ")[1].split()[0]
    return source.replace(f"ALPHA = {before} ", f"ALPHA = {value} ")


def line(code: str, source: str = COUNTING_TRAIN) -> str:
    return source.replace(WHOLE, f"{code}\n{WHOLE}")


def events_of(study: Study, kind: str) -> list[Event]:
    return [event for event in read_events(study.paths.history) if event["event"] == kind]


def until(condition: Callable[[], Any], seconds: float = END_SECONDS) -> Any:
    """What `condition` gives as soon as it is true."""
    waited = threading.Event()
    for _ in range(int(seconds / 0.02)):
        if found := condition():
            return found
        waited.wait(0.02)
    raise AssertionError(f"it did not happen within {seconds:g} s")
