"""How fast this machine was during a training, measured from outside and without believing the training.

Once a second the supervisor multiplies three shares; the speed of the machine is the median of these products.

- The processors that other processes left over. Their processor time is added up process by process, without the
  supervisor, the training and the system's own threads. Processor time that a vanished process took along is not
  attributed to any, so a training cannot make its own work look like that of others.
- The time that the host of a virtual machine did not withhold, of the time in which processors were wanted; less where
  other processors were idle meanwhile (`waiting_for_withheld`).
- The speed of one processor: matrix products per second of *processor* time, in GFLOP/s. Waiting for a processor does
  not count, as a training with many threads could cause that.

So the speed is that of one processor in GFLOP/s, as far as a training could have it. Only ratios between runs count.
docs/trust.md has the measurements, and what a training can still influence. There is no value on other systems than
Linux, for a training on a GPU, and where the processes of others are hidden.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .machine import trains_on_gpu
from .slot import present_seat

EVERY_SECONDS = 1.0  # between two measurements
MOST_SHARE = 0.005  # of one processor's time that measuring may take: where it costs more, it is done less often
SHORTEST_SECONDS = 0.3  # of a measurement that counts; the system counts processor time in steps of 0.01 s
LEAST_SPEED = 0.01  # GFLOP/s
MATRIX_SIZE, PRODUCTS, SLICES = 48, 40, 5  # small: in one thread and in the nearest cache, whatever others do to memory
KERNEL_THREADS = 2, b"kthreadd"  # pid and name of their parent; they work for others, the training among them


class MachineSpeed:
    """Measures while trainings run below the processes `runners`, two in a duel: call `measure` several times a second.

    Without a runner at first: add it to `runners` as soon as it has been started.
    """

    def __init__(self, *runners: int) -> None:
        seat = present_seat()
        self.runners = set(runners)
        self.ours = set() if seat is None else {os.getpid()}  # with what this process started for other slots
        self.values: list[float] = []
        self.next_at = 0.0
        self.last: Used | None = None
        self.cores = usable_cores() if seat is None or seat.num_cores is None else seat.num_cores
        self.can_measure = can_measure()
        self.measure()

    def measure(self) -> None:
        """Add the value of the time since the last measurement; does nothing before the next one is due."""
        now = time.monotonic()
        if not self.can_measure or now < self.next_at:
            return
        began = time.thread_time()
        used = used_time(self.runners, self.ours)
        if self.last is not None and used.at - self.last.at >= SHORTEST_SECONDS:
            value = available_share(self.last, used, self.cores) * processor_speed()
            self.values.append(max(LEAST_SPEED, value))
        self.last = used
        self.next_at = now + max(EVERY_SECONDS, (time.thread_time() - began) / MOST_SHARE)

    def median(self) -> float | None:
        """Speed of the machine since the start, in GFLOP/s of one processor; None where it is not known."""
        self.next_at = 0.0  # also what was left of the last second
        self.measure()
        return round(statistics.median(self.values), 4) if self.values else None


def can_measure() -> bool:
    """Whether trainings use the processors, and this system shows who else does; `hidepid` hides others' processes."""
    return sys.platform == "linux" and os.access("/proc/1/stat", os.R_OK) and not trains_on_gpu()


# --- what others use


@dataclass(frozen=True)
class Used:
    """Processor time until a moment, in seconds over all processors."""

    at: float  # monotonic
    others: float  # by all processes that are not ours
    wanted: float  # by everybody, with what the host withheld
    withheld: float
    whole: float = 0.0  # of all processors in any state
    own: float = 0.0  # by the runners and their descendants
    idle: float = 0.0  # of the processors that this process may use
    below: tuple[int, ...] = ()  # the runners' descendants


def available_share(before: Used, after: Used, cores: float) -> float:
    """Share of the processors' time, 0..1, that was left for our own processes between two moments."""
    others = max(0.0, after.others - before.others) / (cores * (after.at - before.at))
    return max(0.0, 1 - others) * _given(before, after) * waiting_for_withheld(before, after)


