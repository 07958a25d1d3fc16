"""The folder of a class: what students get, what the instructor gets, and a course that nbgrader grades."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from autoresearch_kernel.cli import main
from autoresearch_kernel.lab.lessons.build import FOLDER, sources
from autoresearch_kernel.lab.lessons.form import PLACEHOLDER
from autoresearch_kernel.run.kernelspec import install_kernelspec
from autoresearch_kernel.system.locations import project_root
from tests.conftest import PROJECT

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
    pytest.importorskip("nbgrader", reason="nbgrader is not installed: pip install nbgrader")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "prefix" / "share" / "jupyter"))
    install_kernelspec(tmp_path / "prefix")
    return shutil.copytree(class_folder / "nbgrader", tmp_path / "course")


def answered(released: Path, right: int, submitted: Path) -> None:
    """What a student hands in who has answered the first `right` exercises, with the solutions, and no other."""
    source = nbformat.read(released.parents[2] / "source" / released.parent.name / released.name, as_version=4)
    solutions = {
        cell.metadata.nbgrader.grade_id: cell.source
        for cell in source.cells
        if cell.metadata.get("nbgrader", {}).get("solution")
    }
    known = list(solutions)[:right]
    notebook = nbformat.read(released, as_version=4)
    for cell in notebook.cells:
        grade = cell.metadata.get("nbgrader", {})
        if grade.get("solution") and grade["grade_id"] in known:
            cell.source = solutions[grade["grade_id"]]
    submitted.parent.mkdir(parents=True)
    nbformat.write(notebook, submitted)


def test_nbgrader_validates_releases_and_grades_twenty_students(course: Path) -> None:
    for slug in SLUGS:
        nbgrader(course, "generate_assignment", slug, "--create")
    released = course / "release" / FIRST / f"{FIRST}.ipynb"
    text = released.read_text()
    assert "SOLUTION" not in text and PLACEHOLDER in text
    points = [
        cell.metadata.nbgrader.points
        for cell in nbformat.read(released, as_version=4).cells
        if cell.metadata.get("nbgrader", {}).get("grade")
    ]
    expected = {}
    for number in range(NUM_STUDENTS):
        right = number % (len(points) + 1)
        name = f"student{number:02d}"
        expected[name] = sum(points[:right])
        answered(released, right, course / "submitted" / name / FIRST / f"{FIRST}.ipynb")
    nbgrader(course, "autograde", FIRST, "--create")
    assert scores(course) == expected and max(expected.values()) == sum(points)
    assert not (course / "studies").exists()


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
