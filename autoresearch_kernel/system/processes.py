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
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from .files import write_atomic
from .locations import RUN_TOKEN, SANDBOX_PARENT

if TYPE_CHECKING:
    import psutil

__all__ = [
    "ExitWatch", "adopt_orphans", "descendants", "die_with_parent", "end_below", "end_leftovers", "kill_descendants",
    "kill_group", "peak_memory_mb", "processor_seconds", "remember", "resident_bytes", "start_ticks",
    "stolen_seconds", "sweep",
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


# --- all below a process


def descendants(pid: int, most: int = 100_000) -> list[int]:
    """The processes below `pid`, those nearest to it first; zombies among them. Stops looking after about `most`.

    Reads a few files of each instead of looking at every process of the machine.
    """
    if not Path(f"/proc/{pid}/task/{pid}/children").exists():
        return _descendants_elsewhere(pid)
    found, at = [pid], 0
    while at < len(found) <= most:
        found += _children(found[at])
        at += 1
    return found[1:]


def _children(pid: int) -> list[int]:
    """The children of each of its threads; none when it has ended."""
    children: list[int] = []
    with suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError), open(f"/proc/{pid}/task/{task}/children", "rb") as file:
                children += map(int, file.read().split())
    return children


def _descendants_elsewhere(pid: int) -> list[int]:
    import psutil

    with suppress(psutil.Error):
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    return []


def resident_bytes(pid: int) -> int:
    """Memory that a process has in use, with what it shares; 0 when it has ended."""
    if sys.platform == "linux":
        try:
            with open(f"/proc/{pid}/statm", "rb") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError):
            return 0
    import psutil

    with suppress(psutil.Error):
        return int(psutil.Process(pid).memory_info().rss)
    return 0


def peak_memory_mb(pid: int) -> float:
    """The most memory that a process ever had in use; 0.0 when it has ended, or where Linux is not."""
    with suppress(OSError), open(f"/proc/{pid}/status", "rb") as file:
        return max((int(line.split()[1]) / 1024 for line in file if line.startswith(b"VmHWM:")), default=0.0)
    return 0.0


def end_below(pid: int, also: Iterable[int] = (), timeout_seconds: float = 10.0) -> int:
    """Kill all below `pid`, but not itself, and the processes `also`, until none is left; the number found.

    All are stopped before any is killed: a fork bomb grows faster than it can be killed one by one.
    """
    deadline = time.monotonic() + timeout_seconds
    found: set[int] = set(also)
    _signal_all(found, signal.SIGKILL)
    while living := [child for child in descendants(pid) if _lives(child)]:
        new = [child for child in living if child not in found]
        found.update(living)
        _signal_all(new, signal.SIGSTOP)
        if not new or time.monotonic() > deadline - timeout_seconds / 2:
            _signal_all(living, signal.SIGKILL)
            time.sleep(0.005)
        if time.monotonic() > deadline:
            break
    return len(found)


def _signal_all(pids: Iterable[int], signum: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signum)


def _lives(pid: int) -> bool:
    """Whether there is such a process that has not ended; on other systems than Linux all that are listed do."""
    if sys.platform != "linux":
        return True
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False


def kill_descendants(timeout_seconds: float = 10.0) -> int:
    """Kill and reap all below this process until none is left; the number found."""
    deadline, found = time.monotonic() + timeout_seconds, 0
    while descendants(os.getpid()):
        found += end_below(os.getpid(), timeout_seconds=max(0.0, deadline - time.monotonic()))
        _reap()
        if time.monotonic() > deadline:
            break
    return found


def _reap() -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0] > 0:
            pass


def start_ticks(pid: int) -> str | None:
    """When this process began, in clock ticks after the boot; None when there is none, or where Linux is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[19]
    except OSError:
        return None


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
        ticks = start_ticks(pid)
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return None if ticks is None else f"{ticks} ticks after boot {boot}"
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


def processor_seconds() -> dict[int, tuple[str, float]]:
    """Name and processor time so far of every process that may be looked at, by pid."""
    import psutil

    found = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # it may end while we look
            times = process.cpu_times()
            found[process.pid] = (process.name(), times.user + times.system)
    return found


def program_of(pid: int, name: str) -> str:
    """What a process runs: for a Python its script or module, else its own name."""
    import psutil

    if name.lower().startswith("python"):
        with suppress(psutil.Error):  # it has ended, or belongs to another user
            return python_program(psutil.Process(pid).cmdline()) or name
    return name


def python_program(words: Sequence[str]) -> str:
    """`python train.py`, `python -m pytest` of a Python's command line; "" where it names neither.

    Example:
        >>> python_program(["/usr/bin/python3", "-X", "dev", "-u", "work/train.py", "--fast"])
        'python train.py'
    """
    rest = iter(words[1:])
    for word in rest:
        if word in ("-X", "-W", "--check-hash-based-pycs"):
            next(rest, None)  # the option's value
        elif word in ("-m", "-c"):
            value = next(rest, "")
            return f"python -m {value}" if word == "-m" else "python -c"
        elif not word.startswith("-"):
            return f"python {Path(word).name}"
    return ""


def stolen_seconds() -> float:
    """Processor time so far that a host did not give to this virtual machine, over all cores; 0.0 where none is."""
    import psutil

    return float(getattr(psutil.cpu_times(), "steal", 0.0))


_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def die_with_parent(parent_pid: int, signum: int = signal.SIGKILL) -> None:
    """Be sent `signum` when the parent thread ends, even while C code holds the GIL. Linux only; elsewhere no effect.

    It binds to the *thread* that forked this process, so that must be one that lives as long as its process.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signum), 0, 0, 0)
    # In a sandbox, which ends with the parent of its own accord, the parent goes by another number.
    if os.getppid() not in (
        parent_pid,
        int(os.environ.get(SANDBOX_PARENT) or parent_pid),
    ):  # it went away before the call
        os._exit(1)


def sweep(token: str, timeout_seconds: float = 3.0) -> set[int]:
    """Kill every process of this user whose environment carries `token`; the pids found.

    For what a killed child left: its own children belong to nobody then. Never this process or one above it.
    """
    deadline = time.monotonic() + timeout_seconds
    found: set[int] = set()
    while carriers := _carriers(token):
        found.update(process.pid for process in carriers)
        for process in carriers:
            kill(process)
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    return found


def kill(process: psutil.Process) -> None:
    """Kill this very process: one that has its pid since is left alone, and one that is gone is fine."""
    import psutil

    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        process.kill()


def memory_mb(file: Path) -> float | None:
    """Resident memory of the run that `file` (running.json) remembers, its children included; None when none runs."""
    import psutil

    try:
        runner = psutil.Process(json.loads(file.read_text(encoding="utf-8"))["pid"])
        family = [runner, *runner.children(recursive=True)]
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return None
    total = 0
    for process in family:
        with suppress(psutil.Error):  # it ended while we looked
            total += process.memory_info().rss
    return total / 2**20


def family() -> set[int]:
    """This process and all above it, which must live."""
    import psutil  # takes 30 ms, which most commands need not spend

    me = psutil.Process()
    return {me.pid, *(process.pid for process in me.parents())}


def _carriers(token: str) -> list[psutil.Process]:
    import psutil

    spared, carriers = family(), []
    for process in psutil.process_iter():
        # A zombie has no environment, another user's is closed to us, and any process may vanish while we look.
        with suppress(psutil.Error, OSError):
            if process.environ().get(RUN_TOKEN) == token and process.pid not in spared:
                carriers.append(process)
    return carriers
