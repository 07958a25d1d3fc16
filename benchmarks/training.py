"""What train.py reaches in a budget: val_bpb, tokens a second and steps, for the preset of each budget and ablations.

    python benchmarks/training.py [--budgets 30,60] [--seeds 1] [--steps N] [--simulated] [--threads N] [--ablations]
                                   [--preset auto] [--start plain] [--corpus stdlib] [--train FILE]

With --steps the clock counts steps instead of seconds, which a busy machine cannot disturb: calibrate them with one
quiet run. With --simulated the budgets are seconds of the reference machine, each with the steps that the table of
presets says that machine makes; so the table is trained on any machine, quiet or not. Every run is its own process, as
in a study, but by hand: the validation rows are scored at the end.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import prepare
from autoresearch_kernel.source.parameters import read_parameters, set_parameters
from autoresearch_kernel.study.presets import (
    REFERENCE_FLOPS,
    Preset,
    choose_preset,
    fit_to_corpus,
    measure_machine,
    read_parameters_file,
)

PROJECT = Path(__file__).resolve().parents[1]

# One thing taken away from the baseline at a time, and the plain settings that a tutorial starts with.
ABLATIONS: dict[str, dict[str, Any]] = {
    "no n-gram table": {"NGRAM_ROWS": 0},
    "four times the tokens a step": {"TOTAL_BATCH_SIZE": 4},
    "twice the MLP": {"MLP_RATIO": 4},
    "no warmdown": {"WARMDOWN": 0.0},
    "half the matrix rate": {"MATRIX_LR": 0.5},
}
RELATIVE = {"TOTAL_BATCH_SIZE", "MATRIX_LR"}  # these ablations are factors


def ablated(source: str, changes: dict[str, Any]) -> str:
    old = read_parameters(source)
    absolute = {k: type(old[k].value)(old[k].value * v) if k in RELATIVE else v for k, v in changes.items()}
    return set_parameters(source, absolute)


def train(source: str, corpus: Path, budget_seconds: float, steps: int | None, threads: int | None) -> dict[str, float]:
    """One `python train.py` in a folder of its own; the numbers of its summary."""
    settings = {
        "AUTORESEARCH_CORPUS": str(corpus),
        "AUTORESEARCH_TIME_BUDGET": str(budget_seconds),
        "AUTORESEARCH_PRESET": "none",
        "PYTHONPATH": str(PROJECT),
        "GOMP_SPINCOUNT": "1000",
        "MALLOC_MMAP_THRESHOLD_": str(2**25),
        "MALLOC_TRIM_THRESHOLD_": str(2**29),
        "MALLOC_TOP_PAD_": str(2**24),
    }
    settings |= {"AUTORESEARCH_MAX_STEPS": str(steps)} if steps else {}
    settings |= {"OMP_NUM_THREADS": str(threads)} if threads else {}
    env = {name: value for name, value in os.environ.items() if name != "AUTORESEARCH_HANDOVER"} | settings
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "train.py").write_text(source)
        done = subprocess.run([sys.executable, "train.py"], cwd=folder, env=env, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"train.py failed: {done.stderr[-2000:]}")
    summary = {name: float(value) for name, value in re.findall(r"^(\w+):\s+([-\d.]+)$", done.stdout, re.MULTILINE)}
    tokens_a_step = re.search(r"^([\d,]+) tokens a step", done.stdout, re.MULTILINE)  # the summary rounds to 0.1 M
    assert tokens_a_step is not None, "train.py no longer says how many tokens a step has"
    return summary | {"tokens_a_step": float(tokens_a_step[1].replace(",", ""))}


def row(label: str, runs: list[dict[str, float]]) -> str:
    scores = [run["val_bpb"] for run in runs]
    spread = f"{statistics.stdev(scores):.4f}" if len(scores) > 1 else ""
    steps = statistics.mean(run["num_steps"] for run in runs)
    milliseconds = 1000 * statistics.mean(run["training_seconds"] / run["num_steps"] for run in runs)
    overhead = statistics.mean(run["total_seconds"] - run["training_seconds"] for run in runs)
    tokens = statistics.mean(run["tokens_a_step"] * run["num_steps"] / run["training_seconds"] for run in runs)
    cells = (f"{statistics.mean(scores):.4f}", spread, f"{steps:.0f}", f"{milliseconds:.1f}", f"{tokens:,.0f}")
    return f"| {' | '.join((label, *cells, f'{overhead:.1f}'))} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--budgets", default="30,60,300", help="seconds, separated by commas")
    parser.add_argument("--preset", default="auto")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each row")
    parser.add_argument("--steps", type=int, help="steps instead of seconds")
    parser.add_argument(
        "--simulated", action="store_true", help="budgets in seconds of the reference machine, by steps"
    )
    parser.add_argument("--start", choices=("tuned", "plain"), default="tuned")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--corpus", help="packages or stdlib; that of the preset when left out")
    parser.add_argument("--train", type=Path, metavar="FILE", help="another train.py, whose sizes stay as they are")
    parser.add_argument("--ablations", action="store_true")
    arguments = parser.parse_args()
    measured = measure_machine(PROJECT, sys.executable)
    if arguments.simulated:
        measured |= {"flops": REFERENCE_FLOPS, "device": "cpu"}
    print(f"{measured['device_name']}, {measured['dtype']}, probe {measured['flops'] / 1e9:.0f} GFLOP/s\n")
    print("| budget and change | val_bpb | sd | steps | ms a step | tokens/s | seconds around it |")
    print("|---|---|---|---|---|---|---|")
    for budget in (float(text) for text in arguments.budgets.split(",")):
        preset: Preset = choose_preset(arguments.preset, budget_seconds=budget, measured=measured)
        name = arguments.corpus or preset.corpus
        corpus = prepare.prepare(name, vocab_size=preset.vocab_size, sequence_length=preset.sequence_length)
        preset = fit_to_corpus(preset, prepare.read_meta(corpus)["num_train_tokens"])
        start = read_parameters_file("plain", PROJECT / "presets") if arguments.start == "plain" else {}
        source = set_parameters((PROJECT / "train.py").read_text(), preset.parameters | start)
        source = arguments.train.read_text() if arguments.train else source
        steps = arguments.steps
        if arguments.simulated:
            assert preset.num_tokens is not None, "only the preset auto says how many tokens the reference machine sees"
            steps = max(1, round(preset.num_tokens / preset.parameters["TOTAL_BATCH_SIZE"]))
        rows = {"baseline": source}
        if arguments.ablations:
            rows |= {name: ablated(source, changes) for name, changes in ABLATIONS.items()}
        for name, changed in rows.items():
            seeded = [set_parameters(changed, {"SEED": 42 + i}) for i in range(arguments.seeds)]
            runs = [train(text, corpus, budget, steps, arguments.threads) for text in seeded]
            print(row(f"{budget:g} s, {name}", runs), flush=True)


if __name__ == "__main__":
    main()
