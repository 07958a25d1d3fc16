"""What a night brings, on a backend that only pretends: pauses, sleep, slow machines, full disks, git."""

from __future__ import annotations

import errno
import io
import os
import re
import shutil
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from autoresearch_kernel.core.decide import MOST_BASELINE_RUNS
from autoresearch_kernel.core.next_step import UNSTEADY
from autoresearch_kernel.core.state import StudyState, replay
from autoresearch_kernel.core.types import Call, Context, Evaluation, Progress, Proposal, Run, RunOutcome, Status
from autoresearch_kernel.record import history as history_module
from autoresearch_kernel.record.commands import send
from autoresearch_kernel.record.git import Lineage, LineageError
from autoresearch_kernel.record.history import read_events
from autoresearch_kernel.record.study import Study, StudyError, open_study
from autoresearch_kernel.run.training import Listener, Training
from autoresearch_kernel.scoring.job import ScoringJob
from autoresearch_kernel.show.terminal import Screen
from autoresearch_kernel.study.disk_space import forget_artefacts
from autoresearch_kernel.study.loop import recover, research, settle
from autoresearch_kernel.study.question import Question
from autoresearch_kernel.study.steps import open_session
from autoresearch_kernel.study.train import run_seed
from autoresearch_kernel.system.files import write_atomic
from tests.conftest import counting_study, git
from tests.pretended import SPEED, Machine
from tests.study.test_loop import Scripted


@pytest.fixture
def study(project: Path, small_corpus: Path) -> Study:
    return counting_study(project, small_corpus)


def state_of(study: Study) -> StudyState:
    return replay(read_events(study.paths.history))


def events_of(study: Study, kind: str) -> list[dict[str, Any]]:
    return [event for event in read_events(study.paths.history) if event["event"] == kind]


def worse(count: int) -> Scripted:
    """Ideas that are never kept."""
    return Scripted(*({"ALPHA": 2.0 + i / 10} for i in range(count)))


# --- a study that was cut off


def test_a_study_continues_where_it_stopped(study: Study, machine: Machine) -> None:
    first = list(research(study, Scripted({"ALPHA": 0.2}), experiments=1))
    again = list(research(open_study("nov23", study.project), Scripted({"ALPHA": 5.0}), experiments=1))
    assert [e.number for e in first] == [0, 1] and [e.number for e in again] == [2]
    assert len(events_of(study, "study_started")) == 1
    assert again[0].parent == 1 and again[0].status is Status.DISCARD


def test_what_was_trained_is_not_trained_again_and_what_was_interrupted_runs_once_more(
    study: Study, machine: Machine
) -> None:
    with open_session(study) as opened:  # ends after the first training, before its score
        opened.train(opened.propose(Scripted()), 0)
    with open_session(study) as opened:  # ends in the middle of the second
        recover(opened)
        opened.score(opened.state.experiments[0], 0)
        opened.history.append("started", experiment=0, run=1, seed=run_seed(0, 0, 1))
    baseline = next(iter(research(study, Scripted(), experiments=1)))
    assert baseline.status is Status.KEEP
    assert [run.attempts for run in baseline.runs] == [1, 2, 1]
    assert [event["run"] for event in events_of(study, "trained")] == [0, 1, 2]
    assert machine.trained == [(0, 0), (0, 1), (0, 2)]
    assert [event["run"] for event in events_of(study, "interrupted")] == [1]
    assert len({run.seed for run in baseline.runs}) == 3


def test_an_experiment_interrupted_twice_is_given_up(study: Study, machine: Machine) -> None:
    list(research(study, Scripted({"ALPHA": 5.0}), experiments=1))
    for attempt in (1, 2):
        with open_session(study) as opened:
            recover(opened)
            if attempt == 1:
                opened.propose(Scripted({"ALPHA": 0.1}))
            opened.history.append("started", experiment=2, run=0, seed=1)
    with open_session(study) as opened:
        recover(opened)
        assert settle(opened).status is Status.INTERRUPTED


