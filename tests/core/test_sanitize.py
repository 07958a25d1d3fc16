"""What foreign code wrote: only what every reader can bear is kept of it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch_kernel.core.sanitize import Private, is_number, one_line, parse_object, plain_facts, readable


def test_only_finite_numbers_of_sensible_size_are_numbers() -> None:
    good = [0, -3, 2.5, 10**14, -999_999_999_999_999]
    bad = [10**15, -(10**400), 1e15, math.nan, math.inf, True, None, "1", [1]]
    assert all(map(is_number, good)) and not any(map(is_number, bad))


def test_a_line_is_short_and_cannot_steer_a_terminal() -> None:
    assert one_line("a\x1b[2J\x1b]0;title\x07b\x1b[38;5;1mc\x00\r\n\u202ed") == "abc d"
    assert one_line("\x1b[31m" + "x" * 20_000_000, 100) == "x" * 100
    assert "\x1b" not in one_line("\x1b" * 50 + "\x1b]never ended", 30)


def test_text_of_several_lines_keeps_joiners_and_loses_marks_of_direction() -> None:
    persian, family = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\U0001f469\u200d\U0001f467"
    assert readable(f"{persian}\n\t{family}") == f"{persian}\n\t{family}"
    assert readable("a\x1b[2J\u202eb\u2066\u200e\r\nc\x07") == "ab\nc"


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


ALICE = Private(
    project=("/home/alice-secretname/lm", "/data/lm"),
    homes=("/home/alice-secretname", "/root"),
    names=("alice-secretname", "bob", "max", "a", "root"),
    hosts=("gpu-box-17", "gpt2-small"),
)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ('File "/home/alice-secretname/lm/prepare.py", line 3', 'File "prepare.py", line 3'),
        ("\x1b[32m/home/alice-secretname/lm/train.py:7\x1b[0m", "\x1b[32mtrain.py:7\x1b[0m"),
        ("in '/home/alice-secretname/lm'", "in '.'"),
        ("/home/alice-secretname/.venv/lib/x.py", "~/.venv/lib/x.py"),
        ("/data/lm/a.py, /data/lm2/b.py", "a.py, /data/lm2/b.py"),
        ("/home/carol/x /Users/dave/y", "~/x ~/y"),
        ("/root/.cache, /rooting, root", "~/.cache, /rooting, root"),
        ("/mnt/bob/x bob@gpu-box-17 gpu-box-17:22", "/mnt/user/x user@user user:22"),
        ("http://gpt2-small:8000, http://gpt2-small/v1", "http://user:8000, http://user/v1"),
        ("model gpt2-small works", "model gpt2-small works"),
        ("alice-secretname's", "user's"),
        ("bob = max(a, root) / max(b)", "bob = max(a, root) / max(b)"),
        ("https://example.org/home/page and ~/lm", "https://example.org/home/page and ~/lm"),
    ],
)
def test_folders_and_names_of_a_user_are_left_out(text: str, cleaned: str) -> None:
    assert ALICE.clean(text) == cleaned
    assert ALICE.clean(cleaned) == cleaned


@given(st.text(alphabet="abcmxorot /.=()*+-_\n", max_size=60))
def test_text_without_private_words_is_not_changed(text: str) -> None:
    assert Private(("/srv/project",), ("/srv/me",), ("a", "b", "ro", "root")).clean(text) == text


def test_a_message_is_cleaned_at_any_depth_and_its_pictures_are_not() -> None:
    message = {"data": {"text/plain": "/data/lm/x", "image/png": "/data/lm/x"}, "traceback": ["/root/y", 3]}
    cleaned = {"data": {"text/plain": "x", "image/png": "/data/lm/x"}, "traceback": ["~/y", 3]}
    assert ALICE.clean_all(message) == cleaned
