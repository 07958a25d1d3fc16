"""Where experiments run: the functions that train, score and audit, with the disk, clocks and load of that machine.

A session gets a backend as an argument. LOCAL is this machine, a test passes one that trains in no time, and a second
machine is one more backend.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from ..core.types import Audit, Evaluation, RunOutcome
from ..scoring.audit import audit
from ..scoring.score import score
from ..system.clock import SYSTEM_CLOCK, Clock
from ..system.disk import free_bytes
from ..system.machine import divide_machine, hold_slots
from ..system.machine_speed import usable_cores
from ..system.own_time import can_stop
from ..system.slot import Seat, Slot, present_seat, taking
from ..system.speed import Load, measure_load
from .duel import Pair, run_duel
from .training import Listener, Training, run_training

T = TypeVar("T")


@dataclass(frozen=True)
class Joined:
    """What has joined the machines of a backend since that was asked last."""

    slots: tuple[Slot, ...] = ()
    words: str = ""  # of what has joined and is no new slot, and why


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
    divide: Callable[[int], tuple[Slot, ...]] = divide_machine  # into so many slots; raises TooManySlots
    # The devices of all slots, for as long as they train; gives the lock of each slot.
    hold: Callable[..., AbstractContextManager[tuple[int | None, ...]]] = hold_slots
    num_slots: int | None = None  # that it has whatever the study says; None: as many as the study divides it into
    # Called again and again while several slots train, with the kinds of machine whose slots are in use.
    joined: Callable[[Collection[str]], Joined] | None = None
    # Of other machines: facts of the one that this thread's slot has used last, or of the one that it uses next where
    # the argument is True. `sandbox` is the name of its sandbox, `packages` are the versions on which scores depend.
    worker: Callable[[bool], Mapping[str, Any]] | None = None


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


@contextmanager
def on_first_slot(num_slots: int, divide: Callable[[int], tuple[Slot, ...]] = divide_machine) -> Iterator[None]:
    """Within this block, a training or a measurement has the first of so many slots; the whole machine where it is one.

    Nothing changes for a thread that has a slot already. Raises TooManySlots.
    """
    if num_slots == 1 or present_seat() is not None:
        yield
        return
    with taking(Seat(divide(num_slots)[0], num_cores=usable_cores(), num_slots=num_slots)):
        yield


def for_slots(backend: Backend, num_slots: int) -> Backend:
    """The backend for a study of so many slots, in which also a training alone has one slot, so that runs are alike."""
    if num_slots == 1 or backend.num_slots is not None:
        return backend

    def on_slot(function: Callable[..., T]) -> Callable[..., T]:
        def called(*args: Any, **others: Any) -> T:
            with on_first_slot(num_slots, backend.divide):
                return function(*args, **others)

        return called

    own: dict[str, Any] = {name: on_slot(getattr(backend, name)) for name in ("train", "score", "audit")}
    return replace(backend, **own, duel=None)
