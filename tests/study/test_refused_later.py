"""A kept experiment whose later run is refused by the audit, while another slot has one more run of it in work."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from autoresearch_kernel.core.types import Audit, Experiment, Run, Status
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


def test_a_first_run_that_failed_on_another_machine_is_in_no_mean() -> None:
    """A slot of a cluster: its only other run has no score, so there is no mean that could have changed."""
    said: list[str] = []
    failed = Run(1, seed=2, status=Status.CRASH, num_decided=2, machine="gpu")
    audit = Audit(True, 0.0, 0.0, 256, 0, "", 0.1)
    scored = Run(2, seed=3, val_bpb=1.4, num_decided=2, machine="gpu", audit=audit)
    kept = Experiment(1, "An idea", "search", 0, runs=(DONE, failed, scored), status=Status.KEEP)
    session: Any = SimpleNamespace(
        state=SimpleNamespace(experiments=[kept, kept], noise=SimpleNamespace(like_speed=1.05)),
        machine="gpu", show=lambda experiment: said.append("shown"), note=said.append,
    )  # fmt: skip
    _show_rerun(session, kept)
    assert said[0].startswith("Experiment 0001 ran again, the machine at") and said[1] == "shown"


def test_a_kept_one_is_shown_when_all_its_runs_are_complete() -> None:
    done: list[str] = []
    kept = Experiment(1, "An idea", "search", 0, runs=(DONE, IN_WORK), status=Status.KEEP)
    session: Any = SimpleNamespace(
        state=SimpleNamespace(experiments=[None, kept]), show=lambda experiment: done.append("shown")
    )
    _show_rerun(session, kept)
    assert done == []
