"""Two train.py texts compared and merged line by line."""

from __future__ import annotations

import subprocess
from itertools import pairwise
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from autoresearch_kernel.source.diff import diff, rebase
from autoresearch_kernel.source.parameters import read_parameters, set_parameters
from tests.source.test_compare import SOURCE

PROJECT = Path(__file__).parents[2]
TRAIN = (PROJECT / "train.py").read_text(encoding="utf-8")


def test_the_diff_applies_with_git(tmp_path: Path) -> None:
    changed = SOURCE.replace("1e-3", "2e-3")
    (tmp_path / "train.py").write_text(SOURCE)
    (tmp_path / "change.diff").write_text(diff(SOURCE, changed))
    subprocess.run(["git", "apply", "change.diff"], cwd=tmp_path, check=True)
    assert (tmp_path / "train.py").read_text() == changed
    assert diff(SOURCE, SOURCE) == ""


def test_a_missing_last_newline_is_part_of_the_diff(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("a\nb")
    (tmp_path / "change.diff").write_text(diff("a\nb", "a\nc"))
    subprocess.run(["git", "apply", "change.diff"], cwd=tmp_path, check=True)
    assert (tmp_path / "train.py").read_text() == "a\nc"


# --- rebase


def test_changes_of_different_places_merge() -> None:
    mine = SOURCE.replace("1e-3", "2e-3").replace("return -x", "return -2 * x")
    theirs = SOURCE.replace("x / 2", "x / 3").replace('"relu"', '"gelu"')
    assert rebase(SOURCE, mine, theirs) == mine.replace("x / 2", "x / 3").replace('"relu"', '"gelu"')


def test_the_same_lines_conflict_unless_both_changed_them_alike() -> None:
    mine, theirs = SOURCE.replace("x / 2", "x / 3"), SOURCE.replace("x / 2", "x / 4")
    assert rebase(SOURCE, mine, theirs) is None
    assert rebase(SOURCE, SOURCE.replace("1e-3", "2e-3"), SOURCE.replace("1e-3", "3e-3")) is None
    assert rebase(SOURCE, mine, mine) == mine
    assert rebase(SOURCE, mine, SOURCE) == mine and rebase(SOURCE, SOURCE, theirs) == theirs


def test_neighbouring_code_conflicts_but_neighbouring_parameters_do_not() -> None:
    source = TRAIN
    mine = source.replace("qk = rotate(", "qk = 2 * rotate(")
    assert rebase(source, mine, source.replace("q, k, v = qk[:", "q, k, v = 2 * qk[:")) is None
    names = [parameter for parameter in read_parameters(source).values() if parameter.tunable]
    for a, b in pairwise(names):
        values = {p.name: next(v for v in p.choices or (p.low, p.high) if v != p.value) for p in (a, b)}
        mine, theirs = (set_parameters(source, {name: values[name]}) for name in values)
        assert rebase(source, mine, theirs) == set_parameters(source, values)


def test_a_merge_that_does_not_parse_is_a_conflict() -> None:
    source = "def f():\n    a()\n    b()\n    c()\n    d()\n"
    assert rebase(source, source.replace("    a()\n", "    if x:\n        a()\n"), source) is not None
    mine = source.replace("    d()\n", "    d()\n    e()\n")
    theirs = "f = lambda: (\n    a(),\n    b(),\n    c(),\n    d(),\n)\n"
    assert rebase(source, mine, theirs) is None
    mine = "if a:\n    x = 1\n    y = 2\n    z = 3\n"
    theirs = mine.replace("if a:", "(").replace("    x = 1\n", "    1)\n")
    assert rebase(mine, mine.replace("z = 3", "z = 4"), theirs) is None


@settings(deadline=None)
@given(st.lists(st.sampled_from("abcde"), max_size=8), st.lists(st.sampled_from("abcde"), max_size=8))
def test_a_change_on_one_side_alone_is_taken_whole(base: list[str], changed: list[str]) -> None:
    old, new = ("".join(line + "\n" for line in lines) or "\n" for lines in (base, changed))
    assert rebase(old, new, old) == rebase(old, old, new) == rebase(old, new, new) == new


@settings(deadline=None)
@given(st.text())
def test_any_text_merges_with_itself(text: str) -> None:
    assert rebase(text, text, text) is not None
