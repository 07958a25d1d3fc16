"""Where an experiment runs: one training at a time on this machine, in a process of its own, within a hard limit.

It judges a run by what the run left and by exit codes, never by what a notebook says of itself. It owns the second
clock, which also ends a runner that no longer ends itself.
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

from ..core.sanitize import is_number
from ..core.types import MachineHolder, RunOutcome, Status
from ..record.curves import Tail, curve_points
from ..record.paths import ExperimentPaths
from ..sandbox.kinds import require_sandbox, wrap
from ..sandbox.policy import SANDBOX_FOLDER, Policy, training_policy
from ..sandbox.watchdog import Watchdog
from ..system.environment import environment
from ..system.locations import DTYPE
from ..system.machine import has_gpu, training_lock
from ..system.processes import ExitWatch, kill_group, sweep
from ..system.untrusted_files import remove_tree
from .handover import _read_json, keep_only_the_handover, read_handover

RUNNER_MARGIN_SECONDS = 20.0  # what the runner itself may take on top, before it is asked to end
PATIENCE_SECONDS = 5.0  # for the runner to end its kernel and write its record, before it is killed
LOOK_EVERY_SECONDS = 0.1  # at the runner's output and the curve
CURVE_LIMIT_POINTS = 2_000  # passed on; a real curve has about 200
CURVE_SECONDS = 0.1  # spent on points at a time, before the limits are looked at again


class EndRun(Exception):
    """Raised by a callback of a Listener to end the run; `status` and `reason` become the run's."""

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class LimitPassed(EndRun):
    """The run passed a limit of its sandbox, and was ended for it."""


@dataclass(frozen=True)
class Training:
    """One training: what is trained, on what, for how long, and where it leaves what it makes."""

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
        """After which the runner is ended, from its start."""
        return self.startup_allowance_seconds + self.time_budget_seconds + self.handover_allowance_seconds


@dataclass(frozen=True)
class Listener:
    """Who is told what a training does. A callback ends the training by raising EndRun, which becomes its outcome."""

    on_output: Callable[[str], None] | None = None  # gets the notebook's output as it comes
    on_metrics: Callable[[dict[str, Any]], None] | None = None  # gets each point of the curve
    on_wait: Callable[[MachineHolder], None] | None = None  # hears whose training holds the machine meanwhile
    # Called at least four times a second: with 0.0 while another training holds the machine, then with the seconds
    # since the runner started.
    on_tick: Callable[[float], None] | None = None
    on_spawn: Callable[[int], None] | None = None  # gets the runner's pid, which leads a process group


NO_LISTENER = Listener()


def run_training(training: Training, listener: Listener = NO_LISTENER) -> RunOutcome:
    """Train once in the sandbox of this machine: trained, crash, timeout or invalid, with the reason in one line.

    Raises SandboxMissing where there is no sandbox. Whatever ends this call, an exception of a callback or Ctrl-C
    included, no process of the run is left.
    """
    from ..source.gate import InvalidSource
    from .notebook import build_notebook, heading_markdown, write_notebook

    sandbox = require_sandbox()
    begun = time.monotonic()
    paths, run = training.paths, training.run
    heading = heading_markdown(
        training.title,
        status_line=_status_line(run, training.seed),
        hypothesis=training.hypothesis,
        diff=training.diff,
    )
    try:
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
        _close_notebook(paths.notebook(run), "Stopped", why.reason)
        measured = {"total_seconds": time.monotonic() - begun}
        return RunOutcome(why.status, why.reason, None, paths.notebook(run), measured)
    finally:
        _clear_away(folder)
    return _judge(end, training, begun + waited)


def _status_line(run: int, seed: int) -> str:
    return f"{'first run' if run == 0 else f'confirmation {run}'} · seed {seed} · running"


def _fresh_folder(folder: Path) -> Path:
    remove_tree(folder)
    folder.mkdir(parents=True)
    return folder.resolve()


def _clear_away(folder: Path) -> None:
    try:
        remove_tree(folder)
    except OSError as error:
        warnings.warn(f"{folder} is left ({error}). Remove it by hand.", stacklevel=2)


# --- the runner


@dataclass(frozen=True)
class _End:
    """How the runner ended."""

    outcome: dict[str, Any] | None  # its own words; None when it could not say
    exit_code: int
    overran: bool  # the second clock had to end it
    started: float  # monotonic
    finished: float
    left_behind: int  # processes that outlived it
    ended_by: EndRun | None  # a callback had it ended


