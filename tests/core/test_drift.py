from __future__ import annotations

from typing import Any

import pytest

from autoresearch_kernel.core.drift import (
    LEAST_TOLERANCE,
    MOST_TOLERANCE,
    SAME_SPEED,
    alike,
    at_present_speed,
    is_much_slower,
    machine_speeds,
    present_speed,
    relative_speed,
    rerun_due,
    tolerance,
)
from autoresearch_kernel.core.types import Experiment, Run, Status


def run(index: int, speed: float | None = None, *, at: int = 0, score: float | None = 1.5, **measured: Any) -> Run:
    facts = measured | ({"tokens_per_second": speed} if speed else {})
    return Run(index, index, val_bpb=score, measured=facts, num_decided=at)


def experiment(number: int, *runs: Run, status: Status = Status.DISCARD, parent: int | None = 0) -> Experiment:
    return Experiment(number, "h", "a", parent if number else None, runs=runs, status=status, val_bpb=1.5)


BASELINE = experiment(0, run(0, 1000), run(1, 1010), run(2, 990), status=Status.KEEP)


def challengers(count: int, relative: float, first: int = 1) -> list[Experiment]:
    return [experiment(n, run(0, at=n, relative_speed=relative)) for n in range(first, first + count)]


def test_runs_at_another_speed_are_not_pooled_with_the_latest() -> None:
    assert at_present_speed(BASELINE.runs) == BASELINE.runs
    runs = (*BASELINE.runs, run(3, 600, score=1.6), run(4, 590, score=1.61))
    assert [r.index for r in at_present_speed(runs)] == [3, 4]
    recovered = (*runs, run(5, 1000))
    assert [r.index for r in at_present_speed(recovered)] == [0, 1, 2, 5]


def test_a_machine_that_became_another_one_is_no_noise_but_one_that_wanders_is() -> None:
    wandering = (run(0, 1000, score=1.50), run(1, 800, score=1.52), run(2, 1100, score=1.49))
    assert sorted(map(sorted, alike(wandering))) == [[1.49, 1.50, 1.52]]
    halved = (*wandering, run(3, 450, score=1.60), run(4, 440, score=1.61))
    assert sorted(map(sorted, alike(halved))) == [[1.49, 1.50, 1.52], [1.60, 1.61]]
    assert alike((run(0, score=1.5), run(1, score=1.6), run(2, score=None))) == [(1.5, 1.6)]


def test_runs_without_a_score_or_a_speed_do_no_harm() -> None:
    assert at_present_speed((run(0, 1000, score=None),)) == ()
    unknown = (run(0), run(1))
    assert at_present_speed(unknown) == unknown
    assert [r.index for r in at_present_speed((run(0), run(1, 500)))] == [0, 1]


def test_a_run_is_compared_with_the_incumbent_at_its_present_speed() -> None:
    assert relative_speed({"tokens_per_second": 500}, BASELINE) == pytest.approx(0.5)
    slower_now = experiment(0, *BASELINE.runs, run(3, 500), status=Status.KEEP)
    assert relative_speed({"tokens_per_second": 500}, slower_now) == pytest.approx(1.0)
    assert relative_speed({}, BASELINE) is None
    assert relative_speed({"tokens_per_second": "many"}, BASELINE) is None
    assert relative_speed({"tokens_per_second": 500}, None) is None


def test_a_larger_model_is_not_taken_for_a_slower_machine() -> None:
    incumbent = experiment(0, run(0, 1000, flops_per_token=1e6), status=Status.KEEP)
    larger = {"tokens_per_second": 400, "flops_per_token": 2.4e6}
    assert relative_speed(larger, incumbent) == pytest.approx(0.96)
    assert not is_much_slower(relative_speed(larger, incumbent))
    assert is_much_slower(relative_speed({"tokens_per_second": 400, "flops_per_token": 1e6}, incumbent))
    assert not is_much_slower(None)


