"""Executes one notebook in a process of its own: its argument is JOB.json.

Each experiment has a runner, because papermill changes the working folder of its process, and because the runner ends
every process that the training started. The job and the outcome are JSON files; the outcome appears complete or not at
all.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from ..core.sanitize import STEERING, Private, without_escapes
from ..sandbox.policy import SANDBOX_FOLDER
from ..system.explain import explain, open_streams
from ..system.files import write_atomic
from ..system.processes import adopt_orphans, die_with_parent, kill_descendants
from .kernel_process import Kernel, KernelFailed
from .outputs import RateLimit
from .script import SCRIPT

LOG_BURST, LOG_RATE = 2_000_000, 20_000  # characters, and characters a second, of the runner's log


NO_KERNEL, RUNNER_FAILED = "no kernel", "runner failed"  # how an execution ended, see `engine.Execution`


@dataclass(frozen=True)
class Job:
    """The notebook to execute, and how. Paths are absolute."""

    notebook: str  # as built by `run/notebook.py`
    source: str  # of train.py, which lies in the working folder
    output: str  # where the executed notebook goes
    outcome: str  # where the outcome goes
    folder: str  # temporary, mode 0700; its subfolder SANDBOX_FOLDER is for the kernel's sockets and working folder
    parameters: dict[str, Any]
    deadline_seconds: float  # from the kernel's start
    parent_pid: int
    private: dict[str, list[str]]  # fields of `core.sanitize.Private`
    prefix: list[str]  # the command that starts the kernel in its sandbox

    @property
    def private_words(self) -> Private:
        return Private(**{name: tuple(words) for name, words in self.private.items()})


class Stop:
    """Ends the kernel on SIGTERM and when the parent ends; the record is still written."""

    def __init__(self) -> None:
        self.asked = False
        self.kernel: Kernel | None = None
        signal.signal(signal.SIGTERM, self)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor handles Ctrl-C

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        self.asked = True
        if self.kernel is None:  # it may be starting, and after an exception there Python would wait for threads
            kill_descendants()
            os._exit(128 + signum)
        self.kernel.signal(signal.SIGKILL)


def run(job: Job) -> dict[str, Any]:
    """Execute the job's notebook and return the outcome as JSON. The kernel starts while papermill is imported."""
    begun = time.monotonic()
    stop = Stop()
    work = Path(job.folder) / SANDBOX_FOLDER / "work"
    work.mkdir(parents=True, exist_ok=True)
    (work / SCRIPT).write_text(job.source, encoding="utf-8")
    try:
        stop.kernel = kernel = Kernel(folder=Path(job.folder), cwd=str(work), prefix=job.prefix)
    except (OSError, RuntimeError) as error:  # such as a bwrap that was removed since the study began
        raise KernelFailed(explain(error)) from error
    try:
        from .engine import execute

        execution = execute(
            job.notebook,
            job.output,
            job.parameters,
            kernel=kernel,
            deadline_seconds=job.deadline_seconds,
            on_text=_log(),
            stopping=lambda: stop.asked,
            plain=True,
            private=job.private_words,
        )
    finally:
        kernel.signal(signal.SIGKILL)
        left_behind = kernel.left_behind + kill_descendants()
    peak = max(kernel.peak_memory_mb, _children_peak_mb())
    return asdict(execution) | {"begun": begun, "left_behind": left_behind, "process_peak_memory_mb": peak}


def _log() -> Callable[[str], None]:
    limit = RateLimit(LOG_BURST, LOG_RATE)

    def write(text: str) -> None:
        if allowed := limit.admit(text):
            sys.stdout.write(STEERING.sub("", without_escapes(allowed)))
            sys.stdout.flush()

    return write


def _children_peak_mb() -> float:
    """Peak memory of the largest process among the kernel and its children, as the system measured it."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def main(argv: list[str] | None = None) -> None:
    open_streams()
    (path,) = argv or sys.argv[1:]
    job = Job(**json.loads(Path(path).read_text(encoding="utf-8")))
    die_with_parent(job.parent_pid, signal.SIGTERM)
    adopt_orphans()
    try:
        outcome = run(job)
    except Exception as error:  # of this program: what happens in the notebook is data
        ended = NO_KERNEL if isinstance(error, KernelFailed) else RUNNER_FAILED
        outcome = {"ended": ended, "reason": job.private_words.clean(explain(error)), "cell": None}
        traceback.print_exc(file=sys.stdout)
    write_atomic(job.outcome, json.dumps(outcome))
    sys.stdout.flush()
    os._exit(0)  # nothing is left to clean up, and the interpreter's own shutdown takes time


if __name__ == "__main__":
    main()
