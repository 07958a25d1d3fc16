"""A Dask cluster of one worker on this machine, to try what `--cluster` does: `local_worker` starts and ends it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..system.explain import explain
from .connection import SLOT, ClusterRefused, require_dask

LOCAL = "local"  # in the place of an address: `--cluster local`
OUT_OF_REACH = "import os\nos.setpgrp()"  # Ctrl-C in a terminal is for the supervisor, which ends what the worker does
HERE_ALONE = "127.0.0.1:0"  # Dask serves web pages about itself, with and without a dashboard


@contextmanager
def cluster_at(address: str) -> Iterator[str]:
    """The address of a scheduler; where `local` is asked for, of one that is started for this block."""
    if address != LOCAL:
        yield address
        return
    with local_worker() as started:
        yield started


@contextmanager
def local_worker() -> Iterator[str]:
    """The address of a scheduler whose only worker is a process of this machine, until this block is left.

    Raises ClusterRefused without Dask, and where the worker does not start.
    """
    require_dask()
    with quiet_dask(), own_keys() as keys, _started(keys) as cluster:
        yield str(cluster.scheduler_address)


def _started(keys: Any) -> Any:
    """A distributed.LocalCluster of one worker."""
    from distributed import LocalCluster

    try:
        return LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            resources={SLOT: 1},
            memory_limit=None,
            preload=OUT_OF_REACH,
            silence_logs=logging.CRITICAL,
            host="127.0.0.1",
            security=keys,
            dashboard_address=HERE_ALONE,
            worker_dashboard_address=HERE_ALONE,
        )
    except (OSError, RuntimeError, TimeoutError) as error:
        raise ClusterRefused(f"No worker could be started on this machine: {explain(error)}") from error


@contextmanager
def quiet_dask() -> Iterator[None]:
    """Keep what the scheduler in this process logs off the screen: the supervisor says itself which workers are lost.

    Ctrl-C closes connections on which the scheduler may just be sending, and it logs each of them as an error.
    """
    from distributed.utils import silence_logging_cmgr

    with silence_logging_cmgr(logging.CRITICAL):
        yield


@contextmanager
def own_keys() -> Iterator[Any]:
    """Keys for TLS that are made for this block; each connection that is opened within it uses them.

    Yields a distributed.Security. Without it other users of the machine could give the workers programs to run.
    """
    import dask
    from distributed.security import Security

    own = Security.temporary()
    keys = {f"distributed.comm.tls.{role}.{part}": getattr(own, f"tls_{role}_{part}")
            for role in ("client", "scheduler", "worker") for part in ("key", "cert")}  # fmt: skip
    with dask.config.set({**keys, "distributed.comm.tls.ca-file": own.tls_ca_file}):
        yield own