def test_the_incumbent_is_due_after_twenty_experiments_and_after_ten_in_drift() -> None:
    steady = [BASELINE, *challengers(19, 0.97)]
    assert rerun_due(steady, BASELINE) == ""
    assert rerun_due([BASELINE, *challengers(20, 0.97)], BASELINE).startswith("20 experiments")
    drifting = [BASELINE, *challengers(10, 0.8)]
    assert "the machine drifts (0.80 x)" in rerun_due(drifting, BASELINE)
    slightly = [BASELINE, *challengers(10, 0.92)]
    assert "(0.92 x)" in rerun_due(slightly, BASELINE) and rerun_due(slightly[:-1], BASELINE) == ""
    assert rerun_due([BASELINE, *challengers(10, 0.95)], BASELINE) == ""
    again = experiment(0, *BASELINE.runs, run(3, 800, at=10, relative_speed=0.8), status=Status.KEEP)
    assert rerun_due(drifting, again) == ""
    assert rerun_due([], None) == ""


def test_the_incumbent_is_due_at_once_when_the_machine_has_moved_by_more_than_scores_bear() -> None:
    def due(count: int, relative: float, sigma: float | None) -> str:
        return rerun_due([BASELINE, *challengers(count, relative)], BASELINE, sigma)

    assert due(4, 0.8, None) and not due(3, 0.8, None) and not due(4, 0.9, None)
    # 0.001 bits per byte is the worth of 2 % of speed: at sigma 0.0003 that counts, at sigma 0.005 it does not
    assert due(4, 0.97, 0.0003) and not due(4, 0.97, 0.005)
    assert not due(4, 0.99, 0.0003)


def test_the_tolerance_follows_the_noise_within_its_limits() -> None:
    assert tolerance(None) == SAME_SPEED and tolerance(0.05) == MOST_TOLERANCE
    assert tolerance(0.0001) == LEAST_TOLERANCE
    assert tolerance(0.0035) == pytest.approx(1.077, abs=0.001)
    runs = (run(0, 1000), run(1, 1030), run(2, 1000))
    assert len(at_present_speed(runs, 0.0003)) == 2 and len(at_present_speed(runs, 0.01)) == 3


def test_the_machine_of_a_steady_study_has_its_speed_of_the_start_whatever_single_changes_cost() -> None:
    costly = experiment(4, run(0, at=4, relative_speed=0.4))
    study = [BASELINE, *challengers(3, 1.02), costly, *challengers(3, 0.99, first=5)]
    assert all(0.9 < speed < 1.1 for _, speed in machine_speeds(study))
    assert present_speed([BASELINE]) == 1.0 and machine_speeds([]) == []


def test_a_change_of_machine_speed_is_seen_within_ten_runs_and_at_once_with_the_incumbent() -> None:
    study = [BASELINE, *challengers(10, 1.0), *challengers(9, 0.6, first=11)]
    speeds = machine_speeds(study)
    assert dict(speeds)[10.0] == pytest.approx(1.0) and present_speed(study) == pytest.approx(0.6)
    slow_again = experiment(0, *BASELINE.runs, run(3, 600, at=12, relative_speed=0.6), status=Status.KEEP)
    study = [slow_again, *challengers(10, 1.0), experiment(11, run(0, at=11, relative_speed=0.55))]
    assert present_speed(study) == pytest.approx(0.6)
    # what follows is compared with the slow incumbent, so the machine stays where it is
    assert present_speed([*study, *challengers(9, 1.0, first=13)]) == pytest.approx(0.6)


def test_a_kept_change_that_costs_speed_is_not_taken_for_the_machine_later_on() -> None:
    kept = experiment(2, run(0, at=2, relative_speed=0.7), status=Status.KEEP)
    children = [experiment(n, run(0, at=n, relative_speed=1.0), parent=2) for n in range(3, 14)]
    assert present_speed([BASELINE, *challengers(1, 1.0), kept, *children]) == pytest.approx(1.0)
