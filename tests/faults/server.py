"""One fault in processes of its own: forked, killed, resumed and checked. It leaves no process and no file.

The process that calls it has imported everything, so that a fork costs milliseconds.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import select
import shutil
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from autoresearch_kernel.run.notebook import set_verdict
from autoresearch_kernel.system.locations import RUN_TOKEN
from autoresearch_kernel.system.processes import adopt_orphans

from . import check, stub, tool
from .operations import Injector, Log, Operation, faults_of

LIMIT_SECONDS = 60.0  # for a study that takes half a second
ORPHAN_LIMIT_SECONDS = 5.0  # for a git that goes on when its supervisor is dead
REAP_SECONDS = 0.02
HUNG = 124  # exit status, as that of timeout(1)
DEADLY = {"kill-before", "kill-after", "short-kill", "power-cut"}
INTERRUPTED_AT = "trainer 0002 run 0"  # where the study that is resumed under faults was cut off
REAL_VIEWS_EVERY = 250  # of the faults; drawing takes as long as all the rest


Plant = Callable[[], None]  # a bug to see it found


@dataclass(frozen=True)
class Fault:
    """One operation and what happens to it."""

    start: Path  # the folder that the study begins in, copied
    target: int  # which of the operations from there on
    operation: Operation  # numbered over all starts, as a person names it
    fault: str
    real_views: bool = False
    by_tool: bool = False  # of the study whose agent is a command-line tool; see `tool.py`


@dataclass(frozen=True)
class Reference:
    """The study without faults: what may happen to it, and how it ends."""

    template: Path  # nothing has begun
    interrupted: Path  # cut off in a training, its last record torn
    faults: tuple[Fault, ...]
    outcome: check.Outcome


def place() -> Path:
    """Where files cost no disk: memory, when there is some."""
    memory = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="faults-", dir=memory if os.access(memory, os.W_OK) else None))


def warm_up(base: Path) -> None:
    """Load and build here what every fork would load again: the checker of notebooks above all."""
    import psutil  # noqa: F401  # each supervisor does, to end what another left

    notebook = base / "warm-up.ipynb"
    notebook.write_text(stub.notebook("warm-up", "pass"))
    set_verdict(notebook, heading="# warm-up", verdict="warm")
    gc.collect()
    gc.freeze()  # so that the collector of a fork does not touch, and so copy, what it shares with this process


def make_reference(base: Path, plant: Plant) -> Reference:
    """Run the study without faults from its three starts, and list what may happen to it.

    With git, where what concerns git, the history and the other processes fails; without it, where files do, because
    that takes half the time; and from the middle of a training, where what a resumption does before it goes on fails.
    """
    warm_up(base)
    template, without_git, interrupted = base / "template", base / "without-git", base / "interrupted"
    stub.make_template(template)
    whole, outcome = _operations(template, base / "reference", plant)
    repeated, _ = _operations(template, base / "reference-again", plant)
    if repeated != whole:
        named = next(pair for pair in itertools.zip_longest(whole, repeated) if pair[0] != pair[1])
        raise RuntimeError(f"The study does not repeat its operations: {named[0]}, then {named[1]}.")

    shutil.copytree(template, without_git)
    shutil.rmtree(without_git / "project" / ".git")
    alone, same = _operations(without_git, base / "reference-without-git", plant)

    begun = next(n for n, o in enumerate(whole) if o.what == INTERRUPTED_AT and o.kind == "reply")
    torn = next(o for o in whole[begun:] if o.kind == "write" and _is_history(o))
    shutil.copytree(template, interrupted)
    in_child(lambda: _drive(interrupted, "log-0", plant, torn.number, "short-kill"), interrupted / "log-0")
    orphans()  # a copy of this start remembers a process that is no more
    resumed, again = _operations(interrupted, base / "resumed", plant)
    recovered = next(n for n, o in enumerate(resumed) if o.what == INTERRUPTED_AT) - 2  # less the record `started`

    if not outcome == same == again:
        raise RuntimeError(f"The study ends with {outcome}, without git with {same}, when interrupted with {again}.")
    found = [
        *_faults(template, whole, lambda o: not _is_file(o) or _is_history(o)),
        *_faults(without_git, alone, lambda o: _is_file(o) and not _is_history(o)),
        *_faults(interrupted, resumed, lambda o: o.number <= recovered),
    ]
    return Reference(template, interrupted, tuple(_numbered(found)), outcome)


def make_tool_faults(base: Path, number: int) -> tuple[Fault, ...]:
    """What may happen to the study that a tool proposes, while it is asked; operations are numbered after `number`.

    That it repeats its operations is not looked at here: a fault that meets another one is a violation.
    """
    template = base / "tool-template"
    stub.make_template(template)
    listed = _of_tool(template, base / "tool-reference")
    asked = tool.while_asked(listed)
    found = [replace(fault, by_tool=True) for fault in _faults(template, listed, lambda o: o.number in asked)]
    numbers = {target: number + n for n, target in enumerate(dict.fromkeys(fault.target for fault in found), 1)}
    return tuple(replace(f, operation=replace(f.operation, number=numbers[f.target])) for f in found)


def _of_tool(template: Path, folder: Path) -> tuple[Operation, ...]:
    """Every operation of the study that a tool proposes, without faults. Raises RuntimeError when that goes wrong."""
    adopt_orphans()  # what tells of the last news may outlive the supervisor
    shutil.copytree(template, folder)
    log = folder / "log-1"
    status = in_child(lambda: tool.drive(folder, Injector(Log(log), folder / "project")), log)

    def look() -> list[str]:
        stub.make_views_cheap()
        return tool.wrong_with(folder, [log])

    problems = [said(log)] if status else [*orphans(), *_found(look, folder / "log-3")]
    if problems:
        raise RuntimeError(f"The study of a tool did not go on without faults ({status}): {problems}")
    return tuple(Operation(e["number"], e["kind"], e["what"]) for e in Log.read(log, "operation"))


def _faults(start: Path, operations: Sequence[Operation], chosen: Callable[[Operation], bool]) -> Iterator[Fault]:
    for operation, following in zip(operations, [*operations[1:], None], strict=True):
        if chosen(operation):
            yield from (Fault(start, operation.number, operation, fault) for fault in faults_of(operation, following))


def _numbered(faults: Sequence[Fault]) -> Iterator[Fault]:
    """Number the operations over all starts, and let a few faults meet real views."""
    numbers = {key: n for n, key in enumerate(dict.fromkeys((f.start, f.target) for f in faults), 1)}
    for n, fault in enumerate(faults):
        operation = replace(fault.operation, number=numbers[fault.start, fault.target])
        yield replace(fault, operation=operation, real_views=n % REAL_VIEWS_EVERY == 7)


def _is_file(operation: Operation) -> bool:
    return operation.kind in ("write", "fsync", "rename", "folder sync", "truncate")


def _is_history(operation: Operation) -> bool:
    return operation.what.endswith("history.jsonl")


def _operations(start: Path, folder: Path, plant: Plant) -> tuple[tuple[Operation, ...], check.Outcome]:
    """Every operation of the study from there on, and how it ends."""
    shutil.copytree(start, folder)
    log = folder / "log-1"
    status = in_child(lambda: _drive(folder, "log-1", plant, 0, ""), log)
    if status:
        raise RuntimeError(f"The study without faults did not end ({status}): {said(log)}")
    listed = Log.read(log, "operation")
    operations = tuple(Operation(entry["number"], entry["kind"], entry["what"]) for entry in listed)
    return operations, check.outcome_of(folder / "project")


def _drive(folder: Path, log: str, plant: Plant, target: int, fault: str, *, real_views: bool = False) -> None:
    plant()
    injector = Injector(Log(folder / log), folder / "project", target, fault)
    stub.drive(folder, injector, real_views=real_views)


def try_fault(fault: Fault, outcome: check.Outcome, plant: Plant) -> list[str]:
    """Everything that did not hold after this one fault."""
    adopt_orphans()
    folder = Path(tempfile.mkdtemp(prefix="fault-", dir=fault.start.parent))
    try:
        shutil.copytree(fault.start, folder, dirs_exist_ok=True)
        return [problem.replace(f"{folder}/project/", "") for problem in _try(folder, fault, outcome, plant)]
    except Exception as error:
        return [f"the harness itself failed with {type(error).__name__}: {error}"]
    finally:
        shutil.rmtree(folder)


def _try(folder: Path, fault: Fault, outcome: check.Outcome, plant: Plant) -> list[str]:
    project, operation = folder / "project", fault.operation

    def drive(log: str, target: int) -> None:
        if fault.by_tool:
            plant()
            return tool.drive(folder, Injector(Log(folder / log), project, target, fault.fault))
        return _drive(folder, log, plant, target, fault.fault, real_views=fault.real_views)

    def look() -> list[str]:
        if not fault.real_views:
            stub.make_views_cheap()
        logs = sorted(folder.glob("log-[012]"))
        if fault.by_tool:
            return tool.wrong_with(folder, logs)
        return check.after_resume(project, logs, outcome, check.Allowed.by(operation, fault.fault))

    first = in_child(lambda: drive("log-1", fault.target), folder / "log-1")
    hit = [(entry["kind"], entry["what"]) for entry in Log.read(folder / "log-1", "hit")]
    if hit != [(operation.kind, operation.what)]:
        return [f"the study does not repeat its operations: this was {hit}. {said(folder / 'log-1')}"]
    if (first == -signal.SIGKILL) != (fault.fault in DEADLY):
        return [f"the process with the fault ended with {first}: {said(folder / 'log-1')}"]
    problems = [*orphans(but_runs=True), *check.after_fault(project, sorted(folder.glob("log-[01]")))]
    second = in_child(lambda: drive("log-2", -1), folder / "log-2")
    if second:
        return [*problems, f"it could not be resumed ({second}): {said(folder / 'log-2')}"]
    problems += orphans()
    return problems + _found(look, folder / "log-3")


def _found(look: Callable[[], list[str]], log: Path) -> list[str]:
    """What a forked process finds wrong, which may replace what this one needs as it is."""
    problems = Log(log)

    def tell() -> None:
        for problem in look():
            problems.say("problem", text=problem)

    status = in_child(tell, log)
    failed = [f"the check itself failed ({status}): {said(log)}"] if status else []
    return failed + [entry["text"] for entry in Log.read(log, "problem")]


def in_child(work: Callable[[], object], log: Path) -> int:
    """Exit status of a forked process that does `work`; minus the signal that ended it."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            null = os.open(os.devnull, os.O_RDWR)
            for fd in (0, 1, 2):
                os.dup2(null, fd)
            work()
            code = 0
        except BaseException:
            Log(log).say("error", text=traceback.format_exc())
        finally:
            os._exit(code)
    status = _await(pid)
    if status is None:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        Log(log).say("error", text=f"it hung: not at its end after {LIMIT_SECONDS:.0f} s")
        return HUNG
    return os.waitstatus_to_exitcode(status)


