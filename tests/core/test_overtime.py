"""Time outside the budget, as the parent sees it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch_kernel.core.overtime import allowed_overtime, allowed_scorer_seconds, overtime, works_overtime
from autoresearch_kernel.core.types import Run, Status

BUDGET = 20.0


def measured(cells: float, start: float = 0.6) -> dict[str, Any]:
    return {"cells_seconds": cells, "runner_start_seconds": start / 3, "kernel_start_seconds": start * 2 / 3}


def baseline(*cells: float, start: float = 0.6) -> list[Run]:
    return [Run(i, i, val_bpb=1.5, measured=measured(seconds, start)) for i, seconds in enumerate(cells)]


USUAL = baseline(22.3, 22.6, 22.4)


def test_as_long_as_the_baseline_and_a_little_longer_is_allowed() -> None:
    assert works_overtime(USUAL, measured(22.4), BUDGET) == ""
    assert works_overtime(USUAL, measured(24.7), BUDGET) == ""
    assert works_overtime(USUAL, measured(18.0), BUDGET) == ""


def test_more_than_that_is_not_and_the_words_say_by_how_much() -> None:
    assert works_overtime(USUAL, measured(34.0), BUDGET) == (
        "worked 14.0 s beyond its budget of 20 s; 4.8 s are allowed, going by the baseline's runs"
    )


def test_one_slow_run_of_the_baseline_opens_no_door() -> None:
    assert allowed_overtime(baseline(22.3, 39.0, 22.4), measured(22.0), BUDGET) == pytest.approx(4.8)


def test_a_baseline_that_compiles_allows_for_a_share_of_that() -> None:
    compiled = baseline(345.0, 346.0, 344.0)
    assert works_overtime(compiled, measured(360.0), 300.0) == ""
    assert works_overtime(compiled, measured(365.0), 300.0) != ""


def test_a_machine_on_which_processes_start_slower_is_allowed_for() -> None:
    assert works_overtime(USUAL, measured(26.5, start=0.6), BUDGET) != ""
    assert works_overtime(USUAL, measured(26.5, start=1.2), BUDGET) == ""


def test_a_machine_on_which_they_start_faster_takes_nothing_away() -> None:
    assert works_overtime(USUAL, measured(24.7, start=0.2), BUDGET) == ""


def test_where_a_steady_clock_counts_overtime_is_in_its_seconds() -> None:
    slow = measured(33.4) | {"cells_counted_seconds": 22.4}
    assert overtime(slow, BUDGET) == pytest.approx(2.4) and works_overtime(USUAL, slow, BUDGET) == ""
    assert works_overtime(USUAL, measured(22.4) | {"cells_counted_seconds": 31.0}, BUDGET) != ""


def test_what_nobody_measured_is_not_judged() -> None:
    assert overtime({}, BUDGET) is None
    assert works_overtime(USUAL, {}, BUDGET) == ""
    assert works_overtime([], measured(60.0), BUDGET) == ""
    unscored = [Run(0, 1, Status.CRASH, measured=measured(22.0))]
    assert works_overtime(unscored, measured(60.0), BUDGET) == ""
    without_starts = [Run(0, 1, val_bpb=1.5, measured={"cells_seconds": 22.4})]
    assert works_overtime(without_starts, {"cells_seconds": 34.0}, BUDGET) != ""


def test_a_scorer_may_take_a_few_times_what_the_baseline_took() -> None:
    runs = [Run(i, 1, val_bpb=1.5, measured={"answer_seconds": seconds}) for i, seconds in enumerate((2.0, 9.0, 3.0))]
    assert allowed_scorer_seconds(runs, {}, BUDGET, "answer_seconds") == pytest.approx(4 * 3.0 + 1.0 + 0.02 * BUDGET)
    assert allowed_scorer_seconds(runs, {}, BUDGET, "slowest_batch_seconds") is None


@pytest.mark.parametrize(
    ("now", "slowness"),
    [
        ({"machine_speed": 10.0}, 1.5),
        ({"machine_speed": 45.0}, 1.0),
        (measured(22.0, start=0.9), 1.5),
        (measured(22.0, start=0.3) | {"machine_speed": 10.0}, 1.5),
        (measured(22.0, start=9.0) | {"machine_speed": 1.0}, 2.0),
    ],
)
def test_a_scorer_on_a_machine_that_is_slower_than_for_the_baseline_may_take_longer(
    now: dict[str, Any], slowness: float
) -> None:
    facts = {"answer_seconds": 3.0, "machine_speed": 15.0} | measured(22.0)
    runs = [Run(i, 1, val_bpb=1.5, measured=facts) for i in range(3)]
    usual = allowed_scorer_seconds(runs, {}, BUDGET, "answer_seconds")
    assert usual is not None
    assert allowed_scorer_seconds(runs, now, BUDGET, "answer_seconds") == pytest.approx(slowness * usual)


def test_a_training_says_nothing_that_counts() -> None:
    claims = {"training_seconds": 0.1, "start_up_seconds": 0.0, "overhead_seconds": 0.0, "tokens_per_second": 1.0}
    assert works_overtime(USUAL, measured(34.0) | claims, BUDGET) == works_overtime(USUAL, measured(34.0), BUDGET)


@given(
    st.lists(st.floats(0.0, 100.0), min_size=1, max_size=6),
    st.floats(0.1, 10.0),
    st.floats(1.0, 600.0),
)
def test_a_run_no_longer_than_the_baselines_usual_one_is_always_allowed(
    extra: list[float], start: float, budget: float
) -> None:
    runs = baseline(*(budget + seconds for seconds in extra), start=start)
    least = min(runs, key=lambda run: run.measured["cells_seconds"])
    assert works_overtime(runs, least.measured, budget) == ""
