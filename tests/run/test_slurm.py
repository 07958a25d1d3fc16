"""Workers that Slurm starts: stand-ins for its commands run each job as a process of this machine."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from autoresearch_kernel.run import slurm
from autoresearch_kernel.run.connection import ClusterRefused, Connection
from autoresearch_kernel.run.slurm import import_dask, slurm_workers
from autoresearch_kernel.run.slurm_jobs import SlurmJobs, read_jobs
from tests.conftest import counting_study

LIMIT_SECONDS = 120.0
SBATCH = """#!/bin/sh
[ -z "$SBATCH_REFUSES" ] || { echo "sbatch: error: invalid partition specified: gpu" >&2; exit 1; }
number=1
until mkdir "$SLURM_STAND_IN/$number" 2>/dev/null; do number=$((number + 1)); done  # several are submitted at once
cp "$1" "$SLURM_STAND_IN/$number.job"
env > "$SLURM_STAND_IN/$number.environment"
export SLURM_JOB_ID=$number
setsid sh "$SLURM_STAND_IN/$number.job" > "$SLURM_STAND_IN/$number.output" 2>&1 &
echo $! > "$SLURM_STAND_IN/$number.pid"
echo "Submitted batch job $number"
"""
SCANCEL = """#!/bin/sh
for number in "$@"; do
  echo "$number" >> "$SLURM_STAND_IN/cancelled"
  [ ! -f "$SLURM_STAND_IN/$number.pid" ] || kill -- -$(cat "$SLURM_STAND_IN/$number.pid")
