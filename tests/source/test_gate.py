"""The gate: what runs as a notebook is what train.py says."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from autoresearch_kernel.run.notebook import check_source, read_source
from autoresearch_kernel.source.cell import SourceError
from autoresearch_kernel.source.encoding import decode_source
from autoresearch_kernel.source.gate import InvalidSource, check_cells, check_clock
from autoresearch_kernel.source.parameters import read_parameters, set_parameters

ROOT = Path(__file__).resolve().parents[2]
PARAMETERS = '# %% tags=["parameters"]\nSEED = 1  # fixed\nBATCH = 2**16  # tokens; 2**10..2**18\n\n'


def source(*cells: str) -> str:
    return PARAMETERS + "\n\n".join(cells) + "\n"


def code_of(notebook: Any) -> str:
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")


def test_train_py_passes_and_keeps_its_syntax_tree() -> None:
    train = (ROOT / "train.py").read_text(encoding="utf-8")
    check_source(train)
    assert ast.dump(ast.parse(code_of(read_source(train)))) == ast.dump(ast.parse(train))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (source("# %%\ndef f(:"), "line 6"),
        (source("# %%\nreturn 1"), "outside function"),
        (source("# %%\nx = '\0'"), "null"),
        (source("# %%\nx = '\ud800'"), "not Python text"),
        (source("# %%\ndef f():\n    x = 1\n    # %% x\n    return x"), "does not parse alone"),
        (source("# %% [markdown]\nx = 1"), "line 6: this statement is not the same"),
        (source("# %% [raw]\nx = 1"), "line 6: this statement is not the same"),
        (source('# %% tags=["active-py"]\nx = 1'), "active-py"),
        (source('# %% active="py"\nx = 1'), "not run"),
        (source('# %% tags=["skip-execution"]\nx = 1'), "skip-execution"),
        (source('# %% tags=["raises-exception"]\nx = 1'), "raises-exception"),
        (source('# %% tags=["injected-parameters"]\nx = 1'), "injected-parameters"),
        (source('# %% language="bash"\nls'), "code cell 2|Code cell 2"),
        ("# %%\nx = 1\n", "0 code cells"),
        (PARAMETERS + PARAMETERS, "2 code cells"),
        ('# %% tags=["parameters"]\nLR = float("1e-3")\n', "constant"),
        ('# %% tags=["parameters"]\nA = 1\nB = A\n', "constant"),
        ('# %% tags=["parameters"]\nimport os\n', "constant"),
        ('# %% tags=["parameters"]\nA, B = 1, 2\n', "constant"),
        ('# %% tags=["parameters"]\nA = [x for x in (1, 2)]\n', "constant"),
        ('# %% tags=["parameters"]\nA = f"{1}"\n', "constant"),
        ('# %% tags=["parameters"]\nA = 1\nA = 2\n', "twice"),
        ("x = 1\n" * 200_000, "longer than"),
    ],
)
def test_the_gate_refuses_with_a_reason(text: str, words: str) -> None:
    with pytest.raises(InvalidSource, match=words):
        check_source(text)


def test_constants_of_all_kinds_are_parameters() -> None:
    check_source(
        '# %% tags=["parameters"]\nA = -1\nB = 2**16\nC = 3 * 2**4 / 5\nD: float = 1e-3\nE = "x"\n'
        "F = True\nG = None\nH = (1, 2)\nI = [0.9, 0.95]\n\n# %%\nprint(A)\n"
    )


def test_a_block_that_spans_no_cells_and_a_string_full_of_markers_is_fine() -> None:
    check_source(source('# %%\ns = """\n    # not a cell\n%matplotlib inline\n"""', "# %%\nasync def f():\n    pass"))


def test_two_parameters_on_one_line_pass() -> None:
    check_source('# %% tags=["parameters"]\nDEPTH = 1; WIDTH = 128  # {64, 128}\n\n# %%\nprint(DEPTH)\n')


@dataclass
class Cell:
    source: str
    metadata: dict[str, Any] = field(default_factory=dict)
    cell_type: str = "code"


def test_a_notebook_and_the_optimiser_agree_on_which_cell_holds_the_parameters() -> None:
    text = '# %% tags=["parameters"]\nA = 1\n\n# %%\nB = 2\n'
    tagged = {"tags": ["parameters"]}
    check_cells(text, lambda _: [Cell("A = 1", tagged), Cell("B = 2")])
    with pytest.raises(InvalidSource, match="Mark the cell"):
        check_cells(text, lambda _: [Cell("A = 1"), Cell("B = 2", tagged)])


TRAIN = (ROOT / "train.py").read_text(encoding="utf-8")
SEPARATORS = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"  # str.splitlines ends a line there, and Python does not


