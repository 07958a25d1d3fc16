"""The parameters cell of a train.py: where it stands, what it assigns, the values of its constants. Pure.

This is the only parser of that cell. The gate, the optimiser, the comparison of sources and the edits of literals use
it, so that they agree on what is a parameter.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .syntax import parse

LARGEST_EXPONENT = 64  # of a constant power; more is a mistake, and slow
LARGEST_BITS = 4096  # of an integer that is computed; powers of powers would take minutes

CELL_MARKER = re.compile(r"#\s*%%")
_PARAMETERS_TAG = re.compile(r"""tags\s*=\s*\[[^\]]*["']parameters["']""")


class SourceError(ValueError):
    """A train.py that cannot be read or edited; the message names the line and what to write instead."""


@dataclass(frozen=True)
class Assignment:
    """`NAME = value` in the parameters cell."""

    name: str
    value: ast.expr
    statement: ast.Assign | ast.AnnAssign


def parse_source(source: str) -> ast.Module:
    """The syntax tree. Raises SourceError naming the line."""
    try:
        return parse(source)
    except SyntaxError as error:
        raise SourceError(f"train.py does not parse: {error.msg} in line {error.lineno}.") from error
    except (ValueError, RecursionError, MemoryError) as error:  # null bytes, lone surrogates, absurd nesting
        raise SourceError(f"train.py does not parse: {error}.") from error


def comments_of(source: str) -> dict[int, tuple[int, str]]:
    """Line number -> (column, comment): from the tokens, so a `#` or `# %%` inside a string is no comment.

    Empty for a source that Python's tokenizer does not read.
    """
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    try:
        return {token.start[0]: (token.start[1], token.string) for token in tokens if token.type == tokenize.COMMENT}
    except (SyntaxError, tokenize.TokenError):
        return {}


def find_cell(comments: Mapping[int, tuple[int, str]], num_lines: int) -> tuple[int, int]:
    """(line of the marker, last line) of the parameters cell. Raises SourceError unless there is exactly one."""
    markers = [line for line, (column, text) in comments.items() if column == 0 and CELL_MARKER.match(text)]
    tagged = [line for line in markers if _PARAMETERS_TAG.search(comments[line][1])]
    if not tagged:
        raise SourceError('train.py has no parameters cell. Mark one with the line: # %% tags=["parameters"]')
    if len(tagged) > 1:
        raise SourceError(f"train.py has {len(tagged)} parameters cells, in lines {tagged}. Keep one.")
    following = [line for line in markers if line > tagged[0]]
    return tagged[0], (following[0] - 1 if following else num_lines)


def has_cell(source: str) -> bool:
    """Whether the source has exactly one parameters cell."""
    try:
        find_cell(comments_of(source), source.count("\n") + 1)
    except SourceError:
        return False
    return True


def assignments(tree: ast.Module, source: str) -> list[Assignment]:
    """What the parameters cell assigns, in order; `tree` is that of `source`.

    Raises SourceError for a cell that is missing, holds anything but `NAME = value`, or assigns a name twice.
    """
    first, last = find_cell(comments_of(source), source.count("\n") + 1)
    found: dict[str, Assignment] = {}
    for statement in tree.body:
        if not first < statement.lineno <= last:
            continue
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            continue  # a string that serves as a comment
        assignment = _assignment(statement)
        if assignment.name in found:
            raise SourceError(
                f"Line {statement.lineno} of train.py: the parameters cell assigns {assignment.name} twice. Keep one."
            )
        found[assignment.name] = assignment
    return list(found.values())


def _assignment(statement: ast.stmt) -> Assignment:
    targets: list[ast.expr] = []
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.AnnAssign) and statement.simple:
        targets = [statement.target]
    if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None and len(targets) == 1:
        (target,) = targets
        if isinstance(target, ast.Name):
            return Assignment(target.id, statement.value, statement)
    raise SourceError(
        f"Line {statement.lineno} of train.py: the parameters cell holds only NAME = constant, "
        f"not {ast.unparse(statement)[:80]!r}."
    )


def constant(node: ast.expr) -> Any:
    """The value of a constant expression: literals, arithmetic on numbers, tuples and lists of them.

    Raises SourceError for anything else, and for numbers that would grow large.
    """
    if isinstance(node, ast.Constant) and (node.value is None or isinstance(node.value, bool | int | float | str)):
        return node.value
    if isinstance(node, ast.Tuple | ast.List):
        items = [constant(item) for item in node.elts]
        return tuple(items) if isinstance(node, ast.Tuple) else items
    try:
        if isinstance(node, ast.UnaryOp) and type(node.op) in _SIGNS:
            return _SIGNS[type(node.op)](_number(node.operand))
        if isinstance(node, ast.BinOp):
            return _arithmetic(node)
    except (ArithmeticError, TypeError) as error:
        raise SourceError(f"Line {node.lineno} of train.py: {ast.unparse(node)}: {error}.") from error
    raise SourceError(
        f"Line {node.lineno} of train.py: {ast.unparse(node)[:80]} is not a constant. "
        "Write a literal in the parameters cell and compute from it in a later cell."
    )


_SIGNS: dict[type[ast.unaryop], Callable[[Any], Any]] = {ast.USub: lambda x: -x, ast.UAdd: lambda x: +x}


def _number(node: ast.expr) -> Any:
    value = constant(node)
    if isinstance(value, int | float):
        return value
    raise SourceError(f"Line {node.lineno} of train.py: {ast.unparse(node)[:80]} is not a number.")


def _arithmetic(node: ast.BinOp) -> Any:
    left, right = _number(node.left), _number(node.right)
    match node.op:
        case ast.Add():
            return left + right
        case ast.Sub():
            return left - right
        case ast.Mult():
            return left * right
        case ast.Div():
            return left / right
        case ast.FloorDiv():
            return left // right
        case ast.Pow() if abs(right) <= LARGEST_EXPONENT and num_bits(left) * abs(right) <= LARGEST_BITS:
            return left**right
    raise SourceError(f"Line {node.lineno} of train.py: {ast.unparse(node)} is not plain arithmetic on constants.")


def num_bits(value: Any) -> int:
    return value.bit_length() if isinstance(value, int) else 0
