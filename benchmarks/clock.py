"""What the machine's speed does to a score: by the wall clock, corrected afterwards, and by the steady clock.

    python benchmarks/clock.py [--runs 12] [--budget 10] [--start tuned] [--home DIR] [--into FILE]

Trains the real train.py (preset laptop, one seed) as a study does, in its sandbox, in turns by the wall clock and by
the steady clock. The first run says what speed is normal. The table shows how much the number of steps varies between
runs of the same code and seed, and their scores on the validation rows. Runs are added to FILE, so that a long
measurement can be made in pieces; the table is over all that is in it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import prepare
from autoresearch_kernel.record.paths import ExperimentPaths
from autoresearch_kernel.run.training import Training, run_training
from autoresearch_kernel.source.parameters import set_parameters
from autoresearch_kernel.study.presets import read_parameters_file, read_preset
from benchmarks.scores import val_bpb

PROJECT = Path(__file__).resolve().parents[1]
WORTH = 0.22  # bits per byte for a factor of e in steps
FACTS = ("num_steps", "training_seconds", "clock_speed", "machine_speed", "budget_speed", "cells_counted_seconds")
ALLOWANCE_SECONDS = 120.0  # for start and hand-over each

Run = dict[str, Any]


def code_of(start: str) -> str:
    """The train.py of a study with the preset laptop and this start."""
    own = {} if start == "tuned" else read_parameters_file(start, PROJECT / "presets")
    return set_parameters((PROJECT / "train.py").read_text(), read_preset("laptop").parameters | own)


def train(source: str, corpus: Path, folder: Path, budget: float, normal: float | None) -> Run:
    """One run; by the wall clock where `normal` is None, and then its speed is measured all the same."""
    training = Training(
        source=source, paths=ExperimentPaths(folder / "0000"), run=0, seed=1, title="clock", hypothesis="", diff="",
        corpus_dir=corpus, project=PROJECT, time_budget_seconds=budget, startup_allowance_seconds=ALLOWANCE_SECONDS,
        handover_allowance_seconds=ALLOWANCE_SECONDS, clock="steady", normal_speed=normal,
    )  # fmt: skip
    outcome = run_training(training)
    if outcome.status is not None:
        raise RuntimeError(f"The training ended as {outcome.status}: {outcome.reason}")
    kind = "wall" if normal is None else "steady"
    facts = {"clock": kind, "budget": budget, "load": os.getloadavg()[0], "val_bpb": val_bpb(outcome, corpus)}
    return facts | {k: outcome.measured.get(k) for k in FACTS}


def sd(values: Sequence[float]) -> tuple[float, float]:
    """Standard deviation and its standard error, for normal values."""
    found = statistics.stdev(values)
    return found, found / math.sqrt(2 * (len(values) - 1))


def row(name: str, runs: Sequence[Run], corrected: Callable[[Run], float]) -> str:
    found, error = sd([corrected(run) for run in runs])
    steps, seconds = ([run[key] for run in runs] for key in ("num_steps", "training_seconds"))
    cells = [name, len(runs), f"{min(steps)} to {max(steps)}", f"{min(seconds):.1f} to {max(seconds):.1f} s"]
    scores = "{:.4f} ± {:.4f}".format(*sd([run["val_bpb"] for run in runs])) if corrected is logarithm_of_steps else ""
    spread = f"{100 * found:.1f} ± {100 * error:.1f} %"
    return f"| {' | '.join(map(str, cells))} | {spread} | {WORTH * found:.4f} | {scores} |"


def logarithm_of_steps(run: Run) -> float:
    return math.log(run["num_steps"])


def table(runs: Sequence[Run]) -> str:
    """One row for each way to count."""

    def corrected_by(fact: str) -> Callable[[Run], float]:
        return lambda run: math.log(run["num_steps"] / run[fact])

    wall, steady = ([run for run in runs if run["clock"] == kind] for kind in ("wall", "steady"))
    lines = ["| | runs | steps | wall time | sd of steps | worth, bits per byte | sd of val_bpb |"]
    lines.append("|---|---|---|---|---|---|---|")
    lines.append(row("wall clock", wall, logarithm_of_steps))
    lines.append(row("wall clock, steps divided by `machine_speed`", wall, corrected_by("machine_speed")))
    lines.append(row("wall clock, steps divided by the steady clock's speed", wall, corrected_by("clock_speed")))
    lines.append(row("steady clock", steady, logarithm_of_steps))
    lines.append(row("steady clock, steps divided by `budget_speed`", steady, corrected_by("budget_speed")))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=12, help="of each clock")
    parser.add_argument("--budget", type=float, default=10.0, help="seconds")
    parser.add_argument("--start", choices=("tuned", "plain"), default="tuned", help="as of `autoresearch run`")
    parser.add_argument("--home", type=Path, default=Path(tempfile.gettempdir()) / "autoresearch-clock")
    parser.add_argument("--into", type=Path, help="file that runs are added to")
    arguments = parser.parse_args()
    preset = read_preset("laptop")
    sizes = {"vocab_size": preset.vocab_size, "sequence_length": preset.sequence_length}
    corpus = prepare.prepare(preset.corpus, home=arguments.home, **sizes)
    into = arguments.into or arguments.home / "clock.jsonl"
    lines = [json.loads(line) for line in into.read_text().splitlines()] if into.is_file() else []
    kind = {"start": arguments.start, "budget": arguments.budget}
    runs = [line for line in lines if kind.items() <= line.items()]
    for i in range(2 * arguments.runs):
        normal = runs[0]["clock_speed"] if runs and len(runs) % 2 else None
        with tempfile.TemporaryDirectory() as folder:
            runs.append(kind | train(code_of(arguments.start), corpus, Path(folder), arguments.budget, normal))
        with into.open("a") as file:
            file.write(json.dumps(runs[-1]) + "\n")
        print(f"{i + 1} of {2 * arguments.runs}: {runs[-1]}", file=sys.stderr, flush=True)
    print(table(runs))


if __name__ == "__main__":
    main()
