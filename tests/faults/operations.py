"""Numbers the durable operations of a process and makes one of them fail. It owns the ways to fail.

Four seams are replaced, in a process that was forked for one fault: `os` of `system/files.py`, `run_program` of
`record/git.py`, `History.append` (to log what was acknowledged) and, by `stub.py`, what trains, scores and
proposes.
"""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from autoresearch_kernel.record import git
from autoresearch_kernel.record.history import History
from autoresearch_kernel.system import files, temporary
from autoresearch_kernel.system.processes import run_program

# What may happen to an operation. A power cut is a kill before it that also takes back what was not yet synced.
FAULTS = {
    "write": ("kill-before", "kill-after", "eio", "enospc", "short-kill", "short"),
    "fsync": ("kill-before", "kill-after", "eio", "enospc", "power-cut"),
    "rename": ("kill-before", "kill-after", "eio", "enospc"),
    "folder sync": ("kill-before", "kill-after", "eio", "enospc", "power-cut"),
    "truncate": ("kill-before", "kill-after", "eio", "enospc"),
    "git object": ("kill-before", "kill-after", "eio", "enospc", "failure"),
    "git ref": ("kill-before", "kill-after", "eio", "enospc", "failure", "stale-lock"),
    "spawn": ("kill-before", "kill-after", "failure"),
    "reply": ("kill-before", "kill-after", "failure", "power-cut"),
}
# Nothing lies between these: a kill after the first is the kill before the second, and is tried once.
AT_ONCE = {("write", "fsync"), ("fsync", "rename"), ("rename", "folder sync"), ("reply", "spawn")}
ERRNO = {"eio": errno.EIO, "enospc": errno.ENOSPC}
GIT_WRITES = {
    "hash-object": "git object",
    "write-tree": "git object",
    "commit-tree": "git object",
    "update-ref": "git ref",
}
LONGEST_SLEEP_SECONDS = 0.02  # whoever waits for disk space or for the lock of a dead git need not wait long here


@dataclass(frozen=True)
class Operation:
    """One durable operation of the study without faults."""

    number: int
    kind: str
    what: str  # file below the project, git command, or who was asked


def faults_of(operation: Operation, following: Operation | None) -> list[str]:
    """Every fault of an operation that does not come to the same as one of the operation that follows.

    A git that only reads leaves nothing: whenever its supervisor dies meanwhile, it is the kill before it.
    """
    same: set[str] = set()
    if following is not None and (operation.kind, following.kind) in AT_ONCE:
        same = {"kill-after"}
    if operation.what.startswith("git ") and operation.what.removeprefix("git ") not in GIT_WRITES:
        same = {"kill-after", "power-cut"} if operation.kind == "spawn" else {"kill-before", "kill-after", "power-cut"}
    return [fault for fault in FAULTS[operation.kind] if fault not in same]


