"""Collects real curves of the real train.py, to see what a rule for ending runs early would have done to them.

    python prepare.py --home /tmp/arhome --sequence-length 128
    python benchmarks/curves.py --home /tmp/arhome --work /tmp/curves

The baseline over a few seeds, and single and double changes of its parameters, bad ones included. Each run is a process
of its own with the steps that its size would do in the baseline's time (an estimate, so that a busy machine does not
matter), and its model is scored as a study scores it. A run whose line is in the file is not run again; an interrupted
collection goes on with the same command, on the train.py it began with.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from autoresearch_kernel.scoring.job import HeldOut, ScoringJob, ScoringSettings
from autoresearch_kernel.scoring.score import score
from autoresearch_kernel.scoring.scorer_process import ScoringFailed
from autoresearch_kernel.source.parameters import read_parameters, set_parameters
from autoresearch_kernel.study.presets import read_preset

PROJECT = Path(__file__).resolve().parents[1]
DATA = PROJECT / "benchmarks" / "data" / "curves.jsonl"
BASE_STEPS = 400  # of the baseline: 16 s on two quiet cores
POINTS = 60  # of a stored curve, at most
SEEDS = range(42, 48)  # of the baseline
FIXED_SHARE = 0.3  # of the baseline's step that does not grow with the work in it: Muon, Python, the tables

CHANGES: list[dict[str, Any]] = [
    # Learning rates, from harmless to wrecked
    {"MATRIX_LR": 0.008}, {"MATRIX_LR": 0.03}, {"MATRIX_LR": 0.1}, {"EMBEDDING_LR": 0.1}, {"EMBEDDING_LR": 0.8},
    {"EMBEDDING_LR": 2.0}, {"NGRAM_LR": 0.2}, {"NGRAM_LR": 1.6}, {"NGRAM_LR": 5.0}, {"HEAD_LR": 0.003},
    {"HEAD_LR": 0.02}, {"HEAD_LR": 0.08}, {"SCALAR_LR": 0.03}, {"SCALAR_LR": 0.001},
    # Schedule and optimisers
    {"WARMUP": 0.1}, {"WARMUP": 0.3}, {"WARMDOWN": 0.3}, {"WARMDOWN": 1.0}, {"WARMDOWN": 0.0}, {"FINAL_LR": 0.2},
    {"ADAM_BETA1": 0.9}, {"ADAM_BETA1": 0.5}, {"ADAM_BETA2": 0.99}, {"ADAM_BETA2": 0.85}, {"MUON_MOMENTUM": 0.85},
    {"MUON_MOMENTUM": 0.98}, {"WEIGHT_DECAY": 0.1}, {"WEIGHT_DECAY": 0.5},
    # The model
    {"DEPTH": 2}, {"DEPTH": 3}, {"DEPTH": 5}, {"MODEL_DIM": 64}, {"MODEL_DIM": 96}, {"MODEL_DIM": 192},
    {"MODEL_DIM": 320}, {"NUM_HEADS": 1}, {"NUM_HEADS": 4}, {"NUM_HEADS": 4, "HEAD_DIM": 32}, {"HEAD_DIM": 16},
    {"MLP_RATIO": 1}, {"MLP_RATIO": 4}, {"MLP_RATIO": 8}, {"NGRAM_ROWS": 0}, {"NGRAM_ROWS": 2**12},
    {"NGRAM_ROWS": 2**14}, {"NGRAM_ROWS": 2**18}, {"SOFTCAP": 5.0}, {"SOFTCAP": 30.0},
    # The batch
    {"TOTAL_BATCH_SIZE": 2**9}, {"TOTAL_BATCH_SIZE": 2**11}, {"TOTAL_BATCH_SIZE": 2**13},
    {"SEQUENCE_LENGTH": 64, "DEVICE_BATCH_SIZE": 16},
    # Two at a time
    {"DEPTH": 2, "MODEL_DIM": 96}, {"DEPTH": 2, "MATRIX_LR": 0.03}, {"MODEL_DIM": 192, "HEAD_LR": 0.006},
    {"MLP_RATIO": 4, "NGRAM_ROWS": 2**18}, {"NGRAM_ROWS": 0, "DEPTH": 3}, {"SOFTCAP": 30.0, "MLP_RATIO": 1},
    {"NGRAM_ROWS": 2**18, "NGRAM_LR": 1.6}, {"WARMDOWN": 1.0, "EMBEDDING_LR": 0.8},
    {"TOTAL_BATCH_SIZE": 2**9, "MATRIX_LR": 0.008}, {"HEAD_LR": 0.02, "WARMDOWN": 0.8},
]  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One training to be done."""

    changes: dict[str, Any]
    seed: int

    @property
    def name(self) -> str:
        words = ", ".join(f"{name} {value}" for name, value in self.changes.items())
        return words or f"baseline, seed {self.seed}"


def jobs() -> Iterator[Job]:
    """The baseline's seeds, then the changes in a mixed order; each change has a seed of its own, as in a study."""
    yield from (Job({}, seed) for seed in SEEDS)
    changed = [Job(changes, 1000 + number) for number, changes in enumerate(CHANGES)]
    random.Random(0).shuffle(changed)
    yield from changed


