"""Scores an artefact in a process of its own; the arithmetic is done here, with numpy alone.

The training process is gone before the scorer starts, the validation rows reach only the
scorer, and the scorer's answer is a claim: its length, finiteness and sign are checked, and
bits per byte are computed from the raw bytes that the tokenizer's table states.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..record.children import environment, sweep
from ..record.experiment import Evaluation
from ..record.files import write_atomic
from ..record.paths import RUN_TOKEN

# Seconds before a scorer is ended: loading plus rows, generous because a hang is rare and a false end costs a run.
SCORING_LIMIT_SECONDS = 600.0
# Bytes of float32 logits in one batch: on a CPU about what its cache holds, twice and eight times as much were slower.
CPU_LOGIT_BYTES, GPU_LOGIT_BYTES = 2**23, 2**30

LOOK_EVERY_SECONDS = 0.1  # at the child; how often `on_tick` is called


class ScoringFailed(RuntimeError):
    """The artefact could not be scored; the message is one line for people."""

    was_killed = False  # by somebody else: the artefact may be as good as any


@dataclass(frozen=True)
class ScoringSettings:
    """Numeric settings of scoring. They belong to the study, never to train.py."""

    device: str
    dtype: str  # autocast dtype: "float32" or "bfloat16"
    rows_per_batch: int
    num_threads: int

    @staticmethod
    def for_corpus(device: str, dtype: str, sequence_length: int, vocab_size: int) -> ScoringSettings:
        size = CPU_LOGIT_BYTES if device == "cpu" else GPU_LOGIT_BYTES
        return ScoringSettings(device, dtype, max(1, size // (4 * sequence_length * vocab_size)), os.cpu_count() or 1)


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
                raise FileNotFoundError(f"{path} is missing. Run `autoresearch prepare` to build the corpus again.")
        return HeldOut(np.load(rows_path), np.load(bytes_path))

    @property
    def special_ids(self) -> list[int]:
        return [int(i) for i in np.flatnonzero(self.token_bytes == 0)]


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
) -> Evaluation:
    """Score the pickled model at `artefact` on the held-out rows.

    `on_tick` is called at least four times a second while the child works, `on_spawn` gets its pid (it leads a process
    group), and all processes of the scorer carry `token` in their environment. Whatever a callback raises ends them.
    Raises ScoringFailed when the child dies, hangs past `limit_seconds` or answers anything but
    one finite, non-negative number per target.
    """
    started = time.monotonic()
    env = environment(token, project, Path(__file__).resolve().parents[2])
    calls = _Calls(on_progress, on_tick, on_spawn)
    nll = _ask_child(artefact, heldout, settings, env, limit_seconds, calls)
    num_bytes = heldout.token_bytes[heldout.rows[:, 1:]].astype(np.int64)  # (N, T)
    scored = num_bytes > 0
    if not np.isfinite(nll[scored]).all():
        bad = int((~np.isfinite(nll[scored])).sum())
        raise ScoringFailed(
            f"{bad} of {scored.sum()} tokens have no finite likelihood: the model's logits overflow or are NaN"
        )
    if (nll[scored] < -1e-3).any():
        raise ScoringFailed(f"a negative log-likelihood below zero ({nll[scored].min():.4f} nats): not a probability")
    if nll_path is not None:
        buffer = io.BytesIO()
        np.save(buffer, nll)
        write_atomic(nll_path, buffer.getvalue())
    val_bpb, standard_error = bits_per_byte(nll, num_bytes)
    seconds = time.monotonic() - started
    return Evaluation(val_bpb, standard_error, int(scored.sum()), int(num_bytes.sum()), seconds, nll_path)


@dataclass(frozen=True)
class _Calls:
    """Whom to tell what happens."""

    on_progress: Callable[[float], None] | None
    on_tick: Callable[[], None] | None
    on_spawn: Callable[[int], None] | None


def _ask_child(
    artefact: Path,
    heldout: HeldOut,
    settings: ScoringSettings,
    env: dict[str, str],
    limit_seconds: float,
    calls: _Calls,
) -> np.ndarray:
    """One number per target, (N, T) float32, from a fresh scorer process."""
    rows = heldout.rows
    request = asdict(settings) | {
        "artefact": str(artefact),
        "num_rows": len(rows),
        "special_ids": heldout.special_ids,
    }
    with tempfile.TemporaryFile() as question, tempfile.TemporaryFile() as complaints:
        question.write(json.dumps(request).encode() + b"\n")
        question.write(rows.astype("<u4").tobytes())
        question.seek(0)
        child = subprocess.Popen(
            [sys.executable, "-m", "autoresearch_kernel.judge.scorer", str(os.getpid())],
            stdin=question,
            stdout=subprocess.PIPE,
            stderr=complaints,
            env=env,
            start_new_session=True,
        )
        size = rows[:, 1:].size * 4
        try:
            if calls.on_spawn is not None:
                calls.on_spawn(child.pid)
            answer = _read(child, size, limit_seconds, calls)
            if len(answer) != size:
                with contextlib.suppress(subprocess.TimeoutExpired):  # it closed its pipe and lives on
                    child.wait(1.0)
            exit_code = child.returncode
        finally:
            _end(child, env[RUN_TOKEN])
        if len(answer) != size:
            complaints.seek(0)
            said = _last_line(complaints.read())
            failure = ScoringFailed(said or f"{len(answer)} bytes of {size} were answered")
            if exit_code == -signal.SIGKILL and not said:
                failure = ScoringFailed("the scorer was killed (out of memory?)")
                failure.was_killed = True
            raise failure
    return np.frombuffer(answer, dtype="<f4").reshape(rows[:, 1:].shape)


def _read(child: subprocess.Popen[bytes], size: int, limit_seconds: float, calls: _Calls) -> bytes:
    """What the child answers until it closes its pipe or is gone, a little over `size` bytes at most."""
    assert child.stdout is not None
    deadline = time.monotonic() + limit_seconds
    answer = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while len(answer) <= size:
            if calls.on_tick is not None:
                calls.on_tick()
            gone = child.poll() is not None  # before the look: what it wrote, it wrote before it went
            if not selector.select(LOOK_EVERY_SECONDS):
                if gone:  # and a child of its own keeps the pipe open
                    break
                if time.monotonic() > deadline:
                    done = len(answer) / size
                    raise ScoringFailed(f"scoring took longer than {limit_seconds:.0f} s ({done:.0%} done)")
                continue
            chunk = os.read(child.stdout.fileno(), 2**20)
            if not chunk:
                break
            answer += chunk
            if calls.on_progress is not None:
                calls.on_progress(len(answer) / size)
    return bytes(answer)


def _last_line(stderr: bytes) -> str:
    """The line of a traceback that says what happened."""
    lines = stderr[-20_000:].decode(errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else ""


def _end(child: subprocess.Popen[bytes], token: str) -> None:
    """Leave nothing of the scorer behind, nor of what the model's code started."""
    with contextlib.suppress(ProcessLookupError):  # gone already, with its children, is what is wanted
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    if child.stdout is not None:
        child.stdout.close()
    sweep(token)
