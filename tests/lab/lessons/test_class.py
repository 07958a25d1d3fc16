"""The folder of a class: what students get, what the instructor gets, and a course that nbgrader grades."""

from __future__ import annotations

import importlib.util
import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import nbformat
import pytest

from autoresearch_kernel.cli import main
from autoresearch_kernel.lab.lessons.build import FOLDER, sources
from autoresearch_kernel.lab.lessons.course import exercises_of
from autoresearch_kernel.lab.lessons.data import SECONDS
from autoresearch_kernel.lab.lessons.form import PLACEHOLDER
from autoresearch_kernel.lab.lessons.learned import PROGRESS_FILE
from autoresearch_kernel.run.kernelspec import install_kernelspec
from autoresearch_kernel.system.locations import project_root
from tests.conftest import PROJECT
from tests.lab.lessons.answers import Listed, listed_answers
from tests.lab.lessons.students import RIGHT, Student, graded_cell, shown, twenty_students

SLUGS = [source.stem for _, source in sources(PROJECT)]
FIRST = "1-bits-per-byte"
NUM_STUDENTS = 20


@pytest.fixture(scope="module")
def class_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("school") / "class"
    assert main(["new-class", str(folder), "--nbgrader"]) == 0
    return folder


def lesson(folder: Path, slug: str) -> nbformat.NotebookNode:
    return nbformat.read(folder / FOLDER / f"{slug}.ipynb", as_version=4)


@pytest.mark.parametrize("slug", SLUGS)
def test_students_get_no_solution_and_the_instructor_gets_all(class_folder: Path, slug: str) -> None:
    solutions = re.findall(r"### BEGIN SOLUTION", (PROJECT / FOLDER / f"{slug}.py").read_text())
    student, instructor = (lesson(class_folder / name, slug) for name in ("student", "instructor"))
    given = "\n".join(cell.source for cell in student.cells)
    assert given.count(PLACEHOLDER) == len(solutions) and "Solution" not in given
    assert PLACEHOLDER not in "\n".join(cell.source for cell in instructor.cells)
    assert not any(cell.get("outputs") for cell in (*student.cells, *instructor.cells))


