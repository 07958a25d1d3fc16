"""What a worker does for a supervisor, in this process and without Dask."""

from __future__ import annotations

import pytest

from autoresearch_kernel.core.errors import MachineFailed
from autoresearch_kernel.run.remote import PROCESS, Order, WorkerRestarted, _working
from autoresearch_kernel.run.training import new_token


def order(process: str = PROCESS) -> Order:
    return Order(process, new_token(), "projects/none", 60.0, shares_machine=True, num_on_machine=1)


def test_a_task_that_is_asked_for_twice_is_done_once() -> None:
    once = order()
    with _working(once) as work:
        with pytest.raises(MachineFailed, match="was asked twice for the same task"), _working(once):
            raise AssertionError("it works twice")
        assert work.has_begun and not work.is_over
        work.tick()
    assert work.is_over


def test_a_task_for_a_process_that_is_gone_is_refused() -> None:
    with pytest.raises(WorkerRestarted, match="was restarted"), _working(order("another process")):
        raise AssertionError("it works")
