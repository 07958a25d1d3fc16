"""Where experiments run: the functions that train, score and audit, with the disk, clocks and load of that machine.

A session gets a backend as an argument. LOCAL is this machine, a test passes one that trains in no time, and a second
machine is one more backend.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from ..core.types import Audit, Evaluation, RunOutcome
from ..scoring.audit import audit
from ..scoring.score import score
from ..system.clock import SYSTEM_CLOCK, Clock
from ..system.disk import free_bytes
from ..system.own_time import can_stop
from ..system.speed import Load, measure_load
from .duel import Pair, run_duel
from .training import Listener, Training, run_training


@dataclass(frozen=True)
class Backend:
    """The functions that a session runs experiments with; their signatures are those of the functions of LOCAL."""

    train: Callable[[Training, Listener], RunOutcome] = run_training
    score: Callable[..., Evaluation] = score
    audit: Callable[..., Audit] = audit
    free_bytes: Callable[[Path], int] = free_bytes  # of the disk that holds a folder
    clock: Clock = SYSTEM_CLOCK
    load: Callable[[], Load] = measure_load  # which other processes use its processors now
    # Two trainings in turns; None where one cannot be stopped while the other one runs.
    duel: Callable[[Pair[Training], Pair[Listener]], Pair[RunOutcome]] | None = None


LOCAL = Backend(duel=run_duel if can_stop() else None)
_chosen: ContextVar[Backend] = ContextVar("backend", default=LOCAL)


def chosen_backend() -> Backend:
    """The backend of a session that was given none: LOCAL, except within `using_backend`."""
    return _chosen.get()


@contextmanager
def using_backend(backend: Backend) -> Iterator[None]:
    """Within this block, sessions that are given no backend use this one."""
    token = _chosen.set(backend)
    try:
        yield
    finally:
        _chosen.reset(token)
