"""A busy machine: the supervisor says so, records it, and waits before a training where the user allows that."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autoresearch_kernel.core.next_step import Action, Step
from autoresearch_kernel.core.types import Cause, Experiment, Progress, Run
from autoresearch_kernel.lab.analysis.load import analyse
from autoresearch_kernel.lab.panel import pages
from autoresearch_kernel.record.commands import send
from autoresearch_kernel.record.study import Study
from autoresearch_kernel.run.backend import using_backend
from autoresearch_kernel.show.follow import look
from autoresearch_kernel.show.status import status_json, status_table
from autoresearch_kernel.show.study_words import machine_words
from autoresearch_kernel.study.loop import research
from autoresearch_kernel.study.quiet import QUIET_LOOKS
from autoresearch_kernel.study.steps import open_session
from autoresearch_kernel.system.clock import Clock
from autoresearch_kernel.system.speed import Load, measure_load
from tests.conftest import counting_study
from tests.pretended import Machine
from tests.study.test_night import events_of, state_of, worse

BURN = "import time; end = time.monotonic() + 3\nwhile time.monotonic() < end: pass"
QUIET, BUSY = Load((), 2), Load((("make", 3012, 0.9), ("cc1", 7, 0.5)), 2)


@pytest.fixture
def study(project: Path, small_corpus: Path) -> Study:
    return counting_study(project, small_corpus)


def loads(*found: Load) -> Any:
    """Each of these once, then the last for ever."""
    left = list(found)
    return lambda: left.pop(0) if len(left) > 1 else left[0]


def test_a_study_says_that_the_machine_is_busy_when_it_begins_and_goes_on(study: Study, machine: Machine) -> None:
    machine.load = loads(BUSY, QUIET)
    list(research(study, worse(1), experiments=1))
    (busy,) = state_of(study).busy
    assert (busy.why, busy.cores, busy.num_cores) == ("the study begins", 1.4, 2)
    (note,) = [event["text"] for event in events_of(study, "note") if "busy" in event["text"]]
    taken = "140 % of 200 % processor time (make (process 3012) 90 %, cc1 (process 7) 50 %)"
    assert note.startswith(f"This machine is busy: other processes take {taken}. ") and "--wait-for-quiet" in note
    assert not events_of(study, "quiet_wait")
    sentence = f"The machine was busy when the supervisor looked: other processes took up to {taken}."
    assert sentence in " ".join(status_table(look(study), width=120).split())
    assert sentence in analyse(study).summary() and sentence in pages.gauge(look(study), None)


def test_a_quiet_machine_is_not_mentioned(study: Study, machine: Machine) -> None:
    list(research(study, worse(1), experiments=1, wait_for_quiet=30))
    assert not state_of(study).busy and machine_words(state_of(study)) == ""
    assert not events_of(study, "quiet_wait")


def test_the_study_waits_for_quiet_before_a_training_and_says_for_how_long(study: Study, machine: Machine) -> None:
    seen: list[dict[str, Any]] = []

    def watch(progress: Progress) -> None:
        if progress.phase == "quiet" and not seen:
            now = look(study)
            told = {"said": progress.text, "table": status_table(now), "gauge": pages.gauge(now, None)}
            seen.append(status_json(now) | told)

    machine.load = loads(QUIET, BUSY, BUSY, QUIET, BUSY, QUIET)  # the one quiet look between is a pause of the others
    list(research(study, worse(1), experiments=1, wait_for_quiet=30, watch=watch))
    (waited,) = events_of(study, "quiet_waited")
    assert waited["seconds"] == pytest.approx(0.2 * (3 + QUIET_LOOKS), abs=0.2) and waited["cores"] == 0
    assert state_of(study).quiet_seconds == waited["seconds"] and machine.trained[0] == (0, 0)
    (during,) = seen
    assert during["phase"] == "waiting for a quieter machine" and during["quiet_wait"]["cores"] == 1.4
    assert "waiting for a quieter machine to train 0000" in during["table"]
    assert "waits for a quieter machine: " in during["gauge"]
    assert during["said"].startswith("Experiment 0000 waits for a quieter machine, for 30 min more at most: ")
    assert any(event["text"].startswith("The machine is quiet after ") for event in events_of(study, "note"))
    assert look(study).phase == "finished" and status_json(look(study))["quiet_wait"] is None


def test_the_wait_ends_at_its_limit_which_holds_for_all_trainings(study: Study, machine: Machine) -> None:
    machine.load = lambda: BUSY
    list(research(study, worse(1), experiments=1, wait_for_quiet=0.1))
    (waited,) = events_of(study, "quiet_waited")  # 6 seconds before the first training, and none before the others
    assert 6.0 <= waited["seconds"] <= 7.0 and waited["cores"] == 1.4
    assert len(machine.trained) >= 4
    assert any(event["text"].startswith("The machine is still busy after 6 s") for event in events_of(study, "note"))
    assert "The study waited 6 s for quiet." in machine_words(state_of(study))


def test_the_wait_ends_with_the_hours_of_the_study(study: Study, machine: Machine) -> None:
    machine.load = lambda: BUSY
    list(research(study, worse(1), hours=0.01, wait_for_quiet=30))
    (waited,) = events_of(study, "quiet_waited")  # 36 seconds in all; the trainings take none
    assert 30.0 < waited["seconds"] < 37.0 and (0, 2) in machine.trained


@pytest.mark.parametrize("command", ["stop", "stop now"])
def test_a_wait_for_quiet_is_stopped_before_it_trains(study: Study, machine: Machine, command: str) -> None:
    sent: list[object] = []

    def watch(progress: Progress) -> None:
        if progress.phase == "quiet" and not sent:
            sent.append(send(study.paths.commands, command))

    machine.load = lambda: BUSY
    list(research(study, worse(1), experiments=1, wait_for_quiet=30, watch=watch))
    state = state_of(study)
    assert machine.trained == [] and state.stopped.startswith("asked by") and state.quiet_wait is None
    assert len(events_of(study, "quiet_waited")) == 1
    list(research(study, worse(1), experiments=1))  # without the option it does not wait
    assert len(machine.trained) >= 4 and len(events_of(study, "quiet_wait")) == 1


def test_a_wait_for_quiet_is_paused_and_the_pause_is_no_waiting(study: Study, machine: Machine) -> None:
    sent: list[object] = []

    def watch(progress: Progress) -> None:
        if progress.phase == "quiet" and not sent:
            sent.append(send(study.paths.commands, "pause"))
        if progress.phase == "paused" and len(sent) == 1:
            machine.time.ahead += 3600
            machine.load = lambda: QUIET
            sent.append(send(study.paths.commands, "resume"))

    machine.load = lambda: BUSY
    list(research(study, worse(1), experiments=1, wait_for_quiet=30, watch=watch))
    assert [event["answer"] for event in events_of(study, "command")] == ["pauses now, before it trains", "goes on"]
    assert state_of(study).quiet_seconds < 60 and len(machine.trained) >= 4


@pytest.mark.parametrize(
    ("number", "run", "step_why", "looked"),
    [
        (1, Run(0, 1, causes=(Cause.SLOW,)), "", "experiment 0001 trains again"),
        (1, Run(0, 1, causes=(Cause.ASKED,)), "", ""),
        (1, Run(0, 1), "the machine drifts", "experiment 0001 runs again"),
        (0, Run(3, 1), "", "the baseline needs more runs"),
        (0, Run(2, 1), "", ""),
    ],
)
def test_the_supervisor_looks_before_trainings_that_speed_has_to_do_with(
    study: Study, machine: Machine, number: int, run: Run, step_why: str, looked: str
) -> None:
    machine.load = lambda: BUSY
    runs = (*(Run(i, i) for i in range(run.index)), run)
    experiment = Experiment(number, "An idea.", "search", 0, runs=runs)
    with open_session(study) as session:
        session.quiet.look_before(experiment, Step(Action.TRAIN, number, run.index, step_why))
        assert [busy.why for busy in session.state.busy] == list(filter(None, [looked]))


@pytest.mark.real_load
def test_a_study_waits_until_a_real_neighbour_has_ended(study: Study, machine: Machine) -> None:
    """Load, clock and neighbour are real. Others may use the processors too, so only the neighbour is looked at."""
    neighbour = 0

    def load() -> Load:
        found = measure_load(0.3)
        return replace(found, others=tuple(o for o in found.others if o[1] == neighbour), stolen=0.0)

    with using_backend(replace(machine.backend, load=load, clock=Clock())), open_session(study) as session:
        session.quiet.allow(1.0)
        neighbour = start_neighbour()
        session.quiet.wait(Progress("quiet", 0))
    (begun,), (waited,) = events_of(study, "quiet_wait"), events_of(study, "quiet_waited")
    assert f"(process {neighbour})" in begun["who"] and begun["cores"] > 0.2
    assert 1.0 < waited["seconds"] < 30.0 and waited["cores"] == 0


def start_neighbour() -> int:
    """The pid of a process that is no descendant of this one, as who started it has ended."""
    words = [sys.executable, "-c", BURN]
    start = f"import subprocess; null = -3; print(subprocess.Popen({words!r}, stdout=null, stderr=null).pid)"
    return int(subprocess.run([sys.executable, "-c", start], capture_output=True, text=True, check=True).stdout)
