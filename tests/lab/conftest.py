"""The panel of a study, for tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from autoresearch_kernel.lab.panel.panel import Panel
from autoresearch_kernel.system.files import write_atomic
from tests.event_writer import Writer
from tests.lab.panels import Recorder


@pytest.fixture
def panel(writer: Writer, tmp_path: Path) -> Iterator[Callable[[], Panel]]:
    """Makes the panel of the writer's study; its thread does not look, so that a test says when."""
    made: list[Panel] = []
    write_atomic(tmp_path / "studies" / "nov23" / "study.json", "{}")

    def make() -> Panel:
        made.append(Panel(Recorder(writer), tmp_path))
        made[-1].close()
        return made[-1]

    yield make
    for one in made:
        one.close()
