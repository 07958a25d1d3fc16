"""The speed of the machine, measured by trainings; pure functions of runs.

A machine that throttles or is shared trains fewer tokens in the same seconds, and scores become worse. The incumbent is
the reference: the same code, run again, shows the machine's present speed. Runs of the incumbent at another speed than
its latest run's are not pooled with it. A challenger that ran much slower than the incumbent is run once more before it
is judged: unless its code is the cause, the second run has the normal speed.

On one H200, val_bpb fell by 0.047 for each factor of e in tokens a second, so 10 % less speed costs 0.005, ten times
the effect of a typical discovery of a night. The tolerated change of speed follows from that: its effect must stay
below sigma. The limits are LEAST_TOLERANCE, because changes of the code cost a little speed themselves, and
MOST_TOLERANCE. Where the speed varies from run to run, sigma is large and all runs are pooled.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from .decide import BPB_PER_LOG_SPEED, RECENT_RUNS
from .sanitize import is_number
from .types import Experiment, Run

SAME_SPEED = 1.15  # runs whose speeds differ by less than this factor are pooled while sigma is unknown
LEAST_TOLERANCE, MOST_TOLERANCE = 1.02, 1.5  # least and most factor at which runs are pooled
MUCH_SLOWER = 0.6  # of the incumbent's speed: a slower run is repeated instead of judged
STEADY = 0.1  # a machine within this share of its former speed is shown as steady
RERUN_EVERY, RERUN_EVERY_IN_DRIFT = 20, 10  # experiments between two runs of the incumbent
RERUN_WHEN_MOVED = 4  # the same, when the machine's speed has changed by more than the tolerance
RERUN_WEIGHT = 5  # a run of the incumbent counts as so many of the RECENT_RUNS


def tolerance(sigma: float | None) -> float:
    """Factor between two speeds of the machine that does not affect scores, with `sigma` in bits per byte."""
    if sigma is None:
        return SAME_SPEED
    return min(MOST_TOLERANCE, max(LEAST_TOLERANCE, math.exp(sigma / BPB_PER_LOG_SPEED)))


def at_present_speed(runs: Sequence[Run], sigma: float | None = None) -> tuple[Run, ...]:
    """The scored runs that were as fast as the latest one, within the tolerance; all where the speed is unknown."""
    factor = tolerance(sigma)
    scored = [run for run in runs if run.val_bpb is not None]
    last = _speed(scored[-1].measured) if scored else None
    if last is None:
        return tuple(scored)
    speeds = [_speed(run.measured) or last for run in scored]
    return tuple(r for r, s in zip(scored, speeds, strict=True) if last / factor <= s <= last * factor)


def alike(runs: Sequence[Run]) -> list[tuple[float, ...]]:
    """Scores of runs of the same code, in groups at one speed of the machine; `estimate_sigma` takes such groups.

    A speed that varies is part of the noise and stays in it; a machine that has changed is not noise.
    """
    scored = [(_speed(run.measured) or 0.0, run.val_bpb) for run in runs if run.val_bpb is not None]
    groups: list[tuple[float, list[float]]] = []
    for speed, score in sorted(scored):
        if not groups or is_much_slower(groups[-1][0] / speed if speed and groups[-1][0] else None):
            groups.append((speed, []))
        groups[-1][1].append(score)
    return [tuple(scores) for _, scores in groups]


def relative_speed(
    measured: Mapping[str, Any], incumbent: Experiment | None, sigma: float | None = None
) -> float | None:
    """Speed of a run relative to the incumbent at its present speed; None where there is nothing to compare.

    It is the higher one of the ratios of tokens a second and of FLOP/s, because a larger model handles fewer tokens on
    the same machine.
    """
    runs = at_present_speed(incumbent.runs, sigma) if incumbent else ()
    ratios = []
    for of in (_speed, _flops):
        theirs, mine = [value for run in runs if (value := of(run.measured))], of(measured)
        if theirs and mine:
            ratios.append(mine / statistics.median(theirs))
    return max(ratios, default=None)


def is_much_slower(relative: float | None) -> bool:
    """Whether a run of this relative speed says more about the machine than about the code."""
    return relative is not None and relative < MUCH_SLOWER


def rerun_due(experiments: Sequence[Experiment], incumbent: Experiment | None, sigma: float | None = None) -> str:
    """Why the incumbent should run again before the next proposal; "" while it need not."""
    if incumbent is None or not incumbent.runs:
        return ""
    decided = [e for e in experiments if e.status is not None]
    since = len(decided) - max(incumbent.number + 1, *(run.num_decided for run in incumbent.runs))
    recent = [r for e in decided[-since:] for run in e.runs if (r := run.measured.get("relative_speed"))][-RECENT_RUNS:]
    if since >= RERUN_EVERY:
        return f"{since} experiments since its last run"
    now = statistics.median(recent) if recent else 1.0
    moved = abs(math.log(now))
    if (since >= RERUN_EVERY_IN_DRIFT and moved > math.log(tolerance(sigma)) / 2) or (
        since >= RERUN_WHEN_MOVED and len(recent) >= RERUN_WHEN_MOVED and moved > math.log(tolerance(sigma))
    ):
        return f"{since} experiments since its last run, and the machine drifts ({now:.2f} x)"
    return ""


def machine_speeds(experiments: Sequence[Experiment]) -> list[tuple[float, float]]:
    """The machine's speed over the study: (experiments decided by then, speed relative to the start), oldest first.

    Each run has a speed relative to its incumbent, which ran at a known speed of the machine. The result is the median
    of the last RECENT_RUNS such speeds, so that one change that costs speed is not attributed to the machine. A run of
    the incumbent itself, which is the same code, counts as RERUN_WEIGHT runs.
    """
    runs = [(run.num_decided, e.number, run.index, e, run) for e in experiments for run in e.runs if run.val_bpb]
    measured_at: dict[int | None, float] = {}  # experiment -> the machine's speed at its run
    recent, speeds = [1.0] * RECENT_RUNS, []
    for place, number, _, experiment, run in sorted(runs, key=lambda item: item[:3]):
        relative = run.measured.get("relative_speed")
        if relative is not None:
            is_rerun = place > number
            reference = measured_at.get(number if is_rerun else experiment.parent, 1.0)
            recent = (recent + [reference * relative] * (RERUN_WEIGHT if is_rerun else 1))[-RECENT_RUNS:]
            speeds.append((float(place), statistics.median(recent)))
        measured_at[number] = statistics.median(recent)
        if relative is not None and is_rerun:  # the same code, so this run alone measures the machine
            measured_at[number] = reference * relative
    return speeds


def present_speed(experiments: Sequence[Experiment]) -> float:
    """The machine's speed now, relative to the start of the study."""
    speeds = machine_speeds(experiments)
    return speeds[-1][1] if speeds else 1.0


def _speed(measured: Mapping[str, Any]) -> float | None:
    """Tokens a second."""
    value = measured.get("tokens_per_second")
    return float(value) if is_number(value) and value > 0 else None


def _flops(measured: Mapping[str, Any]) -> float | None:
    """FLOP/s, by the model's own count."""
    speed, each = _speed(measured), measured.get("flops_per_token")
    return speed * each if speed and is_number(each) and each > 0 else None
