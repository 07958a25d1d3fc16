"""Where an experiment runs: one training at a time on this machine, in a process of its own, within a hard limit.

It judges a run by what the run left and by exit codes, never by what a notebook says of itself. It owns the second
clock, which also ends a runner that no longer ends itself.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
import warnings
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..core.sanitize import is_number, parse_object, plain_facts
from ..core.types import MachineHolder, RunOutcome, Status
from ..record.curves import Tail, curve_points, shorten_curve
from ..record.paths import ARTEFACT, HANDOVER, METRICS, ExperimentPaths
from ..sandbox.kinds import require_sandbox, wrap
from ..sandbox.policy import SANDBOX_FOLDER, Policy, training_policy
from ..sandbox.watchdog import Watchdog
from ..system.environment import environment
from ..system.locations import DTYPE, RUN_TOKEN
from ..system.machine import has_gpu, training_lock
from ..system.processes import ExitWatch, kill_group, sweep
from ..system.untrusted_files import opened_up, read_plain_file, remove_tree

TEXTS = {"device", "device_name", "dtype"}  # of the hand-over; all else in it is a number or is left out
OURS = {
    "runner_start_seconds", "kernel_start_seconds", "cells_seconds", "shutdown_seconds", "process_peak_memory_mb",
    "exit_code", "left_behind", "overhead_seconds", "total_seconds", "relative_speed", "ended_at", "scored",
    "scoring_seconds", "slowest_batch_seconds",
}  # fmt: skip  # facts of a run that are measured from outside, whatever the hand-over calls so
RUNNER_MARGIN_SECONDS = 20.0  # what the runner itself may take on top, before it is asked to end
PATIENCE_SECONDS = 5.0  # for the runner to end its kernel and write its record, before it is killed
LOOK_EVERY_SECONDS = 0.1  # at the runner's output and the curve
HANDOVER_LIMIT_BYTES = 100_000  # of handover.json; a real one has a few hundred
CURVE_LIMIT_POINTS = 2_000  # passed on; a real curve has about 200
CURVE_SECONDS = 0.1  # spent on points at a time, before the limits are looked at again


class EndRun(Exception):
    """Raised by a callback of `run_experiment` to end the run; `status` and `reason` become the run's."""

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class LimitPassed(EndRun):
    """The run passed a limit of its sandbox, and was ended for it."""


