"""A child that runs an agent's code: what it may know of its surroundings, and that it ends when it should.

Trainings and scorers are such children. Only what the operating system offers to an ordinary user is used.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import secrets
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ..record.paths import BOX_PARENT, RUN_TOKEN

if TYPE_CHECKING:
    import psutil

# What a child may know. No key, no token, nothing of the agent's.
_ALLOWED = {
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TEMP", "TMP", "VIRTUAL_ENV",
    "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "CC", "CXX", "SYSTEMROOT",
}  # fmt: skip
_ALLOWED_PREFIXES = (
    "CUDA_", "NVIDIA_", "HIP_", "ROCR_", "HSA_", "ONEAPI_", "ZE_", "SYCL_", "OMP_", "GOMP_", "KMP_", "MKL_",
    "OPENBLAS_", "MALLOC_", "LC_", "CONDA_PREFIX", "TORCHINDUCTOR_", "TRITON_", "PYTORCH_", "TORCH_",
)  # fmt: skip
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|AUTH", re.IGNORECASE)

# Waiting threads spin briefly, then sleep: spinning uses up their share of a processor while the thread
# they wait for stands behind a busy neighbour. Beside one, a training falls to a fortieth with OpenMP's default, to a
# half with this (benchmarks/neighbour.py). Not to spin at all is better there, and costs about 10 % on a quiet machine.
# glibc keeps what it once got from the system: a training allocates and frees the same large blocks at each step, a
# scorer at each batch of logits.
SETTINGS = {
    "GOMP_SPINCOUNT": "1000",
    "MALLOC_MMAP_THRESHOLD_": str(2**25),  # 32 MiB, the largest glibc accepts
    "MALLOC_TRIM_THRESHOLD_": str(2**29),
    "MALLOC_TOP_PAD_": str(2**24),
}

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def environment(token: str | None, *import_from: Path, prefixes: tuple[str, ...] = ()) -> dict[str, str]:
    """Our settings, what the person set among the allowed variables and those with `prefixes`, and the run's token.

    `import_from` are the folders that Python modules come from, before the person's own PYTHONPATH.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if (name in _ALLOWED or name.startswith(_ALLOWED_PREFIXES + prefixes)) and not _SECRET.search(name)
    }
    path = [*map(str, import_from), *filter(None, [os.environ.get("PYTHONPATH")])]
    return SETTINGS | kept | {"PYTHONPATH": os.pathsep.join(path), RUN_TOKEN: token or secrets.token_hex(16)}


def die_with_parent(parent_pid: int, signum: int = signal.SIGKILL) -> None:
    """Be sent `signum` when the parent thread ends, even while C code holds the GIL. Linux only; elsewhere no effect.

    It binds to the *thread* that forked this process, so that must be one that lives as long as its process.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signum), 0, 0, 0)
    # In a box, which ends with the parent of its own accord, the parent goes by another number.
    if os.getppid() not in (parent_pid, int(os.environ.get(BOX_PARENT) or parent_pid)):  # it went away before the call
        os._exit(1)


def sweep(token: str, timeout_seconds: float = 3.0) -> set[int]:
    """Kill every process of this user whose environment carries `token`; the pids found.

    For what a killed child left: its own children belong to nobody then. Never this process or one above it.
    """
    deadline = time.monotonic() + timeout_seconds
    found: set[int] = set()
    while carriers := _carriers(token):
        found.update(process.pid for process in carriers)
        for process in carriers:
            kill(process)
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    return found


def kill(process: psutil.Process) -> None:
    """Kill this very process: one that has its pid since is left alone, and one that is gone is fine."""
    import psutil

    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        process.kill()


def memory_mb(file: Path) -> float | None:
    """Resident memory of the run that `file` (running.json) remembers, its children included; None when none runs."""
    import psutil

    try:
        runner = psutil.Process(json.loads(file.read_text(encoding="utf-8"))["pid"])
        family = [runner, *runner.children(recursive=True)]
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return None
    total = 0
    for process in family:
        with suppress(psutil.Error):  # it ended while we looked
            total += process.memory_info().rss
    return total / 2**20


def family() -> set[int]:
    """This process and all above it, which must live."""
    import psutil  # takes 30 ms, which most commands need not spend

    me = psutil.Process()
    return {me.pid, *(process.pid for process in me.parents())}


def _carriers(token: str) -> list[psutil.Process]:
    import psutil

    spared, carriers = family(), []
    for process in psutil.process_iter():
        # A zombie has no environment, another user's is closed to us, and any process may vanish while we look.
        with suppress(psutil.Error, OSError):
            if process.environ().get(RUN_TOKEN) == token and process.pid not in spared:
                carriers.append(process)
    return carriers
