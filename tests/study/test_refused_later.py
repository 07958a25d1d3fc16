"""A kept experiment whose later run is refused by the audit, while another slot has one more run of it in work."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from autoresearch_kernel.core.types import Experiment, Run, Status
from autoresearch_kernel.study.execute import _show_rerun

DONE = Run(0, seed=1, val_bpb=1.4)
IN_WORK = Run(2, seed=3, num_decided=2)  # it has no score yet


@pytest.mark.parametrize("others", [(), (IN_WORK,)])
def test_the_branch_follows_at_once(others: tuple[Run, ...]) -> None:
    done: list[str] = []
    refused = Run(1, seed=2, status=Status.REJECTED, num_decided=2)
    kept = Experiment(1, "An idea", "search", 0, runs=(DONE, refused, *others), status=Status.KEEP)
    after = Experiment(1, "An idea", "search", 0, runs=(DONE, refused, *others), status=Status.REJECTED)
    session: Any = SimpleNamespace(
        state=SimpleNamespace(experiments=[None, after]),
        commits=SimpleNamespace(reconcile=lambda: done.append("reconciled")),
        show=lambda experiment: done.append("shown"),
    )
    _show_rerun(session, kept)
    assert done == ["reconciled", "shown"]


def test_a_kept_one_is_shown_when_all_its_runs_are_complete() -> None:
    done: list[str] = []
    kept = Experiment(1, "An idea", "search", 0, runs=(DONE, IN_WORK), status=Status.KEEP)
    session: Any = SimpleNamespace(
        state=SimpleNamespace(experiments=[None, kept]), show=lambda experiment: done.append("shown")
    )
    _show_rerun(session, kept)
    assert done == []
