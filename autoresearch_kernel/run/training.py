"""Runs one training at a time on this machine: in a process of its own, within a hard limit, in a sandbox.

This module keeps a second time limit, which also ends a runner that has stopped reacting.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import time
import warnings
from collections import deque
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..core.sanitize import parse_object
from ..core.types import MachineHolder, RunOutcome, Status
from ..record.curves import Tail, curve_points
from ..record.paths import ExperimentPaths
from ..sandbox.kinds import require_sandbox, wrap
from ..sandbox.policy import SANDBOX_FOLDER, Policy, training_policy
from ..sandbox.watchdog import Watchdog
from ..system.environment import environment
from ..system.locations import DTYPE, PROJECT
from ..system.machine import has_gpu, training_lock
from ..system.machine_speed import MachineSpeed
from ..system.own_time import OwnTime, Pauses
from ..system.privacy import private_to
from ..system.processes import ExitWatch, kill_by_token, kill_group, memory_kills, not_by_the_system
from ..system.start import python_command
from ..system.steady_clock import LEAST_RATE, SteadyClock, is_possible
from ..system.temporary import make_folder, remove_folder
from ..system.untrusted_files import remove_tree
from .handover import keep_only_the_handover
from .outcome import EndRun, LimitPassed, RunnerExit, outcome_of

RUNNER_MARGIN_SECONDS = 20.0  # that the runner itself may take in addition, before it is asked to end
PATIENCE_SECONDS = 5.0  # for the runner to end its kernel and write the notebook, before it is killed
POLL_SECONDS = 0.1  # between two checks of the limits, the output and the curve
CURVE_LIMIT_POINTS = 2_000  # that are forwarded; a curve normally has about 200
OUTCOME = "outcome.json"  # written by the runner
CLOCK = "clock"  # the count of a steady clock, which the training reads
CURVE_SECONDS = 0.1  # spent on forwarding points between two checks of the limits
PAUSES = "pauses"  # in the folder of the sandbox: for how long a training of a duel was stopped
MOST_WORK_STOPPED = 0.02  # of its budget: processor time that a training may use while it is stopped
LEAST_WORK_STOPPED_SECONDS = 0.5  # what may be the system's own inaccuracy


def new_token() -> str:
    """What the processes of one training, score or audit carry in their environment."""
    return secrets.token_hex(16)


@dataclass(frozen=True)
class Training:
    """One training: its code, data, time and seed, and where its files go."""

    source: str  # of train.py
    paths: ExperimentPaths
    run: int
    seed: int
    title: str
    hypothesis: str
    diff: str
    corpus_dir: Path
    project: Path
    time_budget_seconds: float
    startup_allowance_seconds: float
    handover_allowance_seconds: float
    study: str = ""  # its name, for other studies that wait for this machine
    token: str = field(default_factory=new_token)  # in the environment of each of its processes
    clock: str = "wall"  # or "steady", which counts the budget in seconds of normal speed
    normal_speed: float | None = None  # of the machine; None in the run that measures it, by the wall clock
    max_steps: int | None = None  # the budget in steps, instead of seconds
    dtype: str | None = None  # number format, "float32" or "bfloat16"; None: prepare.py chooses
    limits: Mapping[str, Any] = field(default_factory=dict)  # of the sandbox, fields of sandbox.policy.Policy

    @property
    def limit_seconds(self) -> float:
        """Seconds from the start of the runner after which it is ended."""
        budget = self.time_budget_seconds * (1 / LEAST_RATE if self.has_steady_clock else 1.0)
        return self.startup_allowance_seconds + budget + self.handover_allowance_seconds

    @property
    def has_steady_clock(self) -> bool:
        """Whether a steady clock counts; not for a budget in steps, nor where no speed can be measured."""
        return self.clock == "steady" and self.max_steps is None and is_possible()


@dataclass(frozen=True)
class Listener:
    """Callbacks that follow a training. A callback ends the training by raising EndRun, which becomes its outcome."""

    on_output: Callable[[str], None] | None = None  # is called with new output of the notebook
    on_metrics: Callable[[dict[str, Any]], None] | None = None  # is called with each point of the curve
    on_wait: Callable[[MachineHolder], None] | None = None  # is called with the holder of the machine's training lock
    # Called at least four times a second: with 0.0 while another training holds the machine, then with the seconds
    # since the runner started.
    on_tick: Callable[[float], None] | None = None
    on_spawn: Callable[[int], None] | None = None  # is called with the runner's pid, which leads a process group


NO_LISTENER = Listener()


@dataclass(frozen=True)
class Turn:
    """What the two trainings of a duel share."""

    lock: int  # descriptor of the machine's training lock, which both runners inherit
    speed: MachineSpeed  # one measurement for both


@dataclass(frozen=True)
class InWork:
    """A training in its process, between two checks of its limits."""

    own_time: OwnTime
    wait: Callable[[float], None]  # returns when the runner ends, at the latest after so many seconds
    seconds: float  # until the next check is due


Steps = Generator[InWork, None, RunOutcome]


def run_training(
    training: Training, listener: Listener = NO_LISTENER, memory_kills: Callable[[], int | None] = memory_kills
) -> RunOutcome:
    """Train once in the sandbox of this machine: trained, crash, timeout or invalid, with the reason in one line.

    Raises SandboxMissing where there is no sandbox, MachineFailed for what is no fault of the code.

    A run that was killed has `exit_code` -9 among its measured facts only where the system's count of processes killed
    for lack of memory, `memory_kills`, has risen meanwhile. The code can kill itself, and a user can kill it by hand.

    However this call ends, also by an exception of a callback or
    Ctrl-C, no process of the run is left.
    """
    with closing(training_steps(training, listener, memory_kills)) as steps:
        while True:
            try:
                in_work = next(steps)
            except StopIteration as end:
                outcome: RunOutcome = end.value
                return outcome
            in_work.wait(in_work.seconds)


def training_steps(
    training: Training,
    listener: Listener = NO_LISTENER,
    memory_kills: Callable[[], int | None] = memory_kills,
    turn: Turn | None = None,
) -> Steps:
    """`run_training` as a generator, which returns to its caller after each check of the limits.

    Args:
        turn: of a duel, in which the caller stops the training from time to time; None for a training alone.
    """
    from ..source.gate import InvalidSource
    from .notebook import build_notebook, heading_markdown, mark_end, write_notebook

    sandbox = require_sandbox()
    begun = time.monotonic()
    paths, run = training.paths, training.run
    status = f"{'first run' if run == 0 else f'confirmation {run}'} · seed {training.seed} · running"
    hypothesis, diff = training.hypothesis, training.diff
    try:
        heading = heading_markdown(training.title, status_line=status, hypothesis=hypothesis, diff=diff)
        notebook = build_notebook(training.source, heading=heading)
    except InvalidSource as error:
        return RunOutcome(Status.INVALID, str(error), None, None)
    handover = _fresh_folder(paths.handover(run))
    folder = make_folder()
    own = folder / SANDBOX_FOLDER  # beside the hand-over the only part that the training may write to
    try:
        own.mkdir()
        (folder / CLOCK).touch(0o644)
        write_notebook(notebook, folder / "train.ipynb")
        write_notebook(notebook, paths.notebook(run))
        with _lock(training, listener, turn) as lock:
            begun, kills_before = time.monotonic(), memory_kills()
            try:
                end = yield from _run_runner(training, folder, sandbox.name, lock, listener, turn)
            finally:
                keep_only_the_handover(handover)
    except EndRun as why:  # before the runner started
        mark_end(paths.notebook(run), "Stopped", why.reason)
        measured = {"total_seconds": time.monotonic() - begun}
        return RunOutcome(why.status, why.reason, None, paths.notebook(run), measured)
    finally:
        _remove_folder(folder)
    why_the_code = not_by_the_system(kills_before, memory_kills())
    limit = training.limit_seconds
    return outcome_of(end, paths, run, limit_seconds=limit, begun=begun, why_the_code=why_the_code)


def _lock(training: Training, listener: Listener, turn: Turn | None) -> AbstractContextManager[int]:
    """The machine's training lock; in a duel the one that the caller holds for both trainings."""
    if turn is not None:
        return nullcontext(turn.lock)
    return training_lock(listener.on_wait, listener.on_tick, training.study)


