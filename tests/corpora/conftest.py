"""The corpus of Python's own library, built once for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ready import STDLIB, home_with


@pytest.fixture(scope="session")
def stdlib(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return home_with(tmp_path_factory, STDLIB) / "corpora" / "stdlib-v2048-t256"
