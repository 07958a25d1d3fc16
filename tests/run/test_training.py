"""Experiments from end to end: every way a training can end, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from autoresearch_kernel.core.types import MachineHolder, RunOutcome, Status
from autoresearch_kernel.record.paths import ExperimentPaths
from autoresearch_kernel.run.handover import keep_only_the_handover
from autoresearch_kernel.run.notebook import read_notebook
from autoresearch_kernel.run.outcome import EndRun
from autoresearch_kernel.run.training import CURVE_LIMIT_POINTS, training_environment
from autoresearch_kernel.system.machine import training_lock
from autoresearch_kernel.system.processes import descendants, not_by_the_system
from autoresearch_kernel.system.temporary import own_folder, remove_abandoned
from tests.trainings import train as run_one
from tests.trainings import training

ROOT = Path(__file__).resolve().parents[2]
PARAMETERS = '# %% tags=["parameters"]\nSEED = 1  # fixed\n\n'
HANDOVER = """
# %%
import json, os, pathlib
folder = pathlib.Path(os.environ["AUTORESEARCH_HANDOVER"])
(folder / "metrics.jsonl").write_text('{"step": 1, "train_loss": 3.5}\\nno json\\n{"step": 2, "train_loss": 3.0}\\n')
(folder / "model.pkl").write_bytes(b"weights")
(folder / "handover.json").write_text(json.dumps({"training_seconds": 0.5, "num_steps": SEED, "exit_code": "faked"}))
print("handed over")
"""

Train = Callable[..., RunOutcome]


@pytest.fixture
def paths(tmp_path: Path) -> ExperimentPaths:
    return ExperimentPaths(tmp_path / "0007")


@pytest.fixture
def train(tmp_path: Path, paths: ExperimentPaths, monkeypatch: pytest.MonkeyPatch) -> Train:
    monkeypatch.setenv("AUTORESEARCH_HOME", str(tmp_path / "home"))

    def run(cell: str = "", after: str = HANDOVER, limit: float = 20.0, **options: Any) -> RunOutcome:
        options = {"run": 0, "seed": 7, "title": "0007 · Try", "hypothesis": "It helps.", "diff": "-a\n+b", **options}
        source = PARAMETERS + (f"# %%\n{cell}\n\n" if cell else "") + after
        return run_one(source, paths, tmp_path, ROOT, time_budget_seconds=limit, **options)

    return run


def statuses(outcome: RunOutcome) -> list[str]:
    assert outcome.notebook is not None
    cells = read_notebook(outcome.notebook).cells
    return [cell.metadata.papermill.status for cell in cells if cell.cell_type == "code"]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone_within(seconds: float, *pids: int) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not any(alive(pid) for pid in pids):
            return True
        time.sleep(0.02)
    return False


class Below:
    """All processes that a run ever had, seen from outside: a sandbox has numbers of its own for them."""

    def __init__(self) -> None:
        self.runner = 0
        self.pids: set[int] = set()

    def spawned(self, pid: int) -> None:
        self.runner = pid

    def look(self, seconds: float = 0.0) -> None:
        if self.runner:
            self.pids.update([self.runner, *descendants(self.runner)])


def wait_for(path: Path, seconds: float = 20) -> str:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if path.is_file() and (text := path.read_text()).endswith("\n"):
            return text
        time.sleep(0.02)
    raise AssertionError(f"{path} did not appear")


def test_a_training_that_hands_over_is_trained(train: Train, paths: ExperimentPaths) -> None:
    shown: list[str] = []
    curve: list[dict[str, Any]] = []
    outcome = train("print('seed', SEED)", on_output=shown.append, on_metrics=curve.append)
    assert (outcome.status, outcome.reason) == (None, "")
    assert outcome.artefact == paths.artefact(0) and paths.artefact(0).read_bytes() == b"weights"
    assert "".join(shown) == "seed 7\nhanded over\n" == paths.runner_log(0).read_text()
    assert [point["step"] for point in curve] == [1, 2]
    measured = outcome.measured
    assert measured["num_steps"] == 7 and measured["exit_code"] is None and measured["left_behind"] == 0
    parts = ("runner_start_seconds", "kernel_start_seconds", "cells_seconds", "shutdown_seconds")
    assert all(measured[part] >= 0 for part in parts)
    assert sum(measured[part] for part in parts) <= measured["total_seconds"]
    assert measured["overhead_seconds"] == pytest.approx(measured["total_seconds"] - 0.5)
    assert measured["process_peak_memory_mb"] > 10
    notebook = read_notebook(paths.notebook(0))
    assert notebook.cells[0].source.startswith("# 0007 · Try") and "> It helps." in notebook.cells[0].source
    assert set(statuses(outcome)) == {"completed"}


def test_a_confirmation_has_files_of_its_own(train: Train, paths: ExperimentPaths) -> None:
    outcome = train(run=1, seed=8)
    assert outcome.artefact == paths.folder / "handover-1" / "model.pkl"
    assert outcome.notebook == paths.folder / "experiment-1.ipynb" and outcome.measured["num_steps"] == 8


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("raise SystemExit(0)", "exited with SystemExit(0) in cell 3, line 5 of train.py before the hand-over"),
        ("import os; os._exit(0)", "the kernel exited with code 0 in cell 3, line 5 of train.py before the hand-over"),
        (
            "import os; os.kill(os.getpid(), 9)",
            "the kernel was killed by signal 9 in cell 3 before the hand-over; the system did not kill it for lack of "
            "memory, so the code counts as the cause",
        ),
        ("raise ValueError('a\\nb')", "ValueError: a b in cell 3, line 5 of train.py"),
    ],
)
def test_a_crash_has_a_reason_in_plain_words(train: Train, cell: str, reason: str) -> None:
    outcome = train(cell)
    assert (outcome.status, outcome.reason, outcome.artefact) == (Status.CRASH, reason, None)
    assert statuses(outcome)[-2:] == ["failed", "skipped"]


KILLED = "the kernel was killed by signal 9 in cell 3 before the hand-over"


@pytest.mark.parametrize(
    ("counts", "exit_code", "reason"),
    [
        ([3, 4], -signal.SIGKILL, KILLED),
        ([3, 3], None, f"{KILLED}; {not_by_the_system(3, 3)}"),
        ([None, None], None, f"{KILLED}; {not_by_the_system(None, None)}"),
    ],
    ids=["memory was short", "memory was not short", "the system does not say"],
)
def test_a_kill_is_the_machines_doing_only_when_the_system_counted_a_kill_for_lack_of_memory(
    train: Train, counts: list[int | None], exit_code: int | None, reason: str
) -> None:
    outcome = train("import os; os.kill(os.getpid(), 9)", memory_kills=iter(counts).__next__)
    assert (outcome.status, outcome.reason, outcome.measured["exit_code"]) == (Status.CRASH, reason, exit_code)


def test_no_artefact_counts_that_a_crash_left(train: Train, paths: ExperimentPaths) -> None:
    outcome = train(HANDOVER + "\n\n# %%\n1 / 0")
    assert outcome.status is Status.CRASH and outcome.artefact is None and paths.artefact(0).exists()


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        ("# %%\nprint('done')\n", "all cells ran, but no model.pkl was handed over"),
        (HANDOVER.replace('write_bytes(b"weights")', 'write_bytes(b"")'), "all cells ran, but no model.pkl"),
        (HANDOVER.replace("json.dumps(", "str("), "all cells ran, but handover.json is not a JSON object"),
    ],
)
def test_half_a_hand_over_is_a_crash(train: Train, after: str, reason: str) -> None:
    outcome = train(after=after)
    assert outcome.status is Status.CRASH and outcome.reason.startswith(reason)


def test_what_an_earlier_run_left_is_not_taken_for_this_one(train: Train) -> None:
    assert train().status is None
    assert train("raise SystemExit(0)").artefact is None


def test_a_hang_in_c_with_the_gil_held_is_a_timeout(train: Train) -> None:
    cell = (
        "import ctypes, signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])\n"
        "ctypes.PyDLL(None).sleep(1000)"
    )
    outcome = train(cell, limit=4)  # on a busy machine the kernel alone takes two
    assert (outcome.status, outcome.reason) == (Status.TIMEOUT, "passed its hard limit of 4 s in cell 3")
    assert outcome.measured["total_seconds"] < 10 and statuses(outcome)[-2:] == ["failed", "skipped"]


def test_three_hundred_megabytes_of_prints_train_as_well_as_any(train: Train, paths: ExperimentPaths) -> None:
    shown: list[int] = []
    outcome = train("for _ in range(300): print('x' * 1_000_000)", on_output=lambda text: shown.append(len(text)))
    assert outcome.status is None
    assert sum(shown) < 3_000_000 and paths.runner_log(0).stat().st_size < 3_000_000
    assert paths.notebook(0).stat().st_size < 3_000_000
    assert outcome.measured["process_peak_memory_mb"] < 200


def test_children_of_a_training_end_with_it(train: Train) -> None:
    below = Below()
    cell = "import subprocess, time\nsubprocess.run('setsid sleep 300 & sleep 300 &', shell=True)\ntime.sleep(0.5)"
    outcome = train(cell, on_spawn=below.spawned, on_tick=below.look)
    assert outcome.status is None and outcome.measured["left_behind"] >= 1
    assert len(below.pids) >= 4 and gone_within(0.5, *below.pids)


def test_a_refused_source_never_runs(train: Train, paths: ExperimentPaths) -> None:
    outcome = train("def f(:")
    assert outcome.status is Status.INVALID and "line 5" in outcome.reason
    assert outcome.notebook is None and not paths.folder.exists()


MANY = """
import os, pathlib, subprocess, time
subprocess.Popen("trap '' TERM; sleep 300", shell=True, start_new_session=True)
time.sleep(0.2)
pathlib.Path(os.environ["AUTORESEARCH_HANDOVER"], "ready").write_text("yes\\n")
import ctypes; ctypes.PyDLL(None).sleep(1000)
"""


def test_a_killed_runner_takes_its_kernel_along_within_a_second(train: Train, paths: ExperimentPaths) -> None:
    below = Below()
    outcomes: list[RunOutcome] = []
    thread = threading.Thread(target=lambda: outcomes.append(train(MANY, on_spawn=below.spawned)))
    thread.start()
    wait_for(paths.handover(0) / "ready")
    below.look()
    os.kill(below.runner, signal.SIGKILL)
    assert len(below.pids) >= 3 and gone_within(1.0, *below.pids)
    thread.join(10)
    (outcome,) = outcomes
    assert outcome.status is Status.CRASH
    assert outcome.reason.startswith("the runner was killed by signal 9")
    assert statuses(outcome)[-1] == "skipped"


def test_a_killed_supervisor_takes_all_of_it_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its temporary folders, of the run and of the template, stay, and go when the next one starts."""
    paths, file, below = ExperimentPaths(tmp_path / "0001"), tmp_path / "pid", Below()
    code = f"""
from pathlib import Path
from autoresearch_kernel.record.paths import ExperimentPaths
from tests.trainings import train
train({PARAMETERS + "# %%" + MANY!r}, ExperimentPaths(Path({str(paths.folder)!r})), Path("."), Path("."),
    time_budget_seconds=60, startup_allowance_seconds=60, handover_allowance_seconds=60,
    on_spawn=lambda pid: Path({str(file)!r}).write_text(f"{{pid}}\\n"))
"""
    with own_folder() as short:  # for the paths of sockets
        env = {**os.environ, "AUTORESEARCH_HOME": str(tmp_path / "home"), "TMPDIR": str(short)}
        supervisor = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=env)
        below.spawned(int(wait_for(file, seconds=90)))  # it first starts a template, which imports torch
        wait_for(paths.handover(0) / "ready")
        below.look()
        supervisor.send_signal(signal.SIGKILL)
        supervisor.wait()
        assert len(below.pids) >= 3 and gone_within(3.0, *below.pids)
        left = len(list(short.iterdir()))
        assert 1 <= left <= 2
        monkeypatch.setattr("tempfile.tempdir", str(short))
        assert remove_abandoned() == left and list(short.iterdir()) == []


