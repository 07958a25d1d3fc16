"""The gate: what runs as a notebook is what train.py says."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from autoresearch_kernel.run.notebook import check_source, read_source
from autoresearch_kernel.source.gate import InvalidSource, check_cells

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
