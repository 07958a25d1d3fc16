"""Sources are parsed also by a CPython that fails at random."""

from __future__ import annotations

import ast
import gc
from typing import Any

import pytest

from autoresearch_kernel.source.syntax import parse, parse_expression


def test_an_error_of_the_interpreter_itself_is_tried_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    real, failures = ast.parse, [SystemError("AST constructor recursion depth mismatch (before=153, after=22)")] * 2

    def failing_once(*arguments: Any, **options: Any) -> Any:
        if failures and len(failures) % 2 == 0:
            raise failures.pop()
        return real(*arguments, **options)

    monkeypatch.setattr(ast, "parse", failing_once)
    assert ast.dump(parse("x = 1")) == ast.dump(real("x = 1")) and len(failures) == 1
    failures.append(SystemError("again"))
    assert isinstance(parse_expression("1 + 2"), ast.BinOp) and len(failures) == 1


def test_what_is_no_python_stays_a_syntax_error() -> None:
    with pytest.raises(SyntaxError):
        parse("x =")


def test_a_callback_of_the_garbage_collector_may_parse_as_well() -> None:
    """Libraries register such callbacks. In CPython 3.11 the tree that is being built then ends in a SystemError."""
    source, thresholds = "x = [1, (2, 3), {4: 5}]\n" * 2000, gc.get_threshold()

    def parses(phase: str, info: dict[str, int]) -> None:
        ast.parse("a = [1]")

    gc.callbacks.append(parses)
    gc.set_threshold(50)
    try:
        assert len(parse(source).body) == 2000 and gc.isenabled()
    finally:
        gc.callbacks.remove(parses)
        gc.set_threshold(*thresholds)