def test_whatever_a_callback_raises_nothing_goes_on_running(train: Train) -> None:
    below = Below()

    class Enough(Exception):
        pass

    def stop(text: str) -> None:
        below.look()
        raise Enough

    cell = MANY.replace("import ctypes", "print('x', flush=True); time.sleep(0.2); import ctypes")
    with pytest.raises(Enough):
        train(cell, on_output=stop, on_spawn=below.spawned)
    assert len(below.pids) >= 3 and gone_within(0.5, *below.pids)


def test_a_callback_ends_a_run_and_the_notebook_says_why(train: Train, paths: ExperimentPaths) -> None:
    ready, below = paths.handover(0) / "ready", Below()
    moments: list[float] = []
    spawned: list[int] = []

    def look(seconds: float) -> None:
        moments.append(time.monotonic())
        if ready.exists():
            below.spawned(spawned[0])
            below.look()
            raise EndRun(Status.DISCARD, "its curve is far above the incumbent's")

    outcome = train(MANY, on_tick=look, on_spawn=spawned.append)
    assert "--existing" not in paths.notebook(0).read_text(), "the kernel's advice for a terminal names a folder"
    assert (outcome.status, outcome.artefact) == (Status.DISCARD, None)
    assert outcome.reason == "its curve is far above the incumbent's" and outcome.measured["total_seconds"] < 15
    assert max(b - a for a, b in zip(moments, moments[4:], strict=False)) < 1.0, "four times a second"
    assert spawned == [below.runner] and gone_within(0.5, *below.pids)
    assert statuses(outcome)[-2:] == ["failed", "skipped"] and "running" not in statuses(outcome)
    said = [o for cell in read_notebook(paths.notebook(0)).cells for o in cell.get("outputs", []) if "ename" in o]
    assert said[0].traceback == ["Stopped: its curve is far above the incumbent's"]


