"""Audits a claimed score: a second process answers for parts of the rows, and cannot know the text that follows them.

The audit enforces one rule: *what a model says of a token depends on the artefact and on this row's prefix alone.*
Scorer A received rows with their targets, so its claim may rest on them. Scorer B gets the tokens up to one secretly
chosen cut in each row, with filler behind it, and answers with the logits at the cut. This module normalises
the logits with numpy and computes d = nll of B - nll of A. There is only one cut in a row, because a longer prefix of
the same row would show an earlier target.

Three quarters of the cuts are spread evenly, since a model can lie where its claim is no better than the incumbent's:
it is sure of one token, in A as in B, and lies in A where another one follows. The last quarter is chosen in proportion
to the squared gain of the claim over the incumbent: a leak gains much in few places, while a change of the model gains
little in all of them. Each d is weighted by the inverse of its probability, so that claim + correction is unbiased
whatever A said.

docs/trust.md has the measurements, and what an audit does not see.
"""

from __future__ import annotations

import math
import secrets
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..core.types import Audit
from ..system.files import write_array
from .job import HeldOut, ScoringJob
from .scorer_process import ScoringFailed, run_scorer

EVEN_SHARE = 0.75  # of the cuts
MOST_ANSWER_BYTES = 2**28  # of logits, all in memory at once: with more rows, or more tokens, some rows have no cut
MISMATCH_NATS = 0.02  # honest answers agree to about 1e-6 in float32, and a leak that pays is worth far more
ROUNDING_NATS = 1e-5  # a smaller difference is rounding and counts as none, so that honest scores stay unchanged
MISMATCHES_ALLOWED = 1 / 500  # of the cuts, and always one. Honest models have none, except for ties in a router
MOST_STANDARD_ERROR = 0.0003  # bits per byte: a less certain correction is not used, and the claim is refused
LIMIT_SECONDS, LIMIT_PER_CLAIM_SECOND = 60.0, 2.0  # for B: a start on a busy machine, and per second that A took
RULE = "What a model says of a token may depend on the text before it in its row alone"

# A row, a place in it, the probability of this cut, and nats of its target: as claimed and as answered blind.
CUT = np.dtype([("row", "<i8"), ("place", "<i8"), ("probability", "<f8"), ("claimed", "<f8"), ("blind", "<f8")])


@dataclass(frozen=True)
class Cuts:
    """The places where B is asked: one in each of M rows."""

    rows: np.ndarray  # (M,) indices of rows, in random order
    places: np.ndarray  # (M,) the target is rows[place + 1]
    probability: np.ndarray  # (M,) of drawing this target


def audit(
    job: ScoringJob,
    nll: np.ndarray,
    *,
    claim_seconds: float,
    reference: np.ndarray | None = None,
    cuts_path: Path | None = None,
    seed: int | None = None,
) -> Audit:
    """Check a claim with a second process. Whatever the model does, the result is an Audit.

    Args:
        nll: what scorer A claimed, nats per target, (N, T).
        claim_seconds: the time that A took; B is ended when it takes much longer.
        reference: the incumbent's nats per target, (N, T); None for a model that knows nothing.
        cuts_path: where to write the cuts and answers, as an .npy of CUT; None to write nothing.
        seed: of the cuts, a secret; the same seed gives the same cuts. Drawn here when it is None.

    Raises ScoringFailed when B was killed from outside or was slow: that says nothing about the model.
    """
    started = time.monotonic()
    heldout = job.heldout
    rng = np.random.default_rng(secrets.randbits(128) if seed is None else seed)
    cuts = draw_cuts(nll, heldout, reference, rng)
    limit_seconds = LIMIT_SECONDS + LIMIT_PER_CLAIM_SECOND * claim_seconds
    try:
        blind = _blind_nll(replace(job, limit_seconds=limit_seconds), cuts, rng)
    except ScoringFailed as failure:
        if failure.may_be_the_machine:
            raise
        reason = f"the audit's process failed: {failure}"
        return Audit(False, 0.0, 0.0, len(cuts.rows), 0, reason, time.monotonic() - started)
    claimed = nll[cuts.rows, cuts.places].astype(np.float64)
    if cuts_path is not None:
        columns = [cuts.rows, cuts.places, cuts.probability, claimed, blind]
        write_array(cuts_path, np.rec.fromarrays(columns, dtype=CUT))
    return verdict(blind - claimed, cuts.probability, int(heldout.num_bytes.sum()), time.monotonic() - started)


