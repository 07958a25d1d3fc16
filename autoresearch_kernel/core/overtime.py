"""Whether a training worked outside its budget, by the parent's clock; pure functions of runs.

A clock inside the training keeps the budget. An agent's code can stop that clock, or do most of its work before the
clock starts, as in "warm-up steps" that teach the model. So the time of all cells is also measured outside the sandbox.
The time beyond the budget is overtime: imports, building the model, compiling, the dev score and the hand-over. The
runs of the baseline, which a user wrote, show how much overtime is normal, and a challenger may need little more.

The time that processes take to start, before a line of the agent's code runs, shows how busy the machine was, and
extends the allowance. docs/trust.md has the measurements behind the constants.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from .sanitize import is_number
from .types import Run

LEAST_SLACK_SECONDS = 2.0  # over the baseline's overtime
SLACK_SHARE = 0.25  # of the baseline's overtime, when that is more: a baseline that compiles varies more
BUDGET_SHARE = 0.02  # of the budget, in addition: a slow last step may begin just before its end
MOST_SLOWNESS = 2.0  # of a busy machine; the allowance grows by no more
TIMES_THE_BASELINE = 4.0  # what a scorer may take: a model may be larger than the baseline's, and the machine busy
LEAST_SCORER_SECONDS = 1.0  # in addition
BUSY_SLOWNESS = 1.25  # of the start of processes; from there on the machine may be why a run took too long


def overtime(measured: Mapping[str, Any], budget_seconds: float) -> float | None:
    """Seconds that a run's cells took beyond its budget, as the parent measured; None without a measurement.

    Where a steady clock counted the budget, these are seconds of the parent's count.
    """
    seconds = measured.get("cells_counted_seconds", measured.get("cells_seconds"))
    return seconds - budget_seconds if is_number(seconds) else None


def allowed_overtime(baseline: Sequence[Run], measured: Mapping[str, Any], budget_seconds: float) -> float | None:
    """Seconds that a run may take beyond its budget: slightly more than the baseline's runs took.

    The allowance grows when processes started slower than for the baseline. None while there is no run of the baseline.
    """
    scored = [run.measured for run in baseline if run.val_bpb is not None]
    known = [seconds for m in scored if (seconds := overtime(m, budget_seconds)) is not None]
    if not known:
        return None
    slowness = min(MOST_SLOWNESS, max(1.0, _start_slowness(scored, measured) or 1.0))
    needed = slowness * max(0.0, statistics.median(known))
    return needed + max(LEAST_SLACK_SECONDS, SLACK_SHARE * needed) + BUDGET_SHARE * budget_seconds


def works_overtime(baseline: Sequence[Run], measured: Mapping[str, Any], budget_seconds: float) -> str:
    """Why a run took too long outside its budget to be compared, in one line; "" when it did not."""
    mine, allowed = overtime(measured, budget_seconds), allowed_overtime(baseline, measured, budget_seconds)
    if mine is None or allowed is None or mine <= allowed:
        return ""
    return (
        f"worked {mine:.1f} s beyond its budget of {budget_seconds:g} s; {allowed:.1f} s are allowed, "
        "going by the baseline's runs"
    )


def allowed_scorer_seconds(
    baseline: Sequence[Run], measured: Mapping[str, Any], budget_seconds: float, fact: str
) -> float | None:
    """Seconds that a scorer may take; None without a run of the baseline in which the same was measured.

    Args:
        measured: facts of the training just before. How much slower the machine was then than for the baseline, by the
            start of processes or by `machine_speed`, extends the time.
        fact: "slowest_batch_seconds", for one batch with loading, or "answer_seconds", for loading and all batches.

    Without these limits, a model could be trained while it is loaded or in each batch, on data that it contains.
    """
    scored = [run.measured for run in baseline if run.val_bpb is not None]
    known = [seconds for m in scored if (seconds := m.get(fact)) is not None]
    if not known:
        return None
    usual = TIMES_THE_BASELINE * statistics.median(known) + LEAST_SCORER_SECONDS + BUDGET_SHARE * budget_seconds
    slowness = max(1.0, _start_slowness(scored, measured) or 1.0, _machine_slowness(scored, measured) or 1.0)
    return min(MOST_SLOWNESS, slowness) * usual


def starts_slower(baseline: Sequence[Run], measured: Mapping[str, Any]) -> bool:
    """Whether processes started clearly slower than for the baseline, before any code of an agent ran."""
    slowness = _start_slowness([run.measured for run in baseline if run.val_bpb is not None], measured)
    return slowness is not None and slowness > BUSY_SLOWNESS


def _start_slowness(baseline: Sequence[Mapping[str, Any]], measured: Mapping[str, Any]) -> float | None:
    """How many times the baseline's median start-up this one took; None without measurements."""
    starts, mine = [start for m in baseline if (start := _start(m))], _start(measured)
    return mine / statistics.median(starts) if starts and mine else None


def _machine_slowness(baseline: Sequence[Mapping[str, Any]], measured: Mapping[str, Any]) -> float | None:
    """The baseline's median `machine_speed` as a multiple of this run's; None without measurements."""
    speeds, mine = [speed for m in baseline if (speed := m.get("machine_speed"))], measured.get("machine_speed")
    return statistics.median(speeds) / mine if speeds and mine else None


def _start(measured: Mapping[str, Any]) -> float | None:
    """Seconds until runner and kernel had started, before any code of an agent ran."""
    runner, kernel = measured.get("runner_start_seconds"), measured.get("kernel_start_seconds")
    return runner + kernel if is_number(runner) and is_number(kernel) else None
