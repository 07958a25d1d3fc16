"""A backend that trains and scores in no time, and a clock that does not wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from autoresearch_kernel.core.types import Audit, Evaluation, RunOutcome
from autoresearch_kernel.record.study import study_versions
from autoresearch_kernel.run.backend import Backend
from autoresearch_kernel.run.outcome import EndRun
from autoresearch_kernel.run.training import Listener, Training
from autoresearch_kernel.scoring.job import ScoringJob
from autoresearch_kernel.system.clock import Clock
from autoresearch_kernel.system.disk import free_bytes
from autoresearch_kernel.system.files import utc_now
from autoresearch_kernel.system.slot import Slot
from autoresearch_kernel.system.speed import Load

SPEED = 1000.0  # tokens a second of this machine on a good day
ACCEPTED = Audit(True, 0.0, 0.0, 256, 0, "", 0.1)


def number_of(folder: Path) -> int:
    """Of the experiment whose files lie there; of an attribution that of the champion."""
    return next(int(name) for name in reversed(folder.parts) if name.isdecimal())


class PretendedClock:
    """Sleeping takes a millisecond and moves the clock on by what was asked for."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self.slept = 0.0  # seconds that the machine slept
        self.utc_now: Callable[[], str] = utc_now

    def sleep(self, seconds: float) -> None:
        self.ahead += seconds
        time.sleep(0.001)

    def seconds(self) -> float:
        return time.monotonic() + self.ahead

    def clock(self) -> Clock:
        return Clock(self.sleep, self.seconds, self.seconds, lambda: self.slept, lambda: self.utc_now())


