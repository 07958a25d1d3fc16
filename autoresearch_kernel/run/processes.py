"""No process outlives its run: death with the parent, adoption of orphans, and the sweep at the end.

Only what the operating system offers to an ordinary user; where Linux has a better way, the rest still works elsewhere.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

TOKEN = "AUTORESEARCH_RUN_TOKEN"  # every process of one run carries it in its environment

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_PR_SET_CHILD_SUBREAPER = 36


def die_with_parent(parent_pid: int, signum: int = signal.SIGKILL) -> None:
    """Be sent `signum` when the parent thread ends, even while C code holds the GIL. Linux only; elsewhere no effect.

    It binds to the *thread* that forked this process, so that must be one that lives as long as its process.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signum), 0, 0, 0)
    if os.getppid() != parent_pid:  # it went away before the call
        os._exit(1)


def adopt_orphans() -> None:
    """Become the parent of grandchildren whose own parent ends, so that they can be found and ended. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def kill_group(pgid: int | None, signum: int = signal.SIGKILL) -> None:
    """Signal a process group; one that is gone already is fine."""
    if pgid is None or pgid <= 1 or pgid == os.getpgrp():
        return
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pgid, signum)


def kill_descendants(timeout_seconds: float = 2.0) -> int:
    """Kill and reap all below this process until none is left; the number found. Needs /proc; else it finds none."""
    deadline = time.monotonic() + timeout_seconds
    found: set[int] = set()
    while pids := _descendants(os.getpid()):
        found.update(pids)
        for pid in pids:
            _kill(pid)
        _reap()
        if time.monotonic() > deadline:
            break
        time.sleep(0.01)
    return len(found)


def _descendants(ancestor: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it may end while we look
            # The name, in parentheses, may itself hold spaces and parentheses.
            parent = int(status.read_text(errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(status.parent.name))
    below: list[int] = []
    layer = children.get(ancestor, [])
    while layer:
        below += layer
        layer = [child for pid in layer for child in children.get(pid, [])]
    return below


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def _reap() -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0] > 0:
            pass


def sweep(token: str, timeout_seconds: float = 3.0) -> int:
    """Kill every process of this user whose environment carries `token`; the number found.

    For what a killed runner left: children of its kernel belong to nobody then. Needs /proc; elsewhere it finds none.
    """
    needle = f"{TOKEN}={token}".encode()
    deadline = time.monotonic() + timeout_seconds
    found: set[int] = set()
    while pids := _carriers(needle):
        found.update(pids)
        for pid in pids:
            _kill(pid)
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    return len(found)


def _carriers(needle: bytes) -> list[int]:
    pids = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        # A zombie's is empty, another user's is closed to us, and any may vanish while we look.
        with suppress(OSError):
            if needle in environ.read_bytes().split(b"\0") and int(environ.parent.name) != os.getpid():
                pids.append(int(environ.parent.name))
    return pids


class ExitWatch:
    """Waits for a child to end, or for a moment to pass, without waking more often than asked."""

    def __init__(self, pid: int) -> None:
        self.descriptor: int | None = None
        with suppress(AttributeError, OSError):  # Linux 5.3 and later
            self.descriptor = os.pidfd_open(pid)

    def wait(self, seconds: float) -> None:
        """Return when the child ends, at the latest after `seconds`."""
        if self.descriptor is None:
            time.sleep(min(seconds, 0.05))
        else:
            select.select([self.descriptor], [], [], seconds)

    def close(self) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None