def _await(pid: int) -> int | None:
    """Status of that child once it ended, None when it hangs; orphans that it ends meanwhile are reaped, as by init."""
    deadline = time.monotonic() + LIMIT_SECONDS
    watch = os.pidfd_open(pid)
    try:
        while time.monotonic() < deadline:
            select.select([watch], [], [], REAP_SECONDS)
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == pid:
                    return ended[1]
        return None
    finally:
        os.close(watch)


def said(log: Path) -> str:
    """What ended a forked process: the end of its traceback, in one line."""
    ends = [" ".join(entry["text"].strip().splitlines()[-3:]) for entry in Log.read(log, "error")]
    return " ".join(" ".join(ends).split())


def orphans(*, but_runs: bool = False) -> list[str]:
    """Wait for what the dead process left running (a git at work); whatever does not end by itself is a violation.

    A training or a score may go on (`but_runs`) until the study is taken up again.
    """
    deadline = time.monotonic() + ORPHAN_LIMIT_SECONDS
    while left := _children(but_runs):
        if time.monotonic() > deadline:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            return [f"a process of the study is still there: {', '.join(left.values())}"]
        time.sleep(0.002)
    return []


def _children(but_runs: bool) -> dict[int, str]:
    """Command of each child that has not ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            continue
    except ChildProcessError:
        return {}
    found = {}
    for pid in map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it may end while we look
            is_run = RUN_TOKEN.encode() in Path(f"/proc/{pid}/environ").read_bytes()
            if not (but_runs and is_run):
                found[pid] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found
