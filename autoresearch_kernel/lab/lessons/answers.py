"""`check` and `predict`: what the cells of a lesson call, in a notebook, in nbgrader and in papermill alike."""

from __future__ import annotations

from typing import Any

from ...core.sanitize import one_line
from .course import exercise_of
from .exercise import LONGEST_ERROR, NotAnswered, WrongAnswer
from .learned import keep_prediction, keep_solved, prediction_of

LONGEST_PREDICTION = 200  # characters that are shown again


def check(name: str, answer: Any) -> None:
    """Say whether an answer is right: print what was right, or raise WrongAnswer with the reason.

    >>> check("surprise", lambda p: -math.log2(p))  # doctest: +SKIP
    Right. ...

    Args:
        name: of the exercise, as the lesson writes it.
        answer: the learner's function or value.

    Raises WrongAnswer, an AssertionError; NotAnswered while the answer is the placeholder.
    """
    exercise = exercise_of(name)
    if any(part is ... for part in (answer if isinstance(answer, tuple) else (answer,))):
        raise NotAnswered(
            f"{exercise.title}: this is not answered yet. Write your answer in place of the three dots and of the line "
            "that begins with `raise`. Run that cell first, and then this one."
        )
    try:
        right = exercise.check(answer)
    except NotImplementedError as error:
        whose = " The function that is not written yet is yours, or one that it calls." if callable(answer) else ""
        raise NotAnswered(f"{exercise.title}: {str(error) or 'this is not answered yet.'}{whose}") from None
    except (AssertionError, OSError):  # WrongAnswer, what the learner's own code asserts, and a file that is gone
        raise
    except Exception as error:
        said = one_line(f"{type(error).__name__}: {error}", LONGEST_ERROR)
        raise WrongAnswer(
            f"{exercise.title}: the check could not read this answer ({said}). Compare its form with the example of "
            "the task: numbers have no quotation marks."
        ) from error
    print(f"Right. {right}")
    if predicted := prediction_of(name):
        print(f"Your prediction was: {predicted}")
    keep_solved(name)


def predict(name: str, prediction: Any, *more: Any) -> None:
    """Keep a prediction, so that `check` shows it beside the answer. Nothing leaves this machine.

    >>> predict("surprise", 4)  # doctest: +SKIP

    Args:
        name: of the exercise.
        prediction: a number or words; the three dots of the lesson mean that there is none yet.
        more: nothing; a decimal comma, as in `4,5`, makes two numbers.
    """
    exercise_of(name)
    if more:
        print(
            "This is not kept, because a comma makes more than one prediction of it. Write decimals with a point, as "
            'in 4.5, and words in quotation marks, as in "larger, I think".'
        )
        return
    if prediction is ...:
        print("Write your prediction in place of the three dots, and run this cell again. A wrong guess costs nothing.")
        return
    words = str(prediction)[:LONGEST_PREDICTION]
    keep_prediction(name, words)
    print(f"Your prediction is kept: {words}")
