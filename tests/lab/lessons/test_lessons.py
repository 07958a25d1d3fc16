"""The course: each lesson is built from its source, has a form to rely on, and knows its wrong answers."""

from __future__ import annotations

import math
import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest

from autoresearch_kernel.cli import main
from autoresearch_kernel.lab.lessons.answers import check, predict
from autoresearch_kernel.lab.lessons.build import FOLDER, build_lessons, built, sources
from autoresearch_kernel.lab.lessons.course import LESSONS, NoSuchExercise, all_exercises, exercise_of, exercises_of
from autoresearch_kernel.lab.lessons.example_study import recorded_study
from autoresearch_kernel.lab.lessons.exercise import NotAnswered, WrongAnswer
from autoresearch_kernel.lab.lessons.form import PLACEHOLDER, LessonMalformed, Version, make_notebook
from autoresearch_kernel.lab.lessons.learned import GRADING, PROGRESS_FILE, progress
from autoresearch_kernel.lab.lessons.me import Me
from tests.conftest import PROJECT
from tests.lab.lessons.answers import GUESSES, Listed, listed_answers, value_of

SOURCES = list(sources(PROJECT))
ANSWERS = listed_answers()
LEAST_WRONG = 4  # answers that are listed for each exercise
HEADING = re.compile(r"^### Exercise (\d)\.(\d+) · (.+)$", re.MULTILINE)
EFFORT = re.compile(r"^[★☆]{3} · (\d+) minutes?$", re.MULTILINE)


def slug(pair: tuple[object, Path]) -> str:
    return pair[1].stem


