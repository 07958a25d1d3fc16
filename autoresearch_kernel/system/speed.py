"""Whether this machine trains at one speed: a matrix product again and again, in a process of its own, in slices.

Torch is loaded in that process alone. It tells what it found of the machine, then waits to be told to begin, so that
whatever else is looked at does not disturb the measurement.
"""

from __future__ import annotations

import json
import os
import select
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ..core.decide import BPB_PER_LOG_SPEED
from .environment import SETTINGS
from .processes import descendants, family, processor_seconds, program_of, stolen_seconds

SLICES, SLICE_SECONDS, WARM_UP_SECONDS = 15, 0.2, 0.4
# Spread of the slices. At this one the speed of a whole run cannot move val_bpb by more than 0.002, which is what two
# seeds of a small model differ by.
STEADY_SPREAD = 0.04
OTHERS_SHARE = 0.1  # of all cores, taken by other processes: more, and a night is measured beside them
LEAST_NAMED = 0.05  # of one core
MOST_NAMED = 3  # processes
LOOK_SECONDS = 1.0  # for who else uses the processors, before a study starts
LONGEST_START_SECONDS = 120.0  # a cold disk can take most of a minute to import torch

_CHILD = """
import json, os, sys, time
import torch
from prepare import PrepareError, autocast, autocast_dtype, device_name, get_device

slices, slice_seconds, warm_up_seconds = json.loads(sys.argv[1])
try:
    device = get_device()
    autocast_dtype(device)
except PrepareError as error:
    print(json.dumps({"refused": str(error)}), flush=True)
    sys.exit()
memory = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else 0
print(json.dumps({
    "device": device.type, "device_name": device_name(device),
    "dtype": str(autocast_dtype(device)).removeprefix("torch."), "num_threads": torch.get_num_threads(),
    "instructions": torch.backends.cpu.get_cpu_capability(), "gpu_memory_mb": round(memory / 2**20),
}), flush=True)
if not sys.stdin.readline():
    sys.exit()
size = 384 if device.type == "cpu" else 4096
x, y = torch.randn(size, size, device=device), torch.randn(size, size, device=device)

def products(seconds):
    started, count = time.perf_counter(), 0
    while (now := time.perf_counter()) - started < seconds:
        with autocast(device):
            x @ y
        if device.type != "cpu":
            getattr(torch, device.type).synchronize()
        count += 1
    return count / (now - started)

products(warm_up_seconds)
print(json.dumps([2 * size**3 * products(slice_seconds) for _ in range(slices)]))
"""


@dataclass(frozen=True)
class Load:
    """Who else used the processors for a while."""

    others: tuple[tuple[str, int, float], ...]  # name, pid and cores of the busiest other processes, most first
    num_cores: int
    stolen: float = 0.0  # cores that a host took from this virtual machine

    @property
    def cores(self) -> float:
        return sum(cores for _, _, cores in self.others) + self.stolen

    @property
    def is_low(self) -> bool:
        return self.cores <= OTHERS_SHARE * self.num_cores

    def words(self) -> str:
        """`python train.py (process 3012) 87 %, cc1 (process 7) 30 %`, of one core each; "" where there is none."""
        taken = [f"{name} (process {pid}) {100 * cores:.0f} %" for name, pid, cores in self.others[:MOST_NAMED]]
        taken += [f"the host of this virtual machine {100 * self.stolen:.0f} %"] * (self.stolen > LEAST_NAMED)
        return ", ".join(taken)


def look_around(seconds: float = LOOK_SECONDS) -> Load:
    """Who else uses the processors now: everybody but this process, those above it and those below it."""
    before, stolen, started = processor_seconds(), stolen_seconds(), time.monotonic()
    time.sleep(seconds)
    after, passed = processor_seconds(), time.monotonic() - started
    ours = {*family(), *descendants(os.getpid())}
    return Load(named(busiest(before, after, passed, ours)), os.cpu_count() or 1, (stolen_seconds() - stolen) / passed)