def _fresh_folder(folder: Path) -> Path:
    remove_tree(folder)
    folder.mkdir(parents=True)
    return folder.resolve()


def _remove_folder(folder: Path) -> None:
    try:
        remove_folder(folder)
    except OSError as error:
        warnings.warn(f"{folder} is left ({error}). Remove it by hand.", stacklevel=2)


# --- the runner


def _run_runner(
    training: Training, folder: Path, sandbox: str, lock: int, listener: Listener, turn: Turn | None
) -> Generator[InWork, None, RunnerExit]:
    policy = _policy(training, folder)
    prefix = wrap(policy, [], sandbox)
    pauses = Pauses(folder / SANDBOX_FOLDER / PAUSES) if turn is not None else None
    started = time.monotonic()
    runner = _start_runner(training, folder, prefix, lock, turn is not None)
    own_time = OwnTime(runner.pid, started, pauses)
    overran, ended_by = False, None
    # The time limits are kept by the deadline in the runner and by _watch, which know what to report.
    watchdog = Watchdog(runner.pid, replace(policy, seconds=0.0), [folder])
    speed = MachineSpeed(runner.pid) if turn is None else turn.speed
    speed.runners.add(runner.pid)
    clock = _steady_clock(training, runner.pid, folder) if turn is None else None
    measure = speed.measure if clock is None else _both(speed.measure, clock.tick)
    try:
        if listener.on_spawn is not None:
            listener.on_spawn(runner.pid)
        overran = yield from _watch(runner, training, own_time, listener, watchdog, measure)
    except EndRun as why:
        ended_by = why
    finally:
        _stop(runner, overran, watchdog)
        left_behind = len(kill_by_token(training.token))
        if pauses is not None:
            pauses.close()
    return RunnerExit(
        outcome=_read_outcome(folder / OUTCOME),
        exit_code=runner.returncode,
        overran=overran,
        started=started,
        finished=time.monotonic(),
        left_behind=left_behind,
        ended_by=ended_by,
        machine_speed=speed.median(),
        clock=clock,
        own_time=own_time,
    )


