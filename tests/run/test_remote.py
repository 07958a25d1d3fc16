"""What a worker does for a supervisor, in this process and without Dask."""

from __future__ import annotations

import pytest

from autoresearch_kernel.core.errors import MachineFailed
from autoresearch_kernel.run.remote import OUTPUT_LIMIT_CHARS, PROCESS, Order, WorkerRestarted, _working, look
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


def test_an_answer_that_is_lost_takes_no_output_and_no_point_with_it() -> None:
    """The task ends while the supervisor asks, or the network drops the answer: the supervisor asks again."""
    asked = order()
    with _working(asked) as work:
        work.hear("step 1\n")
        work.points.append({"step": 1})
        lost = look(asked.token, 0, 0)
        assert lost == look(asked.token, 0, 0) and (lost.output, lost.num_chars) == ("step 1\n", 7)
        work.hear("dev_bpb 1.5\n")
        work.points.append({"step": 2})
        new = look(asked.token, len(lost.points), lost.num_chars)
        assert (new.output, new.points) == ("dev_bpb 1.5\n", ({"step": 2},))
        at_the_end = work.all_seen()
        assert at_the_end.output == "step 1\ndev_bpb 1.5\n"
        nothing = at_the_end.after(len(lost.points) + len(new.points), new.num_chars)
        assert (nothing.output, nothing.points) == ("", ())


def test_of_a_long_output_the_end_is_told() -> None:
    asked = order()
    with _working(asked) as work:
        work.hear("first\n" + "x" * OUTPUT_LIMIT_CHARS + "last")
        told = look(asked.token, 0, 0)
        assert len(told.output) == OUTPUT_LIMIT_CHARS and told.output.endswith("last")
        work.hear("!")
        assert look(asked.token, 0, told.num_chars).output == "!"
