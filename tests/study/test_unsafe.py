"""Without a sandbox: nothing runs before somebody says --unsafe, and what runs then is marked wherever it is shown."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from autoresearch_kernel.cli import main
from autoresearch_kernel.control import actions
from autoresearch_kernel.control.foreground import choose_sandbox
from autoresearch_kernel.core.types import Run, is_trusted
from autoresearch_kernel.record.study import StudyError
from autoresearch_kernel.sandbox import kinds
from autoresearch_kernel.sandbox.probe import SandboxReport
from autoresearch_kernel.show.follow import look
from autoresearch_kernel.show.plot_progress import progress_figure
from autoresearch_kernel.show.status import status_json, status_table
from autoresearch_kernel.show.study_words import findings
from autoresearch_kernel.show.words import grounds, outcome_line, status_line
from autoresearch_kernel.study.finish import finish
from autoresearch_kernel.study.loop import research
from autoresearch_kernel.study.options import StudyOptions, supervisor_words
from autoresearch_kernel.study.steps import open_session
from tests.conftest import counting_study
from tests.pretended import Machine
from tests.study.test_loop import Scripted
from tests.study.test_night import events_of, state_of


@pytest.fixture
def no_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine where no sandbox works."""
    none = SandboxReport("none", (), (("bubblewrap", "bwrap is not installed", "Install bubblewrap."),))
    monkeypatch.setenv(kinds.SANDBOX, "")
    monkeypatch.setattr(kinds, "probe", lambda: none)


def test_without_a_sandbox_nothing_runs_and_the_reason_the_remedy_and_the_way_round_are_said(
    project: Path, small_corpus: Path, no_sandbox: None, capsys: pytest.CaptureFixture[str]
) -> None:
    study = counting_study(project, small_corpus)
    for words in (["run", "--name", "new"], ["run", "--name", "nov23"], ["finish", "--name", "nov23"]):
        assert main(words) == 1
        said = capsys.readouterr().err
        assert all(part in said for part in ("bwrap is not installed", "Install bubblewrap", "--unsafe")), said
    for start in (lambda: actions.begin("new", project, {}, print), lambda: actions.go_on(study, {})):
        with pytest.raises(StudyError, match="start with --unsafe"):
            start()
    with pytest.raises(StudyError, match=r"os\.environ\['AUTORESEARCH_SANDBOX'\] = 'none'"), open_session(study):
        pass
    assert not (project / "studies" / "new").exists() and not study.paths.history.exists()


def test_unsafe_is_passed_on_to_what_is_started(project: Path, no_sandbox: None) -> None:
    assert supervisor_words(StudyOptions(unsafe=True, experiments=3)) == ["--experiments", "3", "--unsafe"]
    assert supervisor_words(StudyOptions()) == []
    choose_sandbox(project, True)
    assert os.environ[kinds.SANDBOX] == "none"


def test_a_variable_that_was_left_set_does_not_cost_the_sandbox(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(kinds.SANDBOX, "none")
    with pytest.raises(StudyError, match=r"AUTORESEARCH_SANDBOX is 'none'.*Unset it"):
        choose_sandbox(project, False)


def test_what_ran_without_a_sandbox_is_marked_in_record_report_status_plot_and_results(
    project: Path,
    small_corpus: Path,
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study = counting_study(project, small_corpus)
    next(iter(research(study, Scripted(), experiments=1)))  # the baseline, in a sandbox
    sandboxed = state_of(study)
    assert "untrusted" not in findings(sandboxed, None) + status_table(look(study))
    monkeypatch.setenv(kinds.SANDBOX, "none")
    list(research(study, Scripted({"ALPHA": -1.0}), experiments=1))
    state = state_of(study)
    baseline, best = state.experiments
    assert [event["sandbox"] for event in events_of(study, "opened")][1:] == ["none"]
    assert {run.sandbox for run in best.runs} == {"none"} and all(map(is_trusted, baseline.runs))
    mark = "untrusted (no sandbox)"
    for words in (
        findings(state, None),
        outcome_line(best),
        status_line(best, study.facts),
        dict(grounds(best, best.runs[0], study.facts))["sandbox"],
        progress_figure(state.decided, title="nov23", sigma=None).texts[0].get_text(),
        study.paths.results.read_text().splitlines()[2],
    ):
        assert mark in words, words
    assert mark not in outcome_line(baseline) + study.paths.results.read_text().splitlines()[1]
    assert "Untrusted (no sandbox): 1 experiment ran without a sandbox" in status_table(look(study))
    assert status_json(look(study))["untrusted"] == [1]


def test_a_result_that_rests_on_one_run_without_a_sandbox_is_marked(
    project: Path, small_corpus: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = counting_study(project, small_corpus)
    list(research(study, Scripted({"ALPHA": -1.0}), experiments=1))
    monkeypatch.setenv(kinds.SANDBOX, "none")
    assert finish(study) is not None
    result = next(line for line in findings(state_of(study), None).splitlines() if line.startswith("Result:"))
    assert result.endswith("over 3 fresh seeds each, untrusted (no sandbox).")


def test_a_run_that_trained_in_a_sandbox_and_was_scored_without_is_not_trusted(
    project: Path, small_corpus: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = counting_study(project, small_corpus)
    with open_session(study) as session:
        session.train(session.propose(Scripted()), 0)
    assert state_of(study).experiments[0].runs[0].sandbox == kinds.probe().name != "none"
    monkeypatch.setenv(kinds.SANDBOX, "none")
    with open_session(study) as session:
        session.score(session.state.experiments[0], 0)
    assert not is_trusted(state_of(study).experiments[0].runs[0])
    assert is_trusted(Run(0, 1))  # a record from before there were sandboxes says nothing
