"""What a step gives to the person who takes it: the output shown is that of the run that it is about."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from autoresearch_kernel.agents.history_text import in_full
from autoresearch_kernel.core.state import replay
from autoresearch_kernel.core.types import Experiment
from autoresearch_kernel.lab.panel.pages import experiment_body
from autoresearch_kernel.lab.results import Outcome
from autoresearch_kernel.record.archive import StudyArchive
from autoresearch_kernel.record.history import read_events
from tests.event_writer import Writer


def notebook_that_prints(path: Path, text: str) -> None:
    output = nbformat.v4.new_output("stream", name="stdout", text=text)
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("train()", outputs=[output])]), path)


def failed_confirmation(writer: Writer, notebooks: dict[int, str]) -> Experiment:
    writer.open().baseline().propose(1)
    writer.run(1, 1.49)
    writer.start(1, 1)
    writer.append("trained", experiment=1, run=1, status="crash", reason="RuntimeError: boom", measured={})
    writer.decide(1, "crash", None, "the confirmation: RuntimeError: boom")
    for run, text in notebooks.items():
        notebook_that_prints(writer.study.experiment(1).notebook(run), text)
    return replay(read_events(writer.study.paths.history)).experiments[1]


def shown(writer: Writer, experiment: Experiment) -> list[str]:
    archive = StudyArchive(writer.study.paths)
    return [
        experiment_body(writer.study, experiment, archive),
        Outcome(writer.study, experiment, "")._repr_html_(),
        in_full(experiment, "failed", archive),
    ]


def test_a_failed_confirmation_shows_its_own_output(writer: Writer) -> None:
    experiment = failed_confirmation(writer, {0: "of the first run", 1: "of the confirmation"})
    assert experiment.failed_run == 1
    for text in shown(writer, experiment):
        assert "of the confirmation" in text and "of the first run" not in text


@pytest.mark.parametrize("others", [{0: "of the first run"}, {0: "of the first run", 2: "of a later run"}])
def test_a_failed_run_without_a_notebook_shows_no_other_runs_output(writer: Writer, others: dict[int, str]) -> None:
    for text in shown(writer, failed_confirmation(writer, others)):
        assert "RuntimeError: boom" in text and "of the first run" not in text and "of a later run" not in text
