"""What foreign code wrote: only what every reader can bear is kept of it."""

from __future__ import annotations

import math

from autoresearch_kernel.core.sanitize import is_number, one_line, parse_object, plain_facts


def test_only_finite_numbers_of_sensible_size_are_numbers() -> None:
    good = [0, -3, 2.5, 10**14, -999_999_999_999_999]
    bad = [10**15, -(10**400), 1e15, math.nan, math.inf, True, None, "1", [1]]
    assert all(map(is_number, good)) and not any(map(is_number, bad))


def test_a_line_is_short_and_cannot_steer_a_terminal() -> None:
    assert one_line("a\x1b[2J\x1b]0;title\x07b\x1b[38;5;1mc\x00\r\n\u202ed") == "abc d"
    assert one_line("\x1b[31m" + "x" * 20_000_000, 100) == "x" * 100
    assert "\x1b" not in one_line("\x1b" * 50 + "\x1b]never ended", 30)


def test_an_object_is_read_whatever_its_depth() -> None:
    assert parse_object('{"a": 1}') == {"a": 1}
    assert [parse_object(text) for text in ("[" * 100_000, '{"a":' * 100_000, "[1]", "{", b"\xff")] == [None] * 5


def test_facts_are_few_and_have_short_names() -> None:
    wild = {
        "n" * 101: 1,
        "a\x1bb": 1,
        "device": "c\npu" + "!" * 1000,
        "dtype": 3,
        "text": "x",
        "exit_code": 0,
        "steps": 3,
    }
    facts = plain_facts(wild, texts={"device", "dtype"}, without={"exit_code"})
    assert facts == {"device": "c pu" + "!" * 196, "steps": 3}
    assert len(plain_facts({str(number): number for number in range(500)})) == 100
