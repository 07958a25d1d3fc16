"""The training lock and the clocks."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from autoresearch_kernel.system import machine
from autoresearch_kernel.system.clock import real_seconds, slept_seconds
from autoresearch_kernel.system.machine import training_lock
from autoresearch_kernel.system.slot import TooManySlots

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AUTORESEARCH_HOME", str(tmp_path / "home"))
    for name in ("AUTORESEARCH_DEVICE", "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "home"


def is_locked(home: Path) -> bool:
    (path,) = (home / "locks").iterdir()
    with open(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


HOLD = (
    "from autoresearch_kernel.system.machine import training_lock\n"
    "with training_lock(print, study='a'): print('mine', flush=True); "
)


def hold(folder: Path, **env: str) -> subprocess.Popen[str]:
    """A process of another project, in another folder, that takes the lock until it is told to go on."""
    folder.mkdir(parents=True)
    return subprocess.Popen(
        [sys.executable, "-uc", HOLD + "input()"], cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.parametrize("device", [{}, {"AUTORESEARCH_DEVICE": "cpu"}, {"CUDA_VISIBLE_DEVICES": ""}])
def test_two_projects_take_turns_on_one_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: dict[str, str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # so that the test means the same beside a GPU
    first = hold(tmp_path / "project-1" / "studies" / "a")
    assert first.stdout is not None and first.stdout.readline() == "mine\n"
    second = hold(tmp_path / "project-2" / "studies" / "b", **device)
    assert second.stdout is not None and f"study='a', pid={first.pid}" in second.stdout.readline()
    time.sleep(0.3)
    assert second.poll() is None and first.poll() is None
    first.communicate("\n")
    assert second.communicate("\n")[0] == "mine\n"


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        ({"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "1"}, True),
        ({"CUDA_VISIBLE_DEVICES": "0,1"}, {}, False),  # a training takes the first that it sees
        ({"CUDA_VISIBLE_DEVICES": "0,1"}, {"CUDA_VISIBLE_DEVICES": "1,0"}, True),
        ({"AUTORESEARCH_DEVICE": "cuda:1"}, {"CUDA_VISIBLE_DEVICES": "1"}, False),
        ({"AUTORESEARCH_DEVICE": "cpu"}, {"AUTORESEARCH_DEVICE": "cuda"}, True),
    ],
)
def test_two_gpus_train_at_once_and_one_does_not(one: dict[str, str], other: dict[str, str], together: bool) -> None:
    class Waiting(Exception):
        pass

    def give_up(holder: object) -> None:
        raise Waiting

    def take(env: dict[str, str], inside: Callable[[], bool]) -> bool:
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
            for name, value in ({"AUTORESEARCH_DEVICE": "cuda"} | env).items():
                patch.setenv(name, value)
            try:
                with training_lock(give_up):
                    return inside()
            except Waiting:
                return False

    assert take(one, lambda: take(other, lambda: True)) is together


def test_machines_that_share_a_home_have_locks_of_their_own(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setenv("AUTORESEARCH_DEVICE", "cpu")
    with training_lock(lambda holder: pytest.fail("another machine's training is none of ours")):
        monkeypatch.setattr(machine, "boot_id", lambda: "0f0f0f0f-another-boot")
        with training_lock(lambda holder: pytest.fail("another machine's training is none of ours")):
            assert len([*(home / "locks").iterdir()]) == 2
        monkeypatch.setattr(machine, "boot_id", lambda: None)
        assert machine.lock_path().name == "training-cpu.lock"


def test_a_runner_that_outlives_its_supervisor_still_holds_the_machine(tmp_path: Path, home: Path) -> None:
    """The supervisor is killed while its runner is stopped, so that it cannot end: nobody else may train yet."""
    pids = tmp_path / "pids"
    code = f"""
from pathlib import Path
from autoresearch_kernel.record.paths import ExperimentPaths
from tests.trainings import train
source = '# %% tags=["parameters"]\\nSEED = 1\\n\\n# %%\\nimport time\\ntime.sleep(300)\\n'
train(source, ExperimentPaths(Path({str(tmp_path)!r}, "0001")), Path("."), Path("."),
    time_budget_seconds=60, startup_allowance_seconds=60, handover_allowance_seconds=60,
    on_spawn=lambda pid: Path({str(pids)!r}).write_text(str(pid)))
"""
    supervisor = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    wait_until(lambda: pids.exists() and pids.read_text() != "")
    runner = int(pids.read_text())
    try:
        os.kill(runner, signal.SIGSTOP)
        supervisor.kill()
        supervisor.wait()
        time.sleep(0.3)
        assert is_locked(home)
    finally:
        os.kill(runner, signal.SIGCONT)  # the news of its parent's death reach it now
    wait_until(lambda: not is_locked(home), 10)


def test_the_real_clock_runs_as_fast_as_any(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, monotonic = real_seconds(), time.monotonic()
    time.sleep(0.05)
    assert real_seconds() - begun == pytest.approx(time.monotonic() - monotonic, abs=0.02)


def test_a_machine_that_is_awake_sleeps_no_second() -> None:
    before = slept_seconds()
    assert before >= -0.001
    time.sleep(0.05)
    assert slept_seconds() == pytest.approx(before, abs=0.01)


@pytest.mark.skipif(sys.platform != "linux", reason="the system's own count of the time since the boot is in /proc")
def test_real_time_is_the_time_since_the_boot_with_its_sleep() -> None:
    uptime = float(Path("/proc/uptime").read_text().split()[0])  # counts sleep, as `uptime` does
    assert real_seconds() == pytest.approx(uptime, abs=0.5)
    assert real_seconds() - slept_seconds() == pytest.approx(time.monotonic(), abs=0.01)


def test_gpus_of_amd_are_counted_and_its_processors_are_not(tmp_path: Path) -> None:
    for node, gpu_id in enumerate(("0", "51140", "3462", "")):
        (tmp_path / str(node)).mkdir()
        (tmp_path / str(node) / "gpu_id").write_text(f"{gpu_id}\n")
    assert machine._num_rocm_gpus(tmp_path) == 2
    (tmp_path / "4" / "gpu_id").mkdir(parents=True)  # which cannot be read, as that of a GPU of another container
    assert machine._num_rocm_gpus(tmp_path) == 2
    assert machine._num_rocm_gpus(tmp_path / "none") == 0


def test_more_slots_than_gpus_are_refused_with_the_setting_for_a_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTORESEARCH_DEVICE", "cuda")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with pytest.raises(TooManySlots, match=r"Give at most 2\. Where the processor trains, set AUTORESEARCH_DEVICE=cpu"):
        machine.divide_machine(3)
