"""Recorded results that come with the lessons, and the seconds that a lesson trains."""

from __future__ import annotations

import json
import os
from typing import Any

from ...core.errors import Plain
from ...system.locations import originals

SECONDS = "AUTORESEARCH_LESSON_SECONDS"  # training seconds of every run in the lessons, for a slow laptop or a test


class NoRecording(Plain, FileNotFoundError):
    """A recorded result that the lessons do not have."""


def recorded(name: str) -> Any:
    """A recorded result of the lessons: what notebooks/lessons/data/NAME.json holds, without its "made_by".

    >>> recorded("letters")  # doctest: +SKIP
    """
    folder = originals() / "notebooks" / "lessons" / "data"
    path = folder / f"{name}.json"
    if not path.is_file():
        names = ", ".join(sorted(file.stem for file in folder.glob("*.json"))) or "none"
        raise NoRecording(f"There is no recorded result {name!r}. The recorded results are: {names}.")
    return json.loads(path.read_text(encoding="utf-8"))["data"]


def lesson_seconds(usual: float) -> float:
    """Training seconds of a run: `usual`, or what the variable AUTORESEARCH_LESSON_SECONDS says."""
    named = os.environ.get(SECONDS, "")
    try:
        return float(named) if named else usual
    except ValueError as error:
        raise ValueError(f"{SECONDS} is {named!r}. Set it to a number of seconds, as in 5, or unset it.") from error
