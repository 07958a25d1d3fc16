"""What an audit costs, whether it ever blames an honest model, and how small a leak it finds.

python -m benchmarks.audit                          a few minutes: the sizes of train.py, the corpus in the cache
python -m benchmarks.audit --steps 400 --seconds 600

Two models of the project's own train.py are trained on other seeds for so many steps: one is the incumbent, the other
the challenger that is audited.

cost        seconds of scorer A and of the audit B, each a process of its own
honest      audits of the one honest model. The first are processes of their own, as in a study; the others one process
            after another secret draw: the same rows, filler, model and arithmetic, without the start of a process
leaks       a claim that knows a share of the tokens by leak, from a model that is honest in the audit, which is the
            worst case: the claimed nats of these are set to 0.01, and the audit's answers are the truth. Only draws and
            arithmetic; the nats are those of the two real models
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from autoresearch_kernel.scoring import audit as audits
from autoresearch_kernel.scoring import scorer
from autoresearch_kernel.scoring.job import HeldOut, ScoringJob, ScoringSettings
from autoresearch_kernel.scoring.score import bits_per_byte, score
from autoresearch_kernel.source.parameters import set_parameters
from autoresearch_kernel.system.locations import cache_dir

PROJECT = Path(__file__).parents[1]
NUM_TIMED, NUM_DRAWS, LEAK_SHARES = 5, 400, (0.01, 0.001, 0.0002)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--corpus", type=Path, default=cache_dir() / "corpora" / "stdlib-v2048-t128")
    parser.add_argument("--steps", type=int, default=150, help="of training for each of the two models")
    parser.add_argument("--seconds", type=float, default=120.0, help="for the audits of the honest model")
    options = parser.parse_args()
    heldout = HeldOut.load(options.corpus, options.corpus.parents[1] / "heldout" / options.corpus.name, "val")
    settings = ScoringSettings.for_corpus("cpu", "float32", heldout.rows.shape[1] - 1, len(heldout.token_bytes))
    with tempfile.TemporaryDirectory() as folder:
        one, other = (trained(Path(folder) / str(seed), options.corpus, seed, options.steps) for seed in (1, 2))
        nll, incumbent = cost(one, other, heldout, settings)
        honest(one, heldout, settings, nll, incumbent, options.seconds)
    leaks(heldout, nll, incumbent)


def trained(folder: Path, corpus: Path, seed: int, steps: int) -> Path:
    """The artefact of the project's train.py after so many steps."""
    (folder / "handover").mkdir(parents=True)
    (folder / "train.py").write_text(set_parameters((PROJECT / "train.py").read_text(), {"SEED": seed}))
    own = {"AUTORESEARCH_CORPUS": corpus, "AUTORESEARCH_HOME": corpus.parents[1], "PYTHONPATH": PROJECT}
    own |= {"AUTORESEARCH_HANDOVER": folder / "handover", "AUTORESEARCH_MAX_STEPS": steps, "AUTORESEARCH_DEVICE": "cpu"}
    env = os.environ | {name: str(value) for name, value in own.items()}
    subprocess.run([sys.executable, "train.py"], cwd=folder, env=env, check=True, capture_output=True)
    facts = json.loads((folder / "handover" / "handover.json").read_text())
    print(f"seed {seed}: {facts['num_params'] / 1e6:.2f} M parameters, {steps} steps, dev_bpb {facts['dev_bpb']:.4f}")
    return folder / "handover" / "model.pkl"


def cost(one: Path, other: Path, heldout: HeldOut, settings: ScoringSettings) -> tuple[np.ndarray, np.ndarray]:
    """Print the seconds of both scorers; the nats of the challenger and the incumbent, (N, T) each."""
    for path in (one, other):
        score(ScoringJob(path, heldout, settings, PROJECT), path.with_name("nll.npy"))
    nll, incumbent = (np.load(path.with_name("nll.npy")) for path in (one, other))
    claims, looks = [], []
    for _ in range(NUM_TIMED):
        claims.append(score(ScoringJob(one, heldout, settings, PROJECT)).evaluation_seconds)
        facts = {"claim_seconds": claims[-1], "reference": incumbent}
        looks.append(audits.audit(ScoringJob(one, heldout, settings, PROJECT), nll, **facts).seconds)
    start = statistics.median(_start_seconds() for _ in range(NUM_TIMED))
    a, b = statistics.median(claims), statistics.median(looks)
    rows, cuts = len(heldout.rows), audits.num_cuts(heldout)
    print(f"\n{rows} rows, {cuts} cuts, {settings.rows_per_batch} rows a batch; medians of {NUM_TIMED}")
    print(f"scorer A {a:.2f} s, audit B {b:.2f} s, of which a process that imports torch {start:.2f} s")
    print(f"B is {b / a:.0%} of A; without their starts {(b - start) / (a - start):.0%}")
    return nll, incumbent


