"""A clock for the budget of a training that counts seconds of this machine's normal speed, kept by the supervisor.

Where other programs use a third of the processors, or a processor does a third less in its time, a second counts as
two thirds. So the same code makes nearly the same number of steps in each run, whatever the machine does meanwhile.
Normal is the speed that the machine had in the first run of a study. Over a whole training a second counts LEAST_RATE
to MOST_RATE: a budget takes 0.7 to 1.5 times as long as it says.

The speed of the machine is the product of two measures, and no code of a training takes part in either:

- The share of the processors that the training used or left idle. Where the host of a virtual machine withholds one of
  them, the others become idle because threads wait for each other, and the share counts less.
- The speed of one processor, per second of processor time: the geometric mean of that of small matrix products in the
  nearest cache, as in `machine_speed.py`, and that of sums over two megabytes. What slows a host down slows these two
  down by different factors, and a training, which does both, by about their geometric mean. The training is paused for
  the few milliseconds that this takes, so that its own use of caches and memory does not show. Pauses do not count.

A training that hides its processes could make its own work look like that of others, and so gain time. What is left of
others' use when only visible processes count, `machine_speed.available_share`, tells how much at most; the rule then
takes the run for one on a faster machine (`Count.speed`).

The training reads the count from a file that it cannot write; `prepare.py` has the reader. On a GPU, and on systems
other than Linux, the budget is counted by the wall clock.
"""

from __future__ import annotations

import bisect
import math
import os
import signal
import statistics
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from . import machine_speed
from .machine_speed import Used
from .processes import descendants

LEAST_RATE, MOST_RATE = 2 / 3, 1 / 0.7  # seconds that a second counts, over a training; prepare.py has them as well
EVERY_SECONDS = 0.5  # between two measurements
MOST_SHARE = 0.01  # of one processor's time that measuring may take: where it costs more, it is done less often
NUM_SUMMED = 2**18  # numbers of four bytes: more than the nearest cache holds
MOST_LOOKS = 5  # for processes that began while others were stopped: a stopped one starts none
MOST_WORK = 0.25  # of a measurement's time: processor time for which stopped processes may go on in it
RECENT_SPEEDS = 9  # whose median stands for the processor's speed: a measurement that was interrupted says too little
LAYOUT = struct.Struct("<6d")  # two copies of: a moment on the monotonic clock, the count, seconds counted in a second


@dataclass(frozen=True)
class Count:
    """What a steady clock says of a span of time."""

    seconds: float  # counted, within the limits; those of the wall clock in the first run
    machine: float  # mean speed of the machine: that of one processor as far as the training had it
    speed: float  # relative to what was counted: 1 is normal; above 1, hidden processes may have had the difference


