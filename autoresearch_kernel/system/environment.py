"""The environment of a child process that runs an agent's code: which variables it inherits, and settings for speed."""

from __future__ import annotations

import os
import re
import secrets

from .locations import RUN_TOKEN
from .slot import present_seat

# Environment variables that a child process may inherit. None of them is a key or a token.
_ALLOWED = {
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TEMP", "TMP", "VIRTUAL_ENV",
    "PYTHONPATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "CC", "CXX", "SYSTEMROOT",
}  # fmt: skip
_ALLOWED_PREFIXES = (
    "CUDA_", "NVIDIA_", "HIP_", "ROCR_", "HSA_", "ONEAPI_", "ZE_", "SYCL_", "OMP_", "GOMP_", "KMP_", "MKL_",
    "OPENBLAS_", "MALLOC_", "LC_", "CONDA_PREFIX", "TORCHINDUCTOR_", "TRITON_", "PYTORCH_", "TORCH_",
)  # fmt: skip
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|AUTH", re.IGNORECASE)

# A waiting OpenMP thread first spins, then sleeps. With OpenMP's default a training beside a busy process slows down to
# a fortieth, because spinning uses up the processor share that the other threads need; with this value it slows down to
# a half (benchmarks/neighbour.py). A value of 0 is better there, but costs about 10 % on a quiet machine.
# The other three make glibc keep freed memory: a training allocates and frees the same large blocks at each step, and a
# scorer at each batch of logits.
SETTINGS = {
    "GOMP_SPINCOUNT": "1000",
    "MALLOC_MMAP_THRESHOLD_": str(2**25),  # 32 MiB, the largest glibc accepts
    "MALLOC_TRIM_THRESHOLD_": str(2**29),
    "MALLOC_TOP_PAD_": str(2**24),
}


# A child writes to this program, whatever the encoding of the user's terminal is.
UTF8 = {"PYTHONIOENCODING": "utf-8:replace", "PYTHONUTF8": "1"}


def is_secret(name: str) -> bool:
    """Whether the name of a variable says that its value is a key, a token or a password."""
    return _SECRET.search(name) is not None


def is_inherited(name: str) -> bool:
    """Whether a child process that runs an agent's code gets the variable."""
    return (name in _ALLOWED or name.startswith(_ALLOWED_PREFIXES)) and not is_secret(name)


def environment(token: str | None, *, prefixes: tuple[str, ...] = ()) -> dict[str, str]:
    """`SETTINGS`, the allowed variables of this process and those of its slot, those with `prefixes`, and the token."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if (name in _ALLOWED or name.startswith(_ALLOWED_PREFIXES + prefixes)) and not _SECRET.search(name)
    }
    seat = present_seat()
    kept |= seat.slot.environment if seat is not None else {}
    return SETTINGS | kept | UTF8 | {RUN_TOKEN: token or secrets.token_hex(16)}