def test_a_baseline_that_failed_is_tried_again(study: Study, machine: Machine) -> None:
    def fails_once(training: Training, listener: Listener) -> RunOutcome:
        outcome = machine.pretend_training(training, listener)
        crash = RunOutcome(Status.CRASH, "AssertionError: not yet", None, None)
        return crash if len(machine.trained) == 1 else outcome

    machine.train = fails_once
    with pytest.raises(StudyError, match=r"The baseline did not train \(crash\): .*not yet"):
        next(iter(research(study, Scripted(), experiments=1)))
    assert machine.trained == [(0, 0)]
    assert state_of(study).stopped.startswith("The baseline did not train"), "a person reads this in the panel"
    baseline = next(iter(research(study, Scripted(), experiments=1)))
    assert baseline.status is Status.KEEP and len(baseline.scores) == 3


def test_a_supervisor_whose_study_is_removed_leaves_the_next_one_of_that_name_alone(
    study: Study, machine: Machine, small_corpus: Path
) -> None:
    def during(experiment: int) -> None:
        if experiment == 1:
            shutil.rmtree(study.paths.folder)
            counting_study(study.project, small_corpus)
            write_atomic(study.paths.activity, "of the new one")

    machine.during = during
    with pytest.raises(StudyError, match="was removed or moved while this process ran the study"):
        list(research(study, worse(1), experiments=1))
    found = {path.name for path in study.paths.folder.rglob("*") if path.is_file()}
    assert found == {"activity.json", "train.py", "lock", "study.json"}
    assert study.paths.activity.read_text() == "of the new one"


# --- a terminal that was closed


class Closed(io.StringIO):
    """The output of a terminal whose connection was closed."""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        raise OSError(errno.EIO, "Input/output error")