def _steady_clock(training: Training, runner: int, folder: Path) -> SteadyClock | None:
    return SteadyClock(runner, folder / CLOCK, training.normal_speed) if training.has_steady_clock else None


def _both(one: Callable[[], None], other: Callable[[], None]) -> Callable[[], None]:
    def both() -> None:
        one()
        other()

    return both


def _start_runner(
    training: Training, folder: Path, prefix: list[str], lock: int, is_duel: bool
) -> subprocess.Popen[bytes]:
    from .runner import Job

    # The runner's own deadline counts the stops of a duel too. There `_watch` keeps the limit.
    deadline = 3 * (training.limit_seconds + RUNNER_MARGIN_SECONDS) if is_duel else training.limit_seconds

    job = Job(
        notebook=str(folder / "train.ipynb"),
        source=training.source,
        output=str(training.paths.notebook(training.run).resolve()),
        outcome=str(folder / OUTCOME),
        folder=str(folder),
        parameters={"SEED": training.seed},
        deadline_seconds=deadline,
        parent_pid=os.getpid(),
        private=asdict(private_to(training.project)),
        prefix=prefix,
    )
    (folder / "job.json").write_text(json.dumps(asdict(job)), encoding="utf-8")
    command = python_command("autoresearch_kernel.run.runner", str(folder / "job.json"))
    env = training_environment(training, folder / SANDBOX_FOLDER)
    if training.has_steady_clock and training.normal_speed is not None and not is_duel:
        env["AUTORESEARCH_CLOCK"] = str(folder / CLOCK)
    if is_duel:
        env["AUTORESEARCH_PAUSES"] = str(folder / SANDBOX_FOLDER / PAUSES)
    with open(training.paths.runner_log(training.run), "wb") as log:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=env, cwd=folder,
            start_new_session=True, pass_fds=(lock,),
        )  # fmt: skip


def _read_outcome(path: Path) -> dict[str, Any] | None:
    try:
        return parse_object(path.read_bytes())
    except OSError:
        return None


def _policy(training: Training, folder: Path) -> Policy:
    policy = training_policy(
        training.corpus_dir,
        training.project,
        training.paths.handover(training.run).resolve(),
        folder / SANDBOX_FOLDER,
        seconds=training.limit_seconds,
        gpu=has_gpu(),
        **training.limits,
    )
    return replace(policy, read_only=(*policy.read_only, str(folder / CLOCK)))


