"""No process outlives its run: adoption of orphans, the end of all below, and what a crashed supervisor left.

Only what the operating system offers to an ordinary user; where Linux has a better way, the rest still works elsewhere.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

from ..record.children import die_with_parent, family, kill, sweep
from ..record.files import write_atomic

__all__ = [
    "ExitWatch", "adopt_orphans", "die_with_parent", "end_leftovers", "kill_descendants", "kill_group", "remember",
    "sweep",
]  # fmt: skip

_PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>


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
    """Kill and reap all below this process until none is left; the number found."""
    import psutil

    deadline = time.monotonic() + timeout_seconds
    found: set[int] = set()
    while children := psutil.Process().children(recursive=True):
        found.update(child.pid for child in children)
        for child in children:
            kill(child)
        _reap()
        if time.monotonic() > deadline:
            break
        time.sleep(0.01)
    return len(found)


def _reap() -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0] > 0:
            pass


# --- what a crashed supervisor left


def remember(file: Path, pid: int, token: str) -> None:
    """Write down which process group and which token a run has, for `end_leftovers` of the next supervisor."""
    write_atomic(file, json.dumps({"pid": pid, "started": _started(pid), "token": token}) + "\n")


def end_leftovers(file: Path) -> int:
    """End what still runs of the run that `file` remembers, and remove the file; the number of processes killed.

    The recorded process and its group are killed only if its pid still belongs to it, and not to another process that
    got the number since, as after a reboot. Never this process or one above it.
    """
    killed: set[int] = set()
    try:
        left = json.loads(file.read_text(encoding="utf-8"))
        pid, started, token = left["pid"], left["started"], left["token"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):  # nothing is known, so nothing is killed
        pid, started, token = None, None, None
    if isinstance(pid, int) and pid > 1 and started is not None and _started(pid) == started:
        killed |= _end_group(pid)
    if isinstance(token, str) and token:
        killed |= sweep(token)
    file.unlink(missing_ok=True)
    return len(killed)


def _started(pid: int) -> str | None:
    """A mark that tells this process from any other that has its pid, before or since; None when there is none such."""
    if sys.platform == "linux":  # clock ticks since boot, and which boot: psutil's time moves with the wall clock
        try:
            ticks = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[19]
            return f"{ticks} ticks after boot {Path('/proc/sys/kernel/random/boot_id').read_text().strip()}"
        except OSError:
            return None
    import psutil

    with suppress(psutil.Error):
        return str(psutil.Process(pid).create_time())
    return None


def _end_group(pgid: int) -> set[int]:
    """Kill a process group, unless one of ours is in it; the pids found."""
    import psutil

    members = set()
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):  # it may end while we look
            if os.getpgid(process.pid) == pgid and process.status() != psutil.STATUS_ZOMBIE:
                members.add(process.pid)
    if members & family():
        return set()
    kill_group(pgid)
    return members


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
