"""Runs one training at a time on this machine: in a process of its own, within a hard limit, in a sandbox.

The outcome follows from the files that the run left and from exit codes, never from metadata of its notebook. This
module keeps a second time limit, which also ends a runner that has stopped reacting.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..core.sanitize import is_number, parse_object
from ..core.types import MachineHolder, RunOutcome, Status
from ..record.curves import Tail, curve_points
from ..record.paths import ExperimentPaths
from ..sandbox.kinds import require_sandbox, wrap
from ..sandbox.policy import SANDBOX_FOLDER, Policy, training_policy
from ..sandbox.watchdog import Watchdog
from ..system.environment import environment
from ..system.locations import DTYPE
from ..system.machine import has_gpu, training_lock
from ..system.processes import ExitWatch, kill_by_token, kill_group
from ..system.untrusted_files import remove_tree
from .handover import keep_only_the_handover, read_handover

RUNNER_MARGIN_SECONDS = 20.0  # that the runner itself may take in addition, before it is asked to end
PATIENCE_SECONDS = 5.0  # for the runner to end its kernel and write the notebook, before it is killed
POLL_SECONDS = 0.1  # between two checks of the limits, the output and the curve
CURVE_LIMIT_POINTS = 2_000  # that are forwarded; a curve normally has about 200
OUTCOME = "outcome.json"  # written by the runner
CURVE_SECONDS = 0.1  # spent on forwarding points between two checks of the limits


class EndRun(Exception):
    """A callback of a Listener raises it to end the run, which then has this `status` and `reason`."""

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class LimitPassed(EndRun):
    """The run exceeded a limit of its sandbox and was ended."""


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
    token: str = field(default_factory=lambda: secrets.token_hex(16))  # in the environment of each of its processes
    max_steps: int | None = None  # the budget in steps, instead of seconds
    dtype: str | None = None  # number format, "float32" or "bfloat16"; None: prepare.py chooses
    limits: Mapping[str, Any] = field(default_factory=dict)  # of the sandbox, fields of sandbox.policy.Policy

    @property
    def limit_seconds(self) -> float:
        """Seconds from the start of the runner after which it is ended."""
        return self.startup_allowance_seconds + self.time_budget_seconds + self.handover_allowance_seconds


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


def run_training(training: Training, listener: Listener = NO_LISTENER) -> RunOutcome:
    """Train once in the sandbox of this machine: trained, crash, timeout or invalid, with the reason in one line.

    Raises SandboxMissing where there is no sandbox. However this call ends, also by an exception of a callback or
    Ctrl-C, no process of the run is left.
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
    folder = Path(tempfile.mkdtemp(prefix="ar-")).resolve()  # short, for socket paths; mode 0700
    own = folder / SANDBOX_FOLDER  # beside the hand-over the only part that the training may write to
    try:
        own.mkdir()
        write_notebook(notebook, folder / "train.ipynb")
        write_notebook(notebook, paths.notebook(run))
        with training_lock(listener.on_wait, listener.on_tick, training.study) as lock:
            waited = time.monotonic() - begun
            end = _run_runner(training, folder, sandbox.name, lock, listener)
        keep_only_the_handover(handover)
    except EndRun as why:  # before the runner started
        mark_end(paths.notebook(run), "Stopped", why.reason)
        measured = {"total_seconds": time.monotonic() - begun}
        return RunOutcome(why.status, why.reason, None, paths.notebook(run), measured)
    finally:
        _remove_folder(folder)
    return _outcome(end, training, begun + waited)


def _fresh_folder(folder: Path) -> Path:
    remove_tree(folder)
    folder.mkdir(parents=True)
    return folder.resolve()


def _remove_folder(folder: Path) -> None:
    try:
        remove_tree(folder)
    except OSError as error:
        warnings.warn(f"{folder} is left ({error}). Remove it by hand.", stacklevel=2)


# --- the runner


