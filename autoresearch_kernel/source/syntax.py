"""Source code as a syntax tree."""

from __future__ import annotations

import ast


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