def _start_seconds() -> float:
    """Of a process that imports what a scorer does."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "import autoresearch_kernel.scoring.scorer"], check=True, cwd=PROJECT)
    return time.monotonic() - began


def honest(
    path: Path, heldout: HeldOut, settings: ScoringSettings, nll: np.ndarray, incumbent: np.ndarray, seconds: float
) -> None:
    """Print how often the honest model was blamed."""
    ends, num_processes, num_draws, num_mismatches, refused, worst = time.monotonic() + seconds, 0, 0, 0, 0, 0.0
    while time.monotonic() < ends - 0.75 * seconds:
        found = audits.audit(ScoringJob(path, heldout, settings, PROJECT), nll, claim_seconds=10.0, reference=incumbent)
        num_processes, num_mismatches = num_processes + 1, num_mismatches + found.num_mismatches
        refused += not found.accepted
    torch.set_num_threads(settings.num_threads)
    model = pickle.loads(path.read_bytes()).eval()
    while time.monotonic() < ends:
        d, cuts = one_draw(model, heldout, settings, nll, incumbent)
        found = audits.verdict(d, cuts.probability, int(heldout.num_bytes.sum()), 0.0)
        num_draws, num_mismatches = num_draws + 1, num_mismatches + found.num_mismatches
        refused, worst = refused + (not found.accepted), max(worst, float(np.abs(d).max()))
    print(f"\n{num_processes} audits with a process each and {num_draws} more draws in one: {refused} false alarms,")
    print(f"{num_mismatches} mismatches; the largest difference at a cut was {worst:.1e} nats")


def one_draw(
    model: torch.nn.Module, heldout: HeldOut, settings: ScoringSettings, nll: np.ndarray, incumbent: np.ndarray
) -> tuple[np.ndarray, audits.Cuts]:
    """Nats of the truth above the claim at the cuts of one secret draw, by the scorer's own functions."""
    rng = np.random.default_rng()
    cuts = audits.draw_cuts(nll, heldout, incumbent, rng)
    rows = audits.blinded(heldout, cuts, settings.rows_per_batch, rng)
    request = asdict(settings) | {"cuts": cuts.places.tolist(), "vocab_size": len(heldout.token_bytes)}
    with torch.inference_mode():
        logits = np.concatenate([batch.numpy() for batch in scorer.audit(model, rows, request)])
    targets = heldout.rows[cuts.rows, cuts.places + 1]
    blind = audits.nll_of(logits, targets, heldout.special_ids)
    return blind - nll[cuts.rows, cuts.places], cuts


def leaks(heldout: HeldOut, truth: np.ndarray, incumbent: np.ndarray) -> None:
    """Print how probably a leak is refused, and what is left of its gain when it is not."""
    print(f"\nleaks by a model that is honest in the audit, {NUM_DRAWS} draws each")
    print(f"{'share':>8} {'claimed gain':>14} {'refused':>9} {'left when it escapes':>22}")
    num_bytes = heldout.num_bytes
    for share in LEAK_SHARES:
        refused, left, gains = 0, [], []
        for seed in range(NUM_DRAWS):
            rng = np.random.default_rng(seed)
            lie = np.where(rng.random(truth.shape) < share, np.maximum(truth - 0.01, 0.0), 0.0)
            gains.append(bits_per_byte(lie, num_bytes)[0])
            cuts = audits.draw_cuts((truth - lie).astype(np.float32), heldout, incumbent, rng)
            found = audits.verdict(lie[cuts.rows, cuts.places], cuts.probability, int(num_bytes.sum()), 0.0)
            refused += not found.accepted
            left += [gains[-1] - found.correction_bpb] if found.accepted else []
        rest = f"{statistics.mean(left):.5f} bpb ({len(left)} times)" if left else "never"
        print(f"{share:>8.2%} {statistics.mean(gains):>10.5f} bpb {refused / NUM_DRAWS:>9.3f} {rest:>22}")


if __name__ == "__main__":
    main()