def _run_runner(training: Training, folder: Path, sandbox: str, lock: int | None, listener: Listener) -> _End:
    from .runner import Job

    paths, outcome = training.paths, folder / "outcome.json"
    policy = _policy(training, folder)
    job = Job(
        notebook=str(folder / "train.ipynb"),
        output=str(paths.notebook(training.run).resolve()),
        outcome=str(outcome),
        folder=str(folder),
        parameters={"SEED": training.seed},
        deadline_seconds=training.limit_seconds,
        parent_pid=os.getpid(),
        prefix=wrap(policy, [], sandbox),
    )
    (folder / "job.json").write_text(json.dumps(asdict(job)), encoding="utf-8")
    env = training_environment(training, folder / SANDBOX_FOLDER)
    started = time.monotonic()
    with open(paths.runner_log(training.run), "wb") as log:
        runner = subprocess.Popen(
            [sys.executable, "-m", "autoresearch_kernel.run.runner", str(folder / "job.json")],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=folder,
            start_new_session=True,
            pass_fds=() if lock is None else (lock,),
        )
    overran, ended_by = False, None
    # Its time has clocks of its own, which know what it was doing when it ended.
    watchdog = Watchdog(runner.pid, replace(policy, seconds=0.0), [folder])
    try:
        if listener.on_spawn is not None:
            listener.on_spawn(runner.pid)
        overran = _watch(runner, training, started, listener, watchdog)
    except EndRun as why:
        ended_by = why
    finally:
        _stop(runner, overran, watchdog)
        left_behind = len(sweep(training.token))
    return _End(_read_json(outcome), runner.returncode, overran, started, time.monotonic(), left_behind, ended_by)


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
    """Pass on output and curve until the runner ends; True when it had to be asked to, whether or not it then did."""
    deadline = time.monotonic() + training.limit_seconds + RUNNER_MARGIN_SECONDS
    output, curve = Tail(training.paths.runner_log(training.run)), Tail(training.paths.metrics(training.run))
    overran, points = False, _Points(listener.on_metrics)
    exit_watch = ExitWatch(runner.pid)
    try:
        while True:
            if listener.on_tick is not None:
                listener.on_tick(time.monotonic() - started)
            ended = runner.poll() is not None
            if not ended and (limit := watchdog.look()):
                watchdog.end()
                raise LimitPassed(Status.CRASH, limit)
            if listener.on_output is not None and (text := output.read()):
                listener.on_output(text)
            if points.room and (ended or not points.waiting):
                points.add(curve_points(curve.read_lines()))
            points.pass_on(is_last=ended)
            if ended:
                return overran
            if time.monotonic() > deadline:
                if overran:
                    return True
                overran, deadline = True, time.monotonic() + PATIENCE_SECONDS
                runner.terminate()
            exit_watch.wait(0.0 if points.waiting else LOOK_EVERY_SECONDS)
    finally:
        exit_watch.close()


class _Points:
    """Passes on the points of a curve: so many and no more, a few at a time, with the limits looked at in between."""

    def __init__(self, on_metrics: Callable[[dict[str, Any]], None] | None) -> None:
        self.on_metrics = on_metrics
        self.waiting: deque[dict[str, Any]] = deque()
        self.room = 0 if on_metrics is None else CURVE_LIMIT_POINTS

    def add(self, points: list[dict[str, Any]]) -> None:
        self.waiting.extend(points[: self.room])
        self.room = max(0, self.room - len(points))

    def pass_on(self, is_last: bool) -> None:
        """Some of what waits; of what is left when the run has ended, the last point only."""
        until = time.monotonic() + CURVE_SECONDS
        while self.waiting and self.on_metrics is not None:
            if time.monotonic() > until:
                if not is_last:
                    return
                self.waiting = deque([self.waiting[-1]])
            self.on_metrics(self.waiting.popleft())


def _stop(runner: subprocess.Popen[bytes], was_asked: bool, watchdog: Watchdog) -> None:
    """Let the runner end its kernel and write its record; kill it, and all it has started, when it does not."""
    if runner.poll() is None and not was_asked:
        runner.terminate()
        with suppress(subprocess.TimeoutExpired):
            runner.wait(timeout=PATIENCE_SECONDS)
    watchdog.end()
    if sys.platform != "win32":
        kill_group(runner.pid, signal.SIGKILL)
    if runner.poll() is None:
        runner.kill()
    runner.wait()


# --- what came of it