def waiting_for_withheld(before: Used, after: Used) -> float:
    """Speed of a training, 0..1, relative to that of one whose threads never wait for each other.

    At the end of an operation a training waits for its slowest thread. So where the host withholds one processor, the
    others become idle, and a smaller share is given of the time in which processors are wanted than of all time. The
    quotient of these shares is 1 where the host withholds nothing, and where no processor is idle.
    """
    whole = after.whole - before.whole
    withheld = after.withheld - before.withheld
    return _given(before, after) / (1 - withheld / whole) if withheld < whole else 1.0


def _given(before: Used, after: Used) -> float:
    """Share of the time in which processors were wanted that the host did not withhold."""
    wanted = after.wanted - before.wanted
    return max(0.0, 1 - (after.withheld - before.withheld) / wanted) if wanted > 0 else 1.0


def used_time(runners: Set[int], also_ours: Set[int] = frozenset()) -> Used:
    """The times at this moment. This process and the system's threads are not others.

    Nor are `runners`, `also_ours` and their descendants.
    """
    ticks = os.sysconf("SC_CLK_TCK")
    parents, seconds, ours = {}, {}, set(runners) | also_ours
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            with suppress(OSError):  # it has ended
                with open(f"/proc/{entry}/stat", "rb") as file:
                    name, _, rest = file.read().partition(b"(")[2].rpartition(b")")
                fields = rest.split()
                parents[int(entry)] = int(fields[1])
                seconds[int(entry)] = sum(map(int, fields[11:15])) / ticks  # with its children that have ended
                if (int(entry), name) == KERNEL_THREADS:  # in a container this number belongs to an ordinary process
                    ours.add(int(entry))
    seconds.pop(os.getpid(), None)
    others = sum(used for pid, used in seconds.items() if not _is_below(pid, ours, parents))
    below = tuple(pid for pid in seconds if pid not in runners and _is_below(pid, set(runners), parents))
    own = sum(seconds[pid] for pid in (*runners, *below) if pid in seconds)
    cpu, idle = _processor_times(ticks)
    return Used(time.monotonic(), others, sum(cpu) - cpu[3] - cpu[4], cpu[7], sum(cpu), own, idle, below)


def _processor_times(ticks: int) -> tuple[list[float], float]:
    """Seconds of all processors in each state, and the idle seconds of those that this process may use."""
    usable = os.sched_getaffinity(0)
    with open("/proc/stat", "rb") as file:
        # user, nice, system, idle, iowait, irq, softirq, steal
        cpu = [int(word) / ticks for word in file.readline().split()[1:9]]
        lines = [line.split() for line in file if line.startswith(b"cpu")]
    return cpu, sum((int(words[4]) + int(words[5])) / ticks for words in lines if int(words[0][3:]) in usable)


def _is_below(pid: int, roots: set[int], parents: dict[int, int]) -> bool:
    """Whether a process or one of its ancestors is among `roots`."""
    for _ in range(len(parents) + 1):  # pids that were used again meanwhile could form a circle
        if pid in roots:
            return True
        if pid not in parents:
            return False
        pid = parents[pid]
    return False


def usable_cores() -> float:
    """Processors that this process may use at once, by its affinity and by the quota of its container."""
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    with suppress(OSError, ValueError):  # no cgroups of version 2, or "max" for no quota
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        cores = min(cores, int(quota) / int(period))
    return cores


# --- the speed of one processor


def processor_speed() -> float:
    """GFLOP/s of small matrix products, per second of processor time."""
    import numpy as np

    x = np.full((MATRIX_SIZE, MATRIX_SIZE), 0.5, dtype=np.float32)
    out = np.empty_like(x)

    def multiply() -> None:
        for _ in range(PRODUCTS):
            np.matmul(x, x, out=out)

    return PRODUCTS * 2 * MATRIX_SIZE**3 / 1e9 / seconds_of(multiply)


def seconds_of(action: Callable[[], object]) -> float:
    """Median of the processor time that an action takes SLICES times, after it has run once to fill the caches."""

    def slice_seconds() -> float:
        began = time.thread_time()
        action()
        return time.thread_time() - began

    slice_seconds()
    return statistics.median(slice_seconds() for _ in range(SLICES))