def test_a_run_that_waits_for_the_machine_can_be_ended(train: Train, paths: ExperimentPaths) -> None:
    spawned: list[int] = []

    def enough(seconds: float) -> None:
        raise EndRun(Status.INTERRUPTED, "the night is over")

    with training_lock():
        outcome = train(on_tick=enough, on_spawn=spawned.append)
    assert (outcome.status, outcome.reason, spawned) == (Status.INTERRUPTED, "the night is over", [])
    assert outcome.measured["total_seconds"] < 5 and set(statuses(outcome)) == {"skipped"}
    assert "Stopped: the night is over" in paths.notebook(0).read_text()


def test_processes_of_a_run_carry_its_token(train: Train) -> None:
    outcome = train("import os; assert os.environ['AUTORESEARCH_RUN_TOKEN'] == 'ours'", token="ours")
    assert outcome.status is None, outcome.reason


def test_a_training_gets_the_number_format_of_its_study(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTORESEARCH_DTYPE", "bfloat16")
    outcome = train("import os; assert os.environ['AUTORESEARCH_DTYPE'] == 'float32'", dtype="float32")
    assert outcome.status is None, outcome.reason


def test_a_training_sees_no_secret_and_no_held_out_rows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("OPENAI_API_KEY", "AUTORESEARCH_LLM_TOKEN", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "SSH_AUTH_SOCK"):
        monkeypatch.setenv(name, "canary")
    monkeypatch.setenv("AUTORESEARCH_HELDOUT", "canary")
    monkeypatch.setenv("AUTORESEARCH_MAX_STEPS", "3")  # of a training by hand
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("GOMP_SPINCOUNT", "5")
    asked = training("", ExperimentPaths(tmp_path), tmp_path, ROOT, time_budget_seconds=30.0, seed=3)
    env = training_environment(asked, tmp_path)
    assert "canary" not in env.values() and "AUTORESEARCH_MAX_STEPS" not in env
    assert env["OMP_NUM_THREADS"] == "3" and env["GOMP_SPINCOUNT"] == "5" and env["PATH"] == os.environ["PATH"]
    assert env["AUTORESEARCH_TIME_BUDGET"] == "30.0" and env["AUTORESEARCH_SEED"] == "3"


def test_two_trainings_never_share_the_machine(train: Train) -> None:
    said: list[MachineHolder] = []
    shown: list[str] = []
    ticks: list[float] = []
    with training_lock(study="nov23"):
        callbacks = {"on_output": shown.append, "on_wait": said.append, "on_tick": ticks.append}
        thread = threading.Thread(target=lambda: train(**callbacks))
        thread.start()
        deadline = time.monotonic() + 10
        while not said and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.5)
        assert [(holder.study, holder.pid) for holder in said] == [("nov23", os.getpid())]
        assert said[0].since
        assert not shown
        assert len(ticks) >= 3 and not any(ticks)  # nothing has started
    thread.join(20)
    assert ticks == sorted(ticks) and ticks[-1] > 0
    assert shown[-1].endswith("handed over\n")


