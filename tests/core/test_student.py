"""Student's t against tables, and the number of sigma that a line shows."""

from __future__ import annotations

import math
import statistics

import pytest

from autoresearch_kernel.core.comparison import Comparison
from autoresearch_kernel.core.decide import decide
from autoresearch_kernel.core.student import as_known, quantile


@pytest.mark.parametrize(
    ("tail", "degrees", "t"), [(0.05, 1, 6.3138), (0.05, 2, 2.92), (0.01, 5, 3.3649), (0.001, 10, 4.1437)]
)
def test_quantiles_are_those_of_the_tables(tail: float, degrees: int, t: float) -> None:
    assert quantile(tail, degrees) == pytest.approx(t, abs=2e-4)


@pytest.mark.parametrize("degrees", [1, 2, 3, 10, 60])
def test_so_many_sigma_are_as_rare_as_the_estimated_ones(degrees: int) -> None:
    for tail in (0.2, 0.02, 1e-5):
        known = -statistics.NormalDist().inv_cdf(tail)
        t = quantile(tail, degrees)
        assert as_known(t, degrees) == pytest.approx(known, rel=1e-6)
        assert as_known(-t, degrees) == pytest.approx(-known, rel=1e-6)


def test_it_grows_with_the_distance_and_with_what_is_known() -> None:
    distances = [0.0, 0.01, 0.3, 0.5, 0.6, 3.0, 40.0, 1e6]
    found = [as_known(t, 3) for t in distances]
    assert found[0] == 0 and found == sorted(found) and math.isfinite(found[-1])
    assert as_known(1e6, 200) > 30
    assert as_known(4.0, 2) < as_known(4.0, 5) < as_known(4.0, 50) < as_known(4.0, None) == 4.0


def test_a_line_and_the_rule_show_the_same_number_of_sigma() -> None:
    """A no-op was called 4 sigma better where sigma rested on two degrees of freedom."""
    found = Comparison(1.46, 1.5, 0.007, 0.006, 0.01, degrees_of_freedom=2)
    assert found.sigmas == pytest.approx(as_known(-4.0, 2)) and -2 < found.sigmas < -1.8
    assert str(found).endswith("(−1.9 σ)")
    judged = decide([1.46], [1.5, 1.5, 1.5], 0.01, degrees_of_freedom=2)
    assert judged.verdict == "confirm" and "1.4600 is 1.9 sigma below" in judged.reason
    assert "4.0 sigma below" in decide([1.46], [1.5, 1.5, 1.5], 0.01).reason
