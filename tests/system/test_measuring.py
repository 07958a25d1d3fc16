from __future__ import annotations

from pathlib import Path

import pytest

from autoresearch_kernel.system.measuring import open_measuring_process


def test_a_child_that_failed_is_reported_at_each_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    with open_measuring_process(tmp_path) as process:
        with pytest.raises(RuntimeError, match="No module named 'prepare'"):
            process.facts()
        with pytest.raises(RuntimeError, match="ended without a word"):
            process.training_flops()
