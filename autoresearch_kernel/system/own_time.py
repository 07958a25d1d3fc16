"""Stops the processes of one training from outside and lets them go on; counts the seconds in which they could run.

The supervisor does this in a duel (`run/duel.py`). A stopped process cannot continue itself for long: the supervisor
stops all processes below the runner again several times a second. Whatever processor time they use while they should
be stopped is measured and counts as their own time.
"""

from __future__ import annotations

import os
import signal
import struct
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from .processes import descendants

MOST_ROUNDS = 50  # of looking for processes that were started while others were being stopped
SETTLE_SECONDS = 0.1  # at most, from the signal until every thread stands still: a thread in a system call is late
MOST_BETWEEN_SECONDS = 0.2  # of a look and the next that are charged: at a start the supervisor looks less often
LOOK_SECONDS = 0.001  # between two looks at the threads


def can_stop() -> bool:
    """Whether the processes of a training can be stopped, and the processor time of stopped ones be measured."""
    return sys.platform == "linux" and os.access("/proc/self/stat", os.R_OK)


def stop_below(pid: int) -> None:
    """Stop all descendants of `pid`, but not `pid` itself, and those that they start meanwhile.

    Each gets the signal at least twice: one that was not stopped yet may have continued another that was.
    """
    before: set[int] | None = None
    for _ in range(MOST_ROUNDS):
        children = descendants(pid)
        _signal_all(children, signal.SIGSTOP)
        if before is not None and before.issuperset(children):
            return
        before = set(children)


def _are_still(pids: Iterable[int]) -> bool:
    """Whether every thread of these processes is stopped or has ended."""
    for pid in pids:
        with suppress(OSError):
            for thread in os.listdir(f"/proc/{pid}/task"):
                with suppress(OSError), open(f"/proc/{pid}/task/{thread}/stat", "rb") as file:
                    if file.read().rpartition(b")")[2].split()[0] not in (b"T", b"t", b"Z", b"X"):
                        return False
    return True


def _parent(pid: int) -> int:
    """0 of a process that has ended."""
    with suppress(OSError), open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[1])
    return 0


def continue_below(pid: int) -> None:
    """Let all descendants of `pid` go on."""
    _signal_all(reversed(descendants(pid)), signal.SIGCONT)


def _signal_all(pids: Iterable[int], signum: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signum)


def processor_seconds_below(pid: int) -> float:
    """Processor time of all descendants of `pid`, with that of their children that have ended."""
    ticks = 0
    for child in descendants(pid):
        with suppress(OSError), open(f"/proc/{child}/stat", "rb") as file:
            ticks += sum(map(int, file.read().rpartition(b")")[2].split()[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


class Pauses:
    """A file with the seconds for which a training has been stopped so far: one little-endian double.

    The clock of prepare.py reads it and takes these seconds off. The training can write to the file, which changes
    only what its own clock says; the supervisor keeps its own count.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        self.write(0.0)

    def write(self, seconds: float) -> None:
        os.pwrite(self._file, struct.pack("<d", seconds), 0)

    def close(self) -> None:
        os.close(self._file)


class OwnTime:
    """The seconds since the start of a training in which its processes could run. All times are monotonic.

    Args:
        runner: the process whose descendants are stopped. It is not stopped itself, so that it can end them.
        pauses: told of the stops; None where the training is never stopped.
    """

    def __init__(self, runner: int, started: float, pauses: Pauses | None = None) -> None:
        self.runner, self.started, self.pauses = runner, started, pauses
        self.stops: list[tuple[float, float]] = []  # beginning and end of each
        self.worked_while_stopped = 0.0  # processor seconds, or those in which something did not stand still
        self._stopped_at: float | None = None
        self._used_before = 0.0  # processor seconds until the present stop
        self._looked_at = 0.0
        self._seen: set[int] = set()  # processes below the runner at the last look
        self._was_stirring = False  # at the last look
        self._stirred = 0.0  # seconds of the present stop in which something below the runner did not stand still

    @property
    def is_stopped(self) -> bool:
        return self._stopped_at is not None

    def stop(self) -> None:
        """Stop the training's processes. Until they stand still, the time is their own."""
        stop_below(self.runner)
        until = time.monotonic() + SETTLE_SECONDS
        while not _are_still(descendants(self.runner)) and time.monotonic() < until:
            time.sleep(LOOK_SECONDS)
            stop_below(self.runner)
        self._stopped_at = self._looked_at = time.monotonic()
        self._used_before = processor_seconds_below(self.runner)
        self._seen, self._stirred, self._was_stirring = set(descendants(self.runner)), 0.0, False

    def stay_stopped(self) -> None:
        """Stop what goes on although it was stopped, or has been started since. Call it several times a second."""
        if self.is_stopped:
            self._look()
            stop_below(self.runner)

    def _look(self) -> None:
        """Count the time since the last look where now and then a stopped process has run, ended, or started another.

        A process that ended takes the count of its own time along. What the runner starts meanwhile is its own affair.
        """
        now, below = time.monotonic(), set(descendants(self.runner))
        has_started = any(_parent(pid) in self._seen for pid in below - self._seen)
        is_stirring = bool(self._seen - below) or has_started or not _are_still(self._seen)
        if is_stirring and self._was_stirring:  # once is a kernel that has just been forked, or a slow disk
            self._stirred += min(now - self._looked_at, MOST_BETWEEN_SECONDS)
        self._looked_at, self._seen, self._was_stirring = now, below, is_stirring

    def go_on(self) -> None:
        """Let the processes go on, and tell the training's clock for how long they stood still."""
        if self._stopped_at is None:
            return
        self._look()
        stop_below(self.runner)
        used = processor_seconds_below(self.runner) - self._used_before
        self.worked_while_stopped += max(0.0, used, self._stirred)
        self.stops.append((self._stopped_at, time.monotonic()))
        self._stopped_at = None
        if self.pauses is not None:
            self.pauses.write(self.stopped())
        continue_below(self.runner)

    def stopped(self, start: float = 0.0, end: float | None = None) -> float:
        """Seconds between two moments for which the processes were stopped, without what they worked meanwhile."""
        end = time.monotonic() if end is None else end
        stops = [*self.stops, *([(self._stopped_at, end)] if self._stopped_at is not None else [])]
        return sum(max(0.0, min(end, until) - max(start, since)) for since, until in stops)

    def between(self, start: float, end: float) -> float:
        """The training's own seconds between two moments."""
        return end - start - self.stopped(start, end)

    def elapsed(self) -> float:
        """The training's own seconds so far. What it worked while it should have been stopped counts as well."""
        return self.between(self.started, time.monotonic()) + self.worked_while_stopped