def _blind_nll(job: ScoringJob, cuts: Cuts, rng: np.random.Generator) -> np.ndarray:
    """Nats per target at the cuts (M,), from scorer B, which sees nothing behind them. Raises ScoringFailed."""
    heldout, vocab_size = job.heldout, len(job.heldout.token_bytes)
    rows = blinded(heldout, cuts, min(job.settings.rows_per_batch, len(heldout.rows)), rng)
    facts = {"cuts": cuts.places.tolist(), "vocab_size": vocab_size}
    answer = run_scorer("audit", job, rows, facts, vocab_size * 4, len(cuts.rows))
    logits = np.frombuffer(answer.data, dtype="<f4").reshape(-1, vocab_size)  # (M, vocab_size)
    return nll_of(logits, heldout.rows[cuts.rows, cuts.places + 1], heldout.special_ids)


# --- where B is asked


def num_cuts(heldout: HeldOut) -> int:
    """Number of rows that an audit examines: all with a target, unless the answer becomes too large."""
    return min(int((heldout.num_bytes > 0).any(axis=1).sum()), MOST_ANSWER_BYTES // (4 * len(heldout.token_bytes)))


def draw_cuts(nll: np.ndarray, heldout: HeldOut, reference: np.ndarray | None, rng: np.random.Generator) -> Cuts:
    """Draw rows, then a place in each: most evenly, the others by the square of what the claim gains there."""
    scored = heldout.num_bytes > 0  # (N, T)
    known = math.log(len(heldout.token_bytes) - len(heldout.special_ids)) if reference is None else reference
    gain = np.where(scored, np.maximum(known - nll.astype(np.float64), 0.0), 0.0)  # (N, T) nats
    squares = np.square(gain)
    has_target = np.asarray(scored.any(axis=1))  # (N,)
    in_row = _mixed(has_target[None], squares.sum(axis=1)[None])[0]  # (N,)
    inclusion = inclusion_probabilities(in_row, num_cuts(heldout))
    rows = systematic_sample(inclusion, rng)
    within = _mixed(scored[rows], squares[rows])  # (M, T)
    sums = within.cumsum(axis=1)
    places = (sums > sums[:, -1:] * rng.random((len(rows), 1))).argmax(axis=1)
    return Cuts(rows, places, inclusion[rows] * within[np.arange(len(rows)), places])


def _mixed(even: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """Probabilities in each row, which add up to 1: EVEN_SHARE spread over `even`, the rest by `squares`.

    A large gain thus takes no more than its share from the other places of its row.
    """
    spread, sums = even / even.sum(axis=1, keepdims=True), squares.sum(axis=1, keepdims=True)
    chosen = np.where(sums > 0, squares / np.where(sums > 0, sums, 1.0), spread)
    return np.asarray(EVEN_SHARE * spread + (1 - EVEN_SHARE) * chosen)


def inclusion_probabilities(weight: np.ndarray, size: int) -> np.ndarray:
    """Probabilities (N,) that add up to `size`, in proportion to `weight` except for those that reach 1."""
    certain = np.zeros(len(weight), dtype=bool)
    while True:
        rest = np.where(certain, 0.0, weight)
        share = rest * ((size - certain.sum()) / rest.sum()) if rest.any() else rest
        if not (share > 1).any():
            return np.where(certain, 1.0, share)
        certain |= share >= 1


def systematic_sample(inclusion: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw each index with its probability, as many as these add up to; in random order."""
    order = rng.permutation(len(inclusion))
    ends = np.cumsum(inclusion[order])
    marks = rng.random() + np.arange(round(ends[-1]))
    found = order[np.minimum(np.searchsorted(ends, marks, side="right"), len(order) - 1)]
    return np.asarray(rng.permutation(np.unique(found)))


def blinded(heldout: HeldOut, cuts: Cuts, rows_per_batch: int, rng: np.random.Generator) -> np.ndarray:
    """The rows that B gets, (M', T): text up to the cut of each, and random tokens behind it.

    Rows of random tokens alone complete the last batch, so that all batches have the shape that A's had.
    """
    num_rows = -(-len(cuts.rows) // rows_per_batch) * rows_per_batch
    ordinary = np.flatnonzero(heldout.token_bytes > 0)
    rows = rng.choice(ordinary, (num_rows, heldout.rows.shape[1] - 1))  # (M', T)
    is_known = np.arange(rows.shape[1]) <= cuts.places[:, None]  # (M, T)
    rows[: len(cuts.rows)][is_known] = heldout.rows[cuts.rows, :-1][is_known]
    return rows


# --- what the answer means


def nll_of(logits: np.ndarray, targets: np.ndarray, special_ids: list[int]) -> np.ndarray:
    """Nats per target (M,), in float64, normalised over the ids that are not special.

    Raises ScoringFailed for a logit that is NaN or plus infinity, and for rows without a finite logit.
    """
    found = []
    for row, target in zip(logits, targets, strict=True):
        ordinary = np.delete(row.astype(np.float64), special_ids)
        if np.isnan(ordinary).any() or (ordinary == np.inf).any() or not np.isfinite(ordinary).any():
            raise ScoringFailed("it answered with logits that are no numbers")
        top = ordinary.max()
        found.append(top + math.log(np.exp(ordinary - top).sum()) - float(row[target]))
    return np.array(found)


def verdict(d: np.ndarray, probability: np.ndarray, num_bytes: int, seconds: float) -> Audit:
    """The audit of a claim that is `d` nats (M,) too low at cuts of the given `probability`. A pure function."""
    d = np.where(np.abs(d) <= ROUNDING_NATS, 0.0, d)
    num_mismatches = int((~(np.abs(d) <= MISMATCH_NATS)).sum())
    correction, error = estimate(d, probability, num_bytes)
    reason = _reason(num_mismatches, len(d), error)
    finite = (correction, error) if math.isfinite(correction + error) else (0.0, 0.0)
    return Audit(not reason, *finite, len(d), num_mismatches, reason, seconds)


def estimate(d: np.ndarray, probability: np.ndarray, num_bytes: int) -> tuple[float, float]:
    """Correction of the claim and its standard error, in bits per byte, from `d` nats at the cuts (M,).

    Each cut stands for 1 / probability targets (Horvitz and Thompson). The spread is that of draws with replacement,
    which is slightly larger than the true one.
    """
    size, weighted = len(d), d / probability  # (M,)
    with np.errstate(invalid="ignore"):
        spread = math.sqrt(size / max(size - 1, 1) * float(np.square(weighted - weighted.mean()).sum()))
    in_bits = math.log(2) * num_bytes
    return float(weighted.sum()) / in_bits, spread / in_bits


def _reason(num_mismatches: int, num_cuts: int, error: float) -> str:
    """Why a claim is refused; "" when it is accepted."""
    where = f"at {num_mismatches} of {num_cuts} secretly chosen places"
    if num_mismatches > max(1.0, MISMATCHES_ALLOWED * num_cuts) or not math.isfinite(error):
        return f"{where} the model said something else when it could not see what follows. {RULE}"
    if error > MOST_STANDARD_ERROR:
        return f"{where} the model said something so different that its score is known to ±{error:.4f} only. {RULE}"
    return ""
