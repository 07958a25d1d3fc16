"""Three things that are no operation's failure: a torn last line, a byte that flipped, and two supervisors at once."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from autoresearch_kernel.record.paths import study_paths
from autoresearch_kernel.system.processes import adopt_orphans

from . import check, stub
from .operations import Injector, Log
from .server import Reference, in_child, orphans, said

SEED = 3  # of the bytes that flip
NUM_FLIPS = 12
NUM_RACES = 3
NUM_SUPERVISORS = 3
# It runs already; another supervisor has just begun it, or a moment before.
REFUSALS = ("StudyInUse", "created this very moment", "study.json exists. Continue it with")


def torn_tails(reference: Reference) -> list[str]:
    """A last record in every state that a write leaves that was cut off: the study goes on, and ends alike."""
    problems = []
    *lines, last, _ = (
        study_paths(stub.NAME, reference.interrupted / "project").history.read_bytes().splitlines(keepends=True)
    )
    middle = len(last) // 2
    tails = [last[:1], last[:middle], last[:-3], last[:-1], bytes(40), last[:middle] + bytes(40) + b"\n", b""]
    for tail in tails:
        with _copy(reference.interrupted) as folder:
            study_paths(stub.NAME, folder / "project").history.write_bytes(b"".join(lines) + tail)
            status = _drive(folder, folder / "log-2")
            if status:
                problems.append(f"a history ending with {tail[-60:]!r} was not resumed: {said(folder / 'log-2')}")
            else:
                problems += _look(folder, reference.outcome)
    return problems


def flipped_bytes(reference: Reference) -> list[str]:
    """A bit that flipped anywhere in the history: a loud stop that names the file, and nothing is written."""
    problems = []
    whole = study_paths(stub.NAME, reference.interrupted / "project").history.read_bytes()
    whole = whole[: whole.rfind(b"\n") + 1]
    numbers = random.Random(SEED)
    for _ in range(NUM_FLIPS):
        place, bit = numbers.randrange(len(whole)), numbers.randrange(8)
        with _copy(reference.interrupted) as folder:
            path = study_paths(stub.NAME, folder / "project").history
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
            before = _digests(folder / "project")
            status = _drive(folder, folder / "log-2")
            words = said(folder / "log-2")
            if status == 0 or "HistoryDamaged" not in words or str(path) not in words:
                problems.append(f"byte {place} of {len(whole)}, bit {bit} flipped, and it went on ({status}): {words}")
            if changed := {name for name, digest in _digests(folder / "project") ^ before}:
                problems.append(f"byte {place}, bit {bit} flipped, and {changed} was written")
    return problems


def two_at_once(reference: Reference) -> list[str]:
    """Several supervisors of one study, new or interrupted, start at the same moment: exactly one runs it."""
    problems = []
    for start in [reference.template, reference.interrupted] * NUM_RACES:
        with _copy(start) as folder:
            logs = [folder / f"log-{2 + n}" for n in range(NUM_SUPERVISORS)]
            at = time.monotonic() + 0.1
            pids = [_start(folder, log, at) for log in logs]
            statuses = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
            words = [said(log) for log, status in zip(logs, statuses, strict=True) if status]
            if statuses.count(0) != 1 or not all(any(r in w for r in REFUSALS) for w in words):
                problems.append(f"supervisors of {start.name} ended with {statuses}: {[said(log) for log in logs]}")
            problems += orphans()
            if _drive(folder, folder / "log-9"):
                problems.append(f"it could not be continued afterwards: {said(folder / 'log-9')}")
            else:
                problems += _look(folder, reference.outcome)
    return problems


@contextmanager
def _copy(start: Path) -> Iterator[Path]:
    adopt_orphans()
    folder = Path(tempfile.mkdtemp(prefix="damage-", dir=start.parent))
    try:
        shutil.copytree(start, folder, dirs_exist_ok=True)
        (folder / "log-0").unlink(missing_ok=True)  # what was acknowledged before the damage is not asked for
        yield folder
    finally:
        shutil.rmtree(folder)


def _drive(folder: Path, log: Path) -> int:
    return in_child(lambda: stub.drive(folder, Injector(Log(log), folder / "project", -1)), log)


def _start(folder: Path, log: Path, at: float) -> int:
    """A supervisor that starts at that moment; its pid."""
    pid = os.fork()
    if pid == 0:
        time.sleep(max(0.0, at - time.monotonic()))
        os._exit(min(1, abs(_drive(folder, log))))
    return pid


def _look(folder: Path, outcome: check.Outcome) -> list[str]:
    found = Log(folder / "problems")
    logs = sorted(folder.glob("log-*"))

    def look() -> None:
        stub.make_views_cheap()
        for problem in check.after_resume(folder / "project", logs, outcome, check.Allowed()):
            found.say("problem", text=problem)

    status = in_child(look, found.path)
    failed = [f"the check itself failed: {said(found.path)}"] if status else []
    return failed + [entry["text"] for entry in Log.read(found.path, "problem")]


def _digests(folder: Path) -> set[tuple[str, str]]:
    """Of every file but the lock, which says who looked last."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "lock"]
    return {(str(path.relative_to(folder)), hashlib.sha256(path.read_bytes()).hexdigest()) for path in files}


DAMAGES: dict[str, Callable[[Reference], list[str]]] = {
    "torn tails": torn_tails,
    "flipped bytes": flipped_bytes,
    "two at once": two_at_once,
}
