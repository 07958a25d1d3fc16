"""Ends processes: a run leaves none behind, whatever its code started and however its supervisor ended.

The functions use only what the operating system offers to an ordinary user. Some are exact on Linux alone; each says
what it does elsewhere.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import Plain
from .files import boot_id, write_atomic
from .locations import RUN_TOKEN, SANDBOX_PARENT

if TYPE_CHECKING:
    import psutil

# <linux/prctl.h>
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
STARTER = ("system", "start.py")  # which starts this program's children


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends, so that they can be found and ended. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with_parent(parent_pid: int, signum: int = signal.SIGKILL) -> None:
    """Have the system send `signum` to this process when its parent ends, even while C code holds the GIL. Linux only.

    The system watches the *thread* that forked this process, so that thread must live as long as its process.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signum), 0, 0, 0)
    in_sandbox = int(os.environ.get(SANDBOX_PARENT) or parent_pid)  # the parent has another number inside a sandbox
    if os.getppid() not in (parent_pid, in_sandbox):  # the parent ended before the call
        os._exit(1)


class ExitWatch:
    """Waits for a child to end or for a moment to pass, and wakes no more often than requested."""

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


class ProgramHung(Plain, OSError):
    """A program of the system did not end within its limit, and was killed."""


def run_program(
    command: Sequence[str], limit_seconds: float, *, stdin: bytes = b"", **how: Any
) -> subprocess.CompletedProcess[bytes]:
    """Run a program of the system, such as git, to its end; `how` goes to Popen. Its children end with it.

    Raises ProgramHung after `limit_seconds`, OSError when the program cannot be started.
    """
    pipe = subprocess.PIPE
    process: subprocess.Popen[bytes]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True, **how) as process:
        try:
            out, err = process.communicate(stdin, timeout=limit_seconds)
        except BaseException as error:
            kill_group(process.pid)  # a child that was left would keep the pipes open
            process.kill()
            if isinstance(error, subprocess.TimeoutExpired):
                raise ProgramHung(f"{command[0]} did not end within {limit_seconds:.0f} s") from error
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def kill_group(pgid: int | None, signum: int = signal.SIGKILL) -> None:
    """Send a signal to a process group, unless it is this process's own or has ended."""
    if pgid is None or pgid <= 1 or pgid == os.getpgrp():
        return
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pgid, signum)


# --- descendants


def descendants(pid: int, most: int = 100_000) -> list[int]:
    """The processes below `pid`, zombies included, those nearest to it first. The search stops after about `most`.

    On Linux this reads a few files of each, instead of looking at every process of the machine.
    """
    if not Path(f"/proc/{pid}/task/{pid}/children").exists():
        return _descendants_elsewhere(pid)
    found, at = [pid], 0
    while at < len(found) <= most:
        found += _children(found[at])
        at += 1
    return found[1:]


def _children(pid: int) -> list[int]:
    """The children of each thread of a process; none when it has ended."""
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


def began_at() -> float:
    """When this process began: seconds since the epoch, by the wall clock of now."""
    import psutil

    return float(psutil.Process().create_time())


def end_below(pid: int, also: Iterable[int] = (), timeout_seconds: float = 10.0) -> int:
    """Kill all descendants of `pid`, but not `pid` itself, and the processes `also`; returns how many were found.

    All are stopped before any is killed: a fork bomb grows faster than its processes can be killed one by one.
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
    """Whether the process exists and is no zombie; on other systems than Linux every listed process counts as alive."""
    if sys.platform != "linux":
        return True
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False


def kill_descendants(timeout_seconds: float = 10.0) -> int:
    """Kill and reap all descendants of this process; returns the number of processes found."""
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
    """When a process started, in clock ticks after the boot; None when it has ended or the system is not Linux."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[19]
    except OSError:
        return None


# --- processes that a crashed supervisor left


def remember(file: Path, pid: int, token: str, beside: Iterable[tuple[int, str]] = ()) -> None:
    """Write the process group and the token of a run to a file, for `end_leftovers` of the next supervisor.

    Args:
        beside: pid and token of other runs that go on at the same time: the other side of a duel.
    """
    first, *others = ({"pid": p, "started": _started(p), "token": t} for p, t in ((pid, token), *beside))
    write_atomic(file, json.dumps(first | ({"beside": others} if others else {})) + "\n")


