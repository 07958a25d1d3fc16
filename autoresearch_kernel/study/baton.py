"""The baton: the one lock of a session that works on several slots, and a backend that gives it up while it works.

Whoever holds the baton may read and write the study's record, and gives it up only inside the calls that take time:
training, scoring, audits, waiting. So no two threads are in the steps of a session at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import fields, replace
from typing import Any, TypeVar

from ..run.backend import Backend
from ..run.training import Listener, Training
from ..scoring.job import ScoringJob
from ..system.slot import Seat, taking

CALLBACKS = ("on_progress", "on_tick", "on_spawn")  # of a ScoringJob

T = TypeVar("T")


class Baton:
    """A lock that its holder gives up while it waits for something that takes time."""

    def __init__(self) -> None:
        self._lock: Any = threading.RLock()  # of which each thread knows whether it holds it

    @contextmanager
    def held(self) -> Iterator[None]:
        self._take()
        try:
            yield
        finally:
            self._lock.release()

    @contextmanager
    def free(self) -> Iterator[None]:
        """Within this block others may hold it."""
        self._lock.release()
        try:
            yield
        finally:
            self._take()

    def _take(self) -> None:
        """Wait until this thread holds it. A signal may raise Ctrl-C meanwhile, which is raised afterwards."""
        interruption: BaseException | None = None
        while not self._lock._is_owned():
            try:
                self._lock.acquire()
            except KeyboardInterrupt as error:
                interruption = error
        if interruption is not None:
            raise interruption

    def guard(self, callback: Callable[..., T] | None) -> Callable[..., T] | None:
        """A callback that takes the baton, for a call that was made without it."""
        if callback is None:
            return None

        def guarded(*args: Any) -> T:
            with self.held():
                return callback(*args)

        return guarded


def sharing(backend: Backend, baton: Baton, seat: Seat | None = None) -> Backend:
    """The backend with the baton given up in each call that takes time; on a slot where `seat` names one."""

    @contextmanager
    def away() -> Iterator[None]:
        with baton.free(), ExitStack() as stack:
            if seat is not None:
                stack.enter_context(taking(seat))
            yield

    def train(training: Training, listener: Listener) -> Any:
        callbacks = {f.name: baton.guard(getattr(listener, f.name)) for f in fields(Listener)}
        with away():
            return backend.train(training, Listener(**callbacks))

    def job_on_slot(job: ScoringJob) -> ScoringJob:
        guarded: dict[str, Any] = {name: baton.guard(getattr(job, name)) for name in CALLBACKS}
        return replace(job, **guarded)

    def score(job: ScoringJob, **others: Any) -> Any:
        with away():
            return backend.score(job_on_slot(job), **others)

    def audit(job: ScoringJob, **others: Any) -> Any:
        with away():
            return backend.audit(job_on_slot(job), **others)

    def sleep(seconds: float) -> None:
        with baton.free():
            backend.clock.sleep(seconds)

    def load() -> Any:
        with baton.free():
            return backend.load()

    def worker(is_next: bool) -> Mapping[str, Any]:
        assert backend.worker is not None
        with nullcontext() if seat is None else taking(seat):
            return backend.worker(is_next)

    own: dict[str, Any] = {} if backend.worker is None else {"worker": worker}
    clock = replace(backend.clock, sleep=sleep)
    return replace(backend, train=train, score=score, audit=audit, clock=clock, load=load, duel=None, **own)
