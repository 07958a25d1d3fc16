"""What an exercise is, and the helpers with which its check says what is wrong with an answer.

AssertionError
  WrongAnswer         an answer that is not right yet; the message says why
NotImplementedError
  NotAnswered         the cell still has its placeholder
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...core.errors import Plain
from ...core.sanitize import one_line

LONGEST_ERROR = 200  # characters of a learner's own error that a message repeats


class WrongAnswer(Plain, AssertionError):
    """An answer that is not right yet; the message is a sentence for the learner."""


class NotAnswered(Plain, NotImplementedError):
    """The learner has not answered yet; the message says where the answer goes."""


@dataclass(frozen=True)
class Exercise:
    """One exercise of a lesson."""

    name: str  # as in check("surprise", ...), unique in the course
    title: str  # as in the lesson's heading, without its number
    check: Callable[[Any], str]  # of the answer: returns what was right, raises WrongAnswer with the reason


def require(is_right: bool, why: str) -> None:
    """Raise WrongAnswer with the sentence `why` unless `is_right`."""
    if not is_right:
        raise WrongAnswer(why)


def number_of(answer: Any, what: str) -> float:
    """The answer as a number; `what` names it in the message, as in "The surprise of an e"."""
    kind = type(answer).__name__
    require(not callable(answer), f"{what} is a number, and this is a function: call it, and give what it returns.")
    require(not isinstance(answer, str | bool), f"{what} is a number, and this is {answer!r}, of the type {kind}.")
    try:
        number = float(answer)
    except (TypeError, ValueError) as error:
        comma = " Write decimals with a point, as in 2.5." if isinstance(answer, tuple) else ""
        raise WrongAnswer(f"{what} is a number, and this is of the type {kind}.{comma}") from error
    require(math.isfinite(number), f"{what} is a finite number, and this is {number}.")
    return number


def result_of(function: Any, *arguments: Any) -> Any:
    """What the learner's function returns; an error in it, or a forgotten `return`, becomes a sentence."""
    require(callable(function), f"Give the function itself, without calling it: this is a {type(function).__name__}.")
    try:
        result = function(*arguments)
    except (NotImplementedError, AssertionError):
        raise
    except Exception as error:  # a learner's code, which may raise anything
        words = one_line(f"{type(error).__name__}: {error}", LONGEST_ERROR)
        raise WrongAnswer(f"Your function raised an error when the check called it: {words}.") from error
    require(result is not None, "Your function returned None: does it end with `return`?")
    return result


def is_near(value: float, expected: float, tolerance: float = 1e-6) -> bool:
    """Whether two numbers are equal up to rounding."""
    return abs(value - expected) <= tolerance * max(1.0, abs(expected))


def is_fixed(name: str) -> str:
    """Why an idea may not change a parameter of train.py that is marked as fixed."""
    if name == "SEED":
        return "SEED is chance itself, and the supervisor sets it: another seed is no idea. Choose another parameter."
    return f"{name} is marked as fixed in train.py, so an idea leaves it as it is. Choose another parameter."


def choice_of(answer: Any, letters: str) -> str:
    """The answer to a question with several choices, as one small letter, such as "b"."""
    words = answer.strip().strip(".()").lower() if isinstance(answer, str) else ""
    require(
        len(words) == 1 and words in letters,
        f'Answer with one letter in quotation marks, from "{letters[0]}" to "{letters[-1]}". This is {answer!r}.',
    )
    return words


def expect(given: float, right: float, case: str, tolerance: float = 1e-6) -> None:
    """The general comparison, after all expected mistakes; `case` says what the numbers are of."""
    require(
        is_near(given, right, tolerance), f"Where {case}, the right answer is {right:.4g}, and yours is {given:.4g}."
    )
