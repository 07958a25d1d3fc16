from __future__ import annotations

from pathlib import Path

import pytest

from autoresearch_kernel.system.measuring import last_error, open_measuring_process


def test_a_child_that_failed_is_reported_at_each_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    with open_measuring_process(tmp_path) as process:
        with pytest.raises(RuntimeError, match="No module named 'prepare'"):
            process.facts()
        with pytest.raises(RuntimeError, match="ended without a word"):
            process.training_flops()


@pytest.mark.parametrize(
    ("said", "named"),
    [
        (
            "Traceback (most recent call last):\ntorch.AcceleratorError: CUDA error: no kernel image is available\n"
            "CUDA kernel errors might be asynchronously reported at some other API call.\n"
            "Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.\n\n",
            "torch.AcceleratorError: CUDA error: no kernel image is available",
        ),
        ("KeyError: 'x'\n\nDuring handling, another exception:\n\nAssertionError\n", "AssertionError"),
        ("Segmentation fault\n", "Segmentation fault"),
        ("", ""),
    ],
)
def test_the_line_that_names_the_error_is_found_above_general_advice(said: str, named: str) -> None:
    assert last_error(said) == named
