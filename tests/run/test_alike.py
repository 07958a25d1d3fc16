"""Which machines are so alike that the scores of their runs may be compared; and a cluster without Dask."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from autoresearch_kernel.run.alike import unlike
from autoresearch_kernel.run.cluster import cluster_backend
from autoresearch_kernel.run.connection import ClusterRefused

ONE: dict[str, Any] = {
    "device": "cuda", "device_name": "H100", "dtype": "bfloat16", "memory_mb": 81_920, "flops": 4e14,
    "versions": {"torch": "2.13.0", "python": "3.12.1"}, "sandbox": "bubblewrap",
}  # fmt: skip


def test_small_differences_of_memory_and_speed_are_none() -> None:
    assert unlike(ONE, ONE) == ""
    assert unlike(ONE, ONE | {"memory_mb": 75_000, "flops": 3.3e14, "sandbox": "landlock"}) == ""


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"device_name": "A100"}, "device H100 and A100"),
        ({"dtype": "float32"}, "number format bfloat16 and float32"),
        ({"versions": {"torch": "2.12.0", "python": "3.12.1"}}, "torch 2.13.0 and 2.12.0"),
        ({"versions": {"torch": "2.13.0"}}, "python 3.12.1 and missing"),
        ({"memory_mb": 40_960}, "memory 80.0 GB and 40.0 GB"),
        ({"flops": 2e14}, "speed 400000 and 200000 GFLOP/s, as measured now"),
        ({"sandbox": "none"}, "sandbox bubblewrap and none"),
    ],
)
def test_unlike_machines_are_told_apart(other: dict[str, Any], words: str) -> None:
    assert unlike(ONE, ONE | other) == words
    assert unlike(ONE | other, ONE) != ""


def test_a_cluster_without_dask_is_one_clear_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(ClusterRefused, match="--cluster needs Dask"),
        cluster_backend("tcp://127.0.0.1:8786", tmp_path),
    ):
        pass
