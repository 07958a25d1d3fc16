"""Two train.py texts compared by what they mean."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from autoresearch_kernel.source.compare import code_size, fingerprint, literal_changes, structure, subjects
from autoresearch_kernel.source.parameters import set_parameters
from tests.processor_time import processor_seconds

PROJECT = Path(__file__).parents[2]
TRAIN = (PROJECT / "train.py").read_text(encoding="utf-8")
FINGERPRINT = fingerprint(TRAIN)
ENDS = {statement.end_lineno for statement in ast.walk(ast.parse(TRAIN)) if isinstance(statement, ast.stmt)}
FILES = [PROJECT / "train.py", *sorted((PROJECT / "autoresearch_kernel").rglob("*.py"))]

SOURCE = '''"""A train.py in small."""
# %% tags=["parameters"]
SEED = 1
RATE = 1e-3  # step; 1e-4..1e-1 log
BATCH = 2**10  # tokens
NAME = "relu"
BETAS = (0.8, 0.95)

# %% [markdown]
# # A title

# %%
import math


class Model:
    """Something."""

    size = BATCH

    def forward(self, x):
        """Forward."""
        return x * 2

    def loss(self, x):
        return -x


def norm(x):
    return x / 2


model, other = Model(), None

# %%
while model.size:
    model.size -= 1

# %%
print(norm(RATE))
'''


def bomb(levels: int) -> str:
    text = "9"
    for _ in range(levels):
        text = f"({text}**64)"
    return text


# --- fingerprint


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_fingerprint_stays_under_reformatting(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert fingerprint(ast.unparse(ast.parse(source))) == fingerprint(source)
    assert len(fingerprint(source)) == 16


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("RATE = 1e-3  # step; 1e-4..1e-1 log", "RATE=0.001"),
        ("2**10", "1_024"),
        ("2**10", "1 << 10"),
        ("2**10", "0x400"),
        ('"relu"', "'re' 'lu'"),
        ("(0.8, 0.95)", "(\n    0.8,  # one\n    .95,\n)"),
        ('        """Forward."""\n', ""),
        ("# # A title", "# # Another title"),
        ("return x * 2", "return (x * +(2))"),
        ("    size = BATCH", '    size = BATCH\n    """a comment"""\n    pass'),
        ('# %% tags=["parameters"]', ""),
        ("\n", "\r\n"),
    ],
)
def test_looks_do_not_count(old: str, new: str) -> None:
    assert old in SOURCE
    assert fingerprint(SOURCE.replace(old, new)) == fingerprint(SOURCE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("2**10", "1024.0"),
        ("2**10", "True"),
        ("1e-3", "1e-4"),
        ("return -x", "return x"),
        ("x / 2", "2 / x"),
        ("import math", "import cmath"),
        ("BETAS = (0.8, 0.95)", "BETAS = [0.8, 0.95]"),
        ('"relu"', 'b"relu"'),
        ("SEED = 1", "SEED = None"),
        ("model, other = Model(), None", "model, other = Model(), ..."),
    ],
)
def test_meaning_counts(old: str, new: str) -> None:
    assert old in SOURCE
    assert fingerprint(SOURCE.replace(old, new)) != fingerprint(SOURCE)


numbers = st.one_of(st.integers(0, 99).map(str), st.floats(0, 99).map(repr))
arithmetic = st.recursive(
    numbers,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "//", "%", "**"]), inner).map(
            lambda t: f"({' '.join(t)})"
        ),
        inner.map(lambda text: f"-({text})"),
    ),
    max_leaves=5,
)


@settings(deadline=None)
@given(arithmetic)
@example("(2**-1)")
@example("(-1**2)")
def test_a_constant_is_its_value(text: str) -> None:
    assume(text.count("**") <= 1)
    try:
        value = eval(text)
    except (ArithmeticError, ValueError):
        return
    assume(isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**64)
    powers = [
        node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow)
    ]
    assume(all(abs(eval(ast.unparse(node.right))) <= 64 for node in powers))
    assert fingerprint(f"x = {text}") == fingerprint(f"x = {value!r}")


@settings(deadline=None)
@given(st.sets(st.integers(0, TRAIN.count("\n"))), st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=10))
def test_comments_do_not_move_the_fingerprint(places: set[int], comment: str) -> None:
    lines = TRAIN.split("\n")
    assume("\r" not in comment and "\n" not in comment)
    new = [line + (f"  # {comment}" if n in places and n in ENDS else "") for n, line in enumerate(lines, 1)]
    assert fingerprint("\n".join(new)) == FINGERPRINT


@settings(deadline=None)
@given(st.text())
def test_any_text_has_a_fingerprint_and_no_comparison_fails(text: str) -> None:
    assert fingerprint(text) == fingerprint(text) and len(fingerprint(text)) == 16
    assert subjects(text, text) == () and literal_changes(SOURCE, text) == {}
    assert isinstance(subjects(SOURCE, text), tuple)


def test_a_source_that_does_not_parse_is_known_by_its_text() -> None:
    assert fingerprint("def (") == fingerprint("def (") != fingerprint("def  (")
    assert fingerprint("x = '\ud800'") and fingerprint("\0")


@pytest.mark.parametrize(
    "text", [bomb(8), "x" + ".a" * 5000, "-" * 5000 + "1", "[" * 90 + "]" * 90, "0x" + "f" * 9000, "1 << 9**9**9"]
)
def test_constants_that_would_grow_and_deep_trees_take_no_time(text: str) -> None:
    def compare() -> None:
        new = SOURCE.replace("2**10", text)
        assert fingerprint(new) != fingerprint(SOURCE)
        assert subjects(SOURCE, new) in {("BATCH",), ("code that cannot be read",)}
        assert set(literal_changes(SOURCE, new)) <= {"BATCH"}

    assert processor_seconds(compare, limit=2) < 2


# --- subjects


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"1e-3": "2e-3"}, ("RATE",)),
        ({"1e-3": "2e-3", "2**10": "2**11"}, ("BATCH", "RATE")),
        ({"BATCH = 2**10": "WIDTH = 2**10"}, ("BATCH", "WIDTH")),
        ({"x * 2": "x * 3"}, ("Model.forward",)),
        ({"    size = BATCH": "    size = RATE"}, ("Model",)),
        ({"    def loss(": "    def extra(self):\n        return 1\n\n    def loss("}, ("Model.extra",)),
        ({"def norm(x):\n    return x / 2": "class Norm:\n    def f(self):\n        return 1"}, ("Norm", "norm")),
        ({"    model.size -= 1": "    model.size -= 2"}, ("training loop",)),
        ({"print(norm(RATE))": "print(norm(2))"}, ("code of cell 5",)),
        ({"# %%\nprint": "# %%\n1 + model\n\n# %%\nprint"}, ("code of cell 5",)),
        ({"Model(), None": "Model(), 1"}, ("model, other",)),
        ({"import math": "import math\nimport os"}, ("imports",)),
        ({"import math": "import os", "x / 2": "x / 3"}, ("norm",)),
        ({"# step": "# a step", "Something": "Else"}, ()),
        ({"SEED = 1\nRATE = 1e-3": "RATE = 1e-3\nSEED = 1", "# step; 1e-4..1e-1 log": ""}, ("order of statements",)),
        ({"import math": "import ("}, ("code that cannot be read",)),
    ],
)
def test_what_a_change_is_about(changes: dict[str, str], expected: tuple[str, ...]) -> None:
    new = SOURCE
    for old, text in changes.items():
        assert old in new
        new = new.replace(old, text)
    assert subjects(SOURCE, new) == expected
    assert subjects(SOURCE, SOURCE) == ()


# --- literal changes


def test_literals_of_the_parameters_alone() -> None:
    new = set_parameters(SOURCE, {"RATE": 0.002, "BATCH": 2048, "NAME": "gelu", "BETAS": (0.9, 0.95)})
    assert literal_changes(SOURCE, new) == {"RATE": 0.002, "BATCH": 2048, "NAME": "gelu", "BETAS": (0.9, 0.95)}
    assert literal_changes(SOURCE, SOURCE.replace("1e-3  # step", "-5  # Step")) == {"RATE": -5}
    assert literal_changes(SOURCE, SOURCE.replace("2**10", "1024")) == {}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("x / 2", "x / 3"),
        ("SEED = 1", "SEED = 1\nEXTRA = 2"),
        ("SEED = 1\n", ""),
        ("2**10", 'len("x")'),
        ("2**10", "1e999"),
        ("2**10", 'b"x"'),
        ('tags=["parameters"]', ""),
        ("import math", "import ("),
        ("SEED = 1", "SEED = 2\nSEED = 1"),
    ],
)
def test_anything_else_is_no_literal_change(old: str, new: str) -> None:
    assert literal_changes(SOURCE, SOURCE.replace("1e-3", "2e-3").replace(old, new)) == {}


def test_the_structure_stays_when_values_and_looks_change() -> None:
    same = set_parameters(SOURCE, {"RATE": 0.002}).replace("# tokens", "#  tokens a step")
    assert structure(same) == structure(SOURCE) and len(structure(SOURCE)) == 12
    assert structure(SOURCE.replace("x / 2", "x / 3")) != structure(SOURCE)
    assert structure("def (") == structure("def (")


def test_code_size_counts_what_runs() -> None:
    base = "x = 1\nfor i in range(3):\n    x += i\n"
    assert code_size(base) == code_size('"""Words."""\n# more words\nx = 1_0 - 9\nfor i in range(3):\n    x += i\n')
    shorter, longer = code_size("x = 1\n"), code_size(base + "y = x\n")
    assert shorter is not None and longer is not None and shorter < (code_size(base) or 0) < longer
    assert code_size("def (") is None