def is_alive(pid: int) -> bool:
    """Whether a process of this number exists; a child that has ended counts until its parent has waited for it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def end_leftovers(file: Path) -> int:
    """End the processes of the run that `file` names, and remove the file; returns the number of processes killed.

    The recorded process and its group are killed only if the pid still belongs to that process: after a reboot another
    process may have it. This process and its ancestors are never killed.
    """
    killed: set[int] = set()
    try:
        left = json.loads(file.read_text(encoding="utf-8"))
        runs = [(run["pid"], run["started"], run["token"]) for run in (left, *left.get("beside", ()))]
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):  # it says nothing: nothing is killed
        runs = []
    for pid, started, token in runs:
        if isinstance(pid, int) and pid > 1 and started is not None and _started(pid) == started:
            killed |= _end_group(pid)
        if isinstance(token, str) and token:
            killed |= kill_by_token(token)
    file.unlink(missing_ok=True)
    return len(killed)


def _started(pid: int) -> str | None:
    """A mark that tells this process from every other that has or had its pid; None when there is no such process."""
    if sys.platform == "linux":  # psutil's start time moves with the wall clock
        ticks = start_ticks(pid)
        return None if ticks is None else f"{ticks} ticks after boot {boot_id()}"
    import psutil

    with suppress(psutil.Error):
        return str(psutil.Process(pid).create_time())
    return None


def _end_group(pgid: int) -> set[int]:
    """Kill a process group unless this process or an ancestor is in it; returns the pids found."""
    import psutil

    members = set()
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):  # the process may end meanwhile
            if os.getpgid(process.pid) == pgid and process.status() != psutil.STATUS_ZOMBIE:
                members.add(process.pid)
    if members & self_and_ancestors():
        return set()
    kill_group(pgid)
    return members


def kill_by_token(token: str, timeout_seconds: float = 3.0) -> set[int]:
    """Kill every process of this user whose environment contains `token`; returns the pids found.

    This also finds processes whose parent was killed. This process and its ancestors are never killed.
    """
    import psutil

    deadline = time.monotonic() + timeout_seconds
    found: set[int] = set()
    while carriers := _carriers(token):
        found.update(process.pid for process in carriers)
        for process in carriers:
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):  # psutil spares a process that has the pid since
                process.kill()
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    return found


def has_carrier(token: str) -> bool:
    """Whether a process of this user has `token` in its environment; this process and its ancestors do not count."""
    return bool(_carriers(token))


def _carriers(token: str) -> list[psutil.Process]:
    import psutil

    spared, carriers = self_and_ancestors(), []
    for process in psutil.process_iter():
        # A zombie has no environment, another user's cannot be read, and any process may end meanwhile.
        with suppress(psutil.Error, OSError):
            if process.environ().get(RUN_TOKEN) == token and process.pid not in spared:
                carriers.append(process)
    return carriers


def self_and_ancestors() -> set[int]:
    """The pids of this process and of all its ancestors, which no clean-up may kill."""
    import psutil  # the import takes 30 ms, and most commands do not need it

    me = psutil.Process()
    return {me.pid, *(process.pid for process in me.parents())}


# --- memory and processor time


def resident_bytes(pid: int) -> int:
    """Memory that a process uses, shared memory included; 0 when it has ended."""
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
    """The most memory that a process has ever used; 0.0 when it has ended, and on other systems than Linux."""
    with suppress(OSError), open(f"/proc/{pid}/status", "rb") as file:
        return max((int(line.split()[1]) / 1024 for line in file if line.startswith(b"VmHWM:")), default=0.0)
    return 0.0


def memory_kills() -> int | None:
    """How many processes the system has killed for lack of memory since it started; None where it does not say."""
    with suppress(OSError), open("/proc/vmstat", "rb") as file:
        return next((int(line.split()[1]) for line in file if line.startswith(b"oom_kill ")), None)
    return None


def not_by_the_system(kills_before: int | None, kills_after: int | None) -> str:
    """Why a kill between two calls of `memory_kills` counts as the code's own doing; "" when it does not."""
    if kills_before is None or kills_after is None:
        return "it is not known that the system killed it for lack of memory, so the code counts as the cause"
    if kills_after == kills_before:
        return "the system did not kill it for lack of memory, so the code counts as the cause"
    return ""


def memory_mb(file: Path) -> float | None:
    """Resident memory of the run that `file` (running.json) names, children included; None when none runs."""
    import psutil

    try:
        run = json.loads(file.read_text(encoding="utf-8"))
        runners = [psutil.Process(one["pid"]) for one in (run, *run.get("beside", ()))]
        processes = [process for runner in runners for process in (runner, *runner.children(recursive=True))]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, psutil.Error):
        return None
    total = 0
    for process in processes:
        with suppress(psutil.Error):  # the process ended meanwhile
            total += process.memory_info().rss
    return total / 2**20


def processor_seconds() -> dict[int, tuple[str, float]]:
    """Name and processor time of every readable process since its start, by pid."""
    import psutil

    found = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # the process may end meanwhile
            times = process.cpu_times()
            found[process.pid] = (process.name(), times.user + times.system)
    return found


def stolen_seconds() -> float:
    """Processor time, over all cores, that a host has withheld from this virtual machine; 0.0 without a host."""
    import psutil

    return float(getattr(psutil.cpu_times(), "steal", 0.0))


def program_of(pid: int, name: str) -> str:
    """The script or module that a Python process runs; for any other process its name."""
    import psutil

    if name.lower().startswith("python"):
        with suppress(psutil.Error):  # it has ended, or belongs to another user
            return python_program(psutil.Process(pid).cmdline()) or name
    return name


def python_program(words: Sequence[str]) -> str:
    """`python train.py` or `python -m pytest`, from the command line of a Python; "" when it names no program."""
    rest = iter(words[1:])
    for word in rest:
        if word in ("-X", "-W", "--check-hash-based-pycs"):
            next(rest, None)  # the option's value
        elif word in ("-m", "-c"):
            value = next(rest, "")
            return f"python -m {value}" if word == "-m" else "python -c"
        elif not word.startswith("-"):
            module = next(rest, "") if Path(word).parts[-2:] == STARTER else ""
            return f"python -m {module}" if module else f"python {Path(word).name}"
    return ""
