"""Lessons in a real kernel: with their solutions from top to bottom, and as a student who has answered nothing yet."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoresearch_kernel.cli import main
from autoresearch_kernel.control.new import new_project
from autoresearch_kernel.lab.lessons.build import built, sources
from autoresearch_kernel.lab.lessons.course import LESSONS
from autoresearch_kernel.lab.lessons.data import SECONDS
from autoresearch_kernel.lab.lessons.form import PLACEHOLDER, Version
from autoresearch_kernel.lab.lessons.trial import Trial, execute
from autoresearch_kernel.run.kernelspec import install_kernelspec
from tests.conftest import PROJECT
from tests.ready import SMALL, STDLIB, home_with

SOURCES = dict(sources(PROJECT))
# Training seconds of a run, by the number of the lesson; 0 shows recorded results. Lesson 4 trains for 1, too.
BUDGETS = {1: "1", 2: "1", 3: "0", 5: "0", 6: "0"}
CELL_SECONDS = 300  # a cell that hangs is named long before the test's own limit
MOST_SECONDS = 12 * 60  # that all six lessons take together in CI


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quiet_processes: None) -> None:
    """The kernelspec, installed where only this test sees it."""
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "prefix" / "share" / "jupyter"))
    install_kernelspec(tmp_path / "prefix")
    for name in [name for name in os.environ if name.startswith("AUTORESEARCH_") and name != "AUTORESEARCH_DTYPE"]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the corpora of the lessons: the one of lessons 1 and 2, and the small one of the others."""
    return home_with(tmp_path_factory, STDLIB, SMALL)


@pytest.fixture(scope="module")
def taken() -> dict[int, float]:
    """The seconds that each lesson took with its solutions, by its number."""
    return {}


@pytest.fixture
def project(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("AUTORESEARCH_HOME", str(home))
    new_project(tmp_path / "project")
    yield tmp_path / "project"


def printed(trial: Trial) -> str:
    """All that the cells show."""
    outputs = [output for cell in trial.notebook.cells for output in cell.get("outputs", [])]
    return "\n".join(str(output.get("text", "")) + str(output.get("data", "")) for output in outputs)


@pytest.mark.parametrize("lesson", SOURCES, ids=lambda lesson: lesson.slug)
def test_a_lesson_runs_with_its_solutions_and_shows_no_folder_of_the_machine(
    lesson: object, project: Path, home: Path, taken: dict[int, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lesson in LESSONS
    monkeypatch.setenv(SECONDS, BUDGETS.get(lesson.number, "1"))  # type: ignore[attr-defined]
    trial = execute(lesson, built(SOURCES[lesson], Version.INSTRUCTOR), project, CELL_SECONDS)  # type: ignore[arg-type, index]
    assert trial.problem == ""
    taken[trial.lesson.number] = trial.seconds
    shown = printed(trial)
    checks = sum(cell.source.startswith("check(") for cell in trial.notebook.cells)
    assert shown.count("Right. ") == checks > 0
    for folder in (project, home, PROJECT):
        assert str(folder) not in shown


def test_all_lessons_together_take_no_longer_than_twelve_minutes(taken: dict[int, float]) -> None:
    if len(taken) < len(LESSONS):
        pytest.skip(f"only the lessons {sorted(taken)} were executed in this process")
    assert sum(taken.values()) <= MOST_SECONDS, taken


@pytest.mark.parametrize("lesson", SOURCES, ids=lambda lesson: lesson.slug)
def test_a_student_is_stopped_at_the_first_exercise_by_a_plain_sentence(
    lesson: object, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SECONDS, "0")
    trial = execute(lesson, built(SOURCES[lesson], Version.STUDENT), project, CELL_SECONDS)  # type: ignore[arg-type, index]
    assert PLACEHOLDER in trial.problem
    cells = [cell for cell in trial.notebook.cells if cell.cell_type == "code"]
    failed = next(i for i, cell in enumerate(cells) if any(o.output_type == "error" for o in cell.outputs))
    first_check = next(i for i, cell in enumerate(cells) if cell.source.startswith("check("))
    assert failed in (first_check - 1, first_check)


def test_the_command_executes_a_lesson_and_says_how_long_it_took(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AUTORESEARCH_HOME", str(home))
    assert main(["lessons", "3", "--check", "--seconds", "0"]) == 0
    assert "Lesson 3  Be the agent" in capsys.readouterr().out
    assert not (home / "lessons").exists(), "the learner's own studies and progress are in the cache"
