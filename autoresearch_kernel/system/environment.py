"""A child that runs an agent's code: what it may know of its surroundings, and that it ends when it should.

Trainings and scorers are such children. Only what the operating system offers to an ordinary user is used.
"""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from .locations import RUN_TOKEN

if TYPE_CHECKING:
    pass

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