class SteadyClock:
    """Counts while a training runs below the process `runner`: call `tick` several times a second.

    Args:
        file: where the training reads the count.
        normal: speed of the machine at which a second counts as one; None in the run that measures it.
        used: measures the processor time of the training and of others.
        speed: measures the processor.
    """

    def __init__(
        self,
        runner: int,
        file: Path,
        normal: float | None,
        *,
        used: Callable[[], Used] | None = None,
        speed: Callable[[], float] | None = None,
    ) -> None:
        self.file, self.normal, self.speed = file, normal, speed or speed_as_felt
        self.used = used or partial(machine_speed.used_time, {runner})
        self.newer = partial(descendants, runner) if used is None else list
        self.cores = machine_speed.usable_cores()
        self.next_at = 0.0
        self.last = self.used()
        self.shares = 1.0, 1.0  # that the training had, and that visible processes of others left over
        self.speeds = [self.speed()]
        self.points = [(self.last.at, 0.0, 0.0)]  # moments, and the sums of speed times seconds by these shares
        self._publish()

    @property
    def rates(self) -> tuple[float, float]:
        """Speeds of the machine at present, by both shares."""
        speed = statistics.median(self.speeds)
        return self.shares[0] * speed, self.shares[1] * speed

    def tick(self) -> None:
        """Bring the count up to now; does nothing before the next measurement is due."""
        if time.monotonic() < self.next_at:
            return
        began, used = time.thread_time(), self.used()
        if used.at - self.last.at >= machine_speed.SHORTEST_SECONDS:
            self.shares = _shares(self.last, used, self.cores)
            self.last = used
        self._go_on(used.at, self.rates)
        with _paused(used.below, self.newer) as stopped:
            before, start = _nanoseconds(stopped), time.monotonic()
            speed, now = self.speed(), time.monotonic()
            has_worked = _nanoseconds(stopped) - before > MOST_WORK * 1e9 * (now - start) or set(self.newer()) - stopped
            # Beside a training that goes on, a processor seems slow, and the training would get more time for it.
            self.speeds = [*self.speeds, max(speed, *self.speeds) if has_worked else speed][-RECENT_SPEEDS:]
            self._go_on(time.monotonic(), (0.0, 0.0))
        self.next_at = used.at + max(EVERY_SECONDS, (time.thread_time() - began) / MOST_SHARE)

    def between(self, begin: float, end: float) -> Count:
        """The count between two moments of the monotonic clock."""
        (total, visible), (before, visible_before) = self._at(end), self._at(begin)
        wall, total, visible = end - begin, total - before, visible - visible_before
        if wall <= 0 or total <= 0:
            return Count(max(0.0, wall), 0.0, 1.0)
        if self.normal is None:
            return Count(wall, total / wall, visible / total)
        seconds = min(MOST_RATE * wall, max(LEAST_RATE * wall, total / self.normal))
        return Count(seconds, total / wall, visible / self.normal / seconds)

    def _at(self, moment: float) -> tuple[float, float]:
        """Both sums at a moment; after the last measurement they go on at their rates."""
        i = bisect.bisect(self.points, (moment,))
        if i == 0:
            return self.points[0][1:]
        (at, *sums), rates = self.points[i - 1], self.rates
        if i < len(self.points):
            after, *then = self.points[i]
            one, other = ((b - a) / (after - at) for a, b in zip(sums, then, strict=True))
            rates = one, other
        return sums[0] + rates[0] * (moment - at), sums[1] + rates[1] * (moment - at)

    def _go_on(self, now: float, rates: tuple[float, float]) -> None:
        at, *sums = self.points[-1]
        if now > at:
            self.points.append((now, sums[0] + rates[0] * (now - at), sums[1] + rates[1] * (now - at)))
        self._publish()

    def _publish(self) -> None:
        if self.normal is not None:
            at, total, _ = self.points[-1]
            numbers = at, total / self.normal, self.rates[0] / self.normal
            with open(self.file, "r+b", buffering=0) as file:
                file.write(LAYOUT.pack(*numbers, *numbers))


def speed_as_felt() -> float:
    """The speed of one processor for a training: the geometric mean of GFLOP/s in products and of GB/s in sums."""
    import numpy as np

    numbers, sums = _numbers()
    seconds = machine_speed.seconds_of(lambda: np.add(numbers, 1.0, out=sums))
    return math.sqrt(machine_speed.processor_speed() * (numbers.nbytes + sums.nbytes) / 1e9 / seconds)


@cache
def _numbers() -> tuple[Any, Any]:
    """Numbers to be summed and room for the sums: kept, as new memory is slow at its first use."""
    import numpy as np

    return np.full(NUM_SUMMED, 0.5, dtype=np.float32), np.zeros(NUM_SUMMED, dtype=np.float32)


def _shares(before: Used, after: Used, cores: float) -> tuple[float, float]:
    """Shares of the processors, 0..1: what a training used or left idle, and what visible others left over."""
    had = max(0.0, after.own - before.own) + max(0.0, after.idle - before.idle)
    had = min(1.0, had / (cores * (after.at - before.at))) * machine_speed.waiting_for_withheld(before, after) ** 2
    return had, machine_speed.available_share(before, after, cores)


def _nanoseconds(processes: Iterable[int]) -> int:
    """Processor time of all threads of these processes; 0 of one that has ended."""
    total = 0
    for pid in processes:
        with suppress(OSError):
            for thread in os.listdir(f"/proc/{pid}/task"):
                with suppress(OSError, ValueError), open(f"/proc/{pid}/task/{thread}/schedstat", "rb") as file:
                    total += int(file.read().split()[0])
    return total


@contextmanager
def _paused(processes: Iterable[int], newer: Callable[[], Iterable[int]]) -> Iterator[set[int]]:
    """Stop processes for the length of the block; those that have ended meanwhile are left out. Yields all of them.

    `newer` lists them anew, so that those are stopped, too, which began while the others were.
    """
    stopped = set(processes)
    try:
        _send(signal.SIGSTOP, stopped)
        for _ in range(MOST_LOOKS):
            new = set(newer()) - stopped
            if not new:
                break
            stopped |= new
            _send(signal.SIGSTOP, new)
        yield stopped
    finally:
        _send(signal.SIGCONT, stopped)


def _send(number: int, processes: Iterable[int]) -> None:
    for pid in processes:
        with suppress(OSError):  # it has ended
            os.kill(pid, number)


def is_possible() -> bool:
    """Whether this machine has a steady clock: where its speed can be measured from outside of a training."""
    return machine_speed.can_measure()
