"""Starts a scoring child, sends it rows and reads a fixed number of bytes back. It believes nothing that it reads.

A child runs the agent's model code (`scorer.py`). It gets one line of JSON and the rows on its standard input, a
pipe for its answer and nothing else; whatever happens, nothing of it is left when `ask` returns.

It says one byte before it loads the model, so its own start is not taken for the model's time. From then on each batch
has a limit: a model could be trained while it is loaded, or in its first forward pass. What it prints may hold held-out
tokens, so nobody reads that unless the rows are nobody's secret.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..system.environment import environment
from ..system.locations import DTYPE, RUN_TOKEN
from ..system.processes import sweep
from .job import ScoringJob

SAID_BYTES = 20_000  # of what a child printed, the end, in which its traceback is looked for
UNREAD = "the model failed on the held-out rows; what it printed about them is not shown"
LOOK_EVERY_SECONDS = 0.1  # at the child; how often `on_tick` is called
KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)  # exit codes of a child that somebody killed; the second in a sandbox


class ScoringFailed(RuntimeError):
    """The artefact could not be scored; the message is one line for people."""

    may_be_the_machine = False  # killed by somebody, or slow: the artefact may be as good as any


@dataclass(frozen=True)
class Answer:
    """What a child answered, and how long it took for it."""

    data: bytes
    slowest_batch_seconds: float  # the first one with the model's loading


def ask(
    mode: str, job: ScoringJob, rows: np.ndarray, facts: Mapping[str, Any], row_bytes: int, num_answers: int
) -> Answer:
    """What a fresh scorer process answers: `row_bytes` for each of the first `num_answers` rows.

    Args:
        mode: "claim" or "audit", see `scorer.py`.
        rows: token ids, two-dimensional, sent as little-endian uint32.
        facts: what the child must know besides.

    Raises ScoringFailed when it dies, hangs, or answers more or less.
    """
    size = row_bytes * num_answers
    request = {"artefact": str(job.artefact), "num_rows": len(rows), **asdict(job.settings), **facts}
    env = environment(job.token, job.project, Path(__file__).resolve().parents[2])
    env[DTYPE] = job.settings.dtype  # for a model that asks prepare.py for the format
    with tempfile.TemporaryFile() as question, tempfile.TemporaryFile() as complaints:
        question.write(json.dumps(request).encode() + b"\n")
        question.write(rows.astype("<u4").tobytes())
        question.seek(0)
        command = [sys.executable, "-m", "autoresearch_kernel.scoring.scorer", str(os.getpid()), mode]
        try:
            command = job.wrap(command, job.artefact)
        except ValueError as error:  # what was handed over is no plain file
            raise ScoringFailed(str(error)) from error
        with _started(command, question, complaints, env) as child:
            answer = _read(child, size, job.settings.rows_per_batch * row_bytes, job)
            if len(answer.data) != size:
                with contextlib.suppress(subprocess.TimeoutExpired):  # it closed its pipe and lives on
                    child.wait(1.0)
            exit_code = child.returncode
        if len(answer.data) != size:
            complaints.seek(max(0, complaints.seek(0, os.SEEK_END) - SAID_BYTES))
            raise _failure(_last_line(complaints.read(SAID_BYTES)), exit_code, job.may_quote)
    return answer


@contextmanager
def _started(
    command: list[str], question: IO[bytes], complaints: IO[bytes], env: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen(
        command, stdin=question, stdout=subprocess.PIPE, stderr=complaints, env=env, start_new_session=True
    )
    try:
        yield child
    finally:
        _end(child, env[RUN_TOKEN])


def _read(child: subprocess.Popen[bytes], size: int, batch_bytes: int, job: ScoringJob) -> Answer:
    """What the child answers until it closes its pipe or is gone, a little over `size` bytes at most."""
    assert child.stdout is not None
    if job.on_spawn is not None:
        job.on_spawn(child.pid)
    must_end = job.guard(child.pid) if job.guard is not None else lambda: ""
    deadline = time.monotonic() + job.limit_seconds
    answer, ready = bytearray(), False
    batch = slowest = 0.0  # when the present batch began, and how long the slowest one took
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while len(answer) <= size:
            if job.on_tick is not None:
                job.on_tick()
            if why := must_end():
                raise ScoringFailed(why)
            gone = child.poll() is not None  # before the look: what it wrote, it wrote before it went
            if time.monotonic() > deadline:
                raise ScoringFailed(f"scoring took longer than {job.limit_seconds:.0f} s")
            if ready and len(answer) < size:
                slowest = max(slowest, time.monotonic() - batch)
                if job.batch_limit_seconds is not None and slowest > job.batch_limit_seconds:
                    raise _too_slow(job.batch_limit_seconds)
            if not selector.select(LOOK_EVERY_SECONDS):
                if gone:  # and a child of its own keeps the pipe open
                    break
                continue
            chunk = os.read(child.stdout.fileno(), 2**20)
            if not chunk:
                break
            if not ready:
                ready, chunk, batch = True, chunk[1:], time.monotonic()
            whole = len(answer) // batch_bytes
            answer += chunk
            if len(answer) // batch_bytes > whole or len(answer) >= size:
                slowest, batch = max(slowest, time.monotonic() - batch), time.monotonic()
            if job.on_progress is not None:
                job.on_progress(min(1.0, len(answer) / size))
    return Answer(bytes(answer), slowest)


def _failure(said: str, exit_code: int | None, may_quote: bool) -> ScoringFailed:
    if exit_code in KILLED and not said:
        failure = ScoringFailed("the scorer was killed (out of memory?)")
        failure.may_be_the_machine = True
        return failure
    return ScoringFailed((said or "it ended before it had answered") if may_quote else UNREAD)


def _too_slow(limit_seconds: float) -> ScoringFailed:
    failure = ScoringFailed(
        f"a batch, or loading the model, took longer than {limit_seconds:.1f} s, going by the baseline's: what a model "
        "learns while it is scored is learned beyond its budget"
    )
    failure.may_be_the_machine = True
    return failure


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
