"""Source code as a syntax tree, whatever the version of Python."""

from __future__ import annotations

import ast
import warnings


def parse(source: str) -> ast.Module:
    """`ast.parse`, and once more after a SystemError.

    CPython before 3.11.5 raises that at random, for sources that are fine: https://github.com/python/cpython/issues/106905
    """
    try:
        return ast.parse(source)
    except SystemError:
        return ast.parse(source)


def parse_expression(source: str) -> ast.expr:
    """The same for one expression."""
    try:
        return ast.parse(source, mode="eval").body
    except SystemError:
        return ast.parse(source, mode="eval").body


def parsed(source: str) -> ast.Module | None:
    """The tree, without warnings; None for a source that Python does not parse."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an escape such as "\d"
            return parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # null bytes, lone surrogates, absurd nesting
        return None