@pytest.mark.parametrize("separator", SEPARATORS, ids=lambda s: f"{ord(s):#06x}")
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("  # transformer blocks", "  # transformer{}blocks"),
        ("import math\n", 'import math\n\nNOTE = "a{}b"\n'),
        ("import math\n", 'import math\n\nNOTE = """a{}b\n"""\n'),
        ("# ## The parts of the model", "# ## The parts{}of the model"),
    ],
    ids=["comment", "string", "long string", "markdown"],
)
def test_characters_that_end_no_line_of_python_end_none_of_a_cell(separator: str, old: str, new: str) -> None:
    text = TRAIN.replace(old, new.format(separator), 1)
    check_source(text)
    assert ast.dump(ast.parse(code_of(read_source(text)))) == ast.dump(ast.parse(text))
    assert read_parameters(set_parameters(text, {"DEPTH": 3}))["DEPTH"].value == 3


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + TRAIN,
        TRAIN.replace("\n", "\r\n"),
        TRAIN.replace("\n", "\r"),
        "".join(line + ("\r\n" if number % 3 else "\n") for number, line in enumerate(TRAIN.split("\n"))),
        TRAIN.rstrip("\n"),
        TRAIN.rstrip("\n") + "  # the end",
        TRAIN.replace("    ", "\t"),
        "#!/usr/bin/env python\n# -*- coding: utf-8 -*-\n" + TRAIN,
        '"""What it does."""\nfrom __future__ import annotations\n\n' + TRAIN,
        "\x0c\n" + TRAIN.replace("\nclass GPT", "\n\x0c\nclass GPT"),
    ],
    ids=["mark", "CRLF", "CR", "mixed", "no end", "comment at the end", "tabs", "coding", "future", "form feeds"],
)
def test_a_file_is_read_as_python_reads_it(text: str) -> None:
    check_source(text)
    assert len(read_parameters(text)) == len(read_parameters(TRAIN))
    assert read_parameters(set_parameters(text, {"DEPTH": 3}))["DEPTH"].value == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("# coding: latin-1\n" + source("# %%\nx = 1"), "declares the encoding iso-8859-1, but it is UTF-8"),
        ("# coding: klingon\n" + source("# %%\nx = 1"), "unknown encoding: klingon"),
        (source("# %%\n%matplotlib inline"), "line 6: '%matplotlib inline' is a command of IPython"),
        (source("# %%\n!pip install einops"), "line 6: '!pip install einops' is a command of IPython"),
        (source("# %%\nimport math\nmath?"), "line 7: 'math\\?' is a command of IPython"),
        (source("# %%\nawait f()"), "line 6: 'await' outside function; call `asyncio.run"),
        (source("# %%\nx = 1\ny = '\0'"), "line 7"),
    ],
)
def test_what_no_script_can_mean_is_named_by_line(text: str, words: str) -> None:
    with pytest.raises(InvalidSource, match=words):
        check_source(text)


# --- bytes


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"\xef\xbb\xbfx = 1\r\ny = 2\r", "x = 1\ny = 2\n"),
        ("# coding: latin-1\nx = 'caf\u00e9'\n".encode("latin-1"), "# coding: utf-8\nx = 'caf\u00e9'\n"),
        ("#!/bin/python\n# vim: set fileencoding=cp1252 :\n# \u20ac\n".encode("cp1252"),
         "#!/bin/python\n# vim: set fileencoding=utf-8 :\n# \u20ac\n"),
        ("x = '\u2028'\n".encode(), "x = '\u2028'\n"),
        ("# caf\u00e9 in coding: latin-1\n".encode("latin-1"), "# caf\u00e9 in coding: utf-8\n"),
        (b"PK = 1\n", "PK = 1\n"),
    ],
)  # fmt: skip
def test_bytes_become_text_as_python_reads_them(content: bytes, text: str) -> None:
    assert decode_source(content) == text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"x = 1\n# caf\xe9\n", r"mine\.py is not UTF-8 text: byte 11 is 0xe9"),
        (b"# caf\xe9\nx = 1\n", r"mine\.py is not UTF-8 text: byte 5 is 0xe9"),
        (b"\xef\xbb\xbf# caf\xe9\n", r"mine\.py is not UTF-8 text: byte 8 is 0xe9"),
        ("x = 1\n".encode("utf-16"), r"mine\.py is UTF-16, not Python text"),
        ("x = 1\n".encode("utf-32"), r"mine\.py is UTF-32, not Python text"),
        (b"# coding: klingon\n", r"mine\.py cannot be read: unknown encoding: klingon"),
        (b"\xef\xbb\xbf# coding: latin-1\n", r"mine\.py cannot be read: encoding problem: utf-8"),
        (b"PK\x03\x04", r"mine\.py is zip"),
    ],
)
def test_what_is_no_python_text_is_named(content: bytes, words: str) -> None:
    with pytest.raises(SourceError, match=words):
        decode_source(content, "mine.py")


# --- the clock

LOOP = "# %%\nfrom prepare import TIME_BUDGET, TrainingClock\nimport prepare, time\n"


@pytest.mark.parametrize(
    "loop",
    [
        "clock = TrainingClock()\nwhile clock.running():\n    loss.backward()",
        "c = prepare.TrainingClock()\nfor _ in iter(c.running, False):\n    loss.backward()",
        "from prepare import TrainingClock as Clock\nc = Clock()\nwhile c.running(): pass",
        "class Mine(TrainingClock): pass\nwhile Mine().running(): pass",
    ],
)
def test_a_training_that_asks_the_clock_passes(loop: str) -> None:
    check_clock(source(LOOP + loop))


@pytest.mark.parametrize(
    ("loop", "words"),
    [
        (
            "t = time.time()\nwhile time.time() - t < TIME_BUDGET:\n    loss.backward()",
            "line 9: this loop counts its own time",
        ),
        ("for step in range(1000):\n    loss.backward()", "line 8: this loop does not ask prepare's clock"),
        ("while True:\n    for _ in range(2):\n        loss.backward()\n    if done: break", "line 8"),
        ("clock = TrainingClock()\nwhile clock.progress < 1:\n    loss.backward()", "line 9"),
        ("print('no loop')", r"train\.py does not ask prepare's clock.*TrainingClock\(\)"),
    ],
)
def test_a_training_that_counts_its_own_time_is_refused_by_line(loop: str, words: str) -> None:
    with pytest.raises(InvalidSource, match=words):
        check_clock(source(LOOP + loop))
