"""How much the difference of two runs of one code scatters: in a duel, and as two trainings one after the other.

    python benchmarks/duel.py --corpus ~/.cache/autoresearch/corpora/stdlib-v2048-t128 [--seconds 20] [--pairs 8]

Each round makes one duel and one pair of single runs, with other seeds everywhere, in an order that changes from round
to round. A line is appended to --out for each pair, so a measurement that was cut off goes on. All models are scored on
the validation rows.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from autoresearch_kernel.core.types import RunOutcome
from autoresearch_kernel.record.paths import ExperimentPaths
from autoresearch_kernel.run.duel import run_duel
from autoresearch_kernel.run.training import NO_LISTENER, Training, run_training
from autoresearch_kernel.source.parameters import set_parameters
from autoresearch_kernel.study.presets import read_preset
from benchmarks.scores import val_bpb

PROJECT = Path(__file__).resolve().parents[1]


def trainings(folder: Path, corpus: Path, seconds: float, seed: int, preset: str) -> tuple[Training, Training]:
    """Two trainings of train.py with the preset, which differ by their seeds."""
    source = (PROJECT / "train.py").read_text(encoding="utf-8")
    source = set_parameters(source, read_preset(preset).parameters)

    def one(side: int) -> Training:
        return Training(
            source=source,
            paths=ExperimentPaths(folder / f"{side:04d}"),
            run=0,
            seed=seed + side,
            title="duel",
            hypothesis="none",
            diff="",
            corpus_dir=corpus,
            project=PROJECT,
            time_budget_seconds=seconds,
            startup_allowance_seconds=120.0,
            handover_allowance_seconds=60.0,
        )

    return one(0), one(1)


def measure(kind: str, pair: tuple[Training, Training], corpus: Path) -> dict[str, object]:
    """Scores and steps of both sides."""
    outcomes: tuple[RunOutcome, ...]
    if kind == "duel":
        outcomes = run_duel(pair, (NO_LISTENER, NO_LISTENER))
    else:
        outcomes = tuple(run_training(training) for training in pair)
    for outcome in outcomes:
        if outcome.status is not None:
            raise SystemExit(f"A training ended with {outcome.status}: {outcome.reason}.")
    names = ("num_steps", "machine_speed", "worked_while_stopped_seconds", "training_seconds")
    scores = {"val_bpb": [val_bpb(outcome, corpus) for outcome in outcomes]}
    return {"kind": kind} | scores | {name: [outcome.measured.get(name) for outcome in outcomes] for name in names}


def scatter(differences: list[float]) -> str:
    """The root mean square of differences whose true mean is zero, with its standard error."""
    rms = math.sqrt(statistics.fmean(d * d for d in differences))
    return f"{rms:.4f} ± {rms / math.sqrt(2 * len(differences)):.4f}"


def print_table(lines: list[dict[str, list[float]]]) -> None:
    print("\n| pairs | number | sd of the difference of val_bpb | sd of the difference of the log of steps |")
    print("|---|---|---|---|")
    for kind in ("duel", "alone"):
        found = [line for line in lines if line["kind"] == kind]
        if found:
            scores = [line["val_bpb"][0] - line["val_bpb"][1] for line in found]
            steps = [math.log(line["num_steps"][0] / line["num_steps"][1]) for line in found]
            print(f"| {kind} | {len(found)} | {scatter(scores)} | {scatter(steps)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="folder of a corpus with vocabulary 2048")
    parser.add_argument("--seconds", type=float, default=20.0, help="training seconds of each run")
    parser.add_argument("--pairs", type=int, default=8, help="pairs of each kind, those in --out included")
    parser.add_argument("--preset", default="laptop")
    parser.add_argument("--out", type=Path, default=Path("duels.jsonl"), help="where each pair is appended")
    asked = parser.parse_args()
    lines = [json.loads(line) for line in asked.out.read_text().splitlines()] if asked.out.exists() else []
    while len(lines) < 2 * asked.pairs:
        number = len(lines)
        kind = ("duel", "alone", "alone", "duel")[number % 4]
        with tempfile.TemporaryDirectory() as folder:
            pair = trainings(Path(folder), asked.corpus.resolve(), asked.seconds, 1000 + 2 * number, asked.preset)
            line = measure(kind, pair, asked.corpus.resolve())
        with open(asked.out, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        lines.append(line)
        print(f"{number + 1} of {2 * asked.pairs}: {line}", flush=True)
    print_table(lines)


if __name__ == "__main__":
    main()