def run_experiment(
    source: str,
    paths: ExperimentPaths,
    *,
    run: int,
    seed: int,
    title: str,
    hypothesis: str,
    diff: str,
    corpus_dir: Path,
    time_budget_seconds: float,
    project: Path,
    startup_allowance_seconds: float,
    handover_allowance_seconds: float,
    on_output: Callable[[str], None] | None = None,
    on_metrics: Callable[[dict[str, Any]], None] | None = None,
    on_wait: Callable[[MachineHolder], None] | None = None,
    study: str = "",
    token: str | None = None,
    on_tick: Callable[[float], None] | None = None,
    on_spawn: Callable[[int], None] | None = None,
    max_steps: int | None = None,
    dtype: str | None = None,
    limits: Mapping[str, Any] | None = None,
) -> RunOutcome:
    """Train once and say what came of it: trained, crash, timeout or invalid, with the reason in one line.

    With `max_steps`, steps are the budget instead of seconds. `dtype` is the number format to train in, "float32" or
    "bfloat16"; without it prepare.py chooses. The training runs in the sandbox of this machine; `limits` replaces its
    default limits, fields of `run.policy.Policy`. Raises SandboxMissing where there is no sandbox.

    `on_output` gets the notebook's output as it comes, `on_metrics` each point of the curve. `on_wait` hears whose
    training holds the machine while this one waits for it; `study` is the name that others then hear of this one.
    `on_tick` is called at least four times a second, with 0.0 while another training holds the machine and then with
    the seconds since the runner started; `on_spawn` gets the runner's pid, which leads a process group. All processes
    of the run carry `token` in their environment.
    A callback ends the run by raising EndRun, which is returned as the outcome. Whatever ends this call,
    another exception of theirs or Ctrl-C included, no process of the run is left.
    """
    from ..source.gate import InvalidSource
    from .notebook import build_notebook, heading_markdown, write_notebook

    sandbox = require_sandbox()
    begun = time.monotonic()
    heading = heading_markdown(title, status_line=_status_line(run, seed), hypothesis=hypothesis, diff=diff)
    try:
        notebook = build_notebook(source, heading=heading)
    except InvalidSource as error:
        return RunOutcome(Status.INVALID, str(error), None, None)
    handover = _fresh_folder(paths.handover(run))
    folder = Path(tempfile.mkdtemp(prefix="ar-")).resolve()  # short, for socket paths; mode 0700
    own = folder / SANDBOX_FOLDER  # beside the hand-over the only part that the training may write to
    try:
        own.mkdir()
        write_notebook(notebook, folder / "train.ipynb")
        write_notebook(notebook, paths.notebook(run))
        limit = startup_allowance_seconds + time_budget_seconds + handover_allowance_seconds
        policy = training_policy(corpus_dir, project, handover, own, seconds=limit, gpu=has_gpu(), **(limits or {}))
        launch = _Launch(
            folder, paths.notebook(run), paths.runner_log(run), handover, limit, {"SEED": seed}, policy, sandbox.name
        )
        env = child_environment(corpus_dir, time_budget_seconds, handover, project, seed, own, token, max_steps, dtype)
        calls = _Calls(on_output, on_metrics, on_tick, on_spawn)
        with training_lock(on_wait, on_tick, study) as lock:
            waited = time.monotonic() - begun
            end = _run_runner(launch, env, lock, calls)
        keep_only_the_handover(handover)
    except EndRun as why:  # before the runner started
        _close_notebook(paths.notebook(run), "Stopped", why.reason)
        measured = {"total_seconds": time.monotonic() - begun}
        return RunOutcome(why.status, why.reason, None, paths.notebook(run), measured)
    finally:
        _clear_away(folder)
    return _judge(end, paths, run, limit, begun + waited)


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
class _Launch:
    folder: Path
    output: Path
    log: Path
    handover: Path
    limit_seconds: float
    parameters: dict[str, Any]
    policy: Policy
    sandbox: str


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


@dataclass(frozen=True)
class _Calls:
    """Whom to tell what happens."""

    on_output: Callable[[str], None] | None
    on_metrics: Callable[[dict[str, Any]], None] | None
    on_tick: Callable[[float], None] | None
    on_spawn: Callable[[int], None] | None


def _run_runner(launch: _Launch, env: dict[str, str], lock: int | None, calls: _Calls) -> _End:
    from .runner import Job

    outcome = launch.folder / "outcome.json"
    job = Job(
        notebook=str(launch.folder / "train.ipynb"),
        output=str(launch.output.resolve()),
        outcome=str(outcome),
        folder=str(launch.folder),
        parameters=launch.parameters,
        deadline_seconds=launch.limit_seconds,
        parent_pid=os.getpid(),
        prefix=wrap(launch.policy, [], launch.sandbox),
    )
    (launch.folder / "job.json").write_text(json.dumps(asdict(job)), encoding="utf-8")
    started = time.monotonic()
    with open(launch.log, "wb") as log:
        runner = subprocess.Popen(
            [sys.executable, "-m", "autoresearch_kernel.run.runner", str(launch.folder / "job.json")],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=launch.folder,
            start_new_session=True,
            pass_fds=() if lock is None else (lock,),
        )
    overran, ended_by = False, None
    # Its time has clocks of its own, which know what it was doing when it ended.
    watchdog = Watchdog(runner.pid, replace(launch.policy, seconds=0.0), [launch.folder])
    try:
        if calls.on_spawn is not None:
            calls.on_spawn(runner.pid)
        overran = _watch(runner, launch, started, calls, watchdog)
    except EndRun as why:
        ended_by = why
    finally:
        _stop(runner, overran, watchdog)
        left_behind = len(sweep(env[RUN_TOKEN]))
    return _End(_read_json(outcome), runner.returncode, overran, started, time.monotonic(), left_behind, ended_by)


