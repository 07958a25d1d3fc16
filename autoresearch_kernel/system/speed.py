"""Whether trainings on this machine run at one speed, and which other processes use its processors."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from ..core.speed_worth import CPU_BUDGET_SECONDS, GPU_BUDGET_SECONDS, usual_worth
from .measuring import MeasuringProcess
from .processes import descendants, processor_seconds, program_of, self_and_ancestors, stolen_seconds

SLICES, SLICE_SECONDS, WARM_UP_SECONDS = 15, 0.2, 0.4
STEADY_SPREAD = 0.04  # of the slices; the speed of a whole run then moves val_bpb by at most 0.002, as two seeds do
OTHERS_SHARE = 0.1  # of all cores: when other processes take more, the machine counts as busy
LEAST_NAMED = 0.05  # of one core
MOST_NAMED = 3  # processes
LOAD_SECONDS = 1.0  # for which the load is measured before a study starts

T = TypeVar("T")


@dataclass(frozen=True)
class Load:
    """How much processor time other processes used during a measurement."""

    others: tuple[tuple[str, int, float], ...]  # name, pid and cores of the other processes, busiest first
    num_cores: int
    stolen: float = 0.0  # cores that a host took from this virtual machine

    @property
    def cores(self) -> float:
        return sum(cores for _, _, cores in self.others) + self.stolen

    @property
    def is_low(self) -> bool:
        return self.cores <= OTHERS_SHARE * self.num_cores

    def words(self) -> str:
        """`python train.py (process 3012) 87 %, cc1 (process 7) 30 %`, of one core each; "" for no load."""
        taken = [f"{name} (process {pid}) {100 * cores:.0f} %" for name, pid, cores in self.others[:MOST_NAMED]]
        taken += [f"the host of this virtual machine {100 * self.stolen:.0f} %"] * (self.stolen > LEAST_NAMED)
        return ", ".join(taken)


@dataclass(frozen=True)
class Steadiness:
    """The speed of this machine in slices of time, and the load meanwhile."""

    flops: tuple[float, ...]  # FLOP/s of each slice
    load: Load
    device: str  # "cpu" or another

    @property
    def spread(self) -> float:
        """Standard deviation over mean."""
        return statistics.stdev(self.flops) / statistics.mean(self.flops)

    @property
    def is_steady(self) -> bool:
        return self.spread <= STEADY_SPREAD and self.load.is_low

    @property
    def worth_bpb(self) -> float:
        """By how much the scores of two runs of `budget_seconds` may differ when their speeds differ by one spread."""
        return usual_worth(self.device, self.budget_seconds) * self.spread

    @property
    def budget_seconds(self) -> float:
        """Of the runs for which it was measured what speed is worth."""
        return CPU_BUDGET_SECONDS if self.device == "cpu" else GPU_BUDGET_SECONDS


def measure_steadiness(process: MeasuringProcess, device: str) -> Steadiness:
    """Measure for three and a half seconds."""
    flops, load = _with_load(lambda: process.product_flops(SLICES, SLICE_SECONDS, WARM_UP_SECONDS))
    return Steadiness(tuple(flops), load, device)


def measure_load(seconds: float = LOAD_SECONDS) -> Load:
    """Which other processes use the processors now."""
    return _with_load(lambda: time.sleep(seconds))[1]


def _with_load(action: Callable[[], T]) -> tuple[T, Load]:
    """The result of `action`, and the load by processes that are neither ancestors nor descendants of this one."""
    before, stolen, started = processor_seconds(), stolen_seconds(), time.monotonic()
    result = action()
    after, seconds = processor_seconds(), time.monotonic() - started
    others = busiest(before, after, seconds, {*self_and_ancestors(), *descendants(os.getpid())})
    named = tuple((program_of(pid, name), pid, cores) for name, pid, cores in others)
    return result, Load(named, os.cpu_count() or 1, (stolen_seconds() - stolen) / seconds)


def busiest(
    before: Mapping[int, tuple[str, float]], after: Mapping[int, tuple[str, float]], seconds: float, ours: set[int]
) -> tuple[tuple[str, int, float], ...]:
    """Name, pid and cores of the processes that used the processors most, without those in `ours`. A pure function."""
    used = [
        (name, pid, (total - before[pid][1] if pid in before else total) / seconds)
        for pid, (name, total) in after.items()
        if pid not in ours
    ]
    return tuple(sorted((u for u in used if u[2] >= LEAST_NAMED), key=lambda u: -u[2]))
