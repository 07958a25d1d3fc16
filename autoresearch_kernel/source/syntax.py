"""Source code as a syntax tree, whatever the version of Python."""

from __future__ import annotations

import ast
import gc
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_LINE_END = re.compile(r"\r\n|\r|\n")


def split_lines(source: str) -> list[str]:
    """The lines as Python counts them, without their ends: a form feed or U+2028 ends no line, unlike `splitlines`."""
    return _LINE_END.split(source)


def parse(source: str) -> ast.Module:
    """The syntax tree of a source; its warnings are not shown."""
    return _parse(source, "exec")


def parse_expression(source: str) -> ast.expr:
    """The same for one expression."""
    return _parse(source, "eval").body


def without_mark(source: str) -> str:
    """Without a byte order mark, which Python takes from the beginning of a file and not from that of a text."""
    return source.removeprefix("\ufeff")


def _parse(source: str, mode: str) -> Any:
    """`ast.parse`, and once more after a SystemError, without the garbage collector.

    CPython 3.11 keeps the depth of the tree that it builds in one place for all threads. A callback of the collector
    lets another thread run, which may parse as well; then one of the two ends in a SystemError, for a source that is
    fine: https://github.com/python/cpython/issues/106905. Without the collector no other thread runs in between.
    """
    source = without_mark(source)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an escape such as "\d"
        try:
            return ast.parse(source, mode=mode)
        except SystemError:
            with _no_collector():
                return ast.parse(source, mode=mode)


@contextmanager
def _no_collector() -> Iterator[None]:
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def parsed(source: str) -> ast.Module | None:
    """The tree; None for a source that Python does not parse."""
    try:
        return parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # null bytes, lone surrogates, absurd nesting
        return None