@dataclass(frozen=True)
class _RunnerExit:
    """How the runner ended."""

    outcome: dict[str, Any] | None  # what it wrote; None when it could not
    exit_code: int
    overran: bool  # it passed its limit and was asked to end
    started: float  # monotonic
    finished: float
    left_behind: int  # processes that outlived it
    ended_by: EndRun | None  # the exception of a callback


def _run_runner(training: Training, folder: Path, sandbox: str, lock: int, listener: Listener) -> _RunnerExit:
    policy = _policy(training, folder)
    prefix = wrap(policy, [], sandbox)
    started = time.monotonic()
    runner = _start_runner(training, folder, prefix, lock)
    overran, ended_by = False, None
    # The time limits are kept by the deadline in the runner and by _watch, which know what to report.
    watchdog = Watchdog(runner.pid, replace(policy, seconds=0.0), [folder])
    try:
        if listener.on_spawn is not None:
            listener.on_spawn(runner.pid)
        overran = _watch(runner, training, started, listener, watchdog)
    except EndRun as why:
        ended_by = why
    finally:
        _stop(runner, overran, watchdog)
        left_behind = len(kill_by_token(training.token))
    outcome = _read_outcome(folder / OUTCOME)
    return _RunnerExit(outcome, runner.returncode, overran, started, time.monotonic(), left_behind, ended_by)


def _start_runner(training: Training, folder: Path, prefix: list[str], lock: int) -> subprocess.Popen[bytes]:
    from .runner import Job

    job = Job(
        notebook=str(folder / "train.ipynb"),
        output=str(training.paths.notebook(training.run).resolve()),
        outcome=str(folder / OUTCOME),
        folder=str(folder),
        parameters={"SEED": training.seed},
        deadline_seconds=training.limit_seconds,
        parent_pid=os.getpid(),
        prefix=prefix,
    )
    (folder / "job.json").write_text(json.dumps(asdict(job)), encoding="utf-8")
    command = [sys.executable, "-m", "autoresearch_kernel.run.runner", str(folder / "job.json")]
    env = training_environment(training, folder / SANDBOX_FOLDER)
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
    return training_policy(
        training.corpus_dir,
        training.project,
        training.paths.handover(training.run).resolve(),
        folder / SANDBOX_FOLDER,
        seconds=training.limit_seconds,
        gpu=has_gpu(),
        **training.limits,
    )


def _watch(
    runner: subprocess.Popen[bytes], training: Training, started: float, listener: Listener, watchdog: Watchdog
) -> bool:
    """Forward output and curve until the runner ends; True when it passed its limit and was asked to end."""
    deadline = time.monotonic() + training.limit_seconds + RUNNER_MARGIN_SECONDS
    output, curve = Tail(training.paths.runner_log(training.run)), Tail(training.paths.metrics(training.run))
    overran, points = False, _CurveForwarder(listener.on_metrics)
    exit_watch = ExitWatch(runner.pid)
    try:
        while True:
            if listener.on_tick is not None:
                listener.on_tick(time.monotonic() - started)
            ended = runner.poll() is not None
            if not ended and (limit := watchdog.check()):
                watchdog.end()
                raise LimitPassed(Status.CRASH, limit)
            if listener.on_output is not None and (text := output.read()):
                listener.on_output(text)
            if points.allowance and (ended or not points.waiting):
                points.add(curve_points(curve.read_lines()))
            points.pass_on(is_last=ended)
            if ended:
                return overran
            if time.monotonic() > deadline:
                if overran:
                    return True
                overran, deadline = True, time.monotonic() + PATIENCE_SECONDS
                runner.terminate()
            exit_watch.wait(0.0 if points.waiting else POLL_SECONDS)
    finally:
        exit_watch.close()


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


# --- the outcome