def _watch(
    runner: subprocess.Popen[bytes],
    training: Training,
    own_time: OwnTime,
    listener: Listener,
    watchdog: Watchdog,
    measure: Callable[[], None],
) -> Generator[InWork, None, bool]:
    """Forward output and curve until the runner ends; True when it passed its limit and was asked to end."""
    margin = RUNNER_MARGIN_SECONDS if own_time.pauses is None else 0.0
    deadline = training.limit_seconds + margin  # in the training's own seconds
    output, curve = Tail(training.paths.runner_log(training.run)), Tail(training.paths.metrics(training.run))
    overran, points = False, _CurveForwarder(listener.on_metrics)
    exit_watch = ExitWatch(runner.pid)
    try:
        while True:
            if listener.on_tick is not None:
                listener.on_tick(own_time.elapsed())
            measure()
            ended = runner.poll() is not None
            if not ended and (limit := watchdog.check() or _worked_stopped(own_time, training.time_budget_seconds)):
                watchdog.end()
                raise LimitPassed(Status.CRASH, limit)
            if listener.on_output is not None and (text := output.read()):
                listener.on_output(text)
            if points.allowance and (ended or not points.waiting):
                points.add(curve_points(curve.read_lines()))
            points.pass_on(is_last=ended)
            if ended:
                return overran
            if own_time.elapsed() > deadline:
                if overran:
                    return True
                overran, deadline = True, own_time.elapsed() + PATIENCE_SECONDS
                runner.terminate()
            yield InWork(own_time, exit_watch.wait, 0.0 if points.waiting else POLL_SECONDS)
    finally:
        exit_watch.close()


def _worked_stopped(own_time: OwnTime, budget_seconds: float) -> str:
    """Why a training that does not stand still in a duel is ended, in words that follow "it"; "" for any other."""
    worked = own_time.worked_while_stopped
    if worked <= max(LEAST_WORK_STOPPED_SECONDS, MOST_WORK_STOPPED * budget_seconds):
        return ""
    return f"worked for {worked:.1f} s while it was stopped and the other side of its duel trained"


class _CurveForwarder:
    """Forwards at most CURVE_LIMIT_POINTS points of a curve, a few at a time, so that limits are checked in between."""

    def __init__(self, on_metrics: Callable[[dict[str, Any]], None] | None) -> None:
        self.on_metrics = on_metrics
        self.waiting: deque[dict[str, Any]] = deque()
        self.allowance = 0 if on_metrics is None else CURVE_LIMIT_POINTS

    def add(self, points: list[dict[str, Any]]) -> None:
        self.waiting.extend(points[: self.allowance])
        self.allowance = max(0, self.allowance - len(points))

    def pass_on(self, is_last: bool) -> None:
        """Forward some of the waiting points; after the end of the run, only the last one when time is short."""
        until = time.monotonic() + CURVE_SECONDS
        while self.waiting and self.on_metrics is not None:
            if time.monotonic() > until:
                if not is_last:
                    return
                self.waiting = deque([self.waiting[-1]])
            self.on_metrics(self.waiting.popleft())


def _stop(runner: subprocess.Popen[bytes], was_asked: bool, watchdog: Watchdog) -> None:
    """Let the runner end its kernel and write the notebook; kill it with all it started when it does not."""
    if runner.poll() is None and not was_asked:
        runner.terminate()
        with suppress(subprocess.TimeoutExpired):
            runner.wait(timeout=PATIENCE_SECONDS)
    watchdog.end()
    kill_group(runner.pid, signal.SIGKILL)
    if runner.poll() is None:
        runner.kill()
    runner.wait()


def training_environment(training: Training, folder: Path) -> dict[str, str]:
    """The environment of a training: variables that any child may inherit, and those that prepare.py reads.

    Args:
        folder: the training's libraries may write their files here.
    """
    env = environment(training.token, prefixes=("AUTORESEARCH_",))
    # The first two lead to the validation rows, which a training must not find; the others are of another training, or
    # of one that a user makes by hand.
    for name in ("HELDOUT", "HOME", "CLOCK", "PAUSES", "MAX_STEPS"):
        env.pop(f"AUTORESEARCH_{name}", None)
    if training.max_steps is not None:
        env["AUTORESEARCH_MAX_STEPS"] = str(training.max_steps)
    if training.dtype is not None:  # the study's format, whatever this process's environment says
        env[DTYPE] = training.dtype
    return env | {
        "AUTORESEARCH_CORPUS": str(training.corpus_dir.resolve()),
        "AUTORESEARCH_TIME_BUDGET": repr(training.time_budget_seconds),
        "AUTORESEARCH_HANDOVER": str(training.paths.handover(training.run).resolve()),
        PROJECT: str(training.project.resolve()),
        "AUTORESEARCH_SEED": str(training.seed),
        "IPYTHONDIR": str(folder / "ipython"),  # without the user's start-up files
        "MPLCONFIGDIR": str(folder / "matplotlib"),
        "PYTHONUNBUFFERED": "1",
    }
