"""Scores an artefact in a process of its own; the arithmetic is done here, with numpy alone.

The training process is gone before the scorer starts, the validation rows reach only the
scorer, and the scorer's answer is a claim: its length, finiteness and sign are checked, and
bits per byte are computed from the raw bytes that the tokenizer's table states. Whether the
claim is true, `scoring/audit.py` finds.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.types import Evaluation
from ..system.files import write_atomic
from ..system.shell import corpus_command, shell_command
from .scorer_process import Guard, ScoringFailed, ScoringSettings, Watched, Wrap, ask, identity

__all__ = ["Guard", "HeldOut", "ScoringFailed", "ScoringSettings", "Wrap", "bits_per_byte", "identity", "score"]

# Seconds before a scorer is ended: loading plus rows, generous because a hang is rare and a false end costs a run.
SCORING_LIMIT_SECONDS = 600.0


@dataclass(frozen=True)
class HeldOut:
    """Fixed rows of one split and what is needed to turn nats into bits per byte."""

    rows: np.ndarray  # (N, T+1) token ids, column 0 is BOS
    token_bytes: np.ndarray  # (vocab_size,) raw bytes per token, 0 for special tokens

    @staticmethod
    def load(corpus_dir: Path, heldout_dir: Path, split: str) -> HeldOut:
        """Rows of "val" or "test". Raises FileNotFoundError naming the missing file."""
        rows_path, bytes_path = heldout_dir / f"{split}.npy", corpus_dir / "token_bytes.npy"
        for path in (rows_path, bytes_path):
            if not path.is_file():
                build = _build_command(corpus_dir, heldout_dir)
                raise FileNotFoundError(f"{path} is missing. Run `{build}` to build the corpus again.")
        return HeldOut(np.load(rows_path), np.load(bytes_path))

    @property
    def special_ids(self) -> list[int]:
        return [int(i) for i in np.flatnonzero(self.token_bytes == 0)]

    @property
    def num_bytes(self) -> np.ndarray:
        """Raw bytes per target, (N, T) int64; a target with 0 bytes is not scored."""
        return np.asarray(self.token_bytes[self.rows[:, 1:]].astype(np.int64))


def _build_command(corpus_dir: Path, heldout_dir: Path) -> str:
    """What builds the corpus again; the options are those of meta.json, which both sides have."""
    for side in (corpus_dir, heldout_dir):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            return corpus_command(corpus_dir, json.loads((side / "meta.json").read_bytes()))
    return shell_command("prepare")


def bits_per_byte(nll: np.ndarray, num_bytes: np.ndarray) -> tuple[float, float]:
    """Bits per byte of a split and its standard error over rows.

    Args:
        nll: nats per target, (N, T).
        num_bytes: raw bytes per target, (N, T); targets with 0 bytes are not scored.

    The standard error is that of a ratio of two sums with rows as the sampling unit.
    """
    scored = num_bytes > 0
    bits = np.where(scored, nll, 0.0).sum(axis=1, dtype=np.float64) / math.log(2)  # (N,)
    size = num_bytes.sum(axis=1, dtype=np.float64)  # (N,)
    ratio = bits.sum() / size.sum()
    n = len(bits)
    residual = bits - ratio * size
    spread = math.sqrt(n / max(n - 1, 1) * float(np.square(residual).sum()))
    return float(ratio), spread / float(size.sum())


def score(
    artefact: Path,
    heldout: HeldOut,
    settings: ScoringSettings,
    *,
    project: Path,
    nll_path: Path | None = None,
    limit_seconds: float = SCORING_LIMIT_SECONDS,
    on_progress: Callable[[float], None] | None = None,
    token: str | None = None,
    on_tick: Callable[[], None] | None = None,
    on_spawn: Callable[[int], None] | None = None,
    wrap: Wrap = identity,
    guard: Guard | None = None,
    batch_limit_seconds: float | None = None,
    may_quote: bool = False,
) -> Evaluation:
    """Score the pickled model at `artefact` on the held-out rows: what it claims.

    `on_tick` is called at least four times a second while the child works, `on_spawn` gets its pid (it leads a process
    group), and all processes of the scorer carry `token` in their environment. Whatever a callback raises ends them.
    `wrap` puts the child into a sandbox, `guard` says at each look why it must end. A batch, the first one with the
    loading of the model, may take `batch_limit_seconds`. With `may_quote` a failure is told in the child's words: for
    rows that are nobody's secret alone. Raises ScoringFailed when the child dies, hangs past `limit_seconds` or answers
    anything but one finite, non-negative number per target.
    """
    started = time.monotonic()
    watched = Watched(
        project, limit_seconds, token, wrap, guard, batch_limit_seconds, on_progress, on_tick, on_spawn, may_quote
    )
    shape = heldout.rows[:, 1:].shape
    facts = {"special_ids": heldout.special_ids, "vocab_size": len(heldout.token_bytes)}
    answer = ask("claim", artefact, heldout.rows, facts, settings, shape[1] * 4, shape[0], watched)
    nll, num_bytes = np.frombuffer(answer.data, dtype="<f4").reshape(shape), heldout.num_bytes
    _check(nll, num_bytes > 0)
    if nll_path is not None:
        buffer = io.BytesIO()
        np.save(buffer, nll)
        write_atomic(nll_path, buffer.getvalue())
    val_bpb, standard_error = bits_per_byte(nll, num_bytes)
    seconds = time.monotonic() - started
    return Evaluation(
        val_bpb,
        standard_error,
        int((num_bytes > 0).sum()),
        int(num_bytes.sum()),
        seconds,
        nll_path,
        answer.slowest_batch_seconds,
    )


def _check(nll: np.ndarray, scored: np.ndarray) -> None:
    """Raises ScoringFailed unless every scored target has a finite, non-negative number."""
    if not np.isfinite(nll[scored]).all():
        raise ScoringFailed("some tokens have no finite likelihood: the model's logits overflow or are NaN")
    if (nll[scored] < -1e-3).any():
        raise ScoringFailed("some tokens have a negative log-likelihood below zero: not a probability")