def _outcome(end: _RunnerExit, training: Training, begun: float) -> RunOutcome:
    """The outcome of a run. It has been trained when the hand-over is complete and every cell of the notebook ran."""
    from .notebook import mark_end

    paths, run = training.paths, training.run
    handed_over, complaint = read_handover(paths.handover(run))
    artefact = paths.artefact(run)
    said = end.outcome or {}
    measured = _measured(end, handed_over or {}, begun)
    status, reason = _status(end, said, handed_over is not None, complaint, training.limit_seconds)
    if end.ended_by is not None:
        mark_end(paths.notebook(run), "Stopped", reason)
    elif end.outcome is None:
        mark_end(paths.notebook(run), "RunnerDied", reason)
    return RunOutcome(status, reason, artefact if status is None else None, paths.notebook(run), measured)


def _status(
    end: _RunnerExit, said: dict[str, Any], handed_over: bool, complaint: str, limit: float
) -> tuple[Status | None, str]:
    if end.ended_by is not None:
        return end.ended_by.status, end.ended_by.reason
    if end.overran or said.get("ended") == "deadline":
        where = f" in cell {said['cell']}" if said.get("cell") else ""
        return Status.TIMEOUT, f"passed its hard limit of {limit:.0f} s{where}"
    if end.outcome is None:
        from .kernel_process import describe_exit

        return Status.CRASH, f"the runner {describe_exit(end.exit_code)}; see runner.log"
    if said["ended"] == "done":
        return (None, "") if handed_over else (Status.CRASH, f"all cells ran, but {complaint}")
    where = f" in cell {said['cell']}" if said.get("cell") else ""
    when = " before the hand-over" if said["ended"] in ("exit", "died") and not handed_over else ""
    return Status.CRASH, f"{said['reason']}{where}{when}"


def _measured(end: _RunnerExit, handed_over: dict[str, Any], begun: float) -> dict[str, Any]:
    """The facts of the hand-over, then those that the supervisor measured, which no training can write.

    `overhead_seconds` is the total time without the training itself.
    """
    said = end.outcome or {}
    measured = dict(handed_over)
    total = end.finished - begun
    if said:
        measured |= {
            "runner_start_seconds": said["begun"] - end.started,
            "kernel_start_seconds": said["kernel_start_seconds"],
            "cells_seconds": said["cells_seconds"],
            "shutdown_seconds": end.finished - said["begun"] - said["kernel_start_seconds"] - said["cells_seconds"],
            "process_peak_memory_mb": said["process_peak_memory_mb"],
            "exit_code": said["exit_code"],
            "left_behind": said["left_behind"] + end.left_behind,
        }
    else:
        measured |= {"exit_code": end.exit_code, "left_behind": end.left_behind}
    if isinstance(end.ended_by, LimitPassed):
        measured["exit_code"] = None  # the supervisor killed it for a reason, so there is no use in a retry
    training = handed_over.get("training_seconds")
    if is_number(training):
        measured["overhead_seconds"] = total - training
    return measured | {"total_seconds": total}


def training_environment(training: Training, folder: Path) -> dict[str, str]:
    """The environment of a training: variables that any child may inherit, and those that prepare.py reads.

    Args:
        folder: the training's libraries may write their files here.
    """
    env = environment(training.token, Path(__file__).resolve().parents[2], prefixes=("AUTORESEARCH_",))
    for name in ("AUTORESEARCH_HELDOUT", "AUTORESEARCH_HOME"):  # a training must not know where the validation rows are
        env.pop(name, None)
    if training.max_steps is not None:
        env["AUTORESEARCH_MAX_STEPS"] = str(training.max_steps)
    if training.dtype is not None:  # the study's format, whatever this process's environment says
        env[DTYPE] = training.dtype
    return env | {
        "AUTORESEARCH_CORPUS": str(training.corpus_dir.resolve()),
        "AUTORESEARCH_TIME_BUDGET": repr(training.time_budget_seconds),
        "AUTORESEARCH_HANDOVER": str(training.paths.handover(training.run).resolve()),
        "AUTORESEARCH_PROJECT": str(training.project.resolve()),
        "AUTORESEARCH_SEED": str(training.seed),
        "IPYTHONDIR": str(folder / "ipython"),  # without the user's start-up files
        "MPLCONFIGDIR": str(folder / "matplotlib"),
        "PYTHONUNBUFFERED": "1",
    }
