"""Workers that Slurm starts: `slurm_workers` submits a job for each through dask-jobqueue, and cancels them at the end.

The scheduler of the workers lives in the process of the supervisor. It and the workers speak TLS with a key that is
made for this block, because whoever else uses the cluster could reach the scheduler's port.
"""

from __future__ import annotations

import logging
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..core.format import count, duration
from ..system.explain import explain
from .connection import SLOT, ClusterRefused
from .local_cluster import HERE_ALONE, own_keys, quiet_dask
from .slurm_jobs import SlurmJobs

LOOK_SECONDS = 0.5
GONE_SECONDS = 30.0  # between two questions whether any job is left, while none has a worker
SAY_SECONDS = 300.0  # between two lines that say how many jobs still wait in the queue
DEFAULTS = ("--mem=", "-t ", "--cpus-per-task=")  # directives that dask-jobqueue writes: only a user asks for these
LEFT_AFTER_SECONDS = 60  # a worker ends, and its job with it, so long after the supervisor's scheduler is gone


@contextmanager
def slurm_workers(jobs: SlurmJobs, folder: Path, say: Callable[[str], None]) -> Iterator[str]:
    """The address of a scheduler whose workers run as jobs of Slurm, which are cancelled when this block is left.

    Args:
        folder: where the jobs write what they print.
        say: hears how many jobs run, while others wait in the queue.

    Raises ClusterRefused without Slurm or dask-jobqueue, and when Slurm refuses the jobs.
    """
    import_dask()
    with quiet_dask(), own_keys() as own:
        failures: list[str] = []
        cluster = _start(jobs, folder, own, failures)
        try:
            cluster.scale(jobs=jobs.count)
            _wait_for(cluster, jobs, folder, failures, say)
            yield str(cluster.scheduler_address)
        finally:
            cluster.close()


def import_dask() -> None:
    """Raise ClusterRefused where Slurm cannot be asked for workers from here."""
    on_ctrl_c = signal.getsignal(signal.SIGINT)
    try:
        import dask_jobqueue  # noqa: F401
    except ModuleNotFoundError as error:
        raise ClusterRefused(
            "--slurm needs Dask. `make setup EXTRAS=cluster` installs it in a checkout, elsewhere "
            '`pip install "autoresearch-kernel[cluster]"`.'
        ) from error
    signal.signal(signal.SIGINT, on_ctrl_c)  # dask-jobqueue lets Ctrl-C exit as if all were well
    if missing := [name for name in ("sbatch", "scancel") if shutil.which(name) is None]:
        raise ClusterRefused(
            f"--slurm needs Slurm's commands, and {' and '.join(missing)} cannot be found on this machine. Start the "
            "study on a login node of the cluster, or leave --slurm out."
        )


def _start(jobs: SlurmJobs, folder: Path, security: Any, failures: list[str]) -> Any:
    """A dask_jobqueue.SLURMCluster without jobs; why one could not be submitted is added to `failures`, in words."""
    from dask_jobqueue import SLURMCluster
    from dask_jobqueue.slurm import SLURMJob
    from distributed.deploy.spec import ProcessInterface

    class Job(SLURMJob):
        async def start(self) -> None:
            try:
                await super().start()
            except Exception as error:  # Dask would write it to its log, and could not cancel the other jobs any more
                failures.append(_words_of(error))
                await ProcessInterface.start(self)

    directives = [f"--{name}={value}" if value else f"--{name}" for name, value in jobs.directives.items()]
    if any(map(str.isspace, str(folder))):
        raise ClusterRefused(f"The jobs of --slurm write to {folder}, whose name has a blank. Set AUTORESEARCH_HOME.")
    folder.mkdir(parents=True, exist_ok=True)
    return SLURMCluster(
        job_cls=Job,
        cores=1,
        processes=1,
        memory="1 GiB",  # dask-jobqueue needs a figure; the limit that it sets is taken away below
        job_extra_directives=directives,
        job_directives_skip=DEFAULTS,
        job_script_prologue=[
            'AUTORESEARCH_HOME=$(mktemp -d "${TMPDIR:-/tmp}/autoresearch-XXXXXXXX") || exit 1',  # on the job's machine
            "export AUTORESEARCH_HOME",
            "trap 'rm -rf \"$AUTORESEARCH_HOME\"' EXIT",
        ],
        worker_extra_args=[
            "--resources",
            f"{SLOT}=1",
            "--memory-limit",
            "0",
            "--no-dashboard",
            "--dashboard-address",
            HERE_ALONE,
        ],
        local_directory='"$AUTORESEARCH_HOME/dask"',
        death_timeout=LEFT_AFTER_SECONDS,
        log_directory=str(folder),
        shared_temp_directory=str(folder),
        interface=jobs.interface,
        security=security,
        scheduler_options={"dashboard": False, "dashboard_address": HERE_ALONE},
        job_name="autoresearch",
        silence_logs=logging.CRITICAL,
    )


def _wait_for(cluster: Any, jobs: SlurmJobs, folder: Path, failures: list[str], say: Callable[[str], None]) -> None:
    """Until all jobs run, or for `wait_seconds` after the first one does; then those that do not are cancelled.

    Raises ClusterRefused when Slurm refuses a job, or when all jobs have ended and none has a worker.
    """
    say(f"Slurm: {count(jobs.count, 'job')} submitted; the trainings begin when they run.")
    began, num_seen, said, alive = None, 0, time.monotonic(), time.monotonic()
    while (num_running := len(cluster.scheduler.workers)) < jobs.count:
        now = time.monotonic()
        if failures:
            raise ClusterRefused(f"Slurm did not take the job: {failures[0]}")
        began = now if began is None and num_running else began
        if began is not None and now - began >= jobs.wait_seconds:
            break
        if not num_running and now - alive >= GONE_SECONDS:
            if not is_any_left([job.job_id for job in cluster.workers.values()]):
                raise ClusterRefused(f"All jobs have ended, and none had a worker. What they printed is in {folder}.")
            alive = now
        if num_running != num_seen or now - said > SAY_SECONDS:
            left = (
                "" if began is None else f"; the trainings begin in {duration(jobs.wait_seconds - now + began)} at most"
            )
            say(f"Slurm: {num_running} of {count(jobs.count, 'job')} run{left}.")
            num_seen, said = num_running, now
        time.sleep(LOOK_SECONDS)
    there = {str(worker.name) for worker in cluster.scheduler.workers.values()}
    if late := [job.job_id for name, job in cluster.workers.items() if str(name) not in there and job.job_id]:
        subprocess.run(["scancel", *late], check=False, capture_output=True)
        say(f"Slurm: the trainings begin with {num_running} of {count(jobs.count, 'job')}; the others are cancelled.")


def is_any_left(numbers: Sequence[str | None]) -> bool:
    """Whether Slurm still has one of these jobs; True where it cannot be asked."""
    command = ["squeue", "--noheader", "--format=%i", f"--jobs={','.join(filter(None, numbers))}"]
    try:
        asked = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return True
    is_unknown = "Invalid job id" in asked.stderr  # once Slurm has forgotten all of them
    return bool(asked.stdout.strip()) or (asked.returncode != 0 and not is_unknown)


def _words_of(failure: Exception) -> str:
    """What sbatch said."""
    said = str(failure).partition("stderr:\n")[2].strip() or explain(failure)
    return " ".join(said.split())
