"""The table of the lessons, and the exercises of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec

from ...core.errors import Plain
from .exercise import Exercise


class NoSuchExercise(Plain, LookupError):
    """A name or a number that the course does not have; the message lists those that it has."""


@dataclass(frozen=True)
class Lesson:
    """One lesson; its source is notebooks/lessons/SLUG.py and its checks are in `checks_NUMBER.py`."""

    number: int
    slug: str
    title: str


LESSONS = (
    Lesson(1, "1-bits-per-byte", "Bits per byte"),
    Lesson(2, "2-one-experiment", "One experiment, cell by cell"),
    Lesson(3, "3-be-the-agent", "Be the agent"),
    Lesson(4, "4-noise", "Noise"),
    Lesson(5, "5-an-agent-at-work", "An agent at work"),
    Lesson(6, "6-how-agents-cheat", "How agents cheat"),
)


def lesson_of(number: int) -> Lesson:
    """The lesson of that number. Raises NoSuchExercise."""
    for lesson in LESSONS:
        if lesson.number == number:
            return lesson
    raise NoSuchExercise(f"There is no lesson {number}: the course has the lessons 1 to {len(LESSONS)}.")


@cache
def exercises_of(number: int) -> tuple[Exercise, ...]:
    """The exercises of a lesson, in their order."""
    module = f"{__package__}.checks_{number}"
    if find_spec(module) is None:
        return ()
    found: tuple[Exercise, ...] = import_module(module).EXERCISES
    return found


def all_exercises() -> Iterator[tuple[Lesson, Exercise]]:
    """Each exercise of the course with its lesson."""
    for lesson in LESSONS:
        for exercise in exercises_of(lesson.number):
            yield lesson, exercise


def exercise_of(name: str) -> Exercise:
    """The exercise of that name. Raises NoSuchExercise."""
    for _, exercise in all_exercises():
        if exercise.name == name:
            return exercise
    names = ", ".join(exercise.name for _, exercise in all_exercises())
    raise NoSuchExercise(f"There is no exercise {name!r}. The exercises are {names}.")
