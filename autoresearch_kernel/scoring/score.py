"""Scores an artefact in a process of its own. The arithmetic is done here, with numpy alone.

Training has ended before the scorer starts, and only the scorer gets the validation rows. Its answer is a claim: this
module checks length, finiteness and sign, and computes bits per byte from the raw bytes that the tokenizer's table
states. `scoring/audit.py` finds out whether the claim is true.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np

from ..core.types import Evaluation
from ..system.files import write_array
from .job import ScoringJob
from .scorer_process import ScoringFailed, run_scorer


def bits_per_byte(nll: np.ndarray, num_bytes: np.ndarray) -> tuple[float, float]:
    """Bits per byte of a split and its standard error over rows.

    Args:
        nll: nats per target, (N, T).
        num_bytes: raw bytes per target, (N, T); targets with 0 bytes are not scored.

    The standard error is that of a ratio of two sums, with rows as the sampling unit.
    """
    scored = num_bytes > 0
    bits = np.where(scored, nll, 0.0).sum(axis=1, dtype=np.float64) / math.log(2)  # (N,)
    size = num_bytes.sum(axis=1, dtype=np.float64)  # (N,)
    ratio = bits.sum() / size.sum()
    n = len(bits)
    residual = bits - ratio * size
    spread = math.sqrt(n / max(n - 1, 1) * float(np.square(residual).sum()))
    return float(ratio), spread / float(size.sum())


def score(job: ScoringJob, nll_path: Path | None = None) -> Evaluation:
    """Score the model of `job` on its held-out rows, and write the claimed nats per target to `nll_path`.

    Raises ScoringFailed when the scorer dies, hangs, or answers anything but one finite, non-negative number per
    target.
    """
    started = time.monotonic()
    heldout = job.heldout
    shape = heldout.rows[:, 1:].shape
    facts = {"special_ids": heldout.special_ids, "vocab_size": len(heldout.token_bytes)}
    answer = run_scorer("claim", job, heldout.rows, facts, shape[1] * 4, shape[0])
    nll, num_bytes = np.frombuffer(answer.data, dtype="<f4").reshape(shape), heldout.num_bytes
    _check(nll, num_bytes > 0)
    if nll_path is not None:
        write_array(nll_path, nll)
    val_bpb, standard_error = bits_per_byte(nll, num_bytes)
    num_scored, seconds = int((num_bytes > 0).sum()), time.monotonic() - started
    total_bytes, times = int(num_bytes.sum()), (answer.slowest_batch_seconds, answer.answer_seconds)
    return Evaluation(val_bpb, standard_error, num_scored, total_bytes, seconds, nll_path, *times)


def _check(nll: np.ndarray, scored: np.ndarray) -> None:
    """Raise ScoringFailed unless every scored target has a finite, non-negative number."""
    if not np.isfinite(nll[scored]).all():
        raise ScoringFailed("some tokens have no finite likelihood: the model's logits overflow or are NaN")
    if (nll[scored] < -1e-3).any():
        raise ScoringFailed("some tokens have a negative log-likelihood below zero: not a probability")
