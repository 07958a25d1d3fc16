"""Student's t: how many estimated standard deviations chance reaches, when the estimate rests on few runs."""

from __future__ import annotations

import math
import statistics
from functools import cache

LINEAR_BELOW = 0.5  # estimated standard deviations: chance is nearly proportional to the distance there
_LEAST_TAIL = 1e-300


@cache
def quantile(tail: float, degrees_of_freedom: int) -> float:
    """The t that is exceeded with probability `tail` (below one half), by bisection; one-sided.

    Raises ValueError for less than one degree of freedom.
    """
    if degrees_of_freedom < 1:
        raise ValueError("A standard deviation needs at least one degree of freedom.")
    low, high = 0.0, 1.0
    while _tail(high, degrees_of_freedom) > tail:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _tail(middle, degrees_of_freedom) > tail else (low, middle)
    return high


@cache
def as_known(t: float, degrees_of_freedom: int | None) -> float:
    """How many standard deviations of a noise that is known exactly are as rare as `t` estimated ones.

    With two degrees of freedom, 4 estimated ones are as rare as 1.9. None degrees are those of a known noise.
    """
    if not degrees_of_freedom:
        return t
    reached = max(abs(t), LINEAR_BELOW)
    found = -statistics.NormalDist().inv_cdf(max(_LEAST_TAIL, _tail(reached, degrees_of_freedom)))
    return t * found / reached


def _tail(t: float, n: int) -> float:
    """Probability above t > 0 with n degrees of freedom.

    It is half of the incomplete beta function I_x(n / 2, 1 / 2) at x = n / (n + t^2), whose power series has positive
    terms only and so keeps its precision where the tail is small (Abramowitz and Stegun 26.5.4 and 26.7.1).
    """
    x = n / (n + t * t)
    a, b = n / 2, 0.5
    log_front = a * math.log(x) + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) - math.log(a)
    term = total = 1.0
    for k in range(1, 100_000):
        term *= x * (k - b) * (a + k - 1) / (k * (a + k))
        total += term
        if term < 1e-12 * total:
            break
    return 0.5 * math.exp(log_front) * total
