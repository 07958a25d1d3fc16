"""Slots: parts of this machine that train at the same time, each with a GPU or some processors of its own.

A thread takes a slot with `taking`. The processes that it starts from then on run on the slot's processors and see the
slot's GPU, and the thread needs no training lock of its own, since the one who divided the machine holds it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from ..core.errors import Plain

VISIBLE = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")


class TooManySlots(Plain, ValueError):
    """This machine cannot be divided into so many slots; the message says into how many it can."""


@dataclass(frozen=True)
class Slot:
    """One part of a machine.

    Example:
        >>> Slot(0, "cores 0-3", (0, 1, 2, 3)).name
        'cores 0-3'
    """

    index: int
    name: str  # for users
    cpus: tuple[int, ...] = ()  # numbers of the processors that its processes may use; () where they cannot be bound
    environment: Mapping[str, str] = field(default_factory=dict)  # of each process that is started on it
    facts: Mapping[str, Any] = field(default_factory=dict)  # hardware and versions of a slot on another machine
    machine: str = ""  # its kind of machine; "" for the kind that the study began on


@dataclass(frozen=True)
class Seat:
    """A slot in use."""

    slot: Slot
    lock: int | None = None  # descriptor of the training lock of its device, which each runner inherits
    num_cores: float | None = None  # processors of all slots together
    num_slots: int = 1  # that share the machine's memory


_taken: ContextVar[Seat | None] = ContextVar("seat", default=None)


def present_seat() -> Seat | None:
    """The slot that this thread has taken; None where it has the whole machine."""
    return _taken.get()


@contextmanager
def taking(seat: Seat) -> Iterator[None]:
    """Within this block, the processes that this thread starts run on the slot."""
    before = usable_cpus()
    token = _taken.set(seat)
    try:
        if seat.slot.cpus:
            os.sched_setaffinity(0, seat.slot.cpus)  # of this thread
        yield
    finally:
        _taken.reset(token)
        if seat.slot.cpus:
            os.sched_setaffinity(0, before)


def usable_cpus() -> tuple[int, ...]:
    """The processors that this thread may use; () where the system does not bind processes to processors."""
    return tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else ()


def divide(num_slots: int, num_gpus: int, environment: Mapping[str, str] = os.environ) -> tuple[Slot, ...]:
    """This machine in so many slots: with one GPU each where there are GPUs, else with as many processors each.

    Raises TooManySlots where there are fewer GPUs, or fewer processors, than slots.
    """
    if num_gpus:
        return _gpus(num_slots, num_gpus, environment)
    cpus = usable_cpus()
    most = len(cpus) or os.cpu_count() or 1
    if num_slots > most:
        raise TooManySlots(f"--slots {num_slots} is more than this machine's processors. Give at most {most}.")
    if not cpus:
        return tuple(Slot(index, f"slot {index + 1}") for index in range(num_slots))
    each = len(cpus) // num_slots
    parts = [cpus[index * each : (index + 1) * each] for index in range(num_slots)]
    return tuple(Slot(index, _name(part), part) for index, part in enumerate(parts))


def _gpus(num_slots: int, num_gpus: int, environment: Mapping[str, str]) -> tuple[Slot, ...]:
    if num_slots > num_gpus:
        raise TooManySlots(f"--slots {num_slots} is more than this machine's GPUs. Give at most {num_gpus}.")
    variable = next((name for name in VISIBLE if environment.get(name)), VISIBLE[0])
    seen = [word.strip() for word in environment.get(variable, "").split(",") if word.strip()]
    seen = seen or [str(index) for index in range(num_gpus)]
    return tuple(Slot(i, f"GPU {seen[i]}", environment={variable: seen[i]}) for i in range(num_slots))


def _name(cpus: tuple[int, ...]) -> str:
    if len(cpus) == 1:
        return f"core {cpus[0]}"
    is_range = cpus[-1] - cpus[0] == len(cpus) - 1
    return f"cores {cpus[0]}-{cpus[-1]}" if is_range else f"cores {','.join(map(str, cpus))}"