class Machine:
    """Trains in no time: the score is a function of ALPHA and the seed, the speed is set by the test.

    A test replaces `train`, `score`, `audit`, `score_test`, `audit_test`, `dry_run` or `free_bytes`.
    """

    def __init__(self) -> None:
        self.speed: Callable[[int, int], float] = lambda experiment, run: SPEED  # by experiment and call
        self.machine_speed: Callable[[int, int], float | None] = lambda experiment, run: None  # as a supervisor has it
        self.curve: Callable[[int], list[float]] = lambda experiment: [6 - 3 * i / 100 for i in range(101)]
        self.during: Callable[[int], None] = lambda experiment: None  # called in the middle of each training
        self.trained: list[tuple[int, int]] = []  # experiment and run of each training begun
        self.dry_runs: list[int] = []  # experiments whose proposals were tried for a few steps
        self.tested: list[tuple[int, str]] = []  # experiment and hand-over of each score on test rows
        self.time = PretendedClock()
        self.listener = Listener()  # of the present training
        self.train: Callable[[Training, Listener], RunOutcome] = self.pretend_training
        self.dry_run: Callable[[Training, Listener], RunOutcome] = self.pretend_dry_run
        self.score: Callable[[ScoringJob], Evaluation] = self.pretend_score
        self.score_test: Callable[[ScoringJob], Evaluation] = self.pretend_test_score
        self.audit: Callable[..., Audit] = lambda job, **facts: ACCEPTED
        self.audit_test: Callable[..., Audit] = lambda job, **facts: ACCEPTED
        self.free_bytes: Callable[[Path], int] = free_bytes
        self.load: Callable[[], Load] = lambda: Load((), 2)
        self.duel: Callable[..., Any] | None = None  # `pretend_duel` where the machine can stop a training

    @property
    def backend(self) -> Backend:
        own = self._train, self._score, self._audit, lambda folder: self.free_bytes(folder)
        duel = self._duel if self.duel else None
        return Backend(*own, self.time.clock(), lambda: self.load(), duel, lambda num: self.divide(num), self.hold)

    @staticmethod
    def hold(slots: Sequence[Slot], *wait: Any) -> AbstractContextManager[tuple[None, ...]]:
        return nullcontext((None,) * len(slots))

    @staticmethod
    def divide(num_slots: int) -> tuple[Slot, ...]:
        return tuple(Slot(index, f"slot {index + 1}") for index in range(num_slots))

    # --- what the backend does

    def _train(self, training: Training, listener: Listener) -> RunOutcome:
        return self.train(training, listener) if training.max_steps is None else self.dry_run(training, listener)

    def _duel(self, trainings: Any, listeners: Any) -> Any:
        assert self.duel is not None
        return self.duel(trainings, listeners)

    def _score(self, job: ScoringJob, nll_path: Path | None = None) -> Evaluation:
        """On validation rows, or on test rows, whose nats no study keeps."""
        is_test = nll_path is not None and "experiments" not in nll_path.parts
        if nll_path is None:  # of a dry run
            return Evaluation(1.5, 0.001, 1000, 3000, 0.1)
        evaluation = self.score_test(job) if is_test else self.score(job)
        np.save(nll_path, np.zeros(1, dtype=np.float32))
        return replace(evaluation, nll_path=nll_path)

    def _audit(self, job: ScoringJob, nll: Any, cuts_path: Path | None = None, **facts: Any) -> Audit:
        return self.audit_test(job, **facts) if cuts_path is None else self.audit(job, **facts)

    # --- how it pretends

    def pretend_training(self, training: Training, listener: Listener) -> RunOutcome:
        paths, run = training.paths, training.run
        number = number_of(paths.folder)
        self.listener = listener
        self.trained.append((number, run))
        assert listener.on_tick is not None and listener.on_metrics is not None
        listener.on_tick(0.1)
        paths.handover(run).mkdir(parents=True, exist_ok=True)
        points = []
        call = len([t for t in self.trained if t == (number, run)])
        speed, machine_speed = self.speed(number, call), self.machine_speed(number, call)
        known = {} if machine_speed is None else {"machine_speed": machine_speed}
        for i, loss in enumerate(self.curve(number)):
            points.append({"step": i, "progress": i / 100, "seconds": i / 50, "train_loss": loss})
            points[-1]["num_tokens"] = int(speed * i / 50)
            try:
                listener.on_metrics(points[-1])
                listener.on_tick(i / 50)
            except EndRun as end:
                return RunOutcome(end.status, end.reason, None, None, known)
            if i == 50:
                self.during(number)
        paths.metrics(run).write_text("\n".join(map(str, points)).replace("'", '"') + "\n")
        alpha = training.source.split("ALPHA = ")[1].split()[0]
        paths.artefact(run).write_text(f"{alpha} {training.seed}")
        measured = {"tokens_per_second": speed, "training_seconds": 2.0}
        return RunOutcome(None, "", paths.artefact(run), None, measured | known)

    def pretend_duel(
        self, trainings: tuple[Training, Training], listeners: tuple[Listener, Listener]
    ) -> tuple[RunOutcome, RunOutcome]:
        """One after the other: a pretended training takes no time that could be shared."""
        one, other = (self.train(training, heard) for training, heard in zip(trainings, listeners, strict=True))
        return one, other

    def pretend_dry_run(self, training: Training, listener: Listener) -> RunOutcome:
        self.dry_runs.append(int(training.paths.folder.parent.name))
        return RunOutcome(None, "", training.paths.artefact(0), None)

    def pretend_score(self, job: ScoringJob) -> Evaluation:
        alpha, seed = map(float, job.artefact.read_text().split())
        return Evaluation(1.5 + alpha / 100 + (seed * 7919 % 13 - 6) * 1e-4, 0.001, 1000, 3000, 0.1)

    def pretend_test_score(self, job: ScoringJob) -> Evaluation:
        """Test rows are harder by 0.05, and a fifth of a gain is lost on them."""
        assert job.on_tick is not None
        job.on_tick()
        self.tested.append((int(job.artefact.parents[1].name), job.artefact.parent.name))
        alpha, seed = map(float, job.artefact.read_text().split())
        return Evaluation(1.55 + 0.8 * alpha / 100 + (seed * 7919 % 13 - 6) * 1e-4, 0.001, 1000, 3000, 0.1)


WORKER: dict[str, Any] = {
    "device": "cpu", "device_name": "a test machine", "dtype": "float32", "memory_mb": 8192.0, "flops": 1e11,
    "versions": {"torch": "2.13.0"}, "sandbox": "bubblewrap", "packages": study_versions(),
}  # fmt: skip


def on_a_worker(machine: Machine) -> Callable[..., AbstractContextManager[Backend]]:
    """What takes the place of `cluster_backend`: a cluster whose one worker, alpha, is the machine."""

    def backend(
        address: str, project: Path, *, is_own: Callable[..., bool], **_: Any
    ) -> AbstractContextManager[Backend]:
        slots = (Slot(0, "alpha", facts=WORKER, machine="" if is_own(WORKER) else WORKER["device_name"]),)
        return nullcontext(replace(machine.backend, divide=lambda _: slots, num_slots=1, worker=lambda _: WORKER))

    return backend
