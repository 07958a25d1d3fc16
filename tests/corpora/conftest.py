"""The embedded corpus, built once for all tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoresearch_kernel.corpora.build import build_corpus


@pytest.fixture(scope="session")
def stdlib(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_corpus("stdlib", home=tmp_path_factory.mktemp("home"), log=lambda line: None)