def test_a_folder_with_braces_in_its_name_is_a_folder(tmp_path: Path, train: Train, paths: ExperimentPaths) -> None:
    odd = ExperimentPaths(tmp_path / "{x} {0}" / "0001")
    outcome = run_one(PARAMETERS + HANDOVER, odd, tmp_path, ROOT, startup_allowance_seconds=60)
    assert outcome.status is None and odd.notebook(0).is_file()


def test_the_notebook_shares_no_folder_of_this_machine(train: Train, tmp_path: Path, paths: ExperimentPaths) -> None:
    train()
    assert json.loads(paths.notebook(0).read_text())["metadata"]["papermill"]["output_path"] == "experiment.ipynb"
    assert str(tmp_path) not in paths.notebook(0).read_text()


WILD = HANDOVER.replace(
    '"exit_code": "faked"', '"num_tokens": 10**400, "relative_speed": 2.0, "device": "c\\x1b[2Jpu" * 99'
)
WILD = WILD.replace('"training_seconds": 0.5', '"training_seconds": 10**400').replace(
    "no json", "[' + '[' * 19_000 + '"
)


def test_no_fact_of_a_hand_over_is_too_large_to_be_kept(train: Train, paths: ExperimentPaths) -> None:
    curve: list[dict[str, Any]] = []
    outcome = train(after=WILD, on_metrics=curve.append)
    assert (outcome.status, outcome.measured["num_steps"]) == (None, 7), outcome.reason
    assert outcome.measured["device"] == ("cpu" * 99)[:200]
    assert not {"training_seconds", "num_tokens", "relative_speed", "overhead_seconds"} & outcome.measured.keys()
    assert [point["step"] for point in curve] == [1, 2]


