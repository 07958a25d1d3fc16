"""Source code as a syntax tree, whatever the version of Python."""

from __future__ import annotations

import ast
import warnings
from typing import Any


def parse(source: str) -> ast.Module:
    """The syntax tree of a source; its warnings are not shown."""
    return _parse(source, "exec")


def parse_expression(source: str) -> ast.expr:
    """The same for one expression."""
    return _parse(source, "eval").body


def _parse(source: str, mode: str) -> Any:
    """`ast.parse`, and once more after a SystemError.

    CPython before 3.11.5 raises that at random, for sources that are fine: https://github.com/python/cpython/issues/106905
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an escape such as "\d"
        try:
            return ast.parse(source, mode=mode)
        except SystemError:
            return ast.parse(source, mode=mode)


def parsed(source: str) -> ast.Module | None:
    """The tree; None for a source that Python does not parse."""
    try:
        return parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # null bytes, lone surrogates, absurd nesting
        return None