def step_cost(values: dict[str, Any]) -> float:
    """Time of a step in arbitrary units, from what it multiplies: see GPT.estimate_flops in train.py."""
    width = values["NUM_HEADS"] * values["HEAD_DIM"]
    block = 4 * values["MODEL_DIM"] * width + 2 * values["MLP_RATIO"] * values["MODEL_DIM"] ** 2
    a_token = values["DEPTH"] * (block + width * values["SEQUENCE_LENGTH"]) + values["MODEL_DIM"] * 2048
    return float(a_token * values["TOTAL_BATCH_SIZE"])


def num_steps(base: dict[str, Any], changes: dict[str, Any]) -> int:
    """Steps that the changed train.py does in the time in which the baseline does BASE_STEPS."""
    ratio = step_cost(base | changes) / step_cost(base)
    return max(40, round(BASE_STEPS / (FIXED_SHARE + (1 - FIXED_SHARE) * ratio)))


def sampled(points: list[dict[str, Any]]) -> list[list[float]]:
    """At most POINTS pairs of progress and mean loss, from about 200; the first, of an untrained model, stays."""
    width = max(1, math.ceil((len(points) - 1) / (POINTS - 1)))
    groups = [points[:1], *(points[i : i + width] for i in range(1, len(points), width))] if points else []
    return [[g[-1]["progress"], round(sum(p["train_loss"] for p in g) / len(g), 4)] for g in groups]


def train(job: Job, source: str, steps: int, corpus: Path, heldout: HeldOut, work: Path) -> dict[str, Any]:
    """Train and score once. A run that comes apart has no score, and the curve that it left."""
    handover = work / "handover"
    shutil.rmtree(handover, ignore_errors=True)
    handover.mkdir(parents=True)
    (work / "train.py").write_text(set_parameters(source, {"SEED": job.seed}), encoding="utf-8")
    settings = {
        "AUTORESEARCH_CORPUS": str(corpus),
        "AUTORESEARCH_HANDOVER": str(handover),
        "AUTORESEARCH_MAX_STEPS": str(steps),
        "PYTHONPATH": str(work / "frozen"),
        "GOMP_SPINCOUNT": "1000",
        "MALLOC_MMAP_THRESHOLD_": str(2**25),
        "MALLOC_TRIM_THRESHOLD_": str(2**29),
        "MALLOC_TOP_PAD_": str(2**24),
    }
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "train.py"], cwd=work, env=os.environ | settings, capture_output=True, text=True
    )
    metrics = handover / "metrics.jsonl"
    points = [json.loads(line) for line in metrics.read_text().splitlines()] if metrics.exists() else []
    record: dict[str, Any] = {"name": job.name, "changes": job.changes, "seed": job.seed, "steps": steps}
    record["val_bpb"] = None
    if done.returncode == 0:
        scoring = ScoringSettings.for_corpus("cpu", "float32", heldout.rows.shape[1] - 1, len(heldout.token_bytes))
        try:
            record["val_bpb"] = round(score(ScoringJob(handover / "model.pkl", heldout, scoring, PROJECT)).val_bpb, 5)
        except ScoringFailed as failure:
            record["failure"] = str(failure)
    else:
        record["failure"] = done.stderr.strip().splitlines()[-1][:200] if done.stderr.strip() else "no words"
    record["seconds"] = round(time.monotonic() - started, 1)
    record["curve"] = sampled(points)
    return record


def frozen_source(work: Path) -> str:
    """The train.py and prepare.py that this collection began with, kept in `work`: the tree may change meanwhile."""
    frozen = work / "frozen"
    frozen.mkdir(parents=True, exist_ok=True)
    for name in ("prepare.py", "train.py"):
        if not (frozen / name).exists():
            shutil.copy(PROJECT / name, frozen / name)
    preset = read_preset("laptop", PROJECT / "presets")
    return set_parameters((frozen / "train.py").read_text(encoding="utf-8"), preset.parameters)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True, help="what prepare.py --home was given")
    parser.add_argument("--work", type=Path, required=True, help="a folder for one run's files")
    parser.add_argument("--out", type=Path, default=DATA)
    arguments = parser.parse_args()
    corpus = arguments.home / "corpora" / "stdlib-v2048-t128"
    heldout = HeldOut.load(corpus, arguments.home / "heldout" / corpus.name, "val")
    base_source = frozen_source(arguments.work)
    base = {name: parameter.value for name, parameter in read_parameters(base_source).items()}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    done = set()
    if arguments.out.exists():
        done = {json.loads(line)["name"] for line in arguments.out.read_text(encoding="utf-8").splitlines()}
    for job in jobs():
        if job.name in done:
            continue
        source = set_parameters(base_source, job.changes)
        record = train(job, source, num_steps(base, job.changes), corpus, heldout, arguments.work)
        with open(arguments.out, "a", encoding="utf-8") as file:
            file.write(json.dumps(record, separators=(",", ":")) + "\n")
        print(
            f"{record['name']}: {record['steps']} steps, {record['val_bpb']} in {record['seconds']:.0f} s", flush=True
        )


if __name__ == "__main__":
    main()