LEFT = """
import pathlib, os
folder = pathlib.Path(os.environ["AUTORESEARCH_HANDOVER"])
os.chdir(folder)
for _ in range(90):
    os.mkdir("d")
    os.chdir("d")
for path in (folder / "d" / "d", folder / "d"):
    path.chmod(0)
(folder / "metrics.jsonl").open("a").write('{"step": 3}\\n' * 300_000)
folder.chmod(0)
"""


def test_whatever_a_training_leaves_the_next_one_runs(train: Train, paths: ExperimentPaths) -> None:
    cell = f"{HANDOVER}\n# %%\n{LEFT}"
    for _ in range(2):
        outcome = train(after=cell)
        assert outcome.status in (None, Status.CRASH), (
            outcome.reason
        )  # closed folders are seen where root does not look
        known = {"handover.json", "metrics.jsonl", "model.pkl"}
        assert {path.name for path in paths.handover(0).iterdir()} == known
        assert paths.metrics(0).stat().st_size <= 2_000_000


def test_a_flood_of_points_holds_up_no_clock(train: Train) -> None:
    moments: list[float] = []
    points: list[dict[str, Any]] = []

    def slow(point: dict[str, Any]) -> None:
        points.append(point)
        time.sleep(0.005)

    flood = HANDOVER.replace("3.0}\\n", "3.0}\\n' * 50_000 + '")
    outcome = train(after=flood + "\n# %%\nimport time; time.sleep(3)", on_metrics=slow, on_tick=moments.append)
    assert outcome.status is None, outcome.reason
    assert 100 < len(points) <= CURVE_LIMIT_POINTS
    assert max(b - a for a, b in pairwise(moments)) < 1.0 and outcome.measured["total_seconds"] < 15


def test_a_kept_file_is_this_users_and_has_no_special_rights(tmp_path: Path) -> None:
    model = tmp_path / "model.pkl"
    model.write_bytes(b"weights")
    if os.geteuid() == 0:
        os.chown(model, 64_123, 64_123)
        model.chmod(0o6711)
        os.setxattr(model, "security.capability", bytes([1, 0, 0, 2, 255, 255, 255, 255]) + bytes(12))
    model.chmod(0o6711)
    keep_only_the_handover(tmp_path)
    found = model.stat()
    assert (oct(found.st_mode), found.st_uid, found.st_gid) == ("0o100644", os.geteuid(), os.getegid())
    assert sys.platform != "linux" or "security.capability" not in os.listxattr(model)


STARTING = """
import subprocess, threading, time
from autoresearch_kernel.run.runner import Stop
stop = Stop()
print(subprocess.Popen(["sleep", "60"]).pid, flush=True)
threading.Thread(target=time.sleep, args=[60]).start()  # as the libraries have them: an exception would wait for it
time.sleep(60)
"""


def test_a_runner_that_is_stopped_while_its_kernel_starts_ends_at_once_with_all_that_it_started() -> None:
    runner = subprocess.Popen([sys.executable, "-c", STARTING], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert runner.stdout is not None
    child = int(runner.stdout.readline())
    runner.terminate()
    assert runner.wait(20) == 128 + signal.SIGTERM
    assert not Path(f"/proc/{child}").exists()
    runner.stdout.close()
