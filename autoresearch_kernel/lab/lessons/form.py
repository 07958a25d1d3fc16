"""The form of a lesson: from its source in percent format to the notebooks that learners, students and teachers open.

docs/course-format.md describes the source. An answer cell has the metadata nbgrader={"solution": true}, and its
solution stands between two marks. The text that explains a solution is a Markdown cell with the tag "solution".
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Sequence
from enum import StrEnum

import nbformat
from nbformat import NotebookNode

from ...core.errors import Plain
from ...run.kernelspec import notebook_metadata
from ...run.notebook import percent_cells

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
SOLUTION = "solution"  # tag of the Markdown cell that explains
PLACEHOLDER = "Write your answer here, in place of this line."
LONGEST_CELL = 10  # lines of code that a learner has to read at once
LOCKED_FIELDS = {"schema_version": 3, "task": False, "grade": False, "solution": False, "locked": False}
_REGION = re.compile(rf"^([ \t]*){BEGIN}\n(.*?)^[ \t]*{END}$", re.MULTILINE | re.DOTALL)


class Version(StrEnum):
    """For whom a notebook is."""

    LEARNER = "learner"  # alone: placeholders, and each solution is folded below its exercise
    STUDENT = "student"  # in a class: placeholders, without solutions
    INSTRUCTOR = "instructor"  # with the solutions in their cells, and what explains them
    NBGRADER = "nbgrader"  # what `nbgrader generate_assignment` reads: solutions between their marks


class LessonMalformed(Plain, ValueError):
    """A lesson that is not written as docs/course-format.md says; the message names the lesson and the cell."""


def make_notebook(source: str, name: str, version: Version) -> NotebookNode:
    """The notebook of a lesson, without outputs. Raises LessonMalformed; `name` is the lesson's, for the message."""
    cells = percent_cells(source)
    _require_form(cells, name)
    notebook = nbformat.v4.new_notebook(metadata=notebook_metadata())
    for number, cell in enumerate(_arranged(cells, version)):
        cell.id = f"{name.partition('-')[0]}-{number:03d}"
        notebook.cells.append(cell)
    return notebook


def _arranged(cells: Sequence[NotebookNode], version: Version) -> Iterable[NotebookNode]:
    """The cells of a version, in their order."""
    answer = ""  # the solution of the exercise before
    for place, cell in enumerate(cells):
        metadata = _metadata(cell)
        if cell.cell_type == "code":
            answer = _solution(cell.source) if BEGIN in cell.source else answer
            dots = _dots(cell.source, cells[place:]) if BEGIN in cell.source else ""
            yield nbformat.v4.new_code_cell(_code(cell.source, version, dots), metadata=metadata)
        elif SOLUTION not in cell.metadata.get("tags", []):
            yield nbformat.v4.new_markdown_cell(cell.source, metadata=metadata)
        elif version is Version.LEARNER:
            yield nbformat.v4.new_markdown_cell(_folded(answer, cell.source), metadata=metadata)
        elif version is Version.INSTRUCTOR:
            yield nbformat.v4.new_markdown_cell(f"**Solution.** {cell.source}", metadata=metadata)


def _metadata(cell: NotebookNode) -> dict[str, object]:
    """The cell's tags, and nbgrader's fields with those that the source leaves out."""
    found: dict[str, object] = {}
    if tags := cell.metadata.get("tags"):
        found["tags"] = list(tags)
    if given := cell.metadata.get("nbgrader"):
        found["nbgrader"] = {**LOCKED_FIELDS, **given}
    return found


def _code(source: str, version: Version, dots: str = "") -> str:
    if version is Version.NBGRADER:
        return _REGION.sub(lambda found: dots + found[0], source)
    if version is Version.INSTRUCTOR:
        return _REGION.sub(lambda found: found[2].rstrip("\n"), source)
    return _REGION.sub(lambda found: f'{dots}{found[1]}raise NotImplementedError("{PLACEHOLDER}")', source)


def _dots(source: str, following: Iterable[NotebookNode]) -> str:
    """The line `name = ...` for the variables that the next check reads; "" where the cell defines a function.

    With this line the check finds an answer that is not there yet, and says so. Python would say NameError.
    """
    check = next((cell.source for cell in following if cell.cell_type == "code" and is_check(cell.source)), "")
    defined = {node.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)}
    answers = [call.args[1] for call in ast.walk(ast.parse(check)) if isinstance(call, ast.Call)]
    names = [node.id for answer in answers for node in ast.walk(answer) if isinstance(node, ast.Name)]
    variables = [name for name in names if name not in defined]
    return " = ".join([*variables, "...\n"]) if variables else ""


def _solution(source: str) -> str:
    """The cell with its solution, without the marks."""
    return _code(source, Version.INSTRUCTOR)


def _folded(answer: str, explanation: str) -> str:
    return f"<details><summary>Solution</summary>\n\n```python\n{answer}\n```\n\n{explanation}\n\n</details>"


def _require_form(cells: Iterable[NotebookNode], name: str) -> None:
    """Raise LessonMalformed for a cell that breaks the rules of docs/course-format.md."""
    for number, cell in enumerate(cells):
        where = f"Lesson {name}, cell {number} ({cell.source.strip().partition(chr(10))[0][:60]!r})"
        if cell.cell_type != "code":
            continue
        lines = [line for line in _code(cell.source, Version.INSTRUCTOR).splitlines() if line.strip()]
        if len(lines) > LONGEST_CELL:
            raise LessonMalformed(f"{where} has {len(lines)} lines; a cell has at most {LONGEST_CELL}.")
        is_answer = bool(cell.metadata.get("nbgrader", {}).get("solution"))
        if is_answer != bool(_REGION.search(cell.source)) or cell.source.count(BEGIN) != cell.source.count(END):
            raise LessonMalformed(
                f'{where}: a cell with nbgrader={{"solution": true}}, and only such a cell, has its solution between '
                f"the lines {BEGIN} and {END}."
            )
        if "check(" in cell.source and not cell.metadata.get("nbgrader", {}).get("grade") and is_check(cell.source):
            raise LessonMalformed(f'{where} checks an answer, and so needs nbgrader={{"grade": true, "points": 1}}.')


def is_check(source: str) -> bool:
    """Whether a cell is one that checks an answer."""
    return source.lstrip().startswith("check(")
