"""The machine as a training sees it: an environment without secrets, nobody else training on it, and its sleep."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

from ..core.types import MachineHolder
from .files import utc_now
from .locations import cache_dir

TRIES_FOR_A_NAME = 5  # a holder writes who it is just after it has locked
LONGEST_NAP_SECONDS = 1.0  # a training during which the machine slept longer says nothing about the code


# --- the training lock


@contextmanager
def training_lock(
    on_wait: Callable[[MachineHolder], None] | None = None,
    on_tick: Callable[[float], None] | None = None,
    study: str = "",
) -> Iterator[int | None]:
    """Hold the training lock of this machine's device (of those who share a cache folder); yields its descriptor.

    The runner inherits it: should the supervisor vanish, the lock is free only when the training has ended as well.
    While another training holds the lock, `on_wait` hears who does, again when that changes, and `on_tick` gets 0.0
    again and again. The lock file names `study` and this process to whoever waits.
    """
    try:
        import fcntl
    except ImportError:  # Windows has none: there, two trainings may share a machine
        yield None
        return
    path = cache_dir() / "locks" / f"training-{_device_name()}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", encoding="utf-8") as file:
        told: MachineHolder | None = None
        tries = 0
        while True:
            if on_tick is not None:
                on_tick(0.0)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                holder, tries = _holder(file), tries + 1
                if on_wait is not None and holder != told and (holder.pid is not None or tries > TRIES_FOR_A_NAME):
                    on_wait(holder)
                    told = holder
                time.sleep(0.1)
        _write(file, json.dumps(asdict(MachineHolder(study, os.getpid(), utc_now()))))
        try:
            yield file.fileno()
        finally:
            _write(file, "")


def _write(file: TextIO, words: str) -> None:
    """Replace what the lock file says. Only people read it, so a full disk does not keep a training from beginning."""
    with suppress(OSError):
        file.seek(0)
        file.truncate()
        file.write(words)
        file.flush()


def _holder(file: TextIO) -> MachineHolder:
    """Who holds the lock, as its file says; all unknown where a holder did not write it."""
    try:
        file.seek(0)
        facts = json.loads(file.read())
        return MachineHolder(str(facts["study"]), int(facts["pid"]), str(facts["since"]))
    except (OSError, ValueError, KeyError, TypeError):
        return MachineHolder()


def _device_name() -> str:
    """What a training has to itself: the processor, or one GPU, by default the first that it may see."""
    device = os.environ.get("AUTORESEARCH_DEVICE") or ("gpu" if has_gpu() else "cpu")
    kind, _, index = device.partition(":")
    if kind == "cpu":
        return "cpu"
    seen = (os.environ.get("CUDA_VISIBLE_DEVICES") or os.environ.get("HIP_VISIBLE_DEVICES") or "").split(",")
    which = int(index) if index.isdecimal() else 0
    number = seen[which] if which < len(seen) and seen[which] else str(which)
    return "gpu-" + re.sub(r"[^A-Za-z0-9]+", "-", number.strip())


def has_gpu() -> bool:
    """Whether a training could find a GPU: asked of the system, as importing torch takes seconds."""
    hidden = (os.environ.get(name, "0").strip() for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"))
    if any(value in ("", "-1") for value in hidden):
        return False
    drivers = ("nvidia[0-9]*", "kfd", "dxg")  # CUDA, ROCm, both under WSL2
    return sys.platform == "darwin" or any(True for name in drivers for _ in Path("/dev").glob(name))