done
"""
SQUEUE = """#!/bin/sh
for file in "$SLURM_STAND_IN"/*.pid; do
  kill -0 $(cat "$file") 2>/dev/null && basename "$file" .pid
done
true
"""


# --- what is asked


def test_options_of_sbatch_and_a_count_are_read() -> None:
    jobs = read_jobs("partition=gpu, --gres=gpu:a100:1,count=8,exclusive,wait=2.5,interface=ib0")
    assert jobs == SlurmJobs(8, {"partition": "gpu", "gres": "gpu:a100:1", "exclusive": ""}, "ib0", 150.0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("partition=gpu", "count is missing: it says how many jobs"),
        ("count=0", "count=0 is not possible"),
        ("count=two", "count=two is not possible"),
        ("", "'' is no option of sbatch"),
        ("count=2,", "'' is no option of sbatch"),
        ("count=2,count=3", "count stands there twice, with '2' and '3'"),
        ("count=2,gres=gpu 1", "'gres=gpu 1' is no option of sbatch"),
        ("count=2,$(rm)=1", "is no option of sbatch"),
        ("count=2,wait=soon", "wait=soon is not possible: give minutes"),
        ("count=2,wait=-1", "wait=-1 is not possible: give minutes"),
        ("count=2,array=0-3", "array is not possible: each job is one worker"),
    ],
)
def test_what_is_wrong_is_named(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words.replace("$", r"\$")):
        read_jobs(text)


# --- with Dask


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a stand-in for Slurm, whose commands are on PATH."""
    pytest.importorskip("dask_jobqueue", reason="dask-jobqueue is not installed: make setup EXTRAS=cluster")
    commands, folder = tmp_path / "commands", tmp_path / "queue"
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL), ("squeue", SQUEUE)):
        commands.mkdir(exist_ok=True)
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    folder.mkdir()
    temporary = tempfile.mkdtemp(prefix="jobs")  # the path of a socket must be short
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_STAND_IN", str(folder))
    monkeypatch.setenv("TMPDIR", temporary)
    yield folder
    for path in folder.glob("*.pid"):
        with suppress(ProcessLookupError):
            os.killpg(int(path.read_text()), signal.SIGKILL)
    shutil.rmtree(temporary)


def is_over(queue: Path) -> bool:
    """Whether no process of any job is left."""
    return not [p.pid for p in psutil.process_iter(["environ"]) if in_queue(p, queue)]


def in_queue(process: psutil.Process, queue: Path) -> bool:
    environment = process.info["environ"] or {}
    return environment.get("SLURM_STAND_IN") == str(queue) and "SLURM_JOB_ID" in environment


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {LIMIT_SECONDS:.0f} s"
        time.sleep(0.2)


def test_each_job_is_a_worker_and_is_cancelled_at_the_end(queue: Path, tmp_path: Path) -> None:
    said: list[str] = []
    with slurm_workers(read_jobs("partition=gpu,gres=gpu:1,count=2"), tmp_path / "logs", said.append) as address:
        assert address.startswith("tls://"), "others could reach the scheduler"
        connection = Connection(address, 10.0)
        connection.open()
        slots = [connection.num_slots(worker) for worker in connection.workers]
        homes = {connection.ask(worker, os.getenv, "AUTORESEARCH_HOME") for worker in connection.workers}
        connection.close()
    assert slots == [1, 1] and len(homes) == 2 and all(str(home).startswith(os.environ["TMPDIR"]) for home in homes)
    assert said[0] == "Slurm: 2 jobs submitted; the trainings begin when they run."
    lines = (queue / "1.job").read_text().splitlines()
    assert {"#SBATCH --partition=gpu", "#SBATCH --gres=gpu:1", "#SBATCH -J autoresearch"} <= set(lines)
    assert not [line for line in lines if line.startswith(("#SBATCH --mem", "#SBATCH -t ", "#SBATCH --cpus-per"))]
    assert sorted((queue / "cancelled").read_text().split()) == ["1", "2"]
    until(lambda: is_over(queue), "the end of the jobs")
    assert not list((tmp_path / "logs").glob("*worker*")), "the keys are removed"


def test_a_study_begins_with_the_jobs_that_run(queue: Path, tmp_path: Path) -> None:
    sbatch = tmp_path / "commands" / "sbatch"
    sbatch.write_text(SBATCH.replace("setsid sh", '[ "$number" = 2 ] || setsid sh'))  # the second one stays queued
    said: list[str] = []
    with slurm_workers(read_jobs("count=2,wait=0.02"), tmp_path / "logs", said.append):
        pass
    assert said[-1] == "Slurm: the trainings begin with 1 of 2 jobs; the others are cancelled."
    assert (queue / "cancelled").read_text().split()[0] == "2"


def test_jobs_that_end_without_a_worker_are_told(queue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm, "GONE_SECONDS", 1.0)
    sbatch = tmp_path / "commands" / "sbatch"
    sbatch.write_text(SBATCH.replace('setsid sh "$SLURM_STAND_IN/$number.job"', "setsid sh -c 'exit 1'"))
    with (
        pytest.raises(
            ClusterRefused, match=r"All jobs have ended, and none had a worker\. What they printed is in .*logs"
        ),
        slurm_workers(read_jobs("count=2"), tmp_path / "logs", print),
    ):
        pass


def test_what_sbatch_refuses_is_told(queue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SBATCH_REFUSES", "1")
    with (
        pytest.raises(ClusterRefused, match="Slurm did not take the job: sbatch: error: invalid partition specified"),
        slurm_workers(read_jobs("partition=gpu,count=2"), tmp_path / "logs", print),
    ):
        pass


def test_a_machine_without_slurm_is_told(queue: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    with pytest.raises(ClusterRefused, match="sbatch and scancel cannot be found on this machine"):
        import_dask()


def test_a_study_runs_in_jobs_and_ctrl_c_ends_them(queue: Path, project: Path, small_corpus: Path) -> None:
    study = counting_study(project, small_corpus, agent="search", clock="wall", hardware={})
    words = ["run", "--name", study.name, "--slurm", "count=1,mem=2G", "--experiments", "1"]
    command = [sys.executable, "-m", "autoresearch_kernel.cli", *words]
    whole = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=LIMIT_SECONDS)
    assert whole.returncode == 0, whole.stderr
    assert "Slurm: 1 job submitted" in whole.stdout and "1 experiment," in whole.stdout
    goes_on = r"run --name nov23 --slurm count=1,mem=2G(` continues| --experiments 20` tries more ideas)"
    assert re.search(goes_on, whole.stdout), whole.stdout  # chance decides whether the one experiment is kept
    until(lambda: is_over(queue), "the end of the jobs")
    with subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        lines = []
        for line in running.stdout:
            lines.append(line)
            if line.startswith("Study nov23: continuing"):
                running.send_signal(signal.SIGINT)
        said = running.stderr.read() if running.stderr else ""
    assert running.returncode == 130, (running.returncode, lines, said)
    assert (queue / "cancelled").read_text().split() == ["1", "2"]
    until(lambda: is_over(queue), "the end of the jobs")