@pytest.fixture(autouse=True)
def own_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The progress of this test alone."""
    file = tmp_path / "kept" / "lessons.json"
    monkeypatch.setenv(PROGRESS_FILE, str(file))
    monkeypatch.delenv(GRADING, raising=False)
    return file


# --- the notebooks


@pytest.mark.parametrize("pair", SOURCES, ids=slug)
def test_the_notebook_beside_a_source_is_what_the_source_becomes(pair: tuple[object, Path]) -> None:
    source = pair[1]
    expected = nbformat.writes(built(source)) + "\n"
    assert source.with_suffix(".ipynb").read_text() == expected, "run `autoresearch lessons --build`"
    nbformat.validate(nbformat.reads(expected, as_version=4))


def test_each_notebook_has_a_source_and_is_a_lesson_of_the_course() -> None:
    stems = {path.stem for path in (PROJECT / FOLDER).glob("*.ipynb")}
    assert stems == {source.stem for _, source in SOURCES} <= {lesson.slug for lesson in LESSONS}


def test_building_again_writes_nothing() -> None:
    assert list(build_lessons(PROJECT)) == []


@pytest.mark.parametrize("pair", SOURCES, ids=slug)
@pytest.mark.parametrize("version", Version)
def test_no_version_has_outputs_or_a_pairing_and_grades_have_their_fields(
    pair: tuple[object, Path], version: Version
) -> None:
    notebook = built(pair[1], version)
    assert "jupytext" not in notebook.metadata
    grades = [cell.metadata.nbgrader for cell in notebook.cells if "nbgrader" in cell.metadata]
    assert len({grade["grade_id"] for grade in grades}) == len(grades)
    for cell in notebook.cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None
    for grade in grades:
        assert grade["schema_version"] == 3 and grade["grade"] != grade["solution"] and grade["task"] is False
        assert grade["grade"] == grade["locked"] == ("points" in grade)


@pytest.mark.parametrize("pair", SOURCES, ids=slug)
def test_learners_find_a_solution_folded_and_students_find_none(pair: tuple[object, Path]) -> None:
    source = pair[1]
    solutions = re.findall(r"### BEGIN SOLUTION\n(.*?)\n *### END SOLUTION", source.read_text(), re.DOTALL)
    assert solutions
    learner, student, instructor = (
        "\n".join(cell.source for cell in built(source, version).cells)
        for version in (Version.LEARNER, Version.STUDENT, Version.INSTRUCTOR)
    )
    assert learner.count(PLACEHOLDER) == student.count(PLACEHOLDER) == len(solutions)
    assert learner.count("<summary>Solution</summary>") == instructor.count("**Solution.**") == len(solutions)
    assert "<summary>Solution</summary>" not in student and "**Solution.**" not in student
    assert PLACEHOLDER not in instructor and "SOLUTION" not in learner + student + instructor
    for solution in solutions:
        last = solution.strip().splitlines()[-1].strip()
        assert last in instructor and last in learner and (last not in student or len(last) < 4), last


@pytest.mark.parametrize("pair", SOURCES, ids=slug)
def test_each_exercise_has_all_its_parts_in_their_order(pair: tuple[object, Path]) -> None:
    lesson, source = pair
    parts = HEADING.split("\n".join(cell.source for cell in built(source).cells))
    exercises = exercises_of(lesson.number)  # type: ignore[attr-defined]
    assert [int(number) for number in parts[2::4]] == list(range(1, len(exercises) + 1))
    assert parts[3::4] == [exercise.title for exercise in exercises]
    for exercise, text in zip(exercises, parts[4::4], strict=True):
        assert EFFORT.search(text), exercise.name
        places = [text.find(words) for words in (
            f'check("{exercise.name}", ', "<summary>Hint 1</summary>", "<summary>Hint 2</summary>",
            "<summary>Solution</summary>",
        )]  # fmt: skip
        assert -1 not in places and places == sorted(places), exercise.name
        whole = source.read_text()
        assert whole.count(f'predict("{exercise.name}", ...)') == 1
        assert whole.index(f'predict("{exercise.name}"') < whole.index(f'check("{exercise.name}"')
    assert text.count("**Predict first:**") + sum(part.count("**Predict first:**") for part in parts[:-1]) == len(
        exercises
    )


@pytest.mark.parametrize("pair", SOURCES, ids=slug)
def test_a_lesson_says_at_its_top_what_it_takes_and_fits_a_class(pair: tuple[object, Path]) -> None:
    source = pair[1]
    first = built(source).cells[0].source
    minutes = int(re.search(r"\*\*Time:\*\* (\d+) minutes", first)[1])  # type: ignore[index]
    assert "**Compute:**" in first and minutes < 45
    assert sum(map(int, EFFORT.findall("\n".join(cell.source for cell in built(source).cells)))) <= minutes
    assert built(source).cells[-1].source == "progress()"


@pytest.mark.parametrize("pair", SOURCES, ids=slug)
def test_a_lesson_has_a_page_for_its_instructor(pair: tuple[object, Path]) -> None:
    page = (PROJECT / "docs" / "teaching" / f"{pair[1].stem}.md").read_text()
    headings = re.findall(r"^## (.+)$", page, re.MULTILINE)
    assert headings == ["Aim", "Timing", "Typical mistakes", "Questions to discuss", "When a laptop fails"]
    stated = int(re.search(r"\*\*Time:\*\* (\d+) minutes", built(pair[1]).cells[0].source)[1])  # type: ignore[index]
    lengths = [int(minutes) for minutes in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)]
    ends = [int(end) for end in re.findall(r"^\| \d+–(\d+) \|", page, re.MULTILINE)]
    assert (sum(lengths) or ends[-1]) == stated


# --- the form is enforced


GOOD = '# %% nbgrader={"grade_id": "a", "solution": true}\n### BEGIN SOLUTION\nx = 1\n### END SOLUTION\n'


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("# %%\n" + "".join(f"x{i} = {i}\n" for i in range(11)), "has 11 lines"),
        (GOOD.replace(', "solution": true', ""), "has its solution between"),
        (GOOD.replace("### BEGIN SOLUTION\n", ""), "has its solution between"),
        (GOOD.replace("### END SOLUTION\n", ""), "has its solution between"),
        ('# %%\ncheck("a", x)\n', "needs nbgrader="),
    ],
)
def test_a_source_that_breaks_the_form_is_refused_by_cell(source: str, why: str) -> None:
    with pytest.raises(LessonMalformed, match=re.escape(why)):
        make_notebook(source, "9-wrong", Version.LEARNER)


# --- the checks


def test_names_are_unique_and_each_exercise_lists_its_wrong_answers() -> None:
    names = [exercise.name for _, exercise in all_exercises()]
    assert len(set(names)) == len(names) > 0
    assert {answer.exercise for answer in ANSWERS} == set(names)
    for name in names:
        wrong = {answer.code for answer in ANSWERS if answer.exercise == name and answer.says}
        assert len(wrong) >= LEAST_WRONG, name


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda a: f"{a.exercise}-{'wrong' if a.says else 'right'}")
def test_a_listed_answer_gets_the_sentence_that_belongs_to_it(
    answer: Listed, capsys: pytest.CaptureFixture[str]
) -> None:
    if not answer.says:
        check(answer.exercise, value_of(answer.code))
        said = capsys.readouterr().out
        assert said.startswith("Right. ") and len(said.split()) > 6
        return
    with pytest.raises(AssertionError) as refused:
        check(answer.exercise, value_of(answer.code))
    assert answer.says in str(refused.value) and str(refused.value).endswith((".", "?", "`"))
    assert isinstance(refused.value, WrongAnswer) and "Right" not in capsys.readouterr().out


def test_a_placeholder_says_where_the_answer_goes() -> None:
    with pytest.raises(NotAnswered, match="in place of the three dots"):
        check("surprise", ...)

    def stub(p: float) -> float:
        raise NotImplementedError(PLACEHOLDER)

    with pytest.raises(NotImplementedError, match="Write your answer here"):
        check("surprise", stub)


@pytest.mark.parametrize("pair", SOURCES, ids=slug)
@pytest.mark.parametrize("version", [Version.LEARNER, Version.STUDENT])
def test_an_open_exercise_gets_a_sentence_from_its_check_and_no_error_of_python(
    pair: tuple[object, Path], version: Version
) -> None:
    """Where a learner goes on after a cell that is not answered: its variables are there."""
    names: dict[str, Any] = {"check": check, "np": np, "math": math}
    num_checks = 0
    for cell in built(pair[1], version).cells:
        if cell.metadata.get("nbgrader", {}).get("solution"):
            with suppress(NotImplementedError):
                exec(cell.source, names)
        elif cell.metadata.get("nbgrader", {}).get("grade"):
            with pytest.raises(NotAnswered):
                exec(cell.source, names)
            num_checks += 1
    assert num_checks == len(exercises_of(pair[0].number))  # type: ignore[attr-defined]


def test_the_release_of_nbgrader_is_the_version_of_a_student() -> None:
    """Its ClearSolutions puts the placeholder where the marks are."""
    region = re.compile(r"^([ \t]*)### BEGIN SOLUTION\n.*?### END SOLUTION$", re.MULTILINE | re.DOTALL)
    stub = f'raise NotImplementedError("{PLACEHOLDER}")'
    for _, source in SOURCES:
        released, student = (
            [cell.source for cell in built(source, version).cells if cell.cell_type == "code"]
            for version in (Version.NBGRADER, Version.STUDENT)
        )
        assert [region.sub(lambda found: found[1] + stub, cell) for cell in released] == student


def test_a_prediction_can_be_compared_with_what_its_check_says(capsys: pytest.CaptureFixture[str]) -> None:
    """Students have no folded solution, so the check has to name what was predicted."""
    for name, words in {
        "surprise": "1/1000 costs 9.97 bits",
        "letter-bits": "The Python code that the model counted costs 4.",
        "smoothed": "a `c` has the probability 1/260",
        "conditional": "the answer is no",
        "compressed": "about 19 kB",
        "sealed": "One of the five is honest",
        "verdicts": "Two of the four are kept",
        "hits": "Most people's intervals are too narrow",
        "interval-score": "misses 0.01 by 0.01, so it costs 0.02 for its width and 0.10 for the miss: 0.12",
        "greedy": "of the 100 changes",
        "slack": "the supervisor refused the run",
        "caught": "26 % of all audits with 100 cuts",
        "interval": "That of the two programs",
    }.items():
        check(name, value_of(next(answer.code for answer in ANSWERS if answer.exercise == name and not answer.says)))
        assert words in capsys.readouterr().out, name


def test_a_function_that_calls_an_open_one_is_told_so() -> None:
    def stub(p: float) -> float:
        raise NotImplementedError(PLACEHOLDER)

    with pytest.raises(NotAnswered, match="not written yet is yours, or one that it calls"):
        check("surprise", lambda p: stub(p))


@pytest.mark.parametrize(
    ("name", "answer", "words"),
    [
        (
            "guesses",
            [replace(guess, low="-0.06") for guess in GUESSES],
            r"could not read this answer \(TypeError: .*quot",
        ),  # type: ignore[arg-type]
        ("what-counts", (4, 65), "Write decimals with a point"),
    ],
)
def test_an_answer_of_another_form_gets_a_sentence_and_no_error_of_python(name: str, answer: Any, words: str) -> None:
    with pytest.raises(WrongAnswer, match=words):
        check(name, answer)


def test_a_formula_whose_result_is_rounded_by_the_last_digit_is_right() -> None:
    check("enough-runs", lambda difference, sigma: math.ceil((2 * sigma * math.sqrt(2) / difference) ** 2))


def test_a_recorded_study_stands_in_for_a_live_one_with_its_three_runs_and_the_ideas_of_a_learner() -> None:
    study = recorded_study()
    assert len(study.baseline().scores) == 3
    idea = study.propose(Me("A little decay may help.", {"WEIGHT_DECAY": 0.1}, "-0.01"))
    assert idea.diff.strip(), "the recorded night began with this value, and the project's train.py does not"


def test_an_unknown_exercise_is_named_with_those_that_exist() -> None:
    with pytest.raises(NoSuchExercise, match=r"no exercise 'suprise'.*surprise"):
        exercise_of("suprise")


# --- predictions and progress


def test_a_prediction_stands_beside_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    predict("surprise", ...)
    assert "in place of the three dots" in capsys.readouterr().out
    predict("surprise", 7)
    check("surprise", value_of("lambda p: -math.log2(p)"))
    assert "Your prediction was: 7" in capsys.readouterr().out


def test_a_prediction_with_a_decimal_comma_gets_a_sentence_and_is_not_kept(capsys: pytest.CaptureFixture[str]) -> None:
    predict("letter-bits", 4, 5)
    assert "Write decimals with a point, as in 4.5" in capsys.readouterr().out
    check("letter-bits", value_of(next(a.code for a in ANSWERS if a.exercise == "letter-bits" and not a.says)))
    assert "Your prediction" not in capsys.readouterr().out


def test_progress_counts_what_is_solved_and_names_the_next(own_progress: Path) -> None:
    assert "0 of 10 solved, next: The surprise of one letter" in repr(progress())
    check("surprise", value_of("lambda p: -math.log2(p)"))
    check("surprise", value_of("lambda p: -math.log2(p)"))
    assert "1 of 10 solved, next: A model that counts letters" in repr(progress())
    assert "1 of 10" in progress()._repr_html_() and progress().next_lesson == 1
    own_progress.write_text("{")  # a damaged file is an empty one
    assert "0 of 10 solved" in repr(progress())


def test_a_wrong_answer_is_no_progress() -> None:
    with pytest.raises(WrongAnswer):
        check("surprise", 3)
    assert "0 of 10 solved" in repr(progress())


def test_grading_leaves_the_progress_of_the_teacher_alone(
    own_progress: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    predict("surprise", "of the teacher")
    capsys.readouterr()
    before = own_progress.read_bytes()
    monkeypatch.setenv(GRADING, "autograde")
    check("surprise", value_of("lambda p: -math.log2(p)"))
    assert own_progress.read_bytes() == before
    assert "of the teacher" not in capsys.readouterr().out, "it would stand in the feedback of a student"


def test_an_answer_counts_where_progress_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(PROGRESS_FILE, str(tmp_path / "file" / "lessons.json"))
    check("surprise", value_of("lambda p: -math.log2(p)"))
    said = capsys.readouterr().out
    assert said.startswith("Right. ") and "cannot be written" in said


def test_the_command_line_shows_the_progress_and_refuses_a_lesson_that_is_not_there(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["lessons"]) == 0
    assert "Bits per byte" in capsys.readouterr().out
    assert main(["lessons", "7", "--check"]) == 1
    assert "There is no lesson 7" in capsys.readouterr().err
