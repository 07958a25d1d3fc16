"""The names that the answers in notebooks/lessons/*.answers.yaml may use, and what reads these files."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import yaml

from autoresearch_kernel.core.types import Proposal
from autoresearch_kernel.lab.idea import Idea
from autoresearch_kernel.lab.lessons import text_models
from autoresearch_kernel.lab.lessons.build import FOLDER
from autoresearch_kernel.lab.lessons.course import LESSONS
from autoresearch_kernel.lab.lessons.me import Guess
from autoresearch_kernel.source.parameters import set_parameters
from tests.conftest import PROJECT

GUESSES = (
    Guess("A deeper model may learn more.", {"DEPTH": 2}, -0.01, -0.05, 0.03),
    Guess("Half the batch makes twice the steps.", {"TOTAL_BATCH_SIZE": 512}, -0.02, -0.06, 0.03),
    Guess("Larger steps may learn more in a short time.", {"MATRIX_LR": 0.02}, -0.01, -0.03, 0.01),
    Guess("A longer decay may settle lower.", {"WARMDOWN": 0.8}, -0.01, -0.02, 0.01),
    Guess("A wider cap may let the model be surer.", {"SOFTCAP": 20.0}, 0.0, -0.01, 0.01),
)


@dataclass(frozen=True)
class Listed:
    """One answer of a file, and what the learner is told; "" for a right one."""

    exercise: str
    code: str
    says: str


def listed_answers() -> list[Listed]:
    """All answers of all lessons."""
    found = []
    for lesson in LESSONS:
        path = PROJECT / FOLDER / f"{lesson.slug}.answers.yaml"
        for name, answers in (yaml.safe_load(path.read_text()) if path.is_file() else {}).items():
            right = answers["right"]
            found += [Listed(name, code, "") for code in ([right] if isinstance(right, str) else right)]
            found += [Listed(name, wrong["answer"], wrong["says"]) for wrong in answers["wrong"]]
    return found


def value_of(code: str) -> Any:
    """The answer that a learner gives: an expression, or a block that defines `answer`."""
    names: dict[str, Any] = {
        "math": math, "statistics": statistics, "np": np, "Counter": Counter, "text_models": text_models,
        "Guess": Guess, "five": five, "idea": idea, "edited": edited,
    }  # fmt: skip
    try:
        return eval(code, names)
    except SyntaxError:
        exec(code, names)
        return names["answer"]


def five(*first: Any) -> list[Any]:
    """Five good guesses, whose first ones are replaced."""
    return [*first, *GUESSES[len(first) :]]


def idea(hypothesis: str, expected: str, **changes: Any) -> Idea:
    """What a study proposes when an agent changes these parameters of train.py."""
    source = (PROJECT / "train.py").read_text()
    proposal = Proposal(hypothesis, set_parameters(source, changes), "me", changes, expected=expected)
    return Idea(1, proposal, 0, source)


def edited(old: str, new: str) -> Idea:
    """An idea that replaces a text of train.py."""
    return idea("This may be a better function.", "-0.01 bits per byte").edit(old, new)
