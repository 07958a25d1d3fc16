"""What a user asks of Slurm with `run --slurm`, read from one line of text. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

WAIT_SECONDS = 600.0  # for the other jobs, once the first one runs
NOT_FOR_US = {"array", "dependency", "error", "job-name", "ntasks", "output", "parsable", "test-only", "wrap"}
EXAMPLE = "partition=gpu,gres=gpu:1,count=8"


@dataclass(frozen=True)
class SlurmJobs:
    """What is asked of Slurm: one worker, which is one slot, in each of `count` equal jobs."""

    count: int
    directives: Mapping[str, str]  # options of sbatch by their long names, as "partition"; "" for one without a value
    interface: str | None = None  # of the network, as "ib0", that scheduler and workers use
    wait_seconds: float = WAIT_SECONDS  # after which the study begins with the jobs that run, once one of them does


def read_jobs(text: str) -> SlurmJobs:
    """The jobs that `partition=gpu,gres=gpu:1,count=8` asks for.

    `count`, `interface` and `wait` (minutes) are read here, all else is an option of sbatch. Raises ValueError, also
    for options with which a job would be no single worker, or would write elsewhere.

    Example:
        >>> read_jobs("partition=gpu,gres=gpu:1,count=8").directives
        {'partition': 'gpu', 'gres': 'gpu:1'}
    """
    given: dict[str, str] = {}
    for part in text.split(","):
        name, _, value = part.strip().removeprefix("--").partition("=")
        if not name.replace("-", "").isalnum() or any(map(str.isspace, value)):
            raise ValueError(f"{part.strip()!r} is no option of sbatch. Write them as {EXAMPLE}.")
        if name in NOT_FOR_US:
            raise ValueError(
                f"{name} is not possible: each job is one worker, and its output has a place. Leave it out."
            )
        if name in given:
            raise ValueError(f"{name} stands there twice, with {given[name]!r} and {value!r}. Leave one of them out.")
        given[name] = value
    number, wait = given.pop("count", ""), given.pop("wait", None)
    if not number.isdecimal() or int(number) < 1:
        words = f"count={number} is not possible" if number else "count is missing"
        raise ValueError(f"{words}: it says how many jobs, each with one worker, as in {EXAMPLE}.")
    return SlurmJobs(int(number), given, given.pop("interface", None), WAIT_SECONDS if wait is None else _seconds(wait))


def _seconds(minutes: str) -> float:
    try:
        seconds = 60 * float(minutes)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise ValueError(f"wait={minutes} is not possible: give minutes, as in wait=10.")
    return seconds
