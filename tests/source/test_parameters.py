"""Reading and editing the parameters cell."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoresearch_kernel.source.cell import SourceError
from autoresearch_kernel.source.parameters import check_values, read_parameters, set_parameters
from autoresearch_kernel.source.syntax import parse

PROJECT = Path(__file__).parents[2]

SOURCE = '''"""A train.py in small. It has a cell marker in a string: see below."""
# %% [markdown]
# # Title

# %% tags=["parameters"]
SEED = 42  # injected by the harness
MATRIX_LR = 0.04  # stép of the matrices, 0..1 of nothing; 0.005..0.2 log
BATCH_TOKENS = 2**12  # tokens a step; 2**10..2**15
DECAY: float = 1e-3  # weight decay; 1e-4..1e-1 log
WARMDOWN = 0.5  # share of the budget; 0.2..0.9 step 0.05
HEAD_DIM = 32  # channels; {16, 32, 64}
ACTIVATION = "relu2"  # {relu2, gelu}
QK_NORM = True  # normalise queries and keys
BETAS = (0.8, 0.95)  # of Adam
NUM_STEPS = 1_000  # a range nobody wrote
OFFSET = -3  # channels; -8..8
VOCAB = 2048  # of the corpus, fixed; 256..8192
NOTE = "plain"  # no choices

# %%
MATRIX_LR_LATER = 0.5  # not a parameter; 0.1..1
TEXT = """
# %% tags=["parameters"]
"""
'''


def edited(**values: object) -> str:
    return set_parameters(SOURCE, values)


def only_changed_line(new: str) -> str:
    changed = [b for a, b in zip(SOURCE.split("\n"), new.split("\n"), strict=True) if a != b]
    assert len(changed) == 1
    return changed[0]


def test_values_ranges_and_kinds_are_read_from_the_cell_and_its_comments() -> None:
    p = read_parameters(SOURCE)
    rate = p["MATRIX_LR"]
    assert (rate.value, rate.low, rate.high, rate.log) == (0.04, 0.005, 0.2, True)
    batch = p["BATCH_TOKENS"]
    assert (batch.kind, batch.value, batch.low, batch.high) == ("pow2", 4096, 1024, 32768)
    assert (p["WARMDOWN"].step, p["WARMDOWN"].log, p["WARMDOWN"].kind) == (0.05, False, "float")
    assert p["HEAD_DIM"].choices == (16, 32, 64)
    assert p["ACTIVATION"].choices == ("relu2", "gelu")
    assert p["QK_NORM"].choices == (False, True)
    assert (p["BETAS"].kind, p["BETAS"].value, p["BETAS"].tunable) == ("other", (0.8, 0.95), False)
    assert (p["OFFSET"].value, p["OFFSET"].low) == (-3, -8)
    assert list(p)[:2] == ["SEED", "MATRIX_LR"]
    assert "MATRIX_LR_LATER" not in p


def test_seed_fixed_and_scaleless_parameters_are_left_alone() -> None:
    p = read_parameters(SOURCE)
    assert [name for name, parameter in p.items() if not parameter.tunable] == ["SEED", "BETAS", "VOCAB", "NOTE"]


def test_a_parameter_without_a_range_gets_a_moderate_one() -> None:
    p = read_parameters(SOURCE)["NUM_STEPS"]
    assert (p.low, p.high, p.log) == (250, 4000, True)


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("MATRIX_LR", 0.055, "MATRIX_LR = 0.055  # stép of the matrices, 0..1 of nothing; 0.005..0.2 log"),
        ("BATCH_TOKENS", 8192, "BATCH_TOKENS = 2**13  # tokens a step; 2**10..2**15"),
        ("BATCH_TOKENS", 5000, "BATCH_TOKENS = 5000  # tokens a step; 2**10..2**15"),
        ("DECAY", 0.0015, "DECAY: float = 1.5e-3  # weight decay; 1e-4..1e-1 log"),
        ("WARMDOWN", 1, "WARMDOWN = 1.0  # share of the budget; 0.2..0.9 step 0.05"),
        ("ACTIVATION", "gelu", 'ACTIVATION = "gelu"  # {relu2, gelu}'),
        ("QK_NORM", False, "QK_NORM = False  # normalise queries and keys"),
        ("NUM_STEPS", 2000.0, "NUM_STEPS = 2_000  # a range nobody wrote"),
        ("BETAS", (0.9, 0.99), "BETAS = (0.9, 0.99)  # of Adam"),
        ("OFFSET", 4, "OFFSET = 4  # channels; -8..8"),
        ("SEED", 7, "SEED = 7  # injected by the harness"),
    ],
)
def test_only_the_literal_changes_and_keeps_its_style(name: str, value: object, line: str) -> None:
    assert only_changed_line(edited(**{name: value})) == line
    assert read_parameters(edited(**{name: value}))[name].value == value


def test_several_edits_and_no_edit() -> None:
    new = edited(MATRIX_LR=0.02, HEAD_DIM=64, SEED=1)
    assert {n: read_parameters(new)[n].value for n in ("MATRIX_LR", "HEAD_DIM", "SEED")} == {
        "MATRIX_LR": 0.02,
        "HEAD_DIM": 64,
        "SEED": 1,
    }
    assert edited() == SOURCE
    assert edited(**{n: p.value for n, p in read_parameters(SOURCE).items()}) == SOURCE


ON_ONE_LINE = '# %% tags=["parameters"]\nDEPTH = 1; WIDTH = 128  # channels; {64, 128}\nA = 1; B = 2  # fixed\n'


def test_two_parameters_on_one_line_are_read_and_edited_in_place() -> None:
    p = read_parameters(ON_ONE_LINE)
    assert [(q.name, q.value, q.line) for q in p.values()] == [
        ("DEPTH", 1, 2), ("WIDTH", 128, 2), ("A", 1, 3), ("B", 2, 3),
    ]  # fmt: skip
    assert p["WIDTH"].choices == (64, 128) and p["DEPTH"].choices is None, "the comment belongs to the last"
    assert p["A"].fixed and p["B"].fixed and p["DEPTH"].tunable
    assert set_parameters(ON_ONE_LINE, {"DEPTH": 2}) == ON_ONE_LINE.replace("DEPTH = 1", "DEPTH = 2")
    assert set_parameters(ON_ONE_LINE, {"WIDTH": 64}) == ON_ONE_LINE.replace("= 128", "= 64")
    both = set_parameters(ON_ONE_LINE, {"WIDTH": 64, "DEPTH": 12})
    assert both == ON_ONE_LINE.replace("DEPTH = 1; WIDTH = 128", "DEPTH = 12; WIDTH = 64")


def test_windows_line_ends_and_a_literal_over_two_lines_survive() -> None:
    source = '# %% tags=["parameters"]\r\nA = (2\r\n     * 3)  # things; 1..9\r\nB = 1  # {1, 2}\r\n'
    assert read_parameters(source)["A"].value == 6
    assert set_parameters(source, {"A": 7}) == source.replace("2\r\n     * 3", "7")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1\n", "no parameters cell"),
        ('# %% tags=["parameters"]\nA = 1\n# %% tags=["parameters"]\nB = 1\n', r"2 parameters cells, .*\[1, 3\]"),
        ('# %% tags=["parameters"]\nA = 1 +\n', "does not parse: .* line 2"),
        ('# %% tags=["parameters"]\nA = len("x")\n', "Line 2 .* is not a constant"),
        ('# %% tags=["parameters"]\nimport os\n', "Line 2 .* only NAME = constant"),
        ('# %% tags=["parameters"]\nA = 10**9999\n', "Line 2 "),
        ('# %% tags=["parameters"]\nA = ((((9**64)**64)**64)**64)**64\n', "Line 2 "),
        ('# %% tags=["parameters"]\nA = 1 / 0\n', "Line 2 .* division by zero"),
        ('# %% tags=["parameters"]\nA = 5  # 9..3\n', "Line 2 .* is empty"),
        ('# %% tags=["parameters"]\nA = 5  # 0..3 log\n', "Line 2 .* start above 0"),
        ('# %% tags=["parameters"]\nA = 1; A = 2\n', "Line 2 .* assigns A twice"),
        ('# %% tags=["parameters"]\nA = "x" * 10**10\n', "Line 2 .* is not a number"),
        ("\0", "does not parse"),
    ],
)
def test_unreadable_sources_name_the_line(source: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        read_parameters(source)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"NOPE": 1}, "no parameter NOPE.*MATRIX_LR"),
        ({"HEAD_DIM": 1.5}, "HEAD_DIM = 32 cannot become 1.5; it needs an int"),
        ({"QK_NORM": 1}, "needs a bool"),
        ({"MATRIX_LR": float("nan")}, "cannot become nan"),
        ({"ACTIVATION": 3}, "needs a str"),
    ],
)
def test_values_that_do_not_fit_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        set_parameters(SOURCE, values)


def test_every_parameter_of_the_real_train_file_can_be_read_and_moved() -> None:
    source = (PROJECT / "train.py").read_text(encoding="utf-8")
    parameters = read_parameters(source)
    assert not parameters["SEED"].tunable
    tunable = [p for p in parameters.values() if p.tunable]
    assert len(tunable) >= 10
    for p in tunable:
        if p.choices is not None:
            assert p.value in p.choices, p
        else:
            assert p.low is not None and p.high is not None and p.low <= p.value <= p.high, p
        new = set_parameters(source, {p.name: p.choices[0] if p.choices else p.low})
        assert parse(new) and read_parameters(new)[p.name].text != ""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NUM_STEPS", 5), ("BATCH_TOKENS", 2**20), ("MATRIX_LR", 1), ("MATRIX_LR", 2.5), ("QK_NORM", False),
        ("ACTIVATION", "swish"), ("BETAS", [0.9, 1]), ("BETAS", (0.9, 0.99)), ("OFFSET", -100),
    ],
)  # fmt: skip
def test_a_value_by_hand_of_the_right_type_passes_also_outside_of_the_range(name: str, value: object) -> None:
    check_values(read_parameters(SOURCE), {name: value})


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("num_steps", 5, r"no parameter num_steps \(did you mean NUM_STEPS\?\)\. Its parameters cell holds: SEED, "),
        ("MATRX_LR", 5, r"no parameter MATRX_LR \(did you mean MATRIX_LR\?\)"),
        ("xyz", 5, r"no parameter xyz\. Its"),
        ("NUM_STEPS", None, "NUM_STEPS cannot be None, which is no value: train.py has NUM_STEPS = 1_000, an int"),
        ("NUM_STEPS", 2.0, r"NUM_STEPS cannot be 2\.0, a float"),
        ("NUM_STEPS", "3", "NUM_STEPS cannot be '3', a str"),
        ("NUM_STEPS", True, "NUM_STEPS cannot be True, a bool"),
        ("NUM_STEPS", [1, 2], r"NUM_STEPS cannot be \[1, 2\], a list"),
        ("NUM_STEPS", 10**20, "NUM_STEPS cannot be 100000000000000000000, which has more than 63 bits"),
        ("BATCH_TOKENS", 4096.0, "BATCH_TOKENS cannot be 4096.0, a float: .* an int"),
        ("MATRIX_LR", "high", "MATRIX_LR cannot be 'high', a str: train.py has MATRIX_LR = 0.04, a float"),
        ("MATRIX_LR", float("nan"), "MATRIX_LR cannot be nan, which is no finite number"),
        ("MATRIX_LR", float("inf"), "no finite number"),
        ("MATRIX_LR", False, "MATRIX_LR cannot be False, a bool"),
        ("QK_NORM", "yes", "QK_NORM cannot be 'yes', a str: train.py has QK_NORM = True, a bool"),
        ("QK_NORM", 1, "QK_NORM cannot be 1, an int"),
        ("ACTIVATION", 3, "ACTIVATION cannot be 3, an int: .* a str"),
        ("BETAS", 0.9, "BETAS cannot be 0.9, a float: .* a tuple"),
        ("BETAS", [0.9], "which has 1 elements instead of 2"),
        ("BETAS", [0.9, "x"], "BETAS cannot be .*, a str"),
    ],
)
def test_a_value_by_hand_that_does_not_fit_is_named_with_the_type(name: str, value: object, words: str) -> None:
    with pytest.raises(SourceError, match=words):
        check_values(read_parameters(SOURCE), {name: value})


def cell(line: str) -> str:
    return f'# %% tags=["parameters"]\n{line}\n'


@pytest.mark.parametrize(
    ("line", "value", "new"),
    [
        ("CAP = 15.0  # {None, 15.0, 30.0}", None, "CAP = None  # {None, 15.0, 30.0}"),
        ("CAP = None  # {None, 15.0, 30.0}", 30.0, "CAP = 30.0  # {None, 15.0, 30.0}"),
        ("WINDOW = 256  # {None, 128, 256}", None, "WINDOW = None  # {None, 128, 256}"),
        ("DROPOUT = 0  # {0, 0.1}", 0.1, "DROPOUT = 0.1  # {0, 0.1}"),
    ],
)
def test_a_choice_of_another_type_can_be_set(line: str, value: object, new: str) -> None:
    name = line.split()[0]
    check_values(read_parameters(cell(line)), {name: value})
    assert set_parameters(cell(line), {name: value}) == cell(new)


@pytest.mark.parametrize(
    ("line", "low", "high"),
    [
        ("LR = 0.02  # 0.002..0.2 log; tuned in 0003..0009", 0.002, 0.2),
        ("DEPTH = 4  # tuned in 0003..0009, range 2..8", 2, 8),
        ("DEPTH = 4  # as in 2024-01..2024-03", 1, 16),
        ("DEPTH = 4  # as in 2024-10..2024-12; 2..8", 2, 8),
        ("DEPTH = 4  # as in 2024-10..2024-12", 1, 16),
    ],
)
def test_numbers_of_experiments_and_months_are_no_range(line: str, low: float, high: float) -> None:
    (parameter,) = read_parameters(cell(line)).values()
    assert (parameter.low, parameter.high) == (low, high)


@pytest.mark.parametrize("range_", ["1__0..20", "1..9 step 05", "1..2**99"])
def test_a_range_that_is_not_written_in_numbers_of_python_is_named(range_: str) -> None:
    with pytest.raises(SourceError, match=r"Line 2 of train\.py: the range of DEPTH, .*\.\..*, is not written"):
        read_parameters(cell(f"DEPTH = 4  # {range_}"))


@pytest.mark.parametrize(
    ("line", "value", "new"),
    [
        ("DROPOUT = 0  # 0.0..0.5", 0.1, "DROPOUT = 0.1"),
        ("DROPOUT = 0  # 0.0..0.5", 0, "DROPOUT = 0.0"),
        ("WARMDOWN = 1  # 0.2..0.9 step 0.05", 0.55, "WARMDOWN = 0.55"),
        ("DECAY = 1  # 1e-3..1e1 log", 0.5, "DECAY = 0.5"),
    ],
)
def test_an_int_with_a_range_of_floats_is_a_float(line: str, value: float, new: str) -> None:
    (parameter,) = read_parameters(cell(line)).values()
    assert parameter.kind == "float" and type(parameter.value) is float and type(parameter.low) is float
    check_values({parameter.name: parameter}, {parameter.name: value})
    assert set_parameters(cell(line), {parameter.name: value}).splitlines()[1].startswith(f"{new}  #")


@pytest.mark.parametrize(
    "line", ["STEPS = 2000  # 1e3..1e5 log", "DEPTH = 4  # 1..8 step 1", "WIDTH = 64  # {32, 64}; 0.5..2.0 times"]
)
def test_an_int_with_a_range_of_whole_numbers_stays_an_int(line: str) -> None:
    (parameter,) = read_parameters(cell(line)).values()
    assert parameter.kind == "int" and type(parameter.value) is int