def busy_words(load: Load) -> str:
    """What a busy machine does to a study and what to do about it; "" when the machine is quiet."""
    if load.is_low:
        return ""
    return (
        f"This machine is busy: of {100 * load.num_cores} % processor time, others take: {load.words()}.\n  A training "
        "beside them is slower, so scores are worse and differ more from run to run. "
        "End what is named, or wait until it is done, for scores that compare well; the study starts all the same."
    )


@dataclass(frozen=True)
class Steadiness:
    """What the slices were like, and who else used the processors meanwhile."""

    flops: tuple[float, ...]  # FLOP/s of each slice
    others: tuple[tuple[str, int, float], ...]  # name, pid and cores of the busiest other processes, most first
    num_cores: int
    stolen: float = 0.0  # cores that a host took from this virtual machine

    @property
    def spread(self) -> float:
        """Standard deviation over mean."""
        return statistics.stdev(self.flops) / statistics.mean(self.flops)

    @property
    def load(self) -> Load:
        return Load(self.others, self.num_cores, self.stolen)

    @property
    def is_steady(self) -> bool:
        return self.spread <= STEADY_SPREAD and self.load.is_low

    @property
    def worth_bpb(self) -> float:
        """What a run at a speed one spread away from another's would score differently, at most."""
        return BPB_PER_LOG_SPEED * self.spread


class SettingRefused(RuntimeError):
    """prepare.py does not take a device or number format that was asked for; the message says what to do."""


class Trial:
    """The process that measures: `facts` once torch is loaded, `measure` when all else is quiet."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdin is not None and process.stdout is not None
        self.stdin: IO[str] = process.stdin
        self.stdout: IO[str] = process.stdout

    def facts(self) -> dict[str, Any]:
        """What torch says of the machine. Raises RuntimeError with what it said where it cannot be loaded."""
        found = dict(self._answer())
        if "refused" in found:
            raise SettingRefused(found["refused"])
        return found

    def measure(self) -> Steadiness:
        """Takes three and a half seconds."""
        before, stolen, started = processor_seconds(), stolen_seconds(), time.monotonic()
        self.stdin.write("go\n")
        self.stdin.flush()
        flops = tuple(self._answer())
        seconds = time.monotonic() - started
        others = named(busiest(before, processor_seconds(), seconds, {os.getpid(), self.process.pid}))
        return Steadiness(flops, others, os.cpu_count() or 1, (stolen_seconds() - stolen) / seconds)

    def _answer(self) -> Any:
        if not select.select([self.stdout], [], [], LONGEST_START_SECONDS)[0]:
            raise RuntimeError(f"it said nothing for {LONGEST_START_SECONDS:.0f} s")
        line = self.stdout.readline()
        if not line:
            said = (self.process.stderr.read() if self.process.stderr else "").strip().splitlines()
            raise RuntimeError(said[-1] if said else "it ended without a word")
        return json.loads(line)


@contextmanager
def open_trial(project: Path) -> Iterator[Trial]:
    """Start the process, with the settings that trainings have; it is gone afterwards."""
    words = json.dumps([SLICES, SLICE_SECONDS, WARM_UP_SECONDS])
    with subprocess.Popen(
        [sys.executable, "-c", _CHILD, words], cwd=project, env=SETTINGS | dict(os.environ), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            yield Trial(process)
        finally:
            process.kill()


def busiest(
    before: Mapping[int, tuple[str, float]], after: Mapping[int, tuple[str, float]], seconds: float, ours: set[int]
) -> tuple[tuple[str, int, float], ...]:
    """Name, pid and cores of the processes that used most meanwhile, those in `ours` left out. A pure function."""
    used = [
        (name, pid, (total - before[pid][1] if pid in before else total) / seconds)
        for pid, (name, total) in after.items()
        if pid not in ours
    ]
    return tuple(sorted((u for u in used if u[2] >= LEAST_NAMED), key=lambda u: -u[2]))


def named(others: Iterable[tuple[str, int, float]]) -> tuple[tuple[str, int, float], ...]:
    """The same with the program that a Python runs instead of its name."""
    return tuple((program_of(pid, name), pid, cores) for name, pid, cores in others)
