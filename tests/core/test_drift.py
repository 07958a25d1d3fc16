from __future__ import annotations

import math
from typing import Any

import pytest

from autoresearch_kernel.core.drift import (
    CLOCK_ERROR,
    LEAST_TOLERANCE,
    MACHINE_ERROR,
    MOST_TOLERANCE,
    SAME_SPEED,
    alike,
    at_present_speed,
    is_far,
    least_jitter,
    level,
    machine_speeds,
    normal_speed,
    present_speed,
    relative_machine_speed,
    relative_speed,
    rerun_due,
    stays_far,
    tolerance,
    void_by_speed,
)
from autoresearch_kernel.core.types import Cause, Experiment, Run, Status, scores_of

WORTH = 0.2  # bits per byte for a factor of e in speed


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


def test_runs_of_a_steady_clock_are_alike_within_its_limits_whatever_the_machine_did() -> None:
    counted = {"num_tokens": 20_000, "counted_seconds": 20.0}
    slow = run(0, 700, machine_speed=35.0, clock_speed=30.0, budget_speed=1.01, **counted)
    usual = run(1, 1000, machine_speed=50.0, clock_speed=45.0, budget_speed=0.99, **counted)
    too_slow = run(2, 400, machine_speed=20.0, clock_speed=18.0, budget_speed=0.6, num_tokens=12e3, counted_seconds=20)
    assert [len(group) for group in alike((slow, usual, too_slow))] == [2, 1]
    assert relative_machine_speed(slow.measured, [usual]) == pytest.approx(1.01 / 0.99)
    assert relative_speed(slow.measured, [usual]) == pytest.approx(1.0)
    assert least_jitter([slow, usual]) == CLOCK_ERROR < MACHINE_ERROR == least_jitter([run(0, 1, machine_speed=50.0)])


def test_time_that_hidden_processes_took_is_taken_off_a_score() -> None:
    incumbent = [run(i, score=1.5, budget_speed=1.0) for i in range(3)]
    hiding = level([run(0, score=1.45, budget_speed=1.4)], incumbent, 1.1, WORTH)
    assert hiding is not None and not hiding.is_like
    assert hiding.bpb == pytest.approx(1.5 - WORTH * math.log(1.4))


def test_normal_is_the_speed_of_the_machine_in_the_first_run_that_ended() -> None:
    assert normal_speed([]) is None and normal_speed([experiment(0, run(0, score=None))]) is None
    runs = run(0, score=None), run(1, clock_speed=45.0), run(2, clock_speed=30.0)
    assert normal_speed([experiment(0, *runs), experiment(1, run(0, clock_speed=9.0))]) == 45.0


def test_sigma_is_estimated_within_one_speed_of_the_machine() -> None:
    def groups(*runs: Run) -> list[list[float]]:
        return [sorted(scores_of(group)) for group in alike(runs)]

    wandering = (run(0, 1000, score=1.50), run(1, 900, score=1.52), run(2, 1100, score=1.49))
    assert groups(*wandering) == [[1.49, 1.50, 1.52]]
    assert groups(*wandering, run(3, 450, score=1.60), run(4, 440, score=1.61)) == [[1.49, 1.50, 1.52], [1.60, 1.61]]
    assert groups(run(0, score=1.5), run(1, score=1.6), run(2, score=None)) == [[1.5, 1.6]]


def test_code_cannot_set_its_own_runs_apart_by_what_it_reports() -> None:
    told = tuple(run(i, speed, machine_speed=1.0 + i / 100) for i, speed in enumerate((1000, 100, 10)))
    assert at_present_speed(told) == told
    busy = tuple(run(i, speed, machine_speed=speed / 1000) for i, speed in enumerate((1000, 500, 1010)))
    assert [r.index for r in at_present_speed(busy)] == [0, 2]


def test_runs_without_a_score_or_a_speed_do_no_harm() -> None:
    assert at_present_speed((run(0, 1000, score=None),)) == ()
    unknown = (run(0), run(1))
    assert at_present_speed(unknown) == unknown
    assert [r.index for r in at_present_speed((run(0), run(1, 500)))] == [0, 1]


def test_a_run_is_compared_with_the_incumbent_at_its_present_speed() -> None:
    assert relative_speed({"tokens_per_second": 500}, BASELINE.runs) == pytest.approx(0.5)
    assert relative_speed({"tokens_per_second": 500}, (*BASELINE.runs, run(3, 500))) == pytest.approx(1.0)
    assert relative_speed({}, BASELINE.runs) is None
    assert relative_speed({"tokens_per_second": "many"}, BASELINE.runs) is None
    assert relative_speed({"tokens_per_second": 500}, ()) is None