def _judge(end: _End, training: Training, begun: float) -> RunOutcome:
    """The status, from what the run left: a complete hand-over and a notebook of which every cell ran."""
    paths, run = training.paths, training.run
    handed_over, complaint = read_handover(paths.handover(run))
    artefact = paths.artefact(run)
    said = end.outcome or {}
    measured = _measured(end, handed_over or {}, begun)
    status, reason = _status(end, said, handed_over is not None, complaint, training.limit_seconds)
    if end.ended_by is not None:
        _close_notebook(paths.notebook(run), "Stopped", reason)
    elif end.outcome is None:
        _close_notebook(paths.notebook(run), "RunnerDied", reason)
    return RunOutcome(
        status=status,
        reason=reason,
        artefact=artefact if status is None else None,
        notebook=paths.notebook(run),
        measured=measured,
    )


def _status(
    end: _End, said: dict[str, Any], handed_over: bool, complaint: str, limit: float
) -> tuple[Status | None, str]:
    if end.ended_by is not None:
        return end.ended_by.status, end.ended_by.reason
    if end.overran or said.get("ended") == "deadline":
        where = f" in cell {said['cell']}" if said.get("cell") else ""
        return Status.TIMEOUT, f"passed its hard limit of {limit:.0f} s{where}"
    if end.outcome is None:
        from .kernel_process import exit_words

        return Status.CRASH, f"the runner {exit_words(end.exit_code)}; see runner.log"
    if said["ended"] == "done":
        return (None, "") if handed_over else (Status.CRASH, f"all cells ran, but {complaint}")
    where = f" in cell {said['cell']}" if said.get("cell") else ""
    when = " before the hand-over" if said["ended"] in ("exit", "died") and not handed_over else ""
    return Status.CRASH, f"{said['reason']}{where}{when}"


def _measured(end: _End, handed_over: dict[str, Any], begun: float) -> dict[str, Any]:
    """The training's own figures, then ours, which no training can write.

    `other_seconds` is what the five parts below do not explain: reading, writing, waiting.
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
        measured["exit_code"] = None  # killed by us, for cause: nothing to try again for
    training = handed_over.get("training_seconds")
    if is_number(training):
        measured["overhead_seconds"] = total - training
    return measured | {"total_seconds": total}


def _close_notebook(path: Path, name: str, reason: str) -> None:
    """Say in a notebook why it ended, where its runner could not: what ran, ran; what had not begun is skipped.

    The reason stands where the runner said that it was stopped, else in the cell that was running or the next one.
    """
    from nbformat.v4 import new_output

    from .notebook import read_notebook, write_notebook

    notebook = read_notebook(path)
    words = {"ename": name, "evalue": reason, "traceback": [f"{name}: {reason}"]}
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    stops = [output for cell in code for output in cell.outputs if output.get("ename") == "Stopped"]
    if stops:
        stops[-1].update(words)
    elif open_cells := [cell for cell in code if _cell_status(cell) in ("pending", "running")]:
        open_cells[0].outputs.append(new_output("error", **words))
    for cell in code:
        if _cell_status(cell) == "running":
            cell.metadata.papermill |= {"status": "failed", "exception": True}
        elif _cell_status(cell) == "pending":
            cell.metadata.setdefault("papermill", {})["status"] = "skipped"
    write_notebook(notebook, path)


def _cell_status(cell: Any) -> str:
    return str(cell.metadata.get("papermill", {}).get("status", "pending"))


def training_environment(training: Training, folder: Path) -> dict[str, str]:
    """What a training finds in its environment: what any child may know, plus what prepare.py reads.

    Args:
        folder: where the training's libraries may write what they keep.
    """
    env = environment(training.token, Path(__file__).resolve().parents[2], prefixes=("AUTORESEARCH_",))
    for name in ("AUTORESEARCH_HELDOUT", "AUTORESEARCH_HOME"):  # training never learns where the validation rows are
        env.pop(name, None)
    if training.max_steps is not None:
        env["AUTORESEARCH_MAX_STEPS"] = str(training.max_steps)
    if training.dtype is not None:  # that of the study, whatever this process's environment names
        env[DTYPE] = training.dtype
    return env | {
        "AUTORESEARCH_CORPUS": str(training.corpus_dir.resolve()),
        "AUTORESEARCH_TIME_BUDGET": repr(training.time_budget_seconds),
        "AUTORESEARCH_HANDOVER": str(training.paths.handover(training.run).resolve()),
        "AUTORESEARCH_PROJECT": str(training.project.resolve()),
        "AUTORESEARCH_SEED": str(training.seed),
        "IPYTHONDIR": str(folder / "ipython"),  # a user's start-up files are not part of an experiment
        "MPLCONFIGDIR": str(folder / "matplotlib"),
        "PYTHONUNBUFFERED": "1",
    }
