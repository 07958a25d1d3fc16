"""What the machine's speed is worth, by a study's own runs and curves."""

from __future__ import annotations

import math
from typing import Any

import pytest

from autoresearch_kernel.core.speed_worth import (
    CURVE_SHARE,
    MOST_TIMES,
    PRIOR_ERROR,
    curve_slope,
    estimate_worth,
    expected_worth,
    usual_worth,
)
from autoresearch_kernel.core.types import Run


def curve(slope: float, points: int = 200) -> list[dict[str, Any]]:
    """A loss that falls by `slope` nats for each factor of e in steps."""
    return [{"progress": i / points, "train_loss": 6 - slope * math.log(i)} for i in range(1, points + 1)]


def test_the_figures_before_anything_ran_are_the_measured_ones() -> None:
    assert usual_worth("cpu", 20) == 0.23 and usual_worth("cuda", 300) == 0.047
    assert usual_worth("cpu", 60) == pytest.approx(0.165, abs=0.001)


def test_a_curve_tells_what_a_factor_of_e_in_steps_is_worth() -> None:
    assert curve_slope(curve(0.7)) == pytest.approx(0.7, abs=0.01)
    for bad in ([], curve(0.7)[:150], curve(-0.7), [*curve(0.7), {"progress": 0.5, "train_loss": 1.0}]):
        assert curve_slope(bad) is None
    assert curve_slope([p | {"train_loss": "many"} for p in curve(0.7)]) is None


def test_it_becomes_bits_per_byte_by_the_tokens_of_the_held_out_text() -> None:
    """Measured on two cores at 15 s: curves of 0.71 to 0.73 nats, and 0.24 bits per byte between its runs."""
    facts = {"curve_slope": 0.72, "scored": {"num_tokens": 131_056, "num_bytes": 425_267}}
    found = expected_worth([Run(0, 0, val_bpb=1.95, measured=facts)], 9.0)
    assert found == pytest.approx(CURVE_SHARE * 0.72 / math.log(2) * 131_056 / 425_267)
    assert found == pytest.approx(0.24, rel=0.25)
    assert expected_worth([Run(0, 0, val_bpb=1.95)], 9.0) == 9.0


def test_the_runs_of_one_code_at_different_speeds_correct_it() -> None:
    """The four runs of a baseline on a busy machine: tokens a second and val_bpb, as recorded."""
    runs = [(11_356, 1.9502), (9_025, 1.9795), (8_306, 2.0004), (5_620, 2.1205)]
    for expected in (0.12, 0.24, 0.48):
        worth, error = estimate_worth([runs], expected, 0.01)
        assert worth == pytest.approx(0.24, rel=0.1) and 0.01 < error < 0.03, "less than half of the expectation's"
    shifted = [(speed, score + 0.5) for speed, score in runs]
    worth, closer = estimate_worth([runs, shifted], 0.12, 0.01)
    assert worth == pytest.approx(0.24, rel=0.1) and closer < error, "another code may score worse"


def test_without_runs_that_tell_the_expectation_stays() -> None:
    assert estimate_worth([], 0.2, 0.01) == (0.2, PRIOR_ERROR * 0.2)
    assert estimate_worth([[(1000, 1.5), (2000, 1.4)]], 0.2, None) == (0.2, PRIOR_ERROR * 0.2)
    assert estimate_worth([[(1000, 1.5), (1001, 1.6)]], 0.2, 0.05) == pytest.approx((0.2, 0.1), abs=0.001)


def test_it_is_never_corrected_beyond_reason() -> None:
    assert estimate_worth([[(1000, 1.5), (2000, 2.5)]], 0.2, 0.001)[0] == pytest.approx(0.2 / MOST_TIMES)
    assert estimate_worth([[(1000, 2.5), (2000, 0.5)]], 0.2, 0.001)[0] == pytest.approx(0.2 * MOST_TIMES)