def test_another_size_of_model_is_not_taken_for_another_speed_of_the_machine() -> None:
    incumbent = (run(0, 1000, flops_per_token=1e6),)
    larger = {"tokens_per_second": 400, "flops_per_token": 2.4e6}
    assert relative_speed(larger, incumbent) == pytest.approx(0.96)
    smaller = {"tokens_per_second": 2000, "flops_per_token": 0.52e6}
    assert relative_speed(smaller, incumbent) == pytest.approx(1.04)
    assert is_far(relative_speed({"tokens_per_second": 400, "flops_per_token": 1e6}, incumbent))
    assert is_far(0.59) and is_far(1 / 0.59) and not is_far(0.61) and not is_far(1 / 0.61) and not is_far(None)


# --- a machine whose speed the supervisor measures

MEASURED = experiment(
    0,
    *(run(i, 1000 * s, score=y, machine_speed=s) for i, (s, y) in enumerate([(1.0, 1.50), (1.02, 1.49), (0.5, 1.64)])),
)


def beaten(*challenger: Run, incumbent: Experiment = MEASURED, factor: float = 1.05):
    found = level(challenger, incumbent.runs, factor, WORTH)
    assert found is not None
    return found


def test_a_challenger_is_compared_with_the_incumbents_runs_at_its_own_speed() -> None:
    usual = beaten(run(0, 1000, machine_speed=0.98))
    assert [r.index for r in usual.runs] == [0, 1] and usual.bpb == pytest.approx(1.495, abs=0.003) and usual.is_like
    slow = beaten(run(0, 500, machine_speed=0.52))
    assert [r.index for r in slow.runs] == [2] and slow.is_like and slow.bpb == pytest.approx(1.63, abs=0.011)


def test_what_a_faster_machine_was_worth_is_taken_off_and_a_slower_one_is_credited_to_nobody() -> None:
    one = experiment(0, run(0, 1000, score=1.5, machine_speed=1.0))
    faster = beaten(run(0, 2000, machine_speed=2.0), incumbent=one)
    assert faster.bpb == pytest.approx(1.5 - WORTH * math.log(2)) and not faster.is_like
    slower = beaten(run(0, 700, machine_speed=0.7), incumbent=one)
    assert slower.bpb == 1.5 and not slower.is_like


def test_a_score_carried_to_another_speed_has_the_error_of_what_speed_is_worth() -> None:
    one = experiment(0, run(0, 1000, score=1.5, machine_speed=1.0))
    fast, same = run(0, 2000, machine_speed=2.0), run(1, 1000, machine_speed=1.0)
    assert beaten(fast, incumbent=one).standard_error(0.03, 0.1) == pytest.approx(math.hypot(0.03, 0.1 * math.log(2)))
    half = beaten(fast, same, incumbent=one)
    assert half.standard_error(0.0, 0.1) == pytest.approx(0.1 * math.log(2) / 2), "one of the two runs was carried"
    assert beaten(run(0, 700, machine_speed=0.7), incumbent=one).standard_error(0.03, 0.1) == 0.03
    assert beaten(same).standard_error(0.03, 0.1) == pytest.approx(0.03 / math.sqrt(2)), "no run was carried"
    assert beaten(fast, incumbent=one).standard_error(None, 0.1) is None


def test_code_that_is_truly_faster_is_credited_in_full() -> None:
    one = experiment(0, run(0, 1000, score=1.5, machine_speed=1.0))
    found = beaten(run(0, 3000, machine_speed=1.01), incumbent=one)
    assert found.bpb == 1.5 and found.is_like


def test_the_incumbents_few_runs_at_this_speed_are_no_easier_to_beat_than_all_of_its_runs() -> None:
    """A single slow run came out badly; the others, carried to its speed, say what the incumbent does there."""
    runs = [run(i, 1000, score=1.5, machine_speed=1.0) for i in range(3)]
    unlucky = experiment(0, *runs, run(3, 500, score=1.70, machine_speed=0.5))
    there = 1.5 + WORTH * math.log(2)
    assert beaten(run(0, 500, machine_speed=0.5), incumbent=unlucky).bpb == pytest.approx((3 * there + 1.70) / 4)


def test_two_runs_are_compared_each_at_its_own_speed() -> None:
    both = beaten(run(0, 1000, machine_speed=1.0), run(1, 500, machine_speed=0.5))
    each = [beaten(run(0, 1000 * s, machine_speed=s)).bpb for s in (1.0, 0.5)]
    assert both.bpb == pytest.approx(sum(each) / 2) and [r.index for r in both.runs] == [0, 1, 2]


