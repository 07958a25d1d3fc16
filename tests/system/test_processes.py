"""What a crashed supervisor left is ended, and nothing else is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from autoresearch_kernel.system.locations import RUN_TOKEN
from autoresearch_kernel.system.processes import (
    ProgramHung,
    end_leftovers,
    kill_by_token,
    memory_kills,
    not_by_the_system,
    remember,
    run_program,
)

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts processes in a session of their own; whatever a test leaves of them ends with it."""
    started: list[subprocess.Popen[bytes]] = []

    def run(*command: str, token: str = "") -> subprocess.Popen[bytes]:
        env = {**os.environ, **({RUN_TOKEN: token} if token else {})}
        started.append(subprocess.Popen(command, env=env, start_new_session=True, stdout=subprocess.PIPE))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def ended(process: subprocess.Popen[bytes], seconds: float = 2.0) -> bool:
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "running.json"


def test_a_remembered_run_is_ended_with_all_that_carries_its_token(start: Start, file: Path) -> None:
    runner = start("sleep", "300", token="night-1")
    elsewhere = start("sh", "-c", "sleep 300 & sleep 300", token="night-1")  # two processes, in a session of their own
    bystander = start("sleep", "300", token="night-2")
    wait_until(lambda: len(psutil.Process(elsewhere.pid).children()) == 2)
    remember(file, runner.pid, "night-1")
    assert end_leftovers(file) == 4
    assert ended(runner) and ended(elsewhere) and bystander.poll() is None
    assert not file.exists()
    assert end_leftovers(file) == 0


def test_the_group_is_ended_though_it_hides_its_environment(start: Start, file: Path) -> None:
    runner = start("env", "-i", "/bin/sh", "-c", "/bin/sleep 300 & echo x; wait")
    assert runner.stdout is not None and runner.stdout.readline() == b"x\n"
    below = psutil.Process(runner.pid).children()
    remember(file, runner.pid, "night-3")
    assert end_leftovers(file) == 2
    assert ended(runner) and not psutil.wait_procs(below, timeout=2)[1]


@pytest.mark.parametrize("change", [{"started": "0 ticks after boot another"}, {"started": None}, {"pid": "1"}])
def test_a_pid_that_another_process_has_now_is_left_alone(start: Start, file: Path, change: dict[str, object]) -> None:
    bystander = start("sleep", "300")
    remember(file, bystander.pid, "night-4")
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    assert end_leftovers(file) == 0
    assert not ended(bystander, 0.2) and not file.exists()


def test_a_process_that_is_gone_is_remembered_as_gone(start: Start, file: Path) -> None:
    gone = start("true")
    gone.wait()
    remember(file, gone.pid, "night-5")
    assert json.loads(file.read_text()) == {"pid": gone.pid, "started": None, "token": "night-5"}
    assert end_leftovers(file) == 0


@pytest.mark.parametrize("content", ["", "[1, 2]", '{"pid": 1}', "\udcff"])
def test_a_damaged_note_ends_nothing(file: Path, content: str) -> None:
    file.write_bytes(content.encode("utf-8", "surrogateescape"))
    assert end_leftovers(file) == 0
    assert not file.exists()


def test_we_and_those_above_us_are_spared(file: Path) -> None:
    """A supervisor that itself runs inside of the run: with its token, and in its group."""
    code = f"""
import os, sys
from pathlib import Path
from autoresearch_kernel.system.processes import end_leftovers, remember
remember(Path({str(file)!r}), os.getppid(), "night-6")
print(end_leftovers(Path({str(file)!r})))
"""
    parent = f"import subprocess, sys; print(subprocess.run([sys.executable, '-c', {code!r}]).returncode)"
    env = {**os.environ, RUN_TOKEN: "night-6"}
    done = subprocess.run(
        [sys.executable, "-c", parent], env=env, cwd=Path(__file__).parents[2], start_new_session=True,
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout.split()) == (0, ["0", "0"]), done.stderr


def test_a_sweep_finds_what_is_started_while_it_sweeps(start: Start) -> None:
    start("sh", "-c", "while :; do sleep 300 & sleep 0.01; done", token="night-7")
    time.sleep(0.2)
    assert len(kill_by_token("night-7")) >= 2
    assert kill_by_token("night-7") == set()


def test_all_below_is_killed_in_whatever_session() -> None:
    code = """
import subprocess
from autoresearch_kernel.system.processes import adopt_orphans, kill_descendants
adopt_orphans()
subprocess.run("setsid sleep 300 & setsid sleep 300 & sleep 300 & :", shell=True)
print(kill_descendants(), kill_descendants())
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.stdout.split() == ["3", "0"], done.stderr


def test_without_children_there_is_nothing_to_kill() -> None:
    code = "from autoresearch_kernel.system.processes import kill_descendants; print(kill_descendants())"
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.stdout == "0\n"


def wait_until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_program_that_hangs_is_ended_with_its_children() -> None:
    begun = time.monotonic()
    with pytest.raises(ProgramHung, match=r"^sh did not end within 0 s$"):
        run_program(["sh", "-c", "sleep 300 & sleep 300"], 0.3)
    assert time.monotonic() - begun < 5
    done = run_program(["sh", "-c", "cat; echo gone >&2; exit 3"], 5.0, stdin=b"given")
    assert (done.returncode, done.stdout, done.stderr) == (3, b"given", b"gone\n")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems count no kills")
def test_the_systems_kills_for_lack_of_memory_are_counted() -> None:
    before = memory_kills()
    assert before is not None and before <= (memory_kills() or 0)
    assert not_by_the_system(3, 4) == ""
    assert not_by_the_system(3, 3).startswith("the system did not kill it for lack of memory")
    assert not_by_the_system(None, None).startswith("it is not known that the system killed it for lack of memory")
