"""What a learner has solved and predicted: one small file in the user's own folder. Nothing leaves the machine."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.sanitize import parse_object
from ...show import html
from ...system.files import ensure_folder, write_atomic
from ...system.locations import cache_dir
from .course import LESSONS, Lesson, exercises_of

PROGRESS_FILE = "AUTORESEARCH_LESSON_PROGRESS"  # names another file for it
GRADING = "NBGRADER_EXECUTION"  # set by nbgrader while it runs a student's notebook: that is not the user's progress


@dataclass(frozen=True, repr=False)
class Progress:
    """What is solved in each lesson; a notebook shows it as a table."""

    solved: frozenset[str]

    def _of(self, lesson: Lesson) -> tuple[int, int, str]:
        """How many exercises of a lesson are solved, of how many, and the title of the next."""
        exercises = exercises_of(lesson.number)
        open_ones = [exercise for exercise in exercises if exercise.name not in self.solved]
        return len(exercises) - len(open_ones), len(exercises), open_ones[0].title if open_ones else ""

    @property
    def next_lesson(self) -> int:
        """The first lesson with an open exercise; 1 when all are solved."""
        numbers = (lesson.number for lesson in LESSONS if self._of(lesson)[2])
        return next(numbers, 1)

    def __repr__(self) -> str:
        lines = []
        for lesson in LESSONS:
            done, total, following = self._of(lesson)
            words = f", next: {following}" if following else ""
            lines.append(f"{lesson.number}  {lesson.title:<30} {done} of {total} solved{words}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = []
        for lesson in LESSONS:
            done, total, following = self._of(lesson)
            bar = html.progress_bar(done / total if total else 0.0, f"lesson {lesson.number}")
            rows.append((f"{lesson.number}", html.text(lesson.title), bar, f"{done} of {total}", html.text(following)))
        return html.table(("", "lesson", "", "solved", "next"), rows)


def progress() -> Progress:
    """What you have solved so far in each lesson.

    >>> progress()  # doctest: +SKIP
    """
    return Progress(frozenset(_kept().get("solved", [])))


def prediction_of(name: str) -> str:
    """The prediction for an exercise; "" when there is none."""
    return str(_kept().get("predictions", {}).get(name, ""))


def keep_solved(name: str) -> None:
    """Note that an exercise is solved."""
    _keep(lambda kept: kept["solved"].append(name) if name not in kept["solved"] else None)


def keep_prediction(name: str, words: str) -> None:
    """Note a prediction; a later one replaces it."""
    _keep(lambda kept: kept["predictions"].update({name: words}))


def _file() -> Path:
    named = os.environ.get(PROGRESS_FILE)
    return Path(named) if named else cache_dir() / "lessons.json"


def _kept() -> dict[str, Any]:
    """The file; without one, with one that cannot be read, and while others are graded, the empty progress."""
    try:
        kept = {} if os.environ.get(GRADING) else parse_object(_file().read_bytes()) or {}
    except OSError:  # there is none yet
        kept = {}
    solved, predictions = kept.get("solved"), kept.get("predictions")
    return {
        "solved": solved if isinstance(solved, list) else [],
        "predictions": predictions if isinstance(predictions, dict) else {},
    }


def _keep(change: Any) -> None:
    if os.environ.get(GRADING):
        return
    kept = _kept()
    change(kept)
    try:
        ensure_folder(_file().parent)
        write_atomic(_file(), json.dumps(kept, indent=1, sort_keys=True) + "\n")
    except OSError as error:
        print(f"This is not in `progress()`, because its file cannot be written: {error.strerror or error}.")
