"""A study in the background, as a person lives with it: real processes, kernels and scorers, on a model that counts."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import psutil
import pytest

from autoresearch_kernel.agents.search import SearchAgent
from autoresearch_kernel.cli import main
from autoresearch_kernel.control import actions, foreground, supervisor
from autoresearch_kernel.control.actions import finish, stop
from autoresearch_kernel.control.supervisor import StillStarting, end, start_detached, wait_until_free
from autoresearch_kernel.core.state import replay
from autoresearch_kernel.core.types import Progress
from autoresearch_kernel.record.history import read_events
from autoresearch_kernel.record.study import Study, StudyError
from autoresearch_kernel.show.follow import look
from autoresearch_kernel.show.status import status_table
from autoresearch_kernel.study.loop import research
from autoresearch_kernel.system.files import StudyInUse, take_lock
from autoresearch_kernel.system.locations import RUN_TOKEN
from autoresearch_kernel.system.machine import training_lock
from tests.conftest import COUNTING_TRAIN, copy_of, counting_study, make_project
from tests.study.test_loop import Scripted

LIMIT_SECONDS = 120.0  # for anything that is waited for: the machine may be busy

# It reports for as long as the budget lasts, so that there is something to see.
LASTING = COUNTING_TRAIN.replace("TrainingClock(3600)", "TrainingClock()").replace(" and clock.step < NUM_BATCHES", "")


@pytest.fixture(scope="module")
def begun_project(tmp_path_factory: pytest.TempPathFactory, small_corpus: Path) -> Path:
    """A project with a study that was stopped before the last of the three runs of its baseline."""

    def stop(progress: Progress) -> None:
        if (progress.phase, progress.run) == ("starting", 2):
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as monkeypatch:
        folder = make_project(tmp_path_factory.mktemp("begun"), small_corpus, monkeypatch)
        study = counting_study(folder, small_corpus, source=LASTING)
        with pytest.raises(KeyboardInterrupt):
            list(research(study, SearchAgent(), watch=stop))
    return folder


@pytest.fixture
def study(
    begun_project: Path, tmp_path: Path, small_corpus: Path, monkeypatch: pytest.MonkeyPatch, quiet_processes: None
) -> Iterator[Study]:
    made = copy_of(begun_project, tmp_path, small_corpus, monkeypatch)
    yield made
    end(made)


def until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"{what} did not happen within {LIMIT_SECONDS:.0f} s")


def events_of(study: Study, kind: str) -> list[dict[str, Any]]:
    return [event for event in read_events(study.paths.history) if event["event"] == kind]


def processes_of(study: Study) -> list[str]:
    """Trainings, scorers and supervisors that still run."""
    found = []
    for process in psutil.process_iter():
        try:
            words, environ = " ".join(process.cmdline()), process.environ()
        except psutil.Error:
            continue
        mine = environ.get("AUTORESEARCH_PROJECT") == str(study.project) or f"run --name {study.name} " in words + " "
        if (mine and process.cwd().startswith(str(study.project))) or (mine and RUN_TOKEN in environ):
            found.append(words)
    return found


def test_a_study_lives_on_in_the_background(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--name", "nov23", "--experiments", "1", "--detach"]) == 0
    said = capsys.readouterr().out
    pid = int(re.search(r"Process (\d+) runs the study in the background", said)[1])  # type: ignore[index]
    assert os.getsid(pid) == pid != os.getsid(0)  # a closing terminal does not reach it

    # a second one is refused, and the first is named
    with pytest.raises(StudyInUse, match=rf"is being run by process {pid} on"):
        start_detached(study)
    assert main(["run", "--name", "nov23", "--experiments", "1"]) == 1
    assert f"process {pid} on" in capsys.readouterr().err

    # what it does can be seen
    def training() -> Any:
        assert main(["status", "--json"]) == 0
        facts = json.loads(capsys.readouterr().out)
        return facts if (facts["running"] or {}).get("curve") else None

    facts = until(training, "a curve")
    assert facts["phase"] == "measuring the baseline" and facts["holder"]["pid"] == pid
    assert facts["running"]["experiment"] == 0 and 0 < facts["running"]["seconds_left"] <= 2
    assert main(["status"]) == 0
    table = capsys.readouterr().out
    assert "● measuring the baseline" in table and "agent scripted" in table

    # and it listens
    assert main(["pause"]) == 0
    assert "nov23: pauses after experiment" in capsys.readouterr().out
    until(lambda: events_of(study, "paused"), "the pause")
    assert main(["status"]) == 0
    assert "`autoresearch resume --name nov23` goes on" in capsys.readouterr().out
    assert main(["hint", "smooth less"]) == 0 and main(["resume"]) == 0
    assert "nov23: goes on" in capsys.readouterr().out

    # a watcher sees the rest and leaves when it is over
    assert main(["attach"]) == 0
    seen = capsys.readouterr().out
    assert "0001" in seen and re.search(r"(Best|Incumbent): 0001|Nothing has beaten", seen)
    assert events_of(study, "finished") and wait_until_free(study, LIMIT_SECONDS)
    assert main(["pause"]) == 1
    assert "No process runs study 'nov23', so there is nothing to pause" in capsys.readouterr().err
    assert "0001" in study.paths.supervisor_log.read_text()
    until(lambda: not processes_of(study), "the end of all processes")


def test_stop_now_and_kill_9_lose_nothing_that_was_decided(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    start_detached(study, ["--experiments", "1"])
    until(lambda: len(events_of(study, "trained")) == 3, "a trained baseline")
    assert main(["stop", "--now"]) == 0
    assert "stops now; experiment 0000 is resumed when the study goes on" in capsys.readouterr().out
    assert wait_until_free(study, 0.0)
    trained = len(events_of(study, "trained"))
    assert replay(read_events(study.paths.history)).stopped.startswith("asked by ")
    until(lambda: not processes_of(study), "the end of all processes")

    begun = len(events_of(study, "started"))
    pid = start_detached(study, ["--experiments", "1"])
    until(lambda: len(events_of(study, "started")) > begun, "another training")
    time.sleep(1.0)
    os.kill(pid, signal.SIGKILL)
    assert wait_until_free(study, LIMIT_SECONDS)
    assert main(["status"]) == 0
    assert "The supervisor is gone since" in capsys.readouterr().out
    until(lambda: not processes_of(study), "the end of all processes")

    start_detached(study, ["--experiments", "1"])
    assert wait_until_free(study, LIMIT_SECONDS)
    state = replay(read_events(study.paths.history))
    assert state.finished == "1 experiment" and len(state.decided) == 2
    assert len(events_of(study, "trained")) >= trained
    ends = [(event["experiment"], event["run"]) for event in events_of(study, "scored")]
    assert len(ends) == len(set(ends))
    assert not list(study.paths.folder.rglob(".*.tmp"))


def test_a_supervisor_that_cannot_start_says_why(study: Study) -> None:
    prepare = study.project / "prepare.py"
    prepare.write_text(prepare.read_text() + "\n# another\n")
    with pytest.raises(StudyError, match=r"did not start \(exit status 1\)\. It said: [\s\S]*prepare\.py has changed"):
        start_detached(study)


def test_a_supervisor_that_could_say_nothing_is_told_with_its_log_and_the_space_that_is_left(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    study.paths.reserve.write_bytes(bytes(100))
    monkeypatch.setattr(supervisor, "free_bytes", lambda folder: 3_000_000)
    monkeypatch.setattr(supervisor, "python_command", lambda *words: ["false"])
    with pytest.raises(StudyError, match=r"It said nothing in .*supervisor\.log, whose disk has 3 MB left\. Free some"):
        start_detached(study)
    assert not study.paths.reserve.exists()


def test_what_a_full_disk_does_not_take_of_the_plan_ends_no_study(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTORESEARCH_SANDBOX", "")  # which is changed, and restored with all else
    with open("/dev/full", "w", buffering=1) as full:  # each line is written at once
        monkeypatch.setattr("sys.stdout", full)
        foreground.choose_sandbox(Path.cwd(), unsafe=True)
        monkeypatch.undo()
        with pytest.raises(OSError, match="No space"):
            full.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())


@pytest.mark.parametrize(
    ("failure", "is_begun", "is_removed"),
    [
        (StudyError("The supervisor did not start."), False, True),
        (StudyError("The supervisor did not start."), True, False),
        (StillStarting("It takes long."), False, False),
    ],
)
def test_a_start_that_fails_leaves_no_study_that_lacks_what_was_asked_for_it(
    project: Path, small_corpus: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception, is_begun: bool,
    is_removed: bool,
) -> None:  # fmt: skip
    made: list[Study] = []

    def create(*arguments: Any) -> Study:
        made.append(counting_study(project, small_corpus, "dec1"))
        return made[0]

    def fail(study: Study, words: list[str]) -> int:
        assert "--max-calls" in words or "--experiments" in words
        study.paths.history.write_bytes(b"{" * is_begun)
        raise failure

    monkeypatch.setattr(actions, "start_study", create)
    monkeypatch.setattr(actions, "start_detached", fail)
    with pytest.raises(StudyError, match=str(failure)):
        actions.begin("dec1", project, {"experiments": 3, "unsafe": True}, print)
    assert made[0].paths.folder.exists() != is_removed


def test_a_supervisor_whose_study_is_removed_ends_and_leaves_no_training(study: Study) -> None:
    start_detached(study)
    until(lambda: look(study).curve, "a training")
    assert len(processes_of(study)) > 1
    shutil.rmtree(study.paths.folder)
    until(lambda: not processes_of(study), "the end of all processes")
    assert not study.paths.history.exists() and not study.paths.activity.exists()


def test_sigterm_is_recorded_like_ctrl_c(study: Study) -> None:
    pid = start_detached(study)
    until(study.paths.running.is_file, "a training")
    os.kill(pid, signal.SIGTERM)
    assert wait_until_free(study, LIMIT_SECONDS)
    assert replay(read_events(study.paths.history)).stopped == "interrupted by hand"
    *_, voided = events_of(study, "interrupted")  # the one before it is of the fixture
    assert voided["cause"] == "asked" and voided["reason"] == "stopped by hand while it trained"
    until(lambda: not processes_of(study), "the end of all processes")


def test_two_studies_on_one_machine_say_which_waits_for_which(
    study: Study, small_corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with training_lock(study="dec1"):
        start_detached(study, ["--experiments", "1"])
        waiting = until(lambda: look(study).state.waiting, "a wait")
        assert (waiting.study, waiting.pid) == ("dec1", os.getpid())
        assert main(["status"]) == 0
        assert f"study dec1, process {os.getpid()}" in " ".join(capsys.readouterr().out.split())
    until(lambda: look(study).curve, "a training")
    assert look(study).state.waiting is None
    assert stop(study, now=True)


def test_a_result_is_measured_by_a_process_that_outlives_its_notebook(measured: Study, no_pictures: None) -> None:
    with pytest.raises(StudyError, match="has kept nothing besides its baseline"):
        finish(measured)
    list(islice(research(measured, Scripted({"ALPHA": 0.05})), 1))
    with take_lock_of(measured), pytest.raises(StudyError, match=rf"is being run by process {os.getpid()}: wait"):
        finish(measured)
    said = finish(measured)
    pid = int(re.search(r"Process (\d+) measures the result in the background: \d trainings? of 2 s", said)[1])  # type: ignore[index]
    assert os.getsid(pid) == pid != os.getsid(0), "it would end with the notebook's kernel"
    until(lambda: look(measured).phase == "finishing" and look(measured).curve, "a fresh run")
    assert "finishing, fresh run" in status_table(look(measured))
    assert finish(measured) == f"Process {pid} measures the result of study {measured.name} already."
    assert stop(measured, now=True) and look(measured).state.stopped


@contextmanager
def take_lock_of(study: Study) -> Iterator[None]:
    fd = take_lock(study.paths.lock)
    yield
    os.close(fd)
