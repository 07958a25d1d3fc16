"""The speed of the machine during a training: slow beside a busy neighbour, whatever the training itself does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from autoresearch_kernel.record.paths import ExperimentPaths
from tests.trainings import train

ROOT = Path(__file__).resolve().parents[2]
SECONDS, TRIES = 1.2, 8  # other work on this machine may spoil a comparison
NORMAL = 0.6  # of the usual speed: below that, a training is made again

START = f"""# %% tags=["parameters"]
SEED = 1

# %%
import json, os, pathlib, signal, threading, time

def busy(seconds, sleep=0.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(10_000))
        time.sleep(sleep) if sleep else None

def in_processes(number, seconds):
    children = [os.fork() for _ in range(number - 1)]
    return children if all(children) else (busy(seconds), os._exit(0))

SECONDS, CORES = {SECONDS}, len(os.sched_getaffinity(0))
# %%
"""
HANDOVER = """
# %%
folder = pathlib.Path(os.environ["AUTORESEARCH_HANDOVER"])
(folder / "model.pkl").write_bytes(b"weights")
facts = {"training_seconds": 0.5, "tokens_per_second": 1e-3, "machine_speed": 1e-3}
(folder / "handover.json").write_text(json.dumps(facts))
"""
USUAL = "in_processes(CORES, SECONDS)\nbusy(SECONDS)"
INFLUENCES = {
    "sleeps half of its time": "busy(SECONDS, sleep=0.0005)",
    "runs 64 busy threads": """
threads = [threading.Thread(target=busy, args=[SECONDS]) for _ in range(64)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
""",
    "works in children whose time nobody counts": """
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
end = time.monotonic() + SECONDS
while time.monotonic() < end:
    in_processes(3 * CORES, 0.03)
    time.sleep(0.04)
""",
}

# The seconds that others use, measured by a process below whose number a busy one runs.
OTHERS = """
import os, subprocess, sys, time
from autoresearch_kernel.system.machine_speed import used_time
with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
    before = used_time(set())
    time.sleep(1)
    print(os.getpid(), used_time(set()).others - before.others)
    busy.kill()
"""

Speed = Callable[[str], float]


@pytest.fixture
def speed(tmp_path: Path) -> Speed:
    """The machine's speed during a training that does the given work."""

    def measure(work: str) -> float:
        outcome = train(START + work + HANDOVER, ExperimentPaths(tmp_path / "0001"), tmp_path, ROOT)
        assert outcome.status is None, outcome.reason
        return float(outcome.measured["machine_speed"])

    return measure


@contextmanager
def busy_neighbours(number: int) -> Iterator[None]:
    """Processes of others, each in a session of its own, as the system divides its time among sessions."""
    command = [sys.executable, "-c", "while True: pass"]
    started = [subprocess.Popen(command, start_new_session=True) for _ in range(number)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


@pytest.mark.real_load
@pytest.mark.skipif(sys.platform != "linux", reason="the machine's speed is measured on Linux alone")
class TestMachineSpeed:
    def test_beside_busy_neighbours_it_is_clearly_lower(self, speed: Speed) -> None:
        for _ in range(TRIES):
            alone = speed(USUAL)
            with busy_neighbours(4 * (os.cpu_count() or 1)):
                beside = speed(USUAL)
            if 0 < beside < NORMAL * alone:
                return
        pytest.fail(f"{beside} beside busy neighbours, {alone} alone")

    @pytest.mark.parametrize("work", INFLUENCES.values(), ids=INFLUENCES.keys())
    def test_a_training_cannot_make_the_machine_look_slow(self, speed: Speed, work: str) -> None:
        for _ in range(TRIES):
            usual, influenced = speed(USUAL), speed(work)
            if usual * NORMAL < influenced:
                return
        pytest.fail(f"{influenced} instead of {usual}")

    @pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap makes the namespace")
    def test_in_a_container_process_2_is_no_parent_of_the_systems_threads(self) -> None:
        container = ["bwrap", "--dev-bind", "/", "/", "--unshare-pid", "--proc", "/proc"]
        command = [*container, sys.executable, "-c", OTHERS]
        pid, others = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
        assert pid == "2" and float(others) > 0.02
