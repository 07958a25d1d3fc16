"""Checks several times a second what a sandboxed process and its descendants use, and kills them above a limit.

It works for every kind of sandbox and without one. Shared memory counts once; deleted files that are still open count
as well.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..system.processes import descendants, end_below, resident_bytes, start_ticks
from .policy import Policy

DISK_EVERY_SECONDS = 0.5
MOST_FILES = 50_000  # in the writable folders
MOST_LEVELS = 100  # of nested folders


class Uncountable(Exception):
    """Something cannot be counted; the message follows the word "it"."""


class Watchdog:
    """Enforces the limits of one policy on all descendants of `pid`. Call `check` about ten times a second."""

    def __init__(self, pid: int, policy: Policy, folders: Iterable[str | Path] = ()) -> None:
        self.pid, self.policy = pid, policy
        self.folders = [Path(folder) for folder in (*policy.writable, *folders)]
        self.peak_bytes = 0
        self._started = time.monotonic()
        self._disk_checked = 0.0
        self._unmapped_bytes = 0  # memory of no process: files in memory, /tmp and /dev/shm of the sandbox
        self._seen: dict[int, str | None] = {}  # pid and start time, because a pid can be used again

    def check(self) -> str:
        """Which limit was exceeded, in words that follow "it"; "" when none was."""
        policy = self.policy
        pids = descendants(self.pid, policy.max_processes + 1)
        self._seen |= {pid: start_ticks(pid) for pid in pids if pid not in self._seen}
        if len(pids) > policy.max_processes:
            return f"had more than {policy.max_processes} processes, its limit"
        if policy.memory_bytes and self._memory(pids) > policy.memory_bytes:
            return f"used more than {_gigabytes(policy.memory_bytes)} of memory, its limit"
        if time.monotonic() - self._disk_checked >= DISK_EVERY_SECONDS:
            if complaint := self._disk(pids):
                return complaint
            self._disk_checked = time.monotonic()
        if policy.seconds and time.monotonic() - self._started > policy.seconds:
            return f"took longer than {policy.seconds:.0f} s, its limit"
        return ""

    def end(self) -> int:
        """Kill all descendants, also those whose parent is another process now; returns how many were found."""
        alive = [pid for pid, began in self._seen.items() if began is not None and start_ticks(pid) == began]
        return end_below(self.pid, alive)

    def _memory(self, pids: list[int]) -> int:
        """Bytes in use; exact when the quick sum, which counts shared memory several times, exceeds the limit."""
        pids = [self.pid, *pids]
        used = sum(map(resident_bytes, pids)) + self._unmapped_bytes
        if used > self.policy.memory_bytes:
            used = sum(map(_proportional, pids)) + self._unmapped_bytes
        self.peak_bytes = max(self.peak_bytes, used)
        return used

    def _disk(self, pids: list[int]) -> str:
        limit, size, files = self.policy.writable_bytes, 0, 0
        devices = {os.stat(folder).st_dev for folder in self.folders if folder.exists()}
        try:
            for found in (found for folder in self.folders for found in _files(folder)):
                size, files = size + 512 * found.st_blocks, files + 1
                if files > MOST_FILES:
                    return f"wrote more than {MOST_FILES:,} files, its limit"
        except Uncountable as why:
            return str(why)
        nameless = list(_deleted_files(pids))  # deleted but still open: they occupy space that no folder shows
        size += sum(512 * found.st_blocks for found in nameless if found.st_dev in devices)
        in_memory = sum(512 * found.st_blocks for found in nameless if found.st_dev not in devices)
        self._unmapped_bytes = in_memory + (_own_tmpfs(pids[-1]) if pids else 0)
        return f"wrote more than {_gigabytes(limit)} to its folders, its limit" if limit and size > limit else ""


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def _proportional(pid: int) -> int:
    """Bytes of a process, with only its share of shared pages; resident bytes where the system has no such number."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith(b"Pss:"))
    except (OSError, StopIteration):
        return resident_bytes(pid)


def _files(folder: Path) -> Iterator[os.stat_result]:
    """Everything in `folder`, without following links; files that vanish meanwhile are left out.

    Raises Uncountable for files that are too deep, and for a folder that its owner cannot read.
    """
    waiting = [(str(folder), 0)]
    while waiting:
        path, level = waiting.pop()
        if level > MOST_LEVELS:
            raise Uncountable(f"made folders in folders, more than {MOST_LEVELS} deep, its limit")
        with _countable(), os.scandir(path) as entries:
            for entry in entries:
                with _countable():
                    yield entry.stat(follow_symlinks=False)
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append((entry.path, level + 1))


@contextmanager
def _countable() -> Iterator[None]:
    """Ignore files that vanished meanwhile; raise Uncountable for other errors."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise Uncountable("made a path that is too long to look at, its limit") from error
        raise Uncountable(f"made a folder that cannot be looked into ({error.strerror})") from error


def _deleted_files(pids: list[int]) -> Iterator[os.stat_result]:
    """Open files without a name, each once: deleted files and memory that is a file."""
    seen: set[tuple[int, int]] = set()
    for pid in pids:
        with suppress(OSError), os.scandir(f"/proc/{pid}/fd") as descriptors:
            for descriptor in descriptors:
                with suppress(OSError):
                    found = os.stat(descriptor.path)
                    key = (found.st_dev, found.st_ino)
                    if stat.S_ISREG(found.st_mode) and not found.st_nlink and key not in seen:
                        seen.add(key)
                        yield found


def _own_tmpfs(pid: int) -> int:
    """Bytes in /tmp and /dev/shm of a process with its own file systems; 0 for those of the machine."""
    root = f"/proc/{pid}/root"
    with suppress(OSError):
        if sys.platform == "linux" and os.stat(root).st_dev != os.stat("/").st_dev:
            sizes = [os.statvfs(root + folder) for folder in ("/tmp", "/dev/shm")]
            return sum((size.f_blocks - size.f_bfree) * size.f_frsize for size in sizes)
    return 0
