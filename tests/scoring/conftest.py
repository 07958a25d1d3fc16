"""Scorers that need not import torch each time, for tests of what a scorer answers and not of how it starts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from autoresearch_kernel.scoring.job import Wrap
from tests.conftest import PROJECT
from tests.trust import zygote


@pytest.fixture(scope="session")
def forked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wrap]:
    """The `wrap` of a job whose scorer is forked from a process that has imported torch."""
    with zygote.started(tmp_path_factory.mktemp("forked"), PROJECT) as wrap:
        yield wrap
