"""The scripted students of a class: the notebook that each hands in, and what each exercise is expected to get."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from nbformat import NotebookNode

from tests.lab.lessons.answers import Listed

IMPORTS = """import math
from collections import Counter
import numpy as np
from autoresearch_kernel.lab.lessons import text_models
"""
RIGHT = "Right. "
NUM_MIXED = 13


@dataclass(frozen=True)
class Answer:
    """What a student writes into the cell of one exercise."""

    code: str  # "" leaves the cell as it was handed out
    says: str  # a part of what the check shows then

    @property
    def is_right(self) -> bool:
        return self.says == RIGHT


EMPTY = Answer("", "Write your answer ")  # whether its place is a line of a function or three dots


@dataclass(frozen=True)
class Student:
    """A student of one lesson."""

    name: str
    answers: Mapping[str, Answer]  # by the name of the exercise
    edit: tuple[str, str] = ("", "")  # a text of some cell, and what the student made of it

    def notebook(self, released: NotebookNode) -> NotebookNode:
        """The notebook that was handed out, with this student's answers."""
        for exercise, answer in self.answers.items():
            if answer.code:
                graded_cell(released, exercise).source = answer.code
        if self.edit[0]:
            cell = next(cell for cell in released.cells if self.edit[0] in cell.source)
            cell.source = cell.source.replace(*self.edit)
        return released


def twenty_students(solved: NotebookNode, listed: Sequence[Listed]) -> list[Student]:
    """Students of lesson 1: with right, wrong and no answers, and with notebooks that they damaged."""
    names = list(dict.fromkeys(answer.exercise for answer in listed))
    right = {name: _written(solved, name, listed)[0] for name in names}
    wrong = {name: [a for a in _written(solved, name, listed) if not a.is_right] for name in names}
    solution = {name: Answer(graded_cell(solved, name).source, RIGHT) for name in names}
    without_minus = wrong["surprise"][0]
    uses_it = Answer(solution["letter-bits"].code, "the right answer is 0.9434, and yours is -0.9434")
    cut_off = Answer("def smoothed(counts, byte, alpha", "name 'smoothed' is not defined")
    own_check = ('check("surprise", surprise)', 'print("Right. It is.")')
    return [
        Student("solutions", solution),
        Student("listed", right),
        Student("empty", dict.fromkeys(names, EMPTY)),
        Student("error-before", right, ("counts = Counter(text.train)", "counts = Countr(text.train)")),
        Student("syntax-error", right | {"smoothed": cut_off}),
        Student("wrong-and-used", solution | {"surprise": without_minus, "letter-bits": uses_it}),
        Student("own-check", right | {"surprise": without_minus}, own_check),
        *(_mixed(number, right, wrong) for number in range(NUM_MIXED)),
    ]


def _mixed(number: int, right: Mapping[str, Answer], wrong: Mapping[str, Sequence[Answer]]) -> Student:
    """A student with wrong answers, right ones and empty cells; together they give many of the wrong answers."""
    turn = number // 2
    answers = {}
    for place, name in enumerate(right):
        if (number + place) % 2 == 0:
            answers[name] = wrong[name][turn % len(wrong[name])]
        else:
            answers[name] = EMPTY if (turn + place) % 3 == 0 else right[name]
    return Student(f"mixed{number:02d}", answers)


def _written(solved: NotebookNode, exercise: str, listed: Sequence[Listed]) -> list[Answer]:
    """The listed answers of an exercise as a student writes them, the right one first."""
    target = ast.unparse(_call(graded_cell(solved, f"check-{exercise}").source).args[1])
    of_it = [answer for answer in listed if answer.exercise == exercise]
    return [Answer(IMPORTS + _assigned(target, answer.code), answer.says or RIGHT) for answer in of_it]


def _assigned(target: str, code: str) -> str:
    """Code that gives `target` the answer, which is an expression or a block that defines `answer`."""
    with suppress(SyntaxError):
        ast.parse(code, mode="eval")
        return f"{target} = {code}"
    return f"{code}\n{target} = answer"


def _call(source: str) -> Any:
    """The call of a cell that consists of it."""
    return ast.parse(source, mode="eval").body


def graded_cell(notebook: NotebookNode, grade_id: str) -> NotebookNode:
    """The cell with this identifier of nbgrader."""
    return next(c for c in notebook.cells if c.metadata.get("nbgrader", {}).get("grade_id") == grade_id)


def shown(cell: NotebookNode) -> str:
    """What a cell printed, or its error."""
    return "\n".join(str(output.get("text", output.get("evalue", ""))) for output in cell.outputs)
