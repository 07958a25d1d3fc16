"""The gate: a train.py may run as a notebook only if it means the same as a notebook and as a script. Pure.

It compares a source with the cells that a reader of notebooks finds in it; `run/notebook.py` has that reader.
"""

from __future__ import annotations

import ast
import io
import tokenize
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from .cell import SourceError, assignments, constant
from .syntax import parse, split_lines, without_mark

SOURCE_LIMIT_BYTES = 1_000_000  # far above any train.py that a person would read
HEADING, CURVE, VERDICT, PARAMETERS = "heading", "curve", "verdict", "parameters"  # cell tags

# A cell with one of these would be skipped, forgiven, overwritten or taken for one of ours.
_REFUSED_TAGS = {"skip-execution", "raises-exception", "injected-parameters", HEADING, CURVE, VERDICT}


class InvalidSource(SourceError):
    """A train.py that must not run as a notebook, with the reason and, where there is one, the line."""


class Cell(Protocol):
    """A cell as notebooks have it."""

    cell_type: str  # "code", "markdown" or "raw"
    source: str
    metadata: Any  # a mapping with, perhaps, "tags"


def check_cells(source: str, read_cells: Callable[[str], Sequence[Cell]]) -> None:
    """Raise InvalidSource unless train.py means the same as the cells that `read_cells` finds in it.

    The cells must parse alone and together give the file's own syntax tree. Exactly one is tagged `parameters` and
    assigns literals or constant expressions such as 2**16. No tag may keep a cell from running or forgive its errors.
    """
    tree = _parse(source)
    _check_encoding(source)
    cells = read_cells(source)
    code = [cell for cell in cells if cell.cell_type == "code"]
    _check_tags(cells)
    for number, cell in enumerate(code, 1):
        _check_alone(cell.source, number)
    _check_same_tree(tree, parse("\n".join(cell.source for cell in code)))
    _check_parameters(tree, source, [cell for cell in code if PARAMETERS in cell.metadata.get("tags", [])])


def check_clock(source: str) -> None:
    """Raise InvalidSource unless the training asks TrainingClock whether there is time left.

    A loop that counts its own time does not end after the few steps of a dry run, and has no curve.
    """
    tree = _parse(source)
    aliases = {a.asname or a.name for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for a in n.names
               if a.name == "TrainingClock"}  # fmt: skip
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    if (names & aliases or "TrainingClock" in names | attributes) and "running" in attributes:
        return
    loops = [node for node in ast.walk(tree) if isinstance(node, ast.For | ast.While)]
    trains = [loop.lineno for loop in loops if any(_is_backward(node) for node in ast.walk(loop))]
    where = f", line {min(trains)}: this loop" if trains else ""
    counts = " counts its own time" if "TIME_BUDGET" in names | attributes else " does not ask prepare's clock"
    raise InvalidSource(
        f"train.py{where}{counts}, so that neither a dry run nor the budget can end it. Write "
        "`clock = TrainingClock()`, `while clock.running():` and, in the loop, `clock.report(train_loss=...)`."
    )


def _is_backward(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "backward"


def _parse(source: str) -> ast.Module:
    try:
        if len(source.encode("utf-8")) > SOURCE_LIMIT_BYTES:
            raise InvalidSource(f"train.py is longer than {SOURCE_LIMIT_BYTES:,} bytes.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            compile(without_mark(source), "train.py", "exec", dont_inherit=True)  # finds a `return` outside a function
            return parse(source)
    except SyntaxError as error:
        line = error.lineno or source[: source.find("\0")].count("\n") + 1  # Python before 3.12 counts no null bytes
        raise InvalidSource(f"train.py, line {line}: {_words(error, source, line)}.") from error
    except InvalidSource:
        raise
    except (ValueError, RecursionError, MemoryError) as error:  # null bytes, lone surrogates, absurd nesting
        raise InvalidSource(f"train.py is not Python text: {error}.") from error


def _words(error: SyntaxError, source: str, line: int) -> str:
    """What Python says, and why where code of a notebook is none of a script."""
    text = "".join(split_lines(source)[line - 1 : line]).strip()
    if text.startswith(("%", "!")) or text.endswith("?"):
        return f"{text[:80]!r} is a command of IPython, which `python train.py` does not have; leave it out"
    if error.msg.startswith(("'await' outside", "asynchronous comprehension outside")):
        return f"{error.msg}; call `asyncio.run(...)` instead"
    return error.msg


def _check_encoding(source: str) -> None:
    """A file that declares another encoding than the one that it is written in would be read as other text."""
    try:
        found, _ = tokenize.detect_encoding(io.BytesIO(without_mark(source).encode()).readline)
    except SyntaxError as error:
        raise InvalidSource(f"train.py: {error}. Write `# coding: utf-8`, or leave that line out.") from error
    if found != "utf-8":
        raise InvalidSource(f"train.py declares the encoding {found}, but it is UTF-8. Write `# coding: utf-8`.")


def _check_tags(cells: Sequence[Cell]) -> None:
    for cell in cells:
        tags = cell.metadata.get("tags", [])
        if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
            raise InvalidSource(f"Cell {_name(cell)}: tags must be a list of strings, not {tags!r}.")
        if refused := sorted(tag for tag in tags if tag in _REFUSED_TAGS or tag.startswith("active-")):
            raise InvalidSource(f"Cell {_name(cell)} is tagged {refused[0]!r}, which an experiment does not allow.")
        if "active" in cell.metadata:
            raise InvalidSource(f"Cell {_name(cell)} is `active` only in some formats: it would not run.")


def _check_alone(source: str, number: int) -> None:
    try:
        parse(source)
    except SyntaxError as error:
        line = split_lines(source)[(error.lineno or 1) - 1 :][:1]
        raise InvalidSource(
            f"Code cell {number} does not parse alone: {error.msg} at {''.join(line).strip()!r}. "
            "Is there an indented '# %%', or a block split over two cells?"
        ) from error


def _check_same_tree(tree: ast.Module, cells: ast.Module) -> None:
    if ast.dump(tree) == ast.dump(cells):
        return
    for mine, theirs in zip(tree.body, [*cells.body, None], strict=False):
        if theirs is None or ast.dump(mine) != ast.dump(theirs):
            raise InvalidSource(
                f"train.py, line {mine.lineno}: this statement is not the same in the notebook's code cells. "
                "Is code hidden in a markdown or raw cell, or a comment taken for code?"
            )
    raise InvalidSource("The notebook's code cells hold statements that train.py does not have.")


def _check_parameters(tree: ast.Module, source: str, tagged: Sequence[Cell]) -> None:
    """The cell that a notebook calls `parameters` must be the one that the optimiser edits, and hold constants."""
    if len(tagged) != 1:
        raise InvalidSource(f'train.py has {len(tagged)} code cells tagged "parameters"; it must have exactly one.')
    try:
        found = assignments(tree, source)
        for assignment in found:
            constant(assignment.value)
    except SourceError as error:
        raise InvalidSource(str(error)) from error
    statements = [s for s in parse(tagged[0].source).body if not isinstance(s, ast.Expr)]
    if [ast.dump(s) for s in statements] != [ast.dump(assignment.statement) for assignment in found]:
        raise InvalidSource('Mark the cell of the parameters with the line: # %% tags=["parameters"]')


def _name(cell: Cell) -> str:
    lines = cell.source.strip().splitlines()
    return repr(lines[0][:60]) if lines else "(empty)"