def test_the_folder_of_a_student_is_a_project_without_answers(
    class_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = class_folder / "student"
    monkeypatch.chdir(student / FOLDER)
    assert project_root() == student
    assert sorted(path.name for path in (student / FOLDER).iterdir()) == [f"{slug}.ipynb" for slug in SLUGS]
    assert not list(student.rglob("*answers*"))
    pages = {path.stem for path in (class_folder / "instructor" / "teaching").glob("*.md")}
    assert set(SLUGS) <= pages


def test_the_readme_of_a_class_names_its_folders(class_folder: Path, tmp_path: Path) -> None:
    readme = (class_folder / "README.md").read_text()
    assert all(f"`{name}/`" in readme for name in ("student", "instructor", "nbgrader"))
    assert main(["new-class", str(tmp_path / "plain")]) == 0
    assert "nbgrader" not in (tmp_path / "plain" / "README.md").read_text()
    assert not (tmp_path / "plain" / "nbgrader").exists()


def test_a_class_is_not_made_over_other_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert main(["new-class", str(tmp_path)]) == 1
    assert "is not empty. Name a new folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_twenty_students_get_their_points_and_sentences_where_nothing_but_the_cells_is_run(
    class_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nbgrader grades below, for an environment without it."""
    if importlib.util.find_spec("nbgrader") is not None:
        pytest.skip("nbgrader grades them")
    monkeypatch.setenv(PROGRESS_FILE, str(tmp_path / "lessons.json"))
    monkeypatch.setenv(SECONDS, "0")
    solved = lesson(class_folder / "instructor", FIRST)
    for student in twenty_students(solved, answers_of_lesson(1)):
        said = said_by_checks(student.notebook(lesson(class_folder / "student", FIRST)), solved)
        assert said.keys() == student.answers.keys()
        for name, answer in student.answers.items():
            assert answer.says in said[name] and said[name].startswith(RIGHT) == answer.is_right, (student.name, name)


def said_by_checks(notebook: nbformat.NotebookNode, locked: nbformat.NotebookNode) -> dict[str, str]:
    """What each check prints or raises; errors stop no cell, and the cells of checks are those that were handed out."""
    names: dict[str, Any] = {}
    said = {}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            grade = cell.metadata.get("nbgrader", {})
            source = graded_cell(locked, grade.grade_id).source if grade.get("grade") else cell.source
            words = said_by(source, names)
            if grade.get("grade"):
                said[grade.grade_id.removeprefix("check-")] = words
    return said


def said_by(source: str, names: dict[str, Any]) -> str:
    """What a cell prints, or its error."""
    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            exec(compile(source, "a cell", "exec"), names)
    except Exception as error:  # of a student's code, which may raise anything
        return f"{type(error).__name__}: {error}"
    return printed.getvalue()


# --- nbgrader


def nbgrader(course: Path, *words: str) -> str:
    """Run a command of nbgrader in the course. Training takes no time, and a kernel is found where the test put it."""
    environment = os.environ | {"AUTORESEARCH_LESSON_SECONDS": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "nbgrader", *words],
        cwd=course,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.fixture
def course(class_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("nbgrader", reason="nbgrader is not installed: make setup EXTRAS=teaching")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "prefix" / "share" / "jupyter"))
    install_kernelspec(tmp_path / "prefix")
    return shutil.copytree(class_folder / "nbgrader", tmp_path / "course")


def test_nbgrader_validates_releases_and_grades_twenty_students(course: Path) -> None:
    for slug in SLUGS:
        nbgrader(course, "generate_assignment", slug, "--create")
    source, released = (course / folder / FIRST / f"{FIRST}.ipynb" for folder in ("source", "release"))
    text = released.read_text()
    assert "SOLUTION" not in text and PLACEHOLDER in text
    students = twenty_students(nbformat.read(source, as_version=4), answers_of_lesson(1))
    assert len({student.name for student in students}) == NUM_STUDENTS
    for student in students:
        hand_in(course, student)
    nbgrader(course, "autograde", FIRST, "--create")
    points = points_of(nbformat.read(released, as_version=4))
    expected = {s.name: {name: points[name] * a.is_right for name, a in s.answers.items()} for s in students}
    assert exercise_scores(course, expected) == expected
    assert scores(course) == {name: sum(of_exercises.values()) for name, of_exercises in expected.items()}
    assert unsaid(course, students) == []
    assert not (course / "studies").exists()


def answers_of_lesson(number: int) -> list[Listed]:
    """The listed answers of a lesson."""
    names = {exercise.name for exercise in exercises_of(number)}
    return [answer for answer in listed_answers() if answer.exercise in names]


def hand_in(course: Path, student: Student) -> None:
    """Put the student's notebook where nbgrader looks for it."""
    submitted = course / "submitted" / student.name / FIRST / f"{FIRST}.ipynb"
    submitted.parent.mkdir(parents=True)
    released = nbformat.read(course / "release" / FIRST / f"{FIRST}.ipynb", as_version=4)
    nbformat.write(student.notebook(released), submitted)


def points_of(notebook: nbformat.NotebookNode) -> dict[str, float]:
    """The points of each exercise."""
    grades = [cell.metadata.nbgrader for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get("grade")]
    return {grade.grade_id.removeprefix("check-"): grade.points for grade in grades}


def exercise_scores(course: Path, names: Iterable[str]) -> dict[str, dict[str, float]]:
    """The points that each student got for each exercise, as nbgrader's gradebook has them."""
    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as book:
        grades = {name: book.find_submission(FIRST, name).notebooks[0].grades for name in names}
        return {name: {g.name.removeprefix("check-"): g.score for g in of_one} for name, of_one in grades.items()}


def unsaid(course: Path, students: Iterable[Student]) -> list[tuple[str, str, str]]:
    """The sentences that a student should find in the graded notebook, and that its check does not show."""
    missing = []
    for student in students:
        path = course / "autograded" / student.name / FIRST / f"{FIRST}.ipynb"
        graded = nbformat.read(path, as_version=4)
        for name, answer in student.answers.items():
            if answer.says not in shown(graded_cell(graded, f"check-{name}")):
                missing.append((student.name, name, answer.says))
    return missing


def scores(course: Path) -> dict[str, float]:
    """The points of each student, as nbgrader exports them."""
    nbgrader(course, "export", "--to", "grades.csv")
    lines = [line.split(",") for line in (course / "grades.csv").read_text().splitlines()]
    columns = {name: index for index, name in enumerate(lines[0])}
    rows = [line for line in lines[1:] if line[columns["assignment"]] == FIRST]
    return {line[columns["student_id"]]: float(line[columns["score"]]) for line in rows}


def test_a_solved_notebook_is_valid_and_an_open_one_is_not(course: Path) -> None:
    nbgrader(course, "generate_assignment", FIRST, "--create")
    source = course / "source" / FIRST / f"{FIRST}.ipynb"
    assert "Success" in nbgrader(course, "validate", str(source))
    said = nbgrader(course, "validate", str(course / "release" / FIRST / f"{FIRST}.ipynb"))
    assert "Success" not in said and "Write your answer here" in said
