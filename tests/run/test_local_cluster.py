"""`--cluster local`: a scheduler and one worker that a command starts on this machine, and ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from autoresearch_kernel.record.history import events_so_far
from autoresearch_kernel.run.connection import Connection
from autoresearch_kernel.run.local_cluster import cluster_at
from autoresearch_kernel.study.options import OptionRefused, StudyOptions, refuse_detached_workers, slurm_jobs
from tests.conftest import counting_study

LIMIT_SECONDS = 90.0  # for anything that is waited for: the machine may be busy


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {LIMIT_SECONDS:.0f} s"
        time.sleep(0.1)


def test_it_ends_with_its_command_so_it_is_not_for_detach() -> None:
    with pytest.raises(OptionRefused, match=r"The workers of --cluster local end with the command .* not for --detach"):
        refuse_detached_workers("cluster local", True)
    refuse_detached_workers("cluster local", False)
    assert slurm_jobs(StudyOptions(cluster="local"), False) is None


def test_an_address_is_used_as_it_is() -> None:
    with cluster_at("tcp://gpu1:8786") as address:
        assert address == "tcp://gpu1:8786"


def test_it_is_one_worker_with_one_slot_which_only_this_user_reaches() -> None:
    pytest.importorskip("distributed", reason="Dask is not installed: make setup EXTRAS=cluster")
    with cluster_at("local") as address:
        assert address.startswith("tls://127.0.0.1:"), "others could reach the scheduler"
        connection = Connection(address, 10.0)
        connection.open()
        workers = list(connection.workers)
        assert [connection.num_slots(worker) for worker in workers] == [1]
        process = psutil.Process(connection.ask(workers[0], os.getpid))
        connection.close()
    until(lambda: not process.is_running(), "the worker's end")


LOGS = """
import logging
from autoresearch_kernel.run.local_cluster import cluster_at
if __name__ == "__main__":
    import distributed
    scheduler = logging.getLogger("distributed.scheduler")
    scheduler.error("before")
    with cluster_at("local"):
        scheduler.error("broadcast failed")
    scheduler.error("after")
"""


def test_what_its_scheduler_logs_is_not_shown(tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="Dask is not installed: make setup EXTRAS=cluster")
    (script := tmp_path / "logs.py").write_text(LOGS)
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=LIMIT_SECONDS)
    assert ran.returncode == 0, ran.stderr
    assert [line.rpartition(" - ")[2] for line in ran.stderr.splitlines()] == ["before", "after"]


def test_ctrl_c_in_a_terminal_ends_a_training_once_and_says_nothing_of_dask(project: Path, small_corpus: Path) -> None:
    pytest.importorskip("distributed", reason="Dask is not installed: make setup EXTRAS=cluster")
    study = counting_study(project, small_corpus, agent="search", clock="wall", hardware={})
    command = [sys.executable, "-m", "autoresearch_kernel.cli", "run", "--name", study.name, "--cluster", "local"]
    running = subprocess.Popen(
        command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    until(lambda: has_begun(study.paths.history) or running.poll() is not None, "the first training")
    os.killpg(running.pid, signal.SIGINT)  # as a terminal sends it: to the supervisor and to all that it started
    out, err = running.communicate(timeout=LIMIT_SECONDS)
    assert running.returncode == 130, (out, err)
    assert "run --name nov23 --cluster local` continues" in out
    assert err.strip() == "Stopped. Nothing that was recorded is lost."
    interrupted = [event for event in events_so_far(study.paths.history) if event["event"] == "interrupted"]
    assert [(event["experiment"], event["cause"]) for event in interrupted] == [(0, "asked")]


def has_begun(history: Path) -> bool:
    """Whether a training has begun."""
    return any(event["event"] == "started" for event in events_so_far(history))