class Log:
    """What a forked process says about itself: one line of JSON each, in a file that no fault touches."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def say(self, entry: str, **facts: Any) -> None:
        fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            os.write(fd, json.dumps({"entry": entry, **facts}).encode() + b"\n")
        finally:
            os.close(fd)

    @staticmethod
    def read(path: Path, entry: str) -> list[dict[str, Any]]:
        lines = path.read_bytes().splitlines() if path.exists() else []
        return [facts for facts in map(json.loads, lines) if facts["entry"] == entry]


class Injector:
    """Counts operations; the one whose number is `target` fails in the way that `fault` says.

    With the target 0 it lists them all, with -1 it does nothing but pass them on.
    """

    def __init__(self, log: Log, root: Path, target: int = 0, fault: str = "") -> None:
        self.log, self.root = log, root
        self.target, self.fault = target, fault
        self.count = 0
        self.unsynced = _Unsynced()

    def begin(self, kind: str, what: str) -> str:
        """Count an operation that is about to happen; the fault, when its effect is for the caller to bring about.

        `what` is an absolute path or a few words.
        """
        self.count += 1
        if self.target not in (0, self.count):
            return ""
        what = self._name(what)
        if self.target == 0:
            self.log.say("operation", **asdict(Operation(self.count, kind, what)))
            return ""
        self.log.say("hit", kind=kind, what=what)
        if self.fault == "power-cut":
            self.unsynced.take_back()
        if self.fault in ("kill-before", "power-cut"):
            die()
        if self.fault in ERRNO and not kind.startswith("git"):
            raise OSError(ERRNO[self.fault], os.strerror(ERRNO[self.fault]), what)
        return self.fault

    def end(self, fault: str) -> None:
        if fault == "kill-after":
            die()

    @contextmanager
    def operation(self, kind: str, what: str) -> Iterator[None]:
        """An operation that either happens or not: it has no effects of its own to fail with."""
        fault = self.begin(kind, what)
        yield
        self.end(fault)

    @contextmanager
    def conversation(self, who: str, refused: Exception) -> Iterator[Any]:
        """Something is asked, works and answers; yields a function that tells whether the answer fails."""
        fault = self.begin("spawn", who)
        if fault == "failure":
            raise refused
        self.end(fault)
        yield lambda: self.begin("reply", who)

    def _name(self, what: str) -> str:
        """A file as a person would name it: below the project, without what is random in a temporary name."""
        shown = os.path.relpath(what, self.root) if what.startswith("/") else what
        return re.sub(rf"\b{temporary.PREFIX}\w+", temporary.PREFIX, re.sub(r"\.\d+\.tmp$", ".tmp", shown))

    def install(self) -> None:
        """Replace the seams of this process."""
        replace_in(files, os=_Os(self))
        replace_in(git, run_program=_Programs(self))
        log_acknowledged(self.log)
        real_sleep = time.sleep
        replace_in(time, sleep=lambda seconds: real_sleep(min(seconds, LONGEST_SLEEP_SECONDS)))


def replace_in(owner: Any, **replacements: Any) -> None:
    """Replace attributes of a module or class, in this process alone; they must be there."""
    for name, replacement in replacements.items():
        assert hasattr(owner, name), f"{owner} has no {name} any more: tests/faults must follow"
        setattr(owner, name, replacement)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()


def log_acknowledged(log: Log) -> None:
    """What `append` returned was promised: log it together with the line that the file then ends with."""
    append = History.append

    def logged(self: History, event: str, /, **fields: Any) -> Any:
        record = append(self, event, **fields)
        line = self.path.read_bytes().split(b"\n")[-2:][0]
        log.say("acknowledged", record=record, line=line.decode(errors="replace"))
        return record

    replace_in(History, append=logged)


class _Unsynced:
    """What a power cut takes: bytes since the last fsync of a file, renames since the last fsync of their folder."""

    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}  # of files with unsynced bytes: the size that is safe
        self.renames: list[tuple[str, bytes | None]] = []  # target, and what it was before

    def wrote(self, path: str, size_before: int) -> None:
        self.sizes.setdefault(path, size_before)

    def renamed(self, source: str, target: str, before: bytes | None) -> None:
        self.renames.append((target, before))
        if source in self.sizes:
            self.sizes[target] = self.sizes.pop(source)

    def synced(self, path: str) -> None:
        self.sizes.pop(path, None)
        self.renames = [(target, before) for target, before in self.renames if os.path.dirname(target) != path]

    def take_back(self) -> None:
        for path, size in self.sizes.items():
            if os.path.exists(path):
                os.truncate(path, min(size, os.path.getsize(path)))
        for target, before in reversed(self.renames):
            if before is None:
                os.unlink(target)
            else:
                Path(target).write_bytes(before)


class _Os:
    """`os` as `system/files.py` sees it, with its durable calls numbered."""

    def __init__(self, injector: Injector) -> None:
        self._injector = injector

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def write(self, fd: int, data: bytes) -> int:
        path = _path(fd)
        fault = self._injector.begin("write", path)
        self._injector.unsynced.wrote(path, os.fstat(fd).st_size)
        if fault in ("short", "short-kill"):
            written = os.write(fd, data[: len(data) // 2])
            if fault == "short-kill":
                die()
            return written
        written = os.write(fd, data)
        self._injector.end(fault)
        return written

    def fsync(self, fd: int) -> None:
        path = _path(fd)
        kind = "folder sync" if stat.S_ISDIR(os.fstat(fd).st_mode) else "fsync"
        with self._injector.operation(kind, path):
            os.fsync(fd)
            self._injector.unsynced.synced(path)

    def replace(self, source: str | Path, target: str | Path) -> None:
        with self._injector.operation("rename", str(target)):
            before = Path(target).read_bytes() if os.path.exists(target) else None
            os.replace(source, target)
            self._injector.unsynced.renamed(str(source), str(target), before)

    def ftruncate(self, fd: int, size: int) -> None:
        with self._injector.operation("truncate", _path(fd)):
            os.ftruncate(fd, size)


def _path(fd: int) -> str:
    return os.readlink(f"/proc/self/fd/{fd}")


class _Programs:
    """`run_program` as `record/git.py` sees it: every git is a spawn (or a write of git's) and a reply."""

    def __init__(self, injector: Injector) -> None:
        self._injector = injector

    def __call__(self, command: list[str], limit_seconds: float, **options: Any) -> subprocess.CompletedProcess[bytes]:
        words = [w for before, w in zip(["", *command], command, strict=False) if w != "-c" and before != "-c"]
        name = words[1]
        injector = self._injector
        fault = injector.begin(GIT_WRITES.get(name, "spawn"), f"git {name}")
        if fault in ERRNO:
            return _refused(command, f"fatal: unable to write: {os.strerror(ERRNO[fault])}")
        if fault == "failure":
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), "git")
        if fault == "stale-lock":
            _leave_lock(words, options["cwd"])
            return _killed(command)
        if fault == "kill-after":
            _start_and_die(command, options)
        done = run_program(command, limit_seconds, **options)
        fault = injector.begin("reply", f"git {name}")
        if fault == "failure":
            return _killed(command)
        injector.end(fault)
        return done


def _refused(command: list[str], words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.CompletedProcess(command, 128, b"", words.encode())


def _killed(command: list[str]) -> subprocess.CompletedProcess[bytes]:
    return subprocess.CompletedProcess(command, -signal.SIGKILL, b"", b"")


def _start_and_die(command: list[str], options: dict[str, Any]) -> None:
    """The supervisor dies while git works; git goes on without it."""
    reading, writing = os.pipe()
    os.write(writing, options.get("stdin") or b"")
    os.close(writing)
    subprocess.Popen(
        command,
        cwd=options.get("cwd"),
        env=options.get("env"),
        stdin=reading,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    die()


def _leave_lock(words: list[str], cwd: Path) -> None:
    """What a git leaves that was killed in the middle of `update-ref`."""
    (ref,) = [word for word in words if word.startswith("refs/")]
    found = subprocess.run(["git", "rev-parse", "--git-path", f"{ref}.lock"], cwd=cwd, capture_output=True, text=True)
    lock = Path(cwd) / found.stdout.strip()
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.touch()
