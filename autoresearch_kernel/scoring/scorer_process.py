"""Starts a scorer process, sends it rows and reads a fixed number of bytes back, none of which it trusts.

The process runs the agent's model code (`scorer.py`). It gets one line of JSON and the rows on its standard input and a
pipe for its answer, and `run_scorer` ends it with all its children before it returns.

The process writes one byte when it has started, and a failure before that is the machine's. It writes another one when
the modules that the model names are imported, so that no start counts as the model's time. From then on each batch has
a time limit, and all together have one, because a model could be trained while it is loaded or in each forward pass.
Its output may contain held-out tokens, so a failure quotes it only when the rows are not secret.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import IO, Any

import numpy as np

from ..core.errors import MachineFailed
from ..system.environment import environment
from ..system.locations import DTYPE, PROJECT, RUN_TOKEN
from ..system.measuring import last_error
from ..system.processes import kill_by_token, not_by_the_system
from ..system.start import python_command
from .job import ScoringJob

STDERR_BYTES = 20_000  # the end of the scorer's stderr, which has its traceback
WITHHELD = "the model failed on the held-out rows; what it printed about them is not shown"
NUM_MARKS = 2  # bytes before the answer: the process has started, and it loads the model now
POLL_SECONDS = 0.1  # between two checks of the scorer, and two calls of `on_tick`
KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)  # exit codes of a scorer that was killed; the second one in a sandbox


class ScoringFailed(RuntimeError):
    """The artefact could not be scored; the message is one line for users."""

    may_be_the_machine = False  # the scorer was killed or slow, so the artefact may be good


@dataclass(frozen=True)
class Answer:
    """The answer of a scorer, and the time that its model took."""

    data: bytes
    slowest_batch_seconds: float  # the first batch includes loading the model
    answer_seconds: float  # from loading the model to the end of the last batch
    has_begun: bool = True  # the process had started, and what it did then depended on the model


def run_scorer(
    mode: str, job: ScoringJob, rows: np.ndarray, facts: Mapping[str, Any], row_bytes: int, num_answers: int
) -> Answer:
    """The answer of a new scorer process: `row_bytes` for each of the first `num_answers` rows.

    Args:
        mode: "claim" or "audit", see `scorer.py`.
        rows: token ids, two-dimensional, sent as little-endian uint32.
        facts: further fields of the request.

    Raises ScoringFailed when the process dies, hangs, or answers more or less, MachineFailed when it did not start.
    """
    size, kills_before = row_bytes * num_answers, job.memory_kills()
    request = {"artefact": str(job.artefact.resolve()), "num_rows": len(rows), **asdict(job.settings), **facts}
    env = environment(job.token) | {PROJECT: str(job.project.resolve())}
    env[DTYPE] = job.settings.dtype  # a model may read the format from prepare.py
    with tempfile.TemporaryFile() as question, tempfile.TemporaryFile() as complaints:
        question.write(json.dumps(request).encode() + b"\n")
        question.write(rows.astype("<u4").tobytes())
        question.seek(0)
        command = python_command("autoresearch_kernel.scoring.scorer", str(os.getpid()), mode)
        try:
            command = job.wrap(command, job.artefact)
        except ValueError as error:  # the artefact is not a plain file
            raise ScoringFailed(str(error)) from error
        with _started(command, question, complaints, env) as child:
            answer = _read(child, size, job.settings.rows_per_batch * row_bytes, job)
            if len(answer.data) != size:
                with contextlib.suppress(subprocess.TimeoutExpired):  # it closed its pipe and still runs
                    child.wait(1.0)
            exit_code = child.returncode
        if len(answer.data) != size:
            complaints.seek(max(0, complaints.seek(0, os.SEEK_END) - STDERR_BYTES))
            said = last_error(complaints.read(STDERR_BYTES).decode(errors="replace"))[:300]
            if exit_code in KILLED and not said:
                raise _killed(not_by_the_system(kills_before, job.memory_kills()) if answer.has_begun else "")
            if not answer.has_begun:  # no code of the model has run
                raise MachineFailed(f"The scorer did not start in its sandbox: {said or f'exit status {exit_code}'}")
            raise ScoringFailed((said or "it ended before it had answered") if job.may_quote else WITHHELD)
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
    """The answer of the scorer until it closes its pipe or ends; at most a little more than `size` bytes."""
    assert child.stdout is not None
    if job.on_spawn is not None:
        job.on_spawn(child.pid)
    must_end = job.guard(child.pid) if job.guard is not None else lambda: ""
    deadline = time.monotonic() + job.limit_seconds
    answer, batches = bytearray(), _BatchTimer(batch_bytes, job.batch_limit_seconds, job.total_limit_seconds)
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while len(answer) <= size:
            if job.on_tick is not None:
                job.on_tick()
            if why := must_end():
                raise ScoringFailed(why)
            has_ended = child.poll() is not None  # before the pipe is read, which then has all that the scorer wrote
            if time.monotonic() > deadline:
                raise ScoringFailed(f"scoring took longer than {job.limit_seconds:.0f} s")
            if len(answer) < size:
                batches.check()
            if not selector.select(POLL_SECONDS):
                if has_ended:  # a child of the scorer keeps the pipe open
                    break
                continue
            chunk = os.read(child.stdout.fileno(), 2**20)
            if not chunk:
                break
            answer += batches.begin_with(chunk)
            batches.count(len(answer), is_complete=len(answer) >= size)
            if job.on_progress is not None:
                job.on_progress(min(1.0, len(answer) / size))
    return Answer(bytes(answer), batches.slowest_seconds, batches.total_seconds, batches.has_begun)


class _BatchTimer:
    """Measures how long each batch of the answer takes, and all of them; the first includes loading the model."""

    def __init__(self, batch_bytes: int, limit_seconds: float | None, total_limit_seconds: float | None) -> None:
        self.batch_bytes, self.limit_seconds, self.total_limit_seconds = batch_bytes, limit_seconds, total_limit_seconds
        self.slowest_seconds, self.total_seconds = 0.0, 0.0
        self._num_marks = 0
        self._began: float | None = None  # the present batch
        self._all_began = 0.0
        self._num_batches = 0

    @property
    def has_begun(self) -> bool:
        """Whether the first byte of all has arrived."""
        return self._num_marks > 0

    def begin_with(self, chunk: bytes) -> bytes:
        """What `chunk` has of the answer: without the bytes before it, after which the time counts."""
        num_marks = min(NUM_MARKS - self._num_marks, len(chunk))
        self._num_marks += num_marks
        if self._began is None and self._num_marks == NUM_MARKS:
            self._began = self._all_began = time.monotonic()
        return chunk[num_marks:]

    def check(self) -> None:
        """Raise ScoringFailed when a batch, or all together, have taken too long."""
        self._measure()
        if self.limit_seconds is not None and self.slowest_seconds > self.limit_seconds:
            raise _too_slow("a batch, or loading the model,", self.limit_seconds)
        if self.total_limit_seconds is not None and self.total_seconds > self.total_limit_seconds:
            raise _too_slow("all batches together", self.total_limit_seconds)

    def _measure(self) -> None:
        if self._began is not None:
            now = time.monotonic()
            self.slowest_seconds = max(self.slowest_seconds, now - self._began)
            self.total_seconds = now - self._all_began

    def count(self, num_bytes: int, is_complete: bool) -> None:
        """Start the next batch when `num_bytes` of the answer complete one."""
        if self._began is not None and (is_complete or num_bytes // self.batch_bytes > self._num_batches):
            self._measure()
            self._began, self._num_batches = time.monotonic(), num_bytes // self.batch_bytes


def _killed(why_the_code: str) -> ScoringFailed:
    """A scorer was killed: by its own code, with the reason, or by the machine when the reason is empty."""
    failure = ScoringFailed("the scorer was killed" + (f"; {why_the_code}" if why_the_code else ""))
    failure.may_be_the_machine = not why_the_code
    return failure


def _too_slow(what: str, limit_seconds: float) -> ScoringFailed:
    failure = ScoringFailed(
        f"{what} took longer than {limit_seconds:.1f} s, going by the baseline's: what a model learns while it is "
        "scored is learned beyond its budget"
    )
    failure.may_be_the_machine = True
    return failure


def _end(child: subprocess.Popen[bytes], token: str) -> None:
    """End the scorer and every process that the model's code started."""
    with contextlib.suppress(ProcessLookupError):  # the scorer and its children have ended already
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    if child.stdout is not None:
        child.stdout.close()
    kill_by_token(token)
