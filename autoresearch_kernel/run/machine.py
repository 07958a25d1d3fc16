"""The machine as a training sees it: an environment without secrets, and nobody else training on it."""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..record.paths import cache_dir
from .processes import TOKEN

# What a training may know of its surroundings. No key, no token, nothing of the agent's.
_ALLOWED = {
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TEMP", "TMP", "VIRTUAL_ENV",
    "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONPATH", "CC", "CXX", "KMP_BLOCKTIME", "SYSTEMROOT",
}  # fmt: skip
_ALLOWED_PREFIXES = (
    "AUTORESEARCH_", "CUDA_", "NVIDIA_", "HIP_", "ROCR_", "HSA_", "ONEAPI_", "ZE_", "SYCL_", "OMP_", "GOMP_", "MKL_",
    "OPENBLAS_", "MALLOC_", "LC_", "CONDA_PREFIX", "TORCHINDUCTOR_", "TRITON_", "PYTORCH_", "TORCH_",
)  # fmt: skip
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|AUTH", re.IGNORECASE)

# Threads that wait spin briefly: OpenMP's default halves the speed of anything beside it, and PASSIVE costs 40 %.
# glibc keeps what it once got from the system: a training allocates and frees the same large blocks at each step.
_SETTINGS = {
    "GOMP_SPINCOUNT": "10000",
    "MALLOC_MMAP_THRESHOLD_": str(2**25),  # 32 MiB, the largest glibc accepts
    "MALLOC_TRIM_THRESHOLD_": str(2**29),
    "MALLOC_TOP_PAD_": str(2**24),
    "PYTHONUNBUFFERED": "1",
}


def child_environment(
    corpus_dir: Path, time_budget_seconds: float, handover: Path, project: Path, seed: int, folder: Path
) -> dict[str, str]:
    """The environment of a training: an allow-list of ours, plus what prepare.py reads."""
    env = {
        name: value
        for name, value in os.environ.items()
        if (name in _ALLOWED or name.startswith(_ALLOWED_PREFIXES)) and not _SECRET.search(name)
    }
    env.pop("AUTORESEARCH_HELDOUT", None)  # training never learns where the validation rows are
    package = str(Path(__file__).resolve().parents[2])
    env["PYTHONPATH"] = os.pathsep.join([package, *filter(None, [env.get("PYTHONPATH")])])
    return {
        **_SETTINGS,
        **env,
        "AUTORESEARCH_CORPUS": str(Path(corpus_dir).resolve()),
        "AUTORESEARCH_TIME_BUDGET": repr(time_budget_seconds),
        "AUTORESEARCH_HANDOVER": str(handover),
        "AUTORESEARCH_PROJECT": str(Path(project).resolve()),
        "AUTORESEARCH_SEED": str(seed),
        "IPYTHONDIR": str(folder / "ipython"),  # a person's start-up files are not part of an experiment
        "MPLCONFIGDIR": str(folder / "matplotlib"),
        TOKEN: secrets.token_hex(16),
    }


@contextmanager
def training_lock(on_wait: Callable[[str], None] | None = None) -> Iterator[int | None]:
    """Hold this machine's training lock (one for each choice of devices); yields its descriptor.

    The runner inherits it: should the supervisor vanish, the lock is free only when the training has ended as well.
    """
    try:
        import fcntl
    except ImportError:  # Windows has none: there, two trainings may share a machine
        yield None
        return
    path = cache_dir() / "locks" / f"training-{_device_name()}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as file:
        told = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if on_wait is not None and not told:
                    on_wait(f"Another training runs on this machine ({path} is locked); waiting for it to end.")
                told = True
                time.sleep(0.2)
        yield file.fileno()


def _device_name() -> str:
    device = os.environ.get("AUTORESEARCH_DEVICE") or "any"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or os.environ.get("HIP_VISIBLE_DEVICES") or "all"
    return re.sub(r"[^A-Za-z0-9]+", "-", f"{device}-{visible}")
