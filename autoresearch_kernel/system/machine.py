"""The lock that gives one training at a time this machine's device, and whether the machine has a GPU."""

from __future__ import annotations

import fcntl
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

from ..core.types import MachineHolder
from .files import boot_id, flock, utc_now
from .locations import cache_dir
from .slot import Slot, TooManySlots, divide, present_seat

TRIES_FOR_A_NAME = 5  # a holder writes its name just after it has taken the lock
LONGEST_NAP_SECONDS = 1.0  # when the machine sleeps longer during a training, its score says nothing about the code


@contextmanager
def training_lock(
    on_wait: Callable[[MachineHolder], None] | None = None,
    on_tick: Callable[[float], None] | None = None,
    study: str = "",
    device: str = "",
) -> Iterator[int]:
    """Hold the training lock of this machine's device, among all users of one cache folder; yields its descriptor.

    The runner inherits the descriptor, so that the lock outlives a supervisor that vanishes, until the training ends.
    While another training holds the lock, `on_wait` is called with its holder, again when that changes, and `on_tick`
    repeatedly with 0.0. The lock file names `study` and this process for processes that wait. A thread that has taken a
    slot of the machine gets the lock of the one who divided it.
    """
    seat = present_seat()
    if seat is not None and seat.lock is not None:
        yield seat.lock
        return
    path = lock_path(device)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", encoding="utf-8") as file:
        _wait_for(file, path.parent, on_wait or (lambda holder: None), on_tick or (lambda seconds: None))
        _write(file, json.dumps(asdict(MachineHolder(study, os.getpid(), utc_now()))))
        try:
            yield file.fileno()
        finally:
            _write(file, "")


def lock_path(device: str = "") -> Path:
    """The file of a device's training lock; of the device that a training here takes, where none is named.

    Machines that share a home over a network have a lock each: the name holds the boot, which is the same in all
    containers of a machine. Where a system has no number of its boot, such machines share one lock.
    """
    boot = (boot_id() or "")[:8]
    return cache_dir() / "locks" / f"training-{f'{boot}-' if boot else ''}{device or _device_name()}.lock"


@contextmanager
def hold_slots(
    slots: Sequence[Slot],
    on_wait: Callable[[MachineHolder], None],
    on_tick: Callable[[float], None],
    study: str,
) -> Iterator[tuple[int | None, ...]]:
    """Hold the training locks of all slots, as `training_lock` does; yields the descriptor of each slot's.

    Slots on GPUs have a lock each, and those on processors share one.
    """
    held: dict[str, int] = {}
    with ExitStack() as stack:
        for device in sorted({_device_of(slot) for slot in slots}):  # in one order, so that no two wait for each other
            held[device] = stack.enter_context(training_lock(on_wait, on_tick, study, device))
        yield tuple(held[_device_of(slot)] for slot in slots)


def _device_of(slot: Slot) -> str:
    return next((_gpu_name(value) for value in slot.environment.values()), "cpu")


def _wait_for(
    file: TextIO, folder: Path, on_wait: Callable[[MachineHolder], None], on_tick: Callable[[float], None]
) -> None:
    told: MachineHolder | None = None
    tries = 0
    while True:
        on_tick(0.0)
        try:
            return flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB, folder)
        except BlockingIOError:
            holder, tries = _holder(file), tries + 1
            if holder != told and (holder.pid is not None or tries > TRIES_FOR_A_NAME):
                on_wait(holder)
                told = holder
            time.sleep(0.1)


def _write(file: TextIO, words: str) -> None:
    """Replace the text of the lock file. Only messages need it, so a full disk does not prevent a training."""
    with suppress(OSError):
        file.seek(0)
        file.truncate()
        file.write(words)
        file.flush()


def _holder(file: TextIO) -> MachineHolder:
    """Who holds the lock, as its file says; all fields are unknown when the holder did not write it."""
    try:
        file.seek(0)
        facts = json.loads(file.read())
        return MachineHolder(str(facts["study"]), int(facts["pid"]), str(facts["since"]))
    except (OSError, ValueError, KeyError, TypeError):
        return MachineHolder()


def trains_on_gpu() -> bool:
    """Whether trainings use a GPU, so that the processor says little about their speed."""
    return _device_name() != "cpu"


def _device_name() -> str:
    """The device that a training has to itself: the processor, or one GPU, by default the first visible one."""
    device = os.environ.get("AUTORESEARCH_DEVICE") or ("gpu" if has_gpu() else "cpu")
    kind, _, index = device.partition(":")
    if kind == "cpu":
        return "cpu"
    seen = (os.environ.get("CUDA_VISIBLE_DEVICES") or os.environ.get("HIP_VISIBLE_DEVICES") or "").split(",")
    which = int(index) if index.isdecimal() else 0
    number = seen[which] if which < len(seen) and seen[which] else str(which)
    return _gpu_name(number)


def _gpu_name(number: str) -> str:
    return "gpu-" + re.sub(r"[^A-Za-z0-9]+", "-", number.strip())


def has_gpu() -> bool:
    """Whether a training could find a GPU. This looks for drivers, because importing torch takes seconds."""
    hidden = (os.environ.get(name, "0").strip() for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"))
    if any(value in ("", "-1") for value in hidden):
        return False
    drivers = ("nvidia[0-9]*", "kfd", "dxg")  # CUDA, ROCm, both under WSL2
    return sys.platform == "darwin" or any(True for name in drivers for _ in Path("/dev").glob(name))


def divide_machine(num_slots: int) -> tuple[Slot, ...]:
    """This machine in so many slots: a GPU each where trainings use GPUs, else processors. Raises TooManySlots."""
    if not trains_on_gpu():
        return divide(num_slots, 0)
    try:
        return divide(num_slots, num_gpus())
    except TooManySlots as error:
        raise TooManySlots(f"{error} Where the processor trains, set AUTORESEARCH_DEVICE=cpu.") from error


def num_gpus() -> int:
    """GPUs that a training could find, by their drivers; 1 where the system does not number them."""
    seen = next(
        (os.environ[name] for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES") if name in os.environ), ""
    )
    named = [word for word in seen.split(",") if word.strip()]
    # Torch is built for one of both: beside an NVIDIA card, the graphics of an AMD processor train nothing.
    return len(named) or max(1, len(list(Path("/dev").glob("nvidia[0-9]*"))) or _num_rocm_gpus())


def _num_rocm_gpus(nodes: Path = Path("/sys/class/kfd/kfd/topology/nodes")) -> int:
    """GPUs of AMD's driver, which lists processors, too: their gpu_id is 0."""
    return sum(_gpu_id(path) not in ("", "0") for path in nodes.glob("*/gpu_id"))


def _gpu_id(path: Path) -> str:
    """The number of a node; empty for a GPU that this container was not given."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
