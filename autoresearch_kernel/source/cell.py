"""The parameters cell of a train.py: where it stands, what it assigns, the values of its constants. Pure.

This is the only parser of that cell. The gate, the optimiser, the comparison of sources and the edits of literals use
it, so that they agree on what is a parameter.
"""

from __future__ import annotations

import ast
import io
import operator
import re
import tokenize
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .syntax import parse, split_lines, without_mark

_ARITHMETIC = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.LShift: operator.lshift,
}
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
        where = f" in line {error.lineno}" if error.lineno else ""  # Python before 3.12 counts no null bytes
        raise SourceError(f"train.py does not parse: {error.msg}{where}.") from error
    except (ValueError, RecursionError, MemoryError) as error:  # null bytes, lone surrogates, absurd nesting
        raise SourceError(f"train.py does not parse: {error}.") from error


def comments_of(source: str) -> dict[int, tuple[int, str]]:
    """Line number -> (column, comment): from the tokens, so a `#` or `# %%` inside a string is no comment.

    Empty for a source that Python's tokenizer does not read.
    """
    tokens = tokenize.generate_tokens(io.StringIO(without_mark(source), newline=None).readline)
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
        find_cell(comments_of(source), len(split_lines(source)))
    except SourceError:
        return False
    return True


def assignments(tree: ast.Module, source: str) -> list[Assignment]:
    """What the parameters cell assigns, in order; `tree` is that of `source`.

    Raises SourceError for a cell that is missing, holds anything but `NAME = value`, or assigns a name twice.
    """
    first, last = find_cell(comments_of(source), len(split_lines(source)))
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
    value = computed(node.op, _number(node.left), _number(node.right))
    if value is None or isinstance(node.op, ast.Mod | ast.LShift):
        raise SourceError(f"Line {node.lineno} of train.py: {ast.unparse(node)} is not plain arithmetic on constants.")
    return value


def computed(op: ast.operator, left: Any, right: Any) -> int | float | None:
    """The result of arithmetic on two numbers; None for what is no such thing or would grow large.

    Raises what Python raises, such as ZeroDivisionError.
    """
    if type(op) not in _ARITHMETIC or not {type(left), type(right)} <= {int, float}:
        return None
    bits = max(num_bits(left), num_bits(right))
    is_power = isinstance(op, ast.Pow | ast.LShift)
    if bits > LARGEST_BITS or (is_power and (abs(right) > LARGEST_EXPONENT or bits * abs(right) > LARGEST_BITS)):
        return None
    value = _ARITHMETIC[type(op)](left, right)
    return value if type(value) in (int, float) else None


def num_bits(value: Any) -> int:
    return value.bit_length() if isinstance(value, int) else 0
