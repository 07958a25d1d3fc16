"""What the machine's speed is worth: bits per byte by which val_bpb falls when a run is a factor of e faster.

It depends on the model, the data and the budget, so each study estimates its own. Runs of the same code at different
speeds measure it. Until there are such runs, the end of the baseline's loss curve tells its size, since a machine that
is faster by some factor makes as many more steps; and before anything ran, `usual_worth` has what was measured
elsewhere.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from .sanitize import is_number
from .types import Run

USUAL_ON_CPU, CPU_BUDGET_SECONDS = 0.23, 20.0  # measured on two cores
USUAL_ON_GPU, GPU_BUDGET_SECONDS = 0.047, 300.0  # measured on an H200
BUDGET_POWER = 0.3  # by which a longer budget flattens the curve
CURVE_SHARE = 0.6  # of the curve's slope: the falling learning rate steepens a curve, and two budgets differ by less
CURVE_FROM, CURVE_WINDOW = 0.3, 0.1  # of the budget: the slope is that from there to the end, over means of a tenth
PRIOR_ERROR = 0.5  # standard error of these figures, as a share of them
MOST_TIMES = 3.0  # the runs may correct them by no larger factor


def usual_worth(device: str, budget_seconds: float) -> float:
    """What speed is worth before anything ran, by the kind of device ("cpu" or another) and the budget."""
    worth, at = (USUAL_ON_CPU, CPU_BUDGET_SECONDS) if device == "cpu" else (USUAL_ON_GPU, GPU_BUDGET_SECONDS)
    return worth * (at / budget_seconds) ** BUDGET_POWER


def curve_slope(curve: Sequence[Mapping[str, Any]]) -> float | None:
    """Nats a token by which the training loss falls for each factor of e in steps, late in a curve; None for no curve.

    Args:
        curve: points with progress (0 to 1) and train_loss, of a complete run.
    """
    points = [(p.get("progress"), p.get("train_loss")) for p in curve]
    known = [(float(x), float(y)) for x, y in points if is_number(x) and is_number(y)]
    if not all(a[0] < b[0] for a, b in pairwise(known)):
        return None
    windows = [[p for p in known if end - CURVE_WINDOW < p[0] <= end] for end in (CURVE_FROM, 1.0)]
    if not all(windows):
        return None
    (early, late), (before, after) = (
        [statistics.fmean(point[i] for point in window) for window in windows] for i in (0, 1)
    )
    slope = (before - after) / math.log(late / early)
    return slope if math.isfinite(slope) and slope > 0 else None


def expected_worth(baseline: Sequence[Run], usual: float) -> float:
    """What the baseline's loss curves say that speed is worth; `usual` where they say nothing."""
    found = []
    for run in baseline:
        slope, scored = run.measured.get("curve_slope"), run.measured.get("scored") or {}
        if is_number(slope) and slope > 0 and scored.get("num_bytes") and scored.get("num_tokens"):
            found.append(CURVE_SHARE * slope / math.log(2) * scored["num_tokens"] / scored["num_bytes"])
    return statistics.median(found) if found else usual


def estimate_worth(
    groups: Iterable[Sequence[tuple[float, float]]], expected: float, sigma: float | None
) -> tuple[float, float]:
    """(what speed is worth, its standard error), by runs of the same code at different speeds and by the expectation.

    It is the regression of the scores on the logarithm of the speed within groups, with the expectation as a normal
    prior of standard error PRIOR_ERROR: where speeds hardly differ, the expectation stays.

    Args:
        groups: for each code the runs' (speed, val_bpb).
        sigma: standard deviation of runs of one measured speed; None while it is unknown, and then the expectation
            stays. It includes what the measure's own error is worth: otherwise runs of nearly one speed would seem to
            show that speed is worth little.
    """
    squares = products = 0.0
    for group in groups:
        logs, scores = [math.log(speed) for speed, _ in group], [score for _, score in group]
        if len(group) > 1:
            middle, level = statistics.fmean(logs), statistics.fmean(scores)
            squares += sum((x - middle) ** 2 for x in logs)
            products -= sum((x - middle) * (y - level) for x, y in zip(logs, scores, strict=True))
    if sigma is None or squares == 0:
        return expected, PRIOR_ERROR * expected
    weight = (max(sigma, 1e-9) / (PRIOR_ERROR * expected)) ** 2  # of the expectation, in units of `squares`
    found = (weight * expected + products) / (weight + squares)
    error = max(sigma, 1e-9) / math.sqrt(weight + squares)
    return min(MOST_TIMES * expected, max(expected / MOST_TIMES, found)), error
