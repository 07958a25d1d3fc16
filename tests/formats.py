"""The number formats that this CPU computes in, for tests that are to hold in each, and the error that each allows."""

from __future__ import annotations

import pytest
import torch

HAS_BFLOAT16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
FORMATS = [
    "float32",
    pytest.param("bfloat16", marks=pytest.mark.skipif(not HAS_BFLOAT16, reason="this CPU has no bfloat16")),
]


def tolerance(dtype: torch.dtype, roundings: float) -> float:
    """Relative error: so many roundings of the format, and 12 of the float32 that sums are taken in."""
    return roundings * torch.finfo(dtype).eps + 12 * torch.finfo(torch.float32).eps
