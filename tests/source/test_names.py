"""The names of a Python file: what it offers, and what it defines and never uses."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch_kernel.agents.study_text import NOT_FOR_TRAINING
from autoresearch_kernel.source.names import imported_names, signatures, unused_names

PROJECT = Path(__file__).parents[2]
PREPARE, TRAIN = ((PROJECT / name).read_text(encoding="utf-8") for name in ("prepare.py", "train.py"))
MODULE = '''
LIMIT = 3  # of a row
_hidden = 1
lower = 2


def __getattr__(name: str) -> int:
    if name == "ROWS":
        return 1


def cut(text: str, /, *parts: int, at: float = 0.5, **more: object) -> list[str]:
    """Cut a text.

    Details.
    """


def _private(): ...


class Clock:
    """Counts."""

    def __init__(self, budget: float = 1.0) -> None: ...

    def run(self): ...

    @property
    def seconds(self) -> float:
        """So far."""

    @classmethod
    def make(cls, path) -> Clock: ...

    def _tick(self): ...
'''
PARAMETERS = '# %% tags=["parameters"]\nrate = 1.0\nDEPTH = 2\n\n# %%\n'


def test_a_signature_has_arguments_types_and_the_first_line_of_its_docstring() -> None:
    found = {s.name: s for s in signatures(MODULE)}
    assert list(found) == ["LIMIT", "ROWS", "cut", "Clock"]
    assert (found["LIMIT"].full, found["LIMIT"].summary, found["ROWS"].full) == ("LIMIT", "of a row", "ROWS: int")
    assert found["cut"].short == "cut(text, /, *parts, at=0.5, **more)"
    assert found["cut"].full == "cut(text: str, /, *parts: int, at: float=0.5, **more: object) -> list[str]"
    assert found["cut"].summary == "Cut a text."
    assert found["Clock"].full == "Clock(budget: float=1.0)" and found["Clock"].summary == "Counts."
    assert [m.full for m in found["Clock"].methods] == ["run()", "seconds: float", "make(path) -> Clock"]
    assert [m.short for m in found["Clock"].methods] == ["run()", "seconds", "make(path)"]


@pytest.mark.parametrize("source", ["", "def (", "\0", "class A: ...", "def f(): ..."])
def test_a_module_that_says_little_has_few_signatures(source: str) -> None:
    assert [s.full for s in signatures(source)] == [s for s in ("A()", "f()") if f"{s[0]}: " in source or s in source]


def test_what_prepare_offers_to_a_training() -> None:
    offered = {s.name for s in signatures(PREPARE)}
    assert offered >= NOT_FOR_TRAINING, "a name that prepare.py no longer has"
    assert imported_names(TRAIN, "prepare") <= offered - NOT_FOR_TRAINING
    assert offered - NOT_FOR_TRAINING == {
        "MAX_SEQ_LEN", "TIME_BUDGET", "Tokenizer", "TrainingClock", "autocast", "autocast_dtype", "device_name",
        "evaluate_bpb", "get_device", "get_token_bytes", "make_dataloader", "monotonic", "peak_flops", "peak_memory_mb",
        "preset_parameters",
    }  # fmt: skip


def test_imports_in_both_forms_are_found() -> None:
    source = (
        "import prepare, prepare as p\nfrom prepare import a, b as c\nprepare.d(p.e)\nfrom other import f\nother.g()\n"
    )
    assert imported_names(source, "prepare") == {"a", "b", "d", "e"}


def test_the_train_py_of_this_project_uses_all_its_names() -> None:
    assert unused_names(TRAIN) == []


@pytest.mark.parametrize(
    ("code", "unused"),
    [
        ("use(rate, DEPTH)", []),
        ("use(rate)", ["DEPTH"]),
        ("DEPTH\nrate", []),
        ("def f(): return DEPTH\nuse(rate)", ["DEPTH", "f"]),
        ("def f(): return DEPTH\nuse(rate, f)", []),
        ("def f(): return g()\ndef g(): return f()\nuse(rate, DEPTH)", ["f", "g"]),
        ("class A: pass\nclass B(A): pass\nuse(rate, DEPTH)", ["A", "B"]),
        ("class A: pass\nclass B(A): pass\nuse(rate, DEPTH, B)", []),
        ("import math, torch.nn as nn\nimport os.path\nuse(rate, DEPTH, nn)", ["math", "os"]),
        ("from __future__ import annotations\nfrom x import *\nuse(rate, DEPTH)", []),
        ("use(rate, globals()['DEPTH'])", []),
        ("print(f'{rate} {DEPTH}')", []),
        ("WIDTH = DEPTH * 2\nuse(rate)", ["WIDTH"]),
        ("score = evaluate(rate, DEPTH)", []),
        ("@DEPTH\ndef f(x=rate): ...\nf()", []),
        ("if rate:\n    def f(): return DEPTH", []),
        ("class A:\n    def run(self): ...\n    def old(self): ...\nA().run(rate, DEPTH)", ["A.old"]),
        ("class A(nn.Module):\n    def forward(self): ...\n    def embed(self): ...\nA(rate, DEPTH)", ["A.embed"]),
        ("class A(Base):\n    def step(self): ...\nA(rate, DEPTH)", []),
        ("class A:\n    def __len__(self): ...\n    def named(self): ...\ngetattr(A(rate, DEPTH), 'named')", []),
    ],
)  # fmt: skip
def test_what_is_defined_and_never_used_is_named(code: str, unused: list[str]) -> None:
    assert unused_names(PARAMETERS + code) == unused


def test_without_a_parameters_cell_constants_are_found_by_their_capitals() -> None:
    assert unused_names("DEPTH = 1\nrate = 2\n") == ["DEPTH"]


@given(st.text(max_size=60) | st.sampled_from(["def (", "x = '\0'", "(" * 300, "DEPTH = 1"]))
def test_any_text_is_read(source: str) -> None:
    assert all(isinstance(name, str) for name in unused_names(PARAMETERS + source))
    assert {s.name for s in signatures(source)} >= set() and imported_names(source, "prepare") == set()
