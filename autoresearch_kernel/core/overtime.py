"""Did a training work outside its budget? The clock that the parent holds; pure functions of runs.

The budget is kept by a clock inside the training, which an agent's code can stop, or be done with most of its work
before it starts: "warm-up steps" that teach. So the time of all cells is also taken from outside the sandbox. What
exceeds the budget is overtime: imports, building the model, compiling, the dev score and the hand-over. The baseline,
a person's code, shows how much of that there is to do, and a challenger may need little more.

How fast processes start, before a line of the agent's code runs, says how busy the machine was, and is allowed for.
docs/trust.md has the figures that the constants come from.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from .sanitize import is_number
from .types import Run

LEAST_SLACK_SECONDS = 2.0  # over the baseline's overtime
SLACK_SHARE = 0.25  # of the baseline's overtime, where that is more: one that compiles varies by more
BUDGET_SHARE = 0.02  # of the budget, on top: a last step, a slow one, begins before its end
MOST_SLOWNESS = 2.0  # of a busy machine, that is allowed for
TIMES_A_BATCH, LEAST_BATCH_SECONDS = 4.0, 1.0  # of the baseline's slowest batch in the scorer, and on top


def overtime(measured: Mapping[str, Any], budget_seconds: float) -> float | None:
    """Seconds that a run's cells took beyond its budget, as seen from outside; None where nobody measured it."""
    seconds = measured.get("cells_seconds")
    return seconds - budget_seconds if is_number(seconds) else None


def allowed_overtime(baseline: Sequence[Run], measured: Mapping[str, Any], budget_seconds: float) -> float | None:
    """Seconds that a run may take beyond its budget: what the baseline's runs took, and little more.

    Where processes started slower than for the baseline, so much longer. None while nothing is known of the baseline.
    """
    scored = [run.measured for run in baseline if run.val_bpb is not None]
    known = [seconds for m in scored if (seconds := overtime(m, budget_seconds)) is not None]
    if not known:
        return None
    starts, mine = [start for m in scored if (start := _start(m))], _start(measured)
    slowness = min(MOST_SLOWNESS, max(1.0, mine / statistics.median(starts))) if starts and mine else 1.0
    needed = slowness * max(0.0, statistics.median(known))
    return needed + max(LEAST_SLACK_SECONDS, SLACK_SHARE * needed) + BUDGET_SHARE * budget_seconds


def works_overtime(baseline: Sequence[Run], measured: Mapping[str, Any], budget_seconds: float) -> str:
    """Why a run took too long outside its budget to be compared, in one line; "" when it did not.

    Example:
        >>> quick = Run(0, 1, val_bpb=1.5, measured={"cells_seconds": 23.0})
        >>> works_overtime([quick], {"cells_seconds": 24.5}, budget_seconds=20.0)
        ''
        >>> works_overtime([quick], {"cells_seconds": 31.0}, budget_seconds=20.0)
        "worked 11.0 s beyond its budget of 20 s; 5.4 s are allowed, going by the baseline's runs"
    """
    mine, allowed = overtime(measured, budget_seconds), allowed_overtime(baseline, measured, budget_seconds)
    if mine is None or allowed is None or mine <= allowed:
        return ""
    return (
        f"worked {mine:.1f} s beyond its budget of {budget_seconds:g} s; {allowed:.1f} s are allowed, "
        "going by the baseline's runs"
    )


def allowed_batch_seconds(baseline: Sequence[Run], budget_seconds: float) -> float | None:
    """Seconds that a scorer may take for a batch, the model's loading included; None while no baseline was measured.

    A model could be trained while it is loaded or asked first, from data that it carries with it.

    Example:
        >>> allowed_batch_seconds([Run(0, 1, val_bpb=1.5, measured={"slowest_batch_seconds": 0.25})], 20.0)
        2.4
    """
    found = [run.measured.get("slowest_batch_seconds") for run in baseline if run.val_bpb is not None]
    known = [seconds for seconds in found if seconds is not None]
    if not known:
        return None
    return TIMES_A_BATCH * statistics.median(known) + LEAST_BATCH_SECONDS + BUDGET_SHARE * budget_seconds


def _start(measured: Mapping[str, Any]) -> float | None:
    """Seconds until the runner and the kernel had started, which no code of an agent takes part in."""
    runner, kernel = measured.get("runner_start_seconds"), measured.get("kernel_start_seconds")
    return runner + kernel if is_number(runner) and is_number(kernel) else None
