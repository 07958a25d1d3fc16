"""What `autoresearch lesson`, `lessons` and `new-class` do, for the command line."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from ...record.paths import LESSONS as FOLDER_NAME
from ...record.paths import MY_NOTEBOOKS
from ...record.study import StudyError
from ...system.locations import originals
from ..jupyter import open_lab
from .build import build_lessons
from .course import lesson_of
from .data import SECONDS
from .learned import progress
from .trial import try_lessons


def open_lesson(project: Path, number: int | None, options: Sequence[str]) -> NoReturn:
    """Open the user's copy of a lesson in JupyterLab; without a number, the first one with an open exercise."""
    lesson = lesson_of(progress().next_lesson if number is None else number)
    open_lab(project, options, f"{MY_NOTEBOOKS}/{FOLDER_NAME}/{lesson.slug}.ipynb")


def lessons(numbers: Sequence[int], is_built: bool, is_checked: bool, seconds: float | None) -> int:
    """Build or execute the lessons; without either, print the progress. Returns the exit status."""
    for number in numbers:
        lesson_of(number)
    if is_built:
        _build()
    if is_checked:
        return _check(tuple(numbers), seconds)
    if not is_built:
        print(progress())
    return 0


def _build() -> None:
    folder = originals()
    if not (folder / "Makefile").is_file():
        raise StudyError("Lessons are built in a checkout of this program, and this is an installed copy of it.")
    written = [path.name for path in build_lessons(folder)]
    print(f"Built: {', '.join(written)}." if written else "Every lesson is built already.")


def _check(numbers: tuple[int, ...], seconds: float | None) -> int:
    if seconds is not None:
        os.environ[SECONDS] = f"{seconds:g}"
    failed = 0
    for trial in try_lessons(numbers):
        print(trial, flush=True)
        failed += bool(trial.problem)
    return int(failed > 0)
