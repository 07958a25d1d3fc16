"""The description of a scoring: a model, held-out rows, numeric settings, limits and callbacks."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..system.corpus_command import corpus_command
from ..system.processes import memory_kills
from ..system.shell import shell_command

# Bytes of float32 logits in one batch. On a CPU this fits its cache; twice and eight times as much were slower.
CPU_LOGIT_BYTES, GPU_LOGIT_BYTES = 2**23, 2**30
SCORING_LIMIT_SECONDS = 600.0  # for loading and all rows; generous, because a hang is rare and a wrong kill costs a run

Wrap = Callable[[list[str], Path], list[str]]  # (command, artefact) -> the same command in a sandbox
Guard = Callable[[int], Callable[[], str]]  # pid -> a function that says why the process must end, or ""


def no_sandbox(command: list[str], artefact: Path) -> list[str]:
    """The default of `wrap`."""
    return command


@dataclass(frozen=True)
class ScoringSettings:
    """Numeric settings of scoring. They belong to the study and never to train.py."""

    device: str
    dtype: str  # autocast dtype: "float32" or "bfloat16"
    rows_per_batch: int
    num_threads: int

    @staticmethod
    def for_corpus(
        device: str, dtype: str, sequence_length: int, vocab_size: int, num_slots: int = 1
    ) -> ScoringSettings:
        """`num_slots`: how many such scorers share the processors."""
        size = CPU_LOGIT_BYTES if device == "cpu" else GPU_LOGIT_BYTES
        num_threads = max(1, (os.cpu_count() or 1) // num_slots)
        return ScoringSettings(device, dtype, max(1, size // (4 * sequence_length * vocab_size)), num_threads)


@dataclass(frozen=True)
class HeldOut:
    """Fixed rows of one split, and the bytes per token that turn nats into bits per byte."""

    rows: np.ndarray  # (N, T+1) token ids, column 0 is BOS
    token_bytes: np.ndarray  # (vocab_size,) raw bytes per token, 0 for special tokens

    @staticmethod
    def load(corpus_dir: Path, heldout_dir: Path, split: str) -> HeldOut:
        """The rows of "val" or "test". Raises FileNotFoundError, which names the missing file."""
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
    """The command that builds the corpus again, with the options in meta.json, which both folders have."""
    for side in (corpus_dir, heldout_dir):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            return corpus_command(corpus_dir, json.loads((side / "meta.json").read_bytes()))
    return shell_command("prepare")


@dataclass(frozen=True)
class ScoringJob:
    """One model and the rows that it is scored on, with limits and callbacks.

    `on_tick` is called at least four times a second while the scorer works, and `on_spawn` with the pid of the scorer,
    which leads a process group. An exception from a callback ends the scorer and is raised to the caller.
    """

    artefact: Path  # the pickled model
    heldout: HeldOut
    settings: ScoringSettings
    project: Path  # the scorer may import its modules
    token: str | None = None  # all processes of the scorer carry it in their environment
    wrap: Wrap = no_sandbox
    guard: Guard | None = None  # its function is called several times a second
    limit_seconds: float = SCORING_LIMIT_SECONDS
    batch_limit_seconds: float | None = None  # for one batch; the first includes loading the model
    total_limit_seconds: float | None = None  # for loading the model and all batches of the held-out rows
    on_progress: Callable[[float], None] | None = None  # share of the answer that has arrived, 0..1
    on_tick: Callable[[], None] | None = None
    on_spawn: Callable[[int], None] | None = None
    may_quote: bool = False  # the rows are not secret, so a failure may quote the output of the scorer
    memory_kills: Callable[[], int | None] = memory_kills  # processes that the system killed for lack of memory
