"""Adoption: a train.py of the original's shape, and of forks, becomes one of ours that passes the gate and trains."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoresearch_kernel.record.paths import ExperimentPaths
from autoresearch_kernel.run.notebook import check_source
from autoresearch_kernel.source.adopt.convert import Adoption, adopt
from autoresearch_kernel.source.cell import SourceError
from autoresearch_kernel.source.parameters import read_parameters
from tests.conftest import PROJECT
from tests.source import foreign
from tests.trainings import train

PREPARE = {"MAX_SEQ_LEN", "TIME_BUDGET", "EVAL_TOKENS", "Tokenizer", "make_dataloader", "evaluate_bpb"}
FORKS = {"original": foreign.ORIGINAL, **foreign.FORKS}
# Trains each of the files in one process, for three steps, and prints what prepare.py prints.
RUN_ALL = """
import runpy, sys
for path in sys.argv[1:]:
    sys.modules.pop("prepare", None)
    print("FILE", path, flush=True)
    runpy.run_path(path, run_name="__main__")
"""


def adopted(source: str, **others: object) -> Adoption:
    return adopt(source, prepare_names=PREPARE, **others)  # type: ignore[arg-type]


def by_hand(source: str, **others: object) -> str:
    return "\n".join(f"{f.line}: {f.code} -> {f.words}" for f in adopted(source, **others).by_hand)


@pytest.mark.parametrize("name", FORKS)
def test_a_fork_becomes_a_train_py_that_passes_the_gate_with_nothing_left_to_do(name: str) -> None:
    adoption = adopted(FORKS[name])
    check_source(adoption.source)
    assert not adoption.by_hand
    assert read_parameters(adoption.source)["SEED"].fixed
    for absent in ("kernels", "wandb.", "dotenv", '"cuda")', ".cuda()", "time.time() - t0 <", "TIME_BUDGET:", "exit("):
        assert absent not in adoption.source
    assert "clock = TrainingClock()" in adoption.source and "clock.report(train_loss=" in adoption.source


def test_the_parameters_of_the_original_are_its_constants_with_their_comments() -> None:
    source = adopted(foreign.ORIGINAL).source
    parameters = read_parameters(source)
    assert list(parameters) == [
        "SEED", "ASPECT_RATIO", "HEAD_DIM", "WINDOW_PATTERN", "TOTAL_BATCH_SIZE", "EMBEDDING_LR", "MATRIX_LR",
        "ADAM_BETAS", "WARMUP_RATIO", "WARMDOWN_RATIO", "FINAL_LR_FRAC", "DEPTH", "DEVICE_BATCH_SIZE",
        "H100_BF16_PEAK_FLOPS",
    ]  # fmt: skip
    assert parameters["SEED"].value == 1337 and parameters["H100_BF16_PEAK_FLOPS"].fixed
    assert parameters["HEAD_DIM"].kind == "pow2" and parameters["HEAD_DIM"].comment.startswith("of one head")
    assert "# Sizes\nDEPTH = 2" in source and "## The network" in source and "Hyperparameters" not in source


def test_an_adopted_file_keeps_what_it_does_not_convert() -> None:
    before, after = foreign.ORIGINAL, adopted(foreign.ORIGINAL).source
    for kept in ("class GPT(nn.Module):", "x, y, epoch = next(train_loader)  # the first batch", "gc.freeze()"):
        assert kept in before and kept in after
    defined = [set(re.findall(r"^ *(?:def|class) (\w+)", source, re.MULTILINE)) for source in (before, after)]
    assert defined[1] - defined[0] == {"flash_attn_func", "compile_on_gpu"} and defined[0] < defined[1]


def test_adopted_files_train_as_scripts(tmp_path: Path, small_corpus: Path) -> None:
    (tmp_path / "prepare.py").write_bytes((PROJECT / "prepare.py").read_bytes())
    for name, source in FORKS.items():
        (tmp_path / f"{name}_fork.py").write_text(adopted(source).source, encoding="utf-8")
    settings = {"AUTORESEARCH_HOME": str(small_corpus.parents[1]), "AUTORESEARCH_CORPUS": str(small_corpus)}
    settings |= {"AUTORESEARCH_MAX_STEPS": "3", "PYTHONPATH": str(tmp_path), "AUTORESEARCH_DTYPE": "float32"}
    done = subprocess.run(
        [sys.executable, "-c", RUN_ALL, *(f"{name}_fork.py" for name in FORKS)],
        cwd=tmp_path, env=os.environ | settings, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    for name, printed in zip(FORKS, done.stdout.split("FILE ")[1:], strict=True):
        assert printed.startswith(name) and "num_steps:        3" in printed and "val_bpb:" in printed, printed


def test_the_adopted_original_trains_in_a_notebook_with_the_seed_and_the_limit_of_a_dry_run(
    tmp_path: Path, small_corpus: Path
) -> None:
    outcome = train(
        adopted(foreign.ORIGINAL).source, ExperimentPaths(tmp_path / "0001"), small_corpus, PROJECT,
        seed=5, max_steps=3, startup_allowance_seconds=90.0,
    )  # fmt: skip
    assert outcome.status is None and outcome.artefact is not None, outcome.reason
    assert outcome.measured["num_steps"] == 3


def test_windows_of_flash_attention_stay_windows() -> None:
    torch = pytest.importorskip("torch")
    scope: dict[str, object] = {"torch": torch}
    from autoresearch_kernel.source.adopt.packages import ATTENTION

    exec(ATTENTION, scope)
    q, k, v = (torch.randn(2, 8, heads, 4) for heads in (4, 2, 2))
    y = scope["flash_attn_func"](q, k, v, causal=True, window_size=(2, 0))  # type: ignore[operator]
    assert y.shape == (2, 8, 4, 4)
    expected = torch.empty_like(y)
    for t in range(8):
        seen = slice(max(0, t - 2), t + 1)
        keys, values = (z[:, seen].repeat_interleave(2, dim=2) for z in (k, v))
        weights = torch.einsum("bhd,bshd->bhs", q[:, t], keys).div(2).softmax(-1)
        expected[:, t] = torch.einsum("bhs,bshd->bhd", weights, values)
    torch.testing.assert_close(y, expected)


# --- what is listed


SMALL = foreign.IMPORTS + foreign.MODEL


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("import mlx.core as mx", "another framework, which cannot be converted"),
        ("import rustbpe", "prepare.py builds the corpus and the tokenizer"),
        ("import requests", "a training has no network"),
        ("import pyarrow.parquet as pq", "prepare.py builds the corpus"),
        ("from transformers import AutoModel", "no pretrained models"),
        ("import einops", "view, transpose and reshape"),
        ("import triton", "compiled for GPUs only"),
        ("import deepspeed", "one process trains one model"),
        ("from google.colab import drive", "an experiment has torch, numpy, the standard library and prepare"),
        ("from blocks import Block", "put the code of blocks.py in the place of this line"),
        ("from .blocks import Block", "consists of one file"),
        ("from prepare import VOCAB_SIZE", "has no VOCAB_SIZE: use tokenizer.get_vocab_size()"),
        ("from prepare import compute_val_bpb", "use evaluate_bpb(model, tokenizer, batch_size)"),
        ("from flash_attn import flash_attn_varlen_func\nflash_attn_varlen_func(1)", "F.scaled_dot_product_attention"),
        ("import wandb\nwith wandb.init() as run:\n    pass", "take it out, too"),
        ("print(torch.cuda.get_device_properties(0))", "needs an NVIDIA GPU"),
        ("stream = torch.cuda.Stream()", "needs an NVIDIA GPU"),
        ("scaler = torch.cuda.amp.GradScaler()", "need no scaler"),
        ("half = torch.zeros(1).half()", "float16 needs loss scaling"),
        ("dtype = torch.float16", "float16 needs loss scaling"),
        ("key = os.environ['HF_TOKEN']", "an experiment has no such variable"),
        ("torch.distributed.init_process_group('nccl')", "one process trains one model here"),
        ("import torch.multiprocessing as mp\nmp.spawn(main, nprocs=8)", "one process trains one model here"),
        ("@torch.autocast('cuda')\ndef f(x): ...", "`with autocast(get_device()):`"),
        ("for _ in range(3):\n    evaluate_bpb(model, tokenizer, 8)", "ends the training"),
        ("make_dataloader('train', 4, 64)", "write make_dataloader(tokenizer, B, T, split)"),
        ("make_dataloader(tokenizer, 4, 64, 'val')", 'look at the split "dev"'),
        ("weights = torch.load('model.pt')", "it has no other files"),
        ("import subprocess\nsubprocess.run(['git', 'log'])", "a training starts no other programs"),
        ("make_dataloader(tokenizer, 4, 64, 'train', buffer_size=9)", "has no buffer_size"),
    ],
)
def test_what_cannot_be_converted_is_listed_by_line(line: str, words: str) -> None:
    number = SMALL.count("\n") + 1
    found = by_hand(SMALL + line + "\n", neighbours={"blocks"})
    near = tuple(f"{n}: " for n in range(number, number + 3))
    assert any(row.startswith(near) and words in row for row in found.splitlines()), found


def test_a_score_before_the_training_is_listed_and_nothing_is_lost() -> None:
    source = foreign.IMPORTS + foreign.MODEL + "val_bpb = evaluate_bpb(Tiny(9), tokenizer, 8)\n" + foreign.SETUP
    source += foreign.PLAIN.rpartition("val_bpb")[0]
    assert "ends the training, so it has to be the last line" in by_hand(source)
    assert "clock.report(train_loss=loss)" in adopted(source).source


def test_a_file_without_loop_score_and_constants_says_so() -> None:
    found = by_hand("import torch\n\nx = 1\n")
    assert "no loop with `.backward()`" in found and "end with val_bpb = evaluate_bpb" in found
    assert "no constants in capitals" in found


@pytest.mark.parametrize(
    "text",
    ["", "# only\n", '"""doc"""', "from __future__ import annotations", "x = 1; y = 2",
     "for i in range(3): loss.backward()", "A = 1 # é\nB = 'ü' # x\n",
     "#!/bin/x\n# -*- coding: utf-8 -*-\nimport os\n", "import wandb; wandb.init()\n", "\x0cA = 1\n",
     "match 1:\n  case 2:\n    import wandb\n    wandb.log(1)\n", "DEPTH = 4\n# %%\nx = DEPTH\n",
     "for e in a:\n  for b in c:\n    loss = b.backward()\n    o.step()\n  else:\n    pass\n"],
)  # fmt: skip
def test_small_and_odd_files_pass_the_gate(text: str) -> None:
    check_source(adopted(text).source)


def test_a_model_that_returns_a_pair_is_listed() -> None:
    pair = SMALL.replace("            return logits\n", "            return logits, None\n")
    assert "return only the logits" in by_hand(pair)


@pytest.mark.parametrize(
    "line",
    [
        "try:\n    import wandb\nexcept ImportError:\n    wandb = None",
        "if torch.cuda.is_available():\n    torch.cuda.synchronize()\n    print(torch.cuda.get_device_name(0))",
        "from tqdm import tqdm",
        "if torch.cuda.is_available():\n    print('fast')",
        "ddp = 'RANK' in os.environ\nif ddp:\n    rank = os.environ['RANK']\n    torch.distributed.barrier()",
        "memory = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0",
    ],
)
def test_what_works_here_as_it_is_stays(line: str) -> None:
    assert all(row in adopted(SMALL + line + "\n").source for row in line.splitlines())


# --- the loop


LOOP = SMALL + "\nLR = 0.1\nt0 = time.time()\nspent, step = 0.0, 0\n{}\nval_bpb = evaluate_bpb(model, tokenizer, 8)\n"
STEP = "loss = model(x, y)\n    loss.backward()\n    opt.step()\n"


@pytest.mark.parametrize(
    "loop",
    [
        f"while True:\n    {STEP}    if time.time() - t0 > TIME_BUDGET: break",
        f"while True:\n    if time.time() - t0 >= 300:\n        break\n    {STEP}",
        f"while (time.time() - t0) < TIME_BUDGET and step < 10**6:\n    {STEP}    step += 1",
        f"while TIME_BUDGET > spent:\n    {STEP}    spent = time.time() - t0",
        f"while step < 1000:\n    {STEP}    now = time.time()\n    if now - t0 >= TIME_BUDGET:\n        break",
        f"for step in range(1000):\n    {STEP}    share = (time.time() - t0) / TIME_BUDGET\n    if share >= 1: break",
        f"for step in range(1000):\n    {STEP}",
        f"done = False\nwhile not done:\n    {STEP}    done = time.time() - t0 > TIME_BUDGET",
        f"end = time.time() + TIME_BUDGET\nwhile time.time() < end:\n    {STEP}",
        f"while not (time.time() - t0 > TIME_BUDGET):\n    {STEP}",
        f"while not (time.time() - t0 > TIME_BUDGET or step > 9):\n    {STEP}",
    ],
)
def test_a_loop_that_counts_in_any_shape_asks_the_clock_and_reports_each_step(loop: str) -> None:
    adoption = adopted(LOOP.format(loop))
    check_source(adoption.source)
    tree = ast.parse(adoption.source)
    (training,) = (n for n in ast.walk(tree) if isinstance(n, ast.For | ast.While) and "backward" in ast.unparse(n))
    text = ast.unparse(training)
    assert text.count("clock.running()") == 1 and text.count("clock.report(train_loss=loss)") == 1
    assert "time.time() - t0 >" not in text.replace("done = time.time() - t0 >", "") and not adoption.by_hand


@pytest.mark.parametrize(
    ("test", "new"),
    [
        ("not (time.time() - t0 > TIME_BUDGET)", "clock.running()"),
        ("step < 9 and not (time.time() - t0 > TIME_BUDGET)", "step < 9 and clock.running()"),
        ("not (time.time() - t0 > TIME_BUDGET or step > 9)", "not (not clock.running() or step > 9)"),
    ],
)
def test_a_negated_comparison_of_seconds_still_trains(test: str, new: str) -> None:
    assert f"while {new}:\n" in adopted(LOOP.format(f"while {test}:\n    {STEP}")).source


def test_the_count_of_a_negated_comparison_is_the_clocks() -> None:
    source = adopted(LOOP.format(f"while not (spent > TIME_BUDGET):\n    {STEP}    spent = time.time() - t0")).source
    assert "while clock.running():\n" in source and "spent = clock.elapsed\n" in source


LOADER = SMALL + "train_loader = make_dataloader(tokenizer, 4, 64, 'train')\n"


@pytest.mark.parametrize(
    ("line", "new"),
    [
        ("for step, (x, y, epoch) in enumerate(train_loader):", None),
        ("x, y = next(train_loader)[:2]", None),
        ("loader, size = wrap(train_loader), 4", None),
        ("for step, batch in enumerate(train_loader):", None),
        ("for x, y in itertools.cycle(train_loader):", "for x, y, _ in itertools.cycle(train_loader):"),
        ("x, y = train_loader.__next__()", "x, y, _ = train_loader.__next__()"),
        ("for step, (x, y) in enumerate(train_loader):", "for step, (x, y, _) in enumerate(train_loader):"),
        ("for x, y in train_loader:", "for x, y, _ in train_loader:"),
        ("x, y = next(iter(train_loader))", "x, y, _ = next(iter(train_loader))"),
        ("for x, y in tqdm.tqdm(train_loader):", "for x, y, _ in tqdm.tqdm(train_loader):"),
    ],
)
def test_the_epoch_is_added_where_a_batch_is_unpacked(line: str, new: str | None) -> None:
    source = adopted(f"{LOADER}{line}\n" + ("    pass\n" if line.endswith(":") else "")).source
    assert (new or line) + "\n" in source


def test_a_name_that_the_source_uses_itself_is_not_taken() -> None:
    own = "clock = 3\n\ndef autocast(x):\n    return x\n\nctx = torch.autocast('cuda')\n"
    source = adopted(SMALL + own + f"while True:\n    {STEP}    if time.time() > 1: break\n").source
    assert "training_clock = TrainingClock()" in source and "autocast as prepare_autocast" in source
    assert "ctx = prepare_autocast(get_device())" in source


@pytest.mark.parametrize(
    ("constant", "kept"),
    [
        ("DEPTH = 4", "DEPTH = 4"),
        ("DIM = 64  # of the stream", "DIM = 64  # of the stream; 2**4..2**7"),
        ("DIM = 64  # {32, 64}", "DIM = 64  # {32, 64}"),
        ("LOG_EVERY = 10", "LOG_EVERY = 10  # fixed"),
        ("LOGIT_CAP = 10.0", "LOGIT_CAP = 10.0"),
        ("NAME: str = 'x'", "NAME = 'x'"),
        ("BETAS = (\n    0.8,  # first\n    0.9,\n)", "BETAS = (\n    0.8,  # first\n    0.9,\n)"),
        ("LR = float(os.environ.get('LR', '3e-4'))", "LR = 0.0003"),
        ("# rows\nBATCH = int(\n    os.environ.get('BATCH', '128')\n)", "# rows\nBATCH = 128  # 2**5..2**8"),
    ],
)
def test_constants_move_into_the_cell(constant: str, kept: str) -> None:
    source = adopted(SMALL + constant + "\n").source
    cell = source.split("# %% tags")[1].split("# %%")[0]
    assert kept in cell.replace(": str", "").splitlines() or kept in cell


@pytest.mark.parametrize(
    "constant",
    [
        "A = float('inf')",
        "A = int(float('inf'))",
        "A = 2\nA = 3",
        "A = len('x')",
        "A = 1\ndef f():\n    global A\n    A = 2",
        "B = C = 1",
    ],
)
def test_other_constants_stay_where_they_are(constant: str) -> None:
    source = adopted(SMALL + constant + "\n").source
    assert constant.splitlines()[-1] in source and "A =" not in source.split("# %% tags")[1].split("# %%")[0]


def test_budget_and_length_of_a_fork_are_those_of_the_study() -> None:
    source = adopted(foreign.IMPORTS + "MAX_SEQ_LEN = 512\nTIME_BUDGET = 600\n").source
    assert "512" not in source and "600" not in source and "MAX_SEQ_LEN" in source


# --- notebooks and damaged files


def test_a_colab_notebook_is_read_cell_by_cell() -> None:
    adoption = adopted(foreign.colab(), is_notebook=True)
    check_source(adoption.source)
    assert "# # My experiment" in adoption.source and "# !pip install" in adoption.source
    assert "# ls -la" in adoption.source and not adoption.by_hand


def test_a_notebook_that_writes_train_py_is_read_as_that_file() -> None:
    cells = [{"cell_type": "code", "source": "%%writefile train.py\n" + foreign.MPS}]
    assert adopted(json.dumps({"cells": cells}), is_notebook=True).source == adopted(foreign.MPS).source


@pytest.mark.parametrize(
    ("text", "is_notebook", "words"),
    [
        ("def f(:\n", False, "line 1"),
        ("{}", True, "notebook cannot be read"),
        ("x\0y", False, "null"),
        ("print 1", False, "parse"),
    ],
)
def test_what_is_no_python_is_refused(text: str, is_notebook: bool, words: str) -> None:
    with pytest.raises(SourceError, match=words):
        adopted(text, is_notebook=is_notebook)


def test_line_ends_and_marks_of_other_systems_make_no_difference() -> None:
    windows = "\ufeff" + foreign.MPS.replace("\n", "\r\n")
    assert adopted(windows).source == adopted(foreign.MPS).source


LINES = [line for source in FORKS.values() for line in source.splitlines()]


@settings(deadline=None)
@given(
    st.sampled_from(sorted(FORKS)),
    st.sets(st.integers(0, 300), max_size=8),
    st.lists(st.sampled_from(LINES), max_size=4),
)
def test_any_part_of_a_fork_is_adopted_or_refused(name: str, without: set[int], more: list[str]) -> None:
    lines = [line for number, line in enumerate(FORKS[name].splitlines()) if number not in without]
    try:
        adoption = adopted("\n".join([*lines, *more]) + "\n")
    except SourceError:
        return
    ast.parse(adoption.source)
