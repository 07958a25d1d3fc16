"""Which views are made anew where a study was cut off; tests/faults has the rest of what a resumed study does."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from autoresearch_kernel.study.recovery import _not_shown_since, every_run
from tests.event_writer import Writer


def test_an_earlier_incumbent_whose_run_was_cut_off_is_shown_again(writer: Writer) -> None:
    session: Any = SimpleNamespace(study=writer.study)
    writer.open().baseline()
    assert _not_shown_since(session, every_run) == {0}
    writer.append("drawn", experiment=0, files={})
    writer.settle(1, "keep", 1.4)
    writer.append("drawn", experiment=1, files={})
    assert _not_shown_since(session, every_run) == set()
    writer.start(0, 3)  # on another slot, while experiment 1 became the incumbent
    assert _not_shown_since(session, every_run) == {0}
    assert _not_shown_since(session, lambda experiment, run: (experiment, run) != (0, 3)) == set()  # still in work
    writer.append("drawn", experiment=0, files={})
    assert _not_shown_since(session, every_run) == set()