def test_only_what_the_supervisor_measured_makes_a_run_again_and_only_once() -> None:
    told = {"tokens_per_second": 100.0}
    assert void_by_speed(told, BASELINE, ()) == "" and void_by_speed(told | {"machine_speed": 1.0}, MEASURED, ()) == ""
    slow, fast = ({"tokens_per_second": 1000.0, "machine_speed": speed} for speed in (0.2, 3.12))
    assert void_by_speed(slow, MEASURED, ()) == "the machine ran at 40% of its speed for the incumbent"
    assert "3.06 times" in void_by_speed(fast, MEASURED, ())
    for cause in (Cause.SLOW, Cause.FAST, Cause.OVERTIME, Cause.KILLED):
        assert void_by_speed(slow, MEASURED, (cause,)) == void_by_speed(fast, MEASURED, (cause,)) == ""
    assert void_by_speed({"machine_speed": 0.5}, MEASURED, ()) == "", "the incumbent has run at this speed"


def test_the_incumbent_runs_beside_what_stays_far_and_beside_what_says_it_was_faster() -> None:
    for is_gain in (True, False):
        assert stays_far(run(0, 1000, machine_speed=3.0), MEASURED, is_gain) == pytest.approx(3.0 / 1.02)
        assert stays_far(run(0, 9000, machine_speed=1.1, relative_speed=9.0), MEASURED, is_gain) is None
        assert stays_far(run(0, 500, relative_speed=0.5), BASELINE, is_gain) == 0.5
        assert stays_far(run(0, 800, relative_speed=0.8), BASELINE, is_gain) is None
    for relative in (1.3, 9.0):
        assert stays_far(run(0, 1000, relative_speed=relative), BASELINE, is_gain=True) == relative
        assert stays_far(run(0, 1000, relative_speed=relative), BASELINE, is_gain=False) is None


def test_the_machines_speed_is_told_relative_to_the_nearest_run_of_the_incumbent() -> None:
    assert relative_machine_speed({"machine_speed": 0.45}, MEASURED.runs) == pytest.approx(0.9)
    assert relative_machine_speed({"machine_speed": 1.5}, MEASURED.runs) == pytest.approx(1.5 / 1.02)
    assert relative_machine_speed({"machine_speed": -1}, MEASURED.runs) is None
    assert relative_machine_speed({"machine_speed": 1.0}, BASELINE.runs) is None


def test_where_the_speed_is_measured_it_needs_no_incumbent_to_be_followed() -> None:
    runs = [experiment(n, run(0, 1, at=n, machine_speed=0.5, relative_speed=9.0)) for n in range(1, 8)]
    assert present_speed([MEASURED, *runs]) == pytest.approx(0.5)


def test_without_that_measure_a_speed_that_varies_between_two_runs_is_the_machines() -> None:
    incumbent = (run(0, 400, score=1.7),)
    fast, slow = run(0, 1000), run(1, 400)
    alone, both = (level(runs, incumbent, 1.05, WORTH) for runs in ((fast,), (fast, slow)))
    assert alone is not None and alone.bpb == 1.7 and not alone.is_like  # code may truly be faster: it is confirmed
    assert both is not None and both.bpb == pytest.approx(1.7 - WORTH * math.log(2.5) / 2)


# --- the machine over a study


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
        return rerun_due([BASELINE, *challengers(count, relative)], BASELINE, tolerance(sigma, 0.047))

    assert due(4, 0.8, None) and not due(3, 0.8, None) and not due(4, 0.9, None)
    # 0.001 bits per byte is the worth of 2 % of speed: at sigma 0.0003 that counts, at sigma 0.005 it does not
    assert due(4, 0.97, 0.0003) and not due(4, 0.97, 0.005)
    assert not due(4, 0.99, 0.0003)


def test_the_tolerance_follows_the_noise_within_its_limits() -> None:
    assert tolerance(None, 0.047) == SAME_SPEED and tolerance(0.05, 0.047) == MOST_TOLERANCE
    assert tolerance(0.0001, 0.047) == LEAST_TOLERANCE
    assert tolerance(0.00175, 0.047) == pytest.approx(1.077, abs=0.001)
    runs = (run(0, 1000), run(1, 1030), run(2, 1000))
    assert len(at_present_speed(runs, tolerance(0.0003, 0.047))) == 2
    assert len(at_present_speed(runs, tolerance(0.01, 0.047))) == 3


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
