"""The difference of a champion by the decisions that led to it."""

from __future__ import annotations

import math

import pytest

from autoresearch_kernel.core.contrast import judged_difference
from autoresearch_kernel.core.state import StudyState
from autoresearch_kernel.core.types import Experiment, Status


def kept(number: int, val_bpb: float, incumbent_bpb: float) -> Experiment:
    return Experiment(
        number, "", "a", number - 1, status=Status.KEEP, val_bpb=val_bpb, incumbent_bpb=incumbent_bpb,
        standard_error=0.003, incumbent_standard_error=0.004,
    )  # fmt: skip


def test_the_differences_of_the_decisions_add_up_with_their_errors() -> None:
    state = StudyState(experiments=(Experiment(0, "", "", None), kept(1, 1.4, 1.5), kept(2, 1.3, 1.45)))
    difference, error = judged_difference(state, 2)
    assert difference == pytest.approx(-0.25) and error == pytest.approx(math.hypot(0.005, 0.005))


def test_a_change_on_the_way_that_was_refused_later_counts_as_nothing() -> None:
    refused = Experiment(1, "", "a", 0, status=Status.REJECTED)
    state = StudyState(experiments=(Experiment(0, "", "", None), refused, kept(2, 1.3, 1.45)))
    assert judged_difference(state, 2) == (pytest.approx(-0.15), None)