def test_a_terminal_that_was_closed_ends_no_study(
    study: Study, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", Closed())
    screen = Screen()
    done = list(research(study, worse(1), experiments=1, watch=screen.watch))
    screen.line("the end")
    assert len(done) == 2 and state_of(study).finished == "1 experiment" and screen.is_gone


def test_a_call_that_is_out_is_on_the_bill_where_nothing_can_be_drawn(study: Study, machine: Machine) -> None:
    list(islice(research(study, worse(1)), 1))
    asked, answered = threading.Event(), threading.Event()

    class Slow(Scripted):
        def propose(self, context: Context) -> Proposal:
            context.on_send(Call("tiny", 100, 50, 0.01, 0.0, estimated=True))
            asked.set()
            answered.wait(10)
            return super().propose(context)

    def watch(progress: Progress) -> None:
        if progress.phase == "writing":
            raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(OSError, match="Input/output"), open_session(study, watch) as session:
        session.tell(Progress("proposing", 1))
        session.proposals.question = Question(Slow(), session.context())
        assert asked.wait(10)
        session.proposals.question.writes = "I think"
    answered.set()
    (called,) = events_of(study, "called")
    assert called["failed"] == "given up when the study stopped" and not study.paths.activity.exists()


# --- people


def test_pause_resume_and_stop_are_obeyed_and_acknowledged(study: Study, machine: Machine) -> None:
    sent = []

    def during(experiment: int) -> None:
        if experiment == 1:
            sent.append(send(study.paths.commands, "pause"))
        elif experiment == 2:
            sent.append(send(study.paths.commands, "stop"))

    machine.during = during
    said = []

    def watch(progress: Progress) -> None:
        said.append(progress)
        if progress.phase == "paused":
            sent.append(send(study.paths.commands, "resume"))

    done = list(research(study, worse(9), experiments=9, watch=watch))
    assert [e.number for e in done] == [0, 1, 2]
    answers = {event["id"]: event["answer"] for event in events_of(study, "command")}
    assert [answers[command.id] for command in sent] == [
        "pauses after experiment 0001",
        "goes on",
        "stops after experiment 0002",
    ]
    paused = [(event["reason"], event["by_person"]) for event in events_of(study, "paused")]
    assert paused == [(f"by {sent[0].by}", True)]
    assert len(events_of(study, "resumed")) == 1 and not events_of(study, "finished")
    assert state_of(study).stopped == f"asked by {sent[-1].by}"
    # it goes on from there, and what was said before is not obeyed twice
    assert [e.number for e in research(study, worse(1), experiments=1)] == [3]
    assert len(events_of(study, "command")) == 3 and state_of(study).finished


def test_stop_now_ends_the_training_and_costs_the_experiment_nothing(study: Study, machine: Machine) -> None:
    def during(experiment: int) -> None:
        if experiment == 1 and len([t for t in machine.trained if t == (1, 0)]) <= 3:
            send(study.paths.commands, "stop now")

    machine.during = during
    ideas = worse(2)
    assert [e.number for e in research(study, ideas, experiments=2)] == [0]
    assert list(research(study, ideas, experiments=2)) == []
    assert list(research(study, ideas, experiments=2)) == []
    assert [e.number for e in research(study, ideas, experiments=2)] == [1, 2]
    run = state_of(study).experiments[1].runs[0]
    assert machine.trained.count((1, 0)) == 4 and run.attempts == 1 and run.val_bpb is not None
    assert [event["cause"] for event in events_of(study, "interrupted")] == ["asked"] * 3
    assert all(event["reason"].startswith("stopped by ") for event in events_of(study, "interrupted"))


def test_an_interrupt_between_the_record_of_a_training_and_its_start_is_recorded(
    study: Study, machine: Machine
) -> None:
    def watch(progress: Progress) -> None:
        if progress.phase == "starting" and progress.experiment == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(research(study, worse(1), experiments=1, watch=watch))
    assert [event["cause"] for event in events_of(study, "interrupted")] == ["asked"]
    assert state_of(study).experiments[1].runs[0].attempts == 0  # it cost the experiment nothing


def test_a_stop_that_was_sent_to_nobody_is_out_of_date_but_a_hint_reaches_the_agent(
    study: Study, machine: Machine
) -> None:
    class Listener(Scripted):
        heard: tuple[str, ...] = ()

        def propose(self, context: Context) -> Proposal:
            self.heard = context.hints
            return super().propose(context)

    send(study.paths.commands, "stop now")
    send(study.paths.commands, "hint", "try smaller steps")
    agent = Listener({"ALPHA": 3.0})
    assert [e.number for e in research(study, agent, experiments=1)] == [0, 1]
    assert agent.heard == ("try smaller steps",)
    assert [event["answer"] for event in events_of(study, "command")] == [
        "ignored: no supervisor ran the study then",
        "the agent gets it with its next question",
    ]


def test_hints_that_were_cleared_reach_the_agent_no_more(study: Study, machine: Machine) -> None:
    class Listener(Scripted):
        heard: tuple[str, ...] = ()

        def propose(self, context: Context) -> Proposal:
            self.heard = context.hints
            return super().propose(context)

    for words in ("try smaller steps", "try larger steps"):
        send(study.paths.commands, "hint", words)
    send(study.paths.commands, "clear hints")
    send(study.paths.commands, "hint", "leave the steps alone")
    agent = Listener({"ALPHA": 3.0})
    list(research(study, agent, experiments=1))
    assert agent.heard == state_of(study).hints == ("leave the steps alone",)
    assert events_of(study, "command")[2]["answer"] == "the agent no longer gets 2 earlier hints"


def test_a_supervisor_says_that_its_agent_reads_no_hints(project: Path, small_corpus: Path, machine: Machine) -> None:
    study = counting_study(project, small_corpus, agent="search")
    send(study.paths.commands, "hint", "try smaller steps")  # by an earlier client, which did not refuse it
    list(research(study, worse(1), experiments=1))
    assert "does not read hints" in events_of(study, "command")[0]["answer"]


def test_a_loop_that_is_left_is_recorded_as_stopped(study: Study, machine: Machine) -> None:
    nights = research(study, worse(3), experiments=3)
    next(nights)
    nights.close()
    assert state_of(study).stopped == "the caller asked for no more"


def test_an_agent_that_fails_is_asked_again_and_given_up_in_the_end(study: Study, machine: Machine) -> None:
    class Flaky(Scripted):
        failures = 2

        def propose(self, context: Context) -> Proposal:
            if self.failures:
                self.failures -= 1
                raise ConnectionError("no route to host")
            return super().propose(context)

    agent = Flaky({"ALPHA": 3.0})
    assert [e.number for e in research(study, agent, experiments=1)] == [0, 1]
    assert sum("asked again" in event["text"] for event in events_of(study, "note")) == 2
    agent.failures = 99
    with pytest.raises(StudyError, match=r"failed 5 times, last with ConnectionError: no route to host"):
        list(research(study, agent, experiments=1))
    assert "failed 5 times" in state_of(study).stopped


# --- the machine


def test_a_reply_that_was_received_is_not_asked_for_again(study: Study, machine: Machine) -> None:
    nights = research(study, worse(1), experiments=1)
    next(nights)
    nights.close()
    with open_session(study) as opened:
        append = opened.history.append

        def power_cut(event: str, /, **fields: Any) -> Any:
            if event == "proposed":
                raise OSError(errno.EIO, "the cable was pulled")
            return append(event, **fields)

        opened.history.append = power_cut  # type: ignore[method-assign]
        with pytest.raises(OSError):
            opened.propose(Scripted({"ALPHA": 0.2}))
    done = list(research(study, Scripted(), experiments=1))
    assert [(e.number, e.hypothesis) for e in done] == [(1, "Set ALPHA to 0.2")]


def test_a_run_during_which_the_machine_slept_is_void_and_made_again(study: Study, machine: Machine) -> None:
    def during(experiment: int) -> None:
        if experiment == 1 and machine.trained.count((1, 0)) < 4:
            machine.time.slept += 3 * 3600 + 120

    machine.during = during
    done = list(research(study, worse(1), experiments=1))
    assert [e.status for e in done] == [Status.KEEP, Status.DISCARD]
    voided = events_of(study, "interrupted")
    assert len(voided) == 3 and voided[0]["reason"] == "the machine slept for 3 h 2 min while it trained"
    assert done[1].runs[0].attempts == 1 and len(done[1].runs) == 1


def test_sleep_while_a_study_waits_for_the_machine_makes_no_training_void(study: Study, machine: Machine) -> None:
    pretend = machine.train

    def train(given: Training, listener: Listener) -> RunOutcome:
        machine.time.slept += 6 * 3600  # another study trains meanwhile, and the lid is closed
        assert listener.on_spawn is not None
        listener.on_spawn(os.getpid())
        return pretend(given, listener)

    machine.train = train
    done = list(research(study, worse(1), experiments=1))
    assert [e.status for e in done] == [Status.KEEP, Status.DISCARD] and not events_of(study, "interrupted")


@pytest.mark.parametrize(("speed", "cause", "words"), [(0.4, "slow", "40% of"), (3.12, "fast", "3.12 times")])
def test_a_run_on_a_machine_of_quite_another_speed_is_made_again_rather_than_judged(
    study: Study, machine: Machine, speed: float, cause: str, words: str
) -> None:
    machine.machine_speed = lambda experiment, call: speed if (experiment, call) == (1, 1) else 1.0
    done = list(research(study, worse(1), experiments=1))
    assert machine.trained.count((1, 0)) == 2 and len(done[1].scores) == 1
    assert done[1].runs[0].attempts == 1 and done[1].runs[0].measured["relative_machine_speed"] == 1.0
    (voided,) = events_of(study, "interrupted")
    assert voided["cause"] == cause
    assert voided["reason"] == f"the machine ran at {words} its speed for the incumbent"


def test_code_that_calls_itself_slow_is_not_trained_again(study: Study, machine: Machine) -> None:
    machine.machine_speed = lambda experiment, call: 1.0
    machine.speed = lambda experiment, call: SPEED * (0.1 if experiment == 1 else 1.0)
    done = list(research(study, worse(1), experiments=1))
    assert machine.trained.count((1, 0)) == 1 and machine.trained.count((0, 3)) == 0
    assert done[1].runs[0].measured["relative_speed"] == pytest.approx(0.1)


def test_the_baseline_runs_until_three_of_its_runs_have_like_speed(study: Study, machine: Machine) -> None:
    machine.speed = lambda experiment, call: SPEED * (1.68 if machine.trained[-1] == (0, 1) else 1.0)
    (baseline,) = research(study, Scripted(), experiments=0)
    assert len(baseline.scores) == 4 and "4 runs" in baseline.reason and not state_of(study).is_unsteady
    assert "until 3 of its runs have like speed" in " ".join(event["text"] for event in events_of(study, "note"))


def test_where_no_three_runs_are_alike_the_study_says_that_the_machine_is_too_unsteady(
    study: Study, machine: Machine
) -> None:
    machine.speed = lambda experiment, call: SPEED * 1.2 ** machine.trained[-1][1]
    baseline, change = research(study, Scripted({"ALPHA": 0.2}), experiments=1)
    assert len(baseline.scores) == MOST_BASELINE_RUNS and state_of(study).is_unsteady
    assert UNSTEADY in baseline.reason and baseline.sigma is not None
    assert change.status is Status.KEEP, "a gain of many times the noise is still seen"


def test_slow_twice_asks_the_incumbent_and_a_slow_machine_is_judged_by_its_own_kind(
    study: Study, machine: Machine
) -> None:
    """The machine halves its speed for good while experiment 1 trains: scores are compared at the new speed alone."""
    machine.machine_speed = lambda experiment, call: 0.5 if machine.trained.count((1, 0)) else 1.0
    machine.speed = lambda experiment, call: SPEED * (0.5 if machine.trained.count((1, 0)) else 1.0)
    slow_score = machine.score
    slowed = {"by": 0.1}

    def score(job: ScoringJob) -> Evaluation:
        evaluation = slow_score(job)
        slow = machine.trained.count((1, 0)) > 0
        return Evaluation(evaluation.val_bpb + slowed["by"] * slow, 0.001, 1000, 3000, 0.1)

    machine.score = score
    done = list(research(study, Scripted({"ALPHA": 0.2}, {"ALPHA": 3.0}), experiments=2))
    # 0.2 is better than the baseline's 1.0; at half speed it still scores worse than the baseline did at full speed
    assert done[1].val_bpb is not None and done[1].val_bpb > max(done[0].scores)
    assert done[1].status is Status.KEEP, done[1].reason
    state = state_of(study)
    reruns = [run for run in state.experiments[0].runs if run.num_decided > 0]
    assert [run.num_decided for run in reruns] == [1, 3, 3, 3] and done[1].runs[0].slow  # the last three at the end
    assert "0.50 times its speed, which may be the machine" in " ".join(
        event["text"] for event in events_of(study, "note")
    )
    finished = events_of(study, "finished")[-1]
    assert finished["machine_speed"] == pytest.approx(0.5, abs=0.05)


def test_on_another_machine_than_at_the_start_the_baseline_runs_again_beside_the_champion(
    study: Study, machine: Machine
) -> None:
    """Experiment 1 is better by 0.02; from then on the machine is slow, which costs every run 0.1."""
    plain, slow = machine.score, {"now": False}
    machine.speed = lambda experiment, call: SPEED * (0.5 if slow["now"] else 1.0)

    def score(job: ScoringJob) -> Evaluation:
        evaluation = plain(job)
        return Evaluation(evaluation.val_bpb + 0.1 * slow["now"], 0.001, 1000, 3000, 0.1)

    machine.score = score
    nights = research(study, Scripted({"ALPHA": -1.0}, {"ALPHA": 3.0}), experiments=2)
    assert [next(nights).status, next(nights).status] == [Status.KEEP, Status.KEEP]
    slow["now"] = True
    assert [e.status for e in nights] == [Status.DISCARD]
    (finished,) = events_of(study, "finished")
    assert finished["champion"] == 1 and finished["machine_speed"] == pytest.approx(0.5)
    assert finished["difference_bpb"] == pytest.approx(-0.02, abs=0.002)
    late = [run for run in state_of(study).experiments[0].runs if run.num_decided == 3]
    assert len(late) == 3 and finished["baseline_bpb"] == pytest.approx(1.61, abs=0.002)


def test_where_nobody_measures_the_machine_the_incumbent_runs_beside_a_change_that_is_slow(
    study: Study, machine: Machine
) -> None:
    machine.speed = lambda experiment, call: SPEED * (0.4 if experiment == 1 else 1.0)
    done = list(research(study, worse(2), experiments=2))
    assert machine.trained.count((1, 0)) == 1 and machine.trained.count((0, 3)) == 1
    assert done[1].status is Status.DISCARD and machine.trained.count((2, 0)) == 1
    assert len(state_of(study).incumbent_scores) == 4


@pytest.mark.parametrize("is_busy", [True, False])
def test_only_a_machine_that_was_busy_has_a_run_that_took_too_long_made_again(
    study: Study, machine: Machine, is_busy: bool
) -> None:
    """A confirmation that was slow, and then too long: neither is the code's fault where the machine was busy."""
    machine.machine_speed = lambda experiment, call: (
        {1: 0.4, 2: 0.7}.get(call, 1.0) if is_busy and machine.trained[-1] == (1, 1) else 1.0
    )

    def train(training: Training, listener: Listener) -> RunOutcome:
        outcome = machine.pretend_training(training, listener)
        is_long = machine.trained[-1] == (1, 1) and machine.trained.count((1, 1)) == (2 if is_busy else 1)
        seconds = study.time_budget_seconds + (60.0 if is_long else 1.0)
        return replace(outcome, measured=outcome.measured | {"cells_seconds": seconds})

    machine.train = train
    done = list(research(study, Scripted({"ALPHA": 0.5}), experiments=1))
    if is_busy:
        assert [event["cause"] for event in events_of(study, "interrupted")] == ["slow", "overtime"]
        assert done[1].status is Status.KEEP and len(done[1].scores) == 2
    else:
        assert events_of(study, "interrupted") == [] and done[1].status is Status.TIMEOUT


def test_the_incumbent_runs_again_after_twenty_experiments(study: Study, machine: Machine) -> None:
    list(research(study, worse(21), experiments=21))
    assert machine.trained.index((0, 3)) < machine.trained.index((21, 0))
    assert machine.trained.count((0, 3)) == 1 and (0, 4) not in machine.trained
    assert len(state_of(study).incumbent_scores) == 4


def test_a_rerun_that_was_cut_off_is_finished_first(study: Study, machine: Machine) -> None:
    def stop_in_rerun(experiment: int) -> None:
        if machine.trained[-1] == (0, 3) and machine.trained.count((0, 3)) == 1:
            send(study.paths.commands, "stop now")

    machine.during = stop_in_rerun
    ideas = worse(22)
    first = list(research(study, ideas, experiments=21))
    assert len(first) == 21 and state_of(study).stopped
    list(research(study, ideas, experiments=1))
    assert machine.trained.count((0, 3)) == 2 and len(state_of(study).incumbent_scores) == 4


def test_a_hopeless_run_is_ended_early_and_discarded_without_a_score(study: Study, machine: Machine) -> None:
    falling = machine.curve(0)
    machine.curve = lambda experiment: falling if experiment != 1 else [6 - 0.5 * i / 100 for i in range(101)]
    done = list(research(study, worse(2), experiments=2))
    assert done[1].status is Status.DISCARD and done[1].val_bpb is None and done[1].scores == ()
    assert re.match(r"ended early: at 50% of the budget its train_loss is", done[1].reason)
    assert done[2].val_bpb is not None
    assert done[1].runs[0].measured["ended_at"] == pytest.approx(0.5, abs=0.02)
    assert study.paths.results.read_text().splitlines()[2].split("\t")[1] == ""


def test_a_run_that_looks_hopeless_on_a_slow_machine_is_made_again(study: Study, machine: Machine) -> None:
    falling = machine.curve(0)
    machine.machine_speed = lambda experiment, call: 0.4 if (experiment, call) == (1, 1) else 1.0
    machine.curve = lambda experiment: (
        [6 - 0.5 * i / 100 for i in range(101)] if experiment == 1 and machine.trained.count((1, 0)) == 1 else falling
    )
    done = list(research(study, Scripted({"ALPHA": 0.2}), experiments=1))
    assert machine.trained.count((1, 0)) == 2 and done[1].status is Status.KEEP


def test_a_wall_clock_that_is_set_changes_nothing(study: Study, machine: Machine) -> None:
    offset = timedelta()

    def moved() -> str:
        now = datetime.now(UTC) + offset
        return now.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    machine.time.utc_now = moved
    nights = research(study, Scripted({"ALPHA": 0.2}, {"ALPHA": 2.0}, {"ALPHA": 0.1}), experiments=3, hours=5)
    done = [next(nights)]
    for days in (-1, 2, -1):
        offset += timedelta(days=days)
        done.append(next(nights))
    assert list(nights) == []
    assert [e.status for e in done] == [Status.KEEP, Status.KEEP, Status.DISCARD, Status.KEEP]
    times = [event["time"][:10] for event in read_events(study.paths.history)]
    assert len(set(times)) >= 2 and times != sorted(times)
    assert len(git(study.project, "for-each-ref", "refs/autoresearch/nov23").splitlines()) == 4
    list(research(study, worse(1), experiments=1))  # a history whose times go back is read like any other
    assert len(state_of(study).decided) == 5


# --- the disk


def test_a_study_waits_for_room_before_it_trains(study: Study, machine: Machine) -> None:
    free = {"bytes": 10**12}
    machine.free_bytes = lambda folder: free["bytes"]

    def during(experiment: int) -> None:
        if machine.trained[-1] == (1, 0):
            free["bytes"] = 10**6

    machine.during = during

    def watch(progress: Progress) -> None:
        if progress.phase == "paused":
            assert (2, 0) not in machine.trained
            free["bytes"] = 10**12

    done = list(research(study, worse(2), experiments=2, watch=watch))
    assert [e.number for e in done] == [0, 1, 2]
    (paused,) = events_of(study, "paused")
    assert re.match(r"The disk of .* has 1 MB left, and a training needs \d+ MB", paused["reason"])
    assert [event["reason"] for event in events_of(study, "resumed")] == ["nothing is missing any more"]


def test_a_training_that_the_full_disk_made_crash_is_made_again(study: Study, machine: Machine) -> None:
    free = {"bytes": 10**12}
    machine.free_bytes = lambda folder: free["bytes"]

    def fails_once(training: Training, listener: Listener) -> RunOutcome:
        outcome = machine.pretend_training(training, listener)
        if machine.trained.count((1, 0)) == 1 and machine.trained[-1] == (1, 0):
            free["bytes"] = 0
            return RunOutcome(Status.CRASH, "OSError: [Errno 28] No space left on device", None, None)
        return outcome

    machine.train = fails_once

    def watch(progress: Progress) -> None:
        if progress.phase == "paused":
            free["bytes"] = 10**12

    done = list(research(study, worse(1), experiments=1, watch=watch))
    assert done[1].status is Status.DISCARD and done[1].runs[0].attempts == 1
    assert "it failed on a full disk" in events_of(study, "interrupted")[0]["reason"]


@pytest.mark.parametrize("event", ["proposed", "started", "trained", "scored", "audited", "decided"])
def test_a_record_that_finds_the_disk_full_is_written_when_there_is_room(
    study: Study, machine: Machine, monkeypatch: pytest.MonkeyPatch, event: str
) -> None:
    append, failures = history_module.History.append, []

    def full_once(self: Any, kind: str, /, **fields: Any) -> Any:
        if kind == event and fields["experiment"] == 1 and not failures:
            failures.append(kind)
            raise OSError(errno.ENOSPC, "No space left on device")
        return append(self, kind, **fields)

    monkeypatch.setattr(history_module.History, "append", full_once)
    done = list(research(study, Scripted({"ALPHA": 0.2}, {"ALPHA": 2.0}), experiments=2))
    assert failures == [event]
    assert [e.number for e in done] == [0, 1, 2] and [e.status for e in done] == ["keep", "keep", "discard"]
    assert done[1].runs[0].attempts == 1
    assert len(events_of(study, "finished")) == 1


def test_models_of_discards_go_the_oldest_first_down_to_the_stated_size(study: Study, machine: Machine) -> None:
    list(research(study, worse(4), experiments=4))
    models = [study.experiment(n).artefact(0) for n in range(5)]
    assert all(model.exists() for model in models)
    size = sum(path.stat().st_size for path in (models[1], study.experiment(1).nll(0)))
    forget_artefacts(study, state_of(study), limit_bytes=2 * size)
    assert [model.exists() for model in models] == [True, False, False, True, True]
    forget_artefacts(study, state_of(study), limit_bytes=0)
    assert [model.exists() for model in models] == [True, False, False, False, False]
    assert all(study.experiment(n).metrics(0).exists() for n in range(5))


def test_a_kept_experiment_of_which_a_run_is_in_work_keeps_its_models(study: Study, machine: Machine) -> None:
    """As on another slot, while a later one is the incumbent."""
    list(research(study, Scripted({"ALPHA": 0.2}, {"ALPHA": 0.1}), experiments=2))
    state, model = state_of(study), study.experiment(1).artefact(0)
    assert state.incumbent is not None and state.incumbent.number == 2 and model.exists()
    kept = state.experiments[1]
    runs = (*kept.runs, Run(kept.next_run, 7, Status.INTERRUPTED))
    now = [replace(kept, runs=runs) if e.number == 1 else e for e in state.experiments]
    forget_artefacts(study, replace(state, experiments=tuple(now)), limit_bytes=0)
    assert model.exists()
    forget_artefacts(study, state, limit_bytes=0)
    assert not model.exists()


# --- git


def test_git_is_brought_to_what_the_history_says(study: Study, machine: Machine) -> None:
    list(research(study, Scripted({"ALPHA": 0.2}, {"ALPHA": 2.0}), experiments=2))
    commits = {e.number: e.commit for e in state_of(study).experiments}
    git(study.project, "update-ref", "-d", "refs/autoresearch/nov23/0001")
    git(study.project, "update-ref", "refs/autoresearch/nov23/0002", "main")
    git(study.project, "update-ref", "refs/heads/autoresearch/nov23", str(commits[0]))
    list(research(study, worse(1), experiments=1))
    for number, commit in commits.items():
        assert git(study.project, "rev-parse", f"refs/autoresearch/nov23/{number:04d}") == commit
    assert git(study.project, "rev-parse", "autoresearch/nov23") == commits[1]
    assert any("made again: 0001, 0002" in event["text"] for event in events_of(study, "note"))


def test_an_experiment_decided_without_git_gets_its_commit_later(study: Study, machine: Machine) -> None:
    hidden = study.project / ".git-away"
    shutil.move(study.project / ".git", hidden)
    list(research(study, Scripted({"ALPHA": 0.2}), experiments=1))
    assert [e.commit for e in state_of(study).experiments] == [None, None]
    shutil.move(hidden, study.project / ".git")
    list(research(study, worse(1), experiments=1))
    state = state_of(study)
    assert all(e.commit for e in state.experiments)
    assert git(study.project, "rev-parse", "autoresearch/nov23") == state.experiments[1].commit
    assert git(study.project, "show", "autoresearch/nov23:train.py") == study.train_source(1).strip()


def test_a_keep_that_git_missed_gets_its_commit_before_its_children(
    study: Study, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, failures = Lineage.record, []

    def fails_once(self: Any, number: int, *arguments: Any, **options: Any) -> str:
        if number == 1 and not failures:
            failures.append(number)
            raise LineageError("git hash-object: Input/output error")
        return record(self, number, *arguments, **options)

    monkeypatch.setattr(Lineage, "record", fails_once)
    list(research(study, Scripted({"ALPHA": -1.0}, {"ALPHA": -3.0}), experiments=2))
    state = state_of(study)
    assert failures == [1] and [e.status for e in state.decided] == [Status.KEEP] * 3
    commits = [str(e.commit) for e in state.decided]
    assert git(study.project, "rev-parse", "autoresearch/nov23") == commits[2]
    assert git(study.project, "rev-list", "--max-count=3", commits[2]).split() == commits[::-1]
