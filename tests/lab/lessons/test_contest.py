"""Lesson 3's contest and the recorded study, with trainings that only pretend."""

from __future__ import annotations

import math
import os
import statistics
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from autoresearch_kernel.lab.errors import StepError
from autoresearch_kernel.lab.lessons import contest as contest_module
from autoresearch_kernel.lab.lessons import studies, training
from autoresearch_kernel.lab.lessons.answers import check
from autoresearch_kernel.lab.lessons.contest import Contest, contest
from autoresearch_kernel.lab.lessons.data import SECONDS, NoRecording, lesson_seconds, recorded
from autoresearch_kernel.lab.lessons.example_study import project_source, recorded_study
from autoresearch_kernel.lab.lessons.exercise import WrongAnswer
from autoresearch_kernel.lab.lessons.me import Guess, Me
from autoresearch_kernel.lab.lessons.studies import events_of, lesson_study, live_study, parameters_of
from autoresearch_kernel.lab.opening import open_study
from autoresearch_kernel.source.parameters import read_parameters
from autoresearch_kernel.system.locations import DEVICE
from tests.conftest import PROJECT, counting_study
from tests.lab.lessons.answers import GUESSES
from tests.pretended import Machine

SMALLER = Guess("Less smoothing may fit better.", {"ALPHA": 0.1}, -0.01, -0.5, 0.5)
LARGER = Guess("More smoothing may fit better.", {"ALPHA": 5.0}, -0.01, -0.5, 0.5)
UNKNOWN = Guess("A parameter that is not there.", {"BETA": 1.0}, 0.0, -0.1, 0.1)


@pytest.fixture
def both(project: Path, small_corpus: Path, machine: Machine, no_pictures: None) -> Contest:
    for name in ("mine", "theirs"):
        counting_study(project, small_corpus, name)
    found = Contest(open_study("mine", project), open_study("theirs", project))
    found.measure()
    return found


def test_guesses_become_experiments_and_are_not_tried_twice(both: Contest, machine: Machine) -> None:
    rows = both.try_guesses([SMALLER, LARGER])
    experiments = both.mine.table().experiments[1:]
    assert [e.changes for e in experiments] == [{"ALPHA": 0.1}, {"ALPHA": 5.0}]
    assert [e.agent for e in experiments] == ["me", "me"] and "between" in experiments[0].expected
    assert rows.changes == [e.delta_bpb for e in experiments] and None not in rows.changes
    trained = len(machine.trained)
    assert both.try_guesses([SMALLER, LARGER]).rows == rows.rows and len(machine.trained) == trained
    assert "Less smoothing" in rows._repr_html_() and "More smoothing" in repr(rows)


def test_a_guess_that_was_stopped_in_the_middle_goes_on(both: Contest) -> None:
    both.mine.propose(SMALLER.agent, anew=True)
    both.mine.run()
    assert both.try_guesses([SMALLER, LARGER]).rows[0].status in ("keep", "discard")
    assert [e.number for e in both.mine.table().experiments] == [0, 1, 2]