def _watch(runner: subprocess.Popen[bytes], launch: _Launch, started: float, calls: _Calls, watchdog: Watchdog) -> bool:
    """Pass on output and curve until the runner ends; True when it had to be asked to, whether or not it then did."""
    deadline = time.monotonic() + launch.limit_seconds + RUNNER_MARGIN_SECONDS
    output, curve = Tail(launch.log), Tail(launch.handover / METRICS)
    overran, points = False, _Points(calls.on_metrics)
    exit_watch = ExitWatch(runner.pid)
    try:
        while True:
            if calls.on_tick is not None:
                calls.on_tick(time.monotonic() - started)
            ended = runner.poll() is not None
            if not ended and (limit := watchdog.look()):
                watchdog.end()
                raise LimitPassed(Status.CRASH, limit)
            if calls.on_output is not None and (text := output.read()):
                calls.on_output(text)
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


def _judge(end: _End, paths: ExperimentPaths, run: int, limit: float, begun: float) -> RunOutcome:
    """The status, from what the run left: a complete hand-over and a notebook of which every cell ran."""
    handed_over, complaint = read_handover(paths.handover(run))
    artefact = paths.artefact(run)
    said = end.outcome or {}
    measured = _measured(end, handed_over or {}, begun)
    status, reason = _status(end, said, handed_over is not None, complaint, limit)
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


def read_handover(folder: Path) -> tuple[dict[str, Any] | None, str]:
    """What prepare.py measured, or None and what is missing of the hand-over."""
    if not _is_plain_file(folder / ARTEFACT) or (folder / ARTEFACT).stat().st_size == 0:
        return None, f"no {ARTEFACT} was handed over: does the last cell call evaluate_bpb?"
    try:
        facts = read_plain_file(folder / HANDOVER, HANDOVER_LIMIT_BYTES)
    except OSError:
        return None, f"there is no usable {HANDOVER}"
    content = parse_object(facts.decode("utf-8", errors="replace"))
    if content is None:
        return None, f"{HANDOVER} is not a JSON object"
    return plain_facts(content, texts=TEXTS, without=OURS), ""


def keep_only_the_handover(folder: Path) -> None:
    """Remove whatever a training left beside its hand-over, and what only has the names of one: links, pipes, folders,
    files that are closed to their owner.

    What reads these files later may then open them. A curve without end is cut to what is ever read of it.
    """
    with opened_up(folder):
        for entry in folder.iterdir():
            is_known = entry.name in (ARTEFACT, HANDOVER, METRICS)
            if not (is_known and _is_plain_file(entry) and os.access(entry, os.R_OK | os.W_OK)):
                remove_tree(entry)
    if (folder / METRICS).exists():
        shorten_curve(folder / METRICS)


def _is_plain_file(path: Path) -> bool:
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_nlink == 1


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


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        return parse_object(path.read_bytes())
    except OSError:
        return None


def child_environment(
    corpus_dir: Path,
    time_budget_seconds: float,
    handover: Path,
    project: Path,
    seed: int,
    folder: Path,  # where it may leave what its libraries want to keep
    token: str | None = None,
    max_steps: int | None = None,
    dtype: str | None = None,
) -> dict[str, str]:
    """The environment of a training: what any child may know, plus what prepare.py reads.

    `dtype` is the number format of its study, whatever this process's environment names.
    """
    env = environment(token, Path(__file__).resolve().parents[2], prefixes=("AUTORESEARCH_",))
    for name in ("AUTORESEARCH_HELDOUT", "AUTORESEARCH_HOME"):  # training never learns where the validation rows are
        env.pop(name, None)
    if max_steps is not None:
        env["AUTORESEARCH_MAX_STEPS"] = str(max_steps)
    if dtype is not None:
        env[DTYPE] = dtype
    return env | {
        "AUTORESEARCH_CORPUS": str(Path(corpus_dir).resolve()),
        "AUTORESEARCH_TIME_BUDGET": repr(time_budget_seconds),
        "AUTORESEARCH_HANDOVER": str(handover),
        "AUTORESEARCH_PROJECT": str(Path(project).resolve()),
        "AUTORESEARCH_SEED": str(seed),
        "IPYTHONDIR": str(folder / "ipython"),  # a person's start-up files are not part of an experiment
        "MPLCONFIGDIR": str(folder / "matplotlib"),
        "PYTHONUNBUFFERED": "1",
    }
