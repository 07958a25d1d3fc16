"""What an audit costs, whether it ever blames an honest model, and how small a leak it finds.

python -m benchmarks.audit                          a few minutes: the sizes of train.py, the corpus in the cache
python -m benchmarks.audit --steps 400 --seconds 600

Two models of the project's own train.py are trained on other seeds for so many steps: one is the incumbent, the other
the challenger that is audited.

cost        seconds of scorer A and of the audit B, each a process of its own
honest      audits of the one honest model. The first are processes of their own, as in a study; the others one process
            after another secret draw: the same rows, filler, model and arithmetic, without the start of a process
leaks       how often claims are refused that say so much more than the truth, and what is left of that where they are
            not. Only draws and arithmetic; the nats are those of the two real models. See LEAKS
night       what the leak that escapes most often gains in a night, when each claim is audited twice and leaks add up
"""

from __future__ import annotations

import argparse
import json
import math
import os
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from autoresearch_kernel.scoring import audit as audits
from autoresearch_kernel.scoring import scorer
from autoresearch_kernel.scoring.job import HeldOut, ScoringJob, ScoringSettings
from autoresearch_kernel.scoring.score import score
from autoresearch_kernel.source.parameters import set_parameters
from autoresearch_kernel.system.locations import cache_dir

PROJECT = Path(__file__).parents[1]
NUM_TIMED, NUM_DRAWS, NUM_NIGHTS, TRIES_A_NIGHT = 5, 400, 200, 100
CLAIMED_GAINS = (0.02, 0.005, 0.002, 0.0011, 0.0005)  # bits per byte
SURE, WRONG_NATS = 0.8, 9.0  # least probability of the tokens to be sure of, nats of all others
# Name of a leak, the nats that it gains in a lie (None: all), and whether the model is sure in the audit too: at the
# places that a hash of the prefix says, all probability is given to the likeliest tokens, which have SURE together.
# In the claim it lies where another token follows, and says there what an honest model would, or a little less.
# Otherwise it lies at any places, and is honest in the audit.
LEAKS = (
    ("knows the token, honest in the audit", None, False),
    ("knows it a little (0.5 nats), honest in the audit", 0.5, False),
    ("sure by a hash in claim and audit, lies at no gain", 0.0, True),
    ("sure by a hash in claim and audit, lies gain 1 nat", 1.0, True),
)


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
        likeliest = likeliest_tokens(one, heldout, settings)
    leaks(heldout, nll, incumbent, *likeliest)


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


def likeliest_tokens(path: Path, heldout: HeldOut, settings: ScoringSettings) -> tuple[np.ndarray, np.ndarray]:
    """Probability of the model's likeliest tokens at each place, and whether one of them follows; (N, T) each.

    They are as many as have at least SURE together.
    """
    model, found = pickle.loads(path.read_bytes()).eval(), []
    with torch.inference_mode():
        for start in range(0, len(heldout.rows), settings.rows_per_batch):
            batch = torch.from_numpy(heldout.rows[start : start + settings.rows_per_batch].astype(np.int64))
            logits = scorer.logits_of(model, batch[:, :-1], len(heldout.token_bytes), torch.float32)
            logits[..., heldout.special_ids] = -torch.inf
            p = logits.softmax(-1)
            falling = p.sort(-1, descending=True).values
            sums = falling.cumsum(-1)
            last = (sums < SURE).sum(-1, keepdim=True)
            is_among = p.gather(-1, batch[:, 1:, None]) >= falling.gather(-1, last)
            found.append((sums.gather(-1, last)[..., 0].numpy(), is_among[..., 0].numpy()))
    return np.concatenate([p for p, _ in found]), np.concatenate([is_among for _, is_among in found])


Leak = Callable[[float, np.random.Generator], tuple[np.ndarray, np.ndarray]]  # -> nats as claimed and as audited


def leaks(
    heldout: HeldOut, truth: np.ndarray, incumbent: np.ndarray, probability: np.ndarray, is_among: np.ndarray
) -> None:
    """Print how probably each leak is refused, what is left of its gain when it is not, and what a night gains."""
    nats_per_bpb = math.log(2) * heldout.num_bytes.sum()
    is_scored = heldout.num_bytes > 0

    def leak(nats: float | None, in_both: bool) -> Leak:
        lie = np.minimum(truth - 0.01, np.inf if nats is None else nats).clip(min=0.0)
        claimed, audited = truth - lie, truth
        if in_both:
            sharper = np.maximum(truth + np.log(probability), 0.0)
            claimed, audited = np.where(is_among, sharper, claimed), np.where(is_among, sharper, WRONG_NATS)
        all_of_it = (truth - claimed)[is_scored].sum() / nats_per_bpb

        def at_random_places(gain: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
            places = is_scored & (rng.random(truth.shape) < gain / all_of_it)
            return np.where(places, claimed, truth), np.where(places, audited, truth)

        return at_random_places

    print(f"\n{NUM_DRAWS} draws each; refused, and bits per byte that are left where it is not")
    print(f"{'claimed gain':<56}" + "".join(f"{gain:>17}" for gain in CLAIMED_GAINS))
    escapes: dict[str, list[float]] = {}
    for name, *how in LEAKS:
        found = [draws(leak(*how), gain, heldout, incumbent) for gain in CLAIMED_GAINS]
        print(f"{name:<56}" + "".join(f"{refused:>8.3f} {left:>8.5f}" for refused, left in found), flush=True)
        escapes[name] = [1 - refused for refused, _ in found]
    night(max(escapes.values(), key=sum))


def draws(leak: Leak, gain: float, heldout: HeldOut, incumbent: np.ndarray) -> tuple[float, float]:
    """Share of the draws in which a leak is refused, and the mean gain that is left in the others, in bits per byte."""
    left, num_bytes = [], int(heldout.num_bytes.sum())
    for seed in range(NUM_DRAWS):
        rng = np.random.default_rng(seed)
        claimed, audited = leak(gain, rng)
        cuts = audits.draw_cuts(claimed.astype(np.float32), heldout, incumbent, rng)
        d = (audited - claimed)[cuts.rows, cuts.places]
        found = audits.verdict(d, cuts.probability, num_bytes, 0.0)
        left += [gain - found.correction_bpb] if found.accepted else []
    return 1 - len(left) / NUM_DRAWS, statistics.mean(left) if left else math.nan


def night(escapes: list[float]) -> None:
    """Print what a night gains by a leak that escapes so often at CLAIMED_GAINS, with the size of leak that gains most.

    Each try adds a leak to those of the incumbent, since it has to claim more, and is audited with all of them, twice.
    Between the figures, the logarithm of the probability is interpolated.
    """
    gains, logs = [0.0, *reversed(CLAIMED_GAINS)], [0.0, *(math.log(max(p, 1e-9)) for p in reversed(escapes))]
    rng = np.random.default_rng(0)
    for size in sorted(CLAIMED_GAINS):
        ends = []
        for _ in range(NUM_NIGHTS):
            total = 0.0
            for chance in rng.random(TRIES_A_NIGHT):
                if total + size <= gains[-1] and chance < math.exp(2 * np.interp(total + size, gains, logs)):
                    total += size
            ends.append(total)
        print(f"a night of {TRIES_A_NIGHT} tries that claim {size} each: {statistics.mean(ends):.4f} bpb, "
              f"at most {max(ends):.4f} in {NUM_NIGHTS} nights")  # fmt: skip


if __name__ == "__main__":
    main()