def test_a_guess_that_cannot_be_tried_is_named_and_the_others_are_tried(
    both: Contest, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = both.try_guesses([UNKNOWN, SMALLER])
    assert rows.rows[0].status == "not tried" and rows.changes[0] is None
    assert rows.changes[1] is not None
    assert "A parameter that is not there. This guess was not tried: " in capsys.readouterr().out


def test_the_optimiser_gets_as_many_budgets_and_no_more(both: Contest, machine: Machine) -> None:
    assert len(both.run_optimiser(2).rows) == 2
    trained = len(machine.trained)
    assert len(both.run_optimiser(2).rows) == 2 and len(machine.trained) == trained


def test_difference_and_noise_are_those_of_a_hand_calculation(both: Contest) -> None:
    both.try_guesses([SMALLER])
    groups = [study.baseline().scores for study in (both.mine, both.theirs)]
    pooled = statistics.fmean(statistics.variance(scores) for scores in groups)
    assert both.sigma == pytest.approx(math.sqrt(pooled))
    (mine, theirs) = ([e for e in s.table().experiments if e.status == "keep"][-1] for s in (both.mine, both.theirs))
    difference, error = both.difference
    assert difference == pytest.approx(mine.val_bpb - theirs.val_bpb)  # type: ignore[operator]
    assert error == pytest.approx(math.hypot(mine.standard_error, theirs.standard_error))  # type: ignore[arg-type]
    assert "you: baseline" in repr(both) and "the optimiser: baseline" in both._repr_html_()


def test_without_seconds_the_contest_is_a_recorded_one(capsys: pytest.CaptureFixture[str]) -> None:
    both = contest(0)
    both.measure()
    mine, theirs = both.try_guesses([SMALLER]), both.run_optimiser()
    assert len(mine.rows) == len(theirs.rows) == 5 and both.sigma > 0
    difference, error = both.difference
    assert abs(difference) < 1 and 0 < error < 1
    said = capsys.readouterr().out
    assert "MATRIX_LR" in both.parameters and "Nothing is trained" in said
    assert {row.status for row in mine.rows} == {"discard"} and all(change and change > 0 for change in mine.changes)
    assert "None of the five was kept, so your score stays that of the baseline." in said
    assert "you: baseline 2.1742, now 2.1742" in repr(both)


def test_without_seconds_a_study_is_a_recorded_one_with_the_same_steps() -> None:
    study = lesson_study("lesson-2", 0)
    assert vars(study) == vars(recorded_study())
    idea = study.propose(Me("Smaller steps may settle lower.", {"EMBEDDING_LR": 0.3}, "-0.01"), anew=True)
    assert "EMBEDDING_LR = 0.3" in idea.diff
    assert study.run(idea).measured["num_steps"] > 0
    assert study.judge().verdict == str(study.record().status)
    assert len(study.baseline().scores) >= 3
    assert {"proposed", "decided"} <= {event["event"] for event in events_of(study) if event.get("experiment") == 1}


def test_without_seconds_the_numbers_that_are_shown_are_those_that_an_idea_changes() -> None:
    study, source = lesson_study("lesson-2", 0), (PROJECT / "train.py").read_text()
    idea = study.propose(Me("Smaller steps may settle lower.", {"EMBEDDING_LR": 0.3}, "-0.01"), anew=True)
    own = {name: parameter.value for name, parameter in read_parameters(source).items()}
    assert idea.parent_source == source and parameters_of(study) == own == contest(0).parameters


def test_the_recorded_verdict_has_the_difference_of_the_mean_over_its_runs() -> None:
    study = lesson_study("lesson-2", 0)
    verdict, baseline = study.judge(), study.baseline()
    scores = [run.val_bpb for run in verdict.experiment.judged_runs]
    assert len(scores) == 2 and verdict.delta_bpb == pytest.approx(statistics.fmean(scores) - baseline.val_bpb)


def test_a_guess_is_compared_with_the_numbers_that_the_lesson_shows(
    both: Contest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contest_module, "live_study", lambda name, seconds: both.mine)
    try:
        assert contest(1).parameters["ALPHA"] == 1.0
        guesses = [replace(guess, changes={"ALPHA": 2.0 + place}) for place, guess in enumerate(GUESSES)]
        check("guesses", guesses)
        with pytest.raises(WrongAnswer, match=r"Guess 5 changes nothing: ALPHA is 1.0 already"):
            check("guesses", [*guesses[:4], replace(guesses[4], changes={"ALPHA": 1.0})])
    finally:
        contest(0)
    assert contest_module.shown_source() == project_source()


def test_seconds_come_from_the_variable_and_a_wrong_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SECONDS, raising=False)
    assert lesson_seconds(20) == 20
    monkeypatch.setenv(SECONDS, "3")
    assert lesson_seconds(20) == 3
    monkeypatch.setenv(SECONDS, "three")
    with pytest.raises(ValueError, match=f"{SECONDS} is 'three'. Set it to a number of seconds"):
        lesson_seconds(20)


def test_a_recording_that_is_not_there_is_named_with_those_that_are() -> None:
    assert set(recorded("1-trained")) >= {"val_bpb", "train_loss", "bytes_per_token"}
    with pytest.raises(NoRecording, match=r"no recorded result 'trained'.*1-trained"):
        recorded("trained")


def test_a_step_that_cannot_be_taken_is_explained(both: Contest) -> None:
    with pytest.raises(StepError, match=r"train.py has no parameter BETA\."):
        both.mine.propose(UNKNOWN.agent, anew=True)


@pytest.mark.parametrize(
    ("changes", "words"), [({"BETA": 1.0}, r"train.py has no parameter BETA\."), ({"DEPTH": "two"}, "it needs an int")]
)
def test_without_seconds_a_step_that_cannot_be_taken_is_explained_as_well(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(StepError, match=words):
        lesson_study("lesson-2", 0).propose(Me("A deeper model may learn more.", changes, "-0.01"), anew=True)


def test_a_lesson_trains_on_the_processors_also_where_there_is_a_gpu(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU another preset would be chosen, with other tokens than the lessons speak of."""
    monkeypatch.delenv(DEVICE, raising=False)
    began: list[tuple[str, str | None]] = []
    monkeypatch.setattr(studies, "start_study", lambda name, **_: began.append((name, os.environ.get(DEVICE))))
    live_study("lesson-2", 1)
    monkeypatch.setattr(studies, "study_exists", lambda *_: True)
    live_study("lesson-2", 1)  # it may have begun on a GPU, with an earlier version
    assert began == [("lesson-2-1s", "cpu"), ("lesson-2-1s", None)] and DEVICE not in os.environ
    monkeypatch.setattr(training.subprocess, "run", lambda command, **given: given["env"][DEVICE] == "cpu" and STOPPED)
    with pytest.raises(training.TrainingFailed, match="stopped here"):
        training._run(project / "train.py", 1.0, project, project)


STOPPED = CompletedProcess([], 1, "", "stopped here")
