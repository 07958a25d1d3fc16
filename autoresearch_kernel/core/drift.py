"""The speed of the machine, and which runs it allows to compare; pure functions of runs.

A machine that throttles or is shared trains fewer tokens in the same seconds, and scores become worse. There are two
measures of a run's speed. `machine_speed` is the supervisor's own: code cannot change it. `tokens_per_second` is told
by the training. Between runs of the same code it shows the machine's speed well, but code could make it up, and code
that is truly faster has more of it. So whether a run is made again, and what is taken off a score for a fast machine,
rests on the first measure alone. The second one only makes the rule stricter.

Runs are alike when their speeds differ by less than a factor, the tolerance: what the difference is worth must stay
below sigma (`core/speed_worth.py` has the worth). A challenger is compared with those runs of the incumbent that the
machine made at the challenger's speed. A run far from all of them, above or below, is made again once; when it is far
again, the incumbent runs beside it before it is judged.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .sanitize import is_number
from .types import OF_THE_MACHINE, Cause, Experiment, Run, scores_of

TOLERATED_SIGMAS = 2.0  # two runs of one code and speed differ by 1.4 sigma of standard deviation
SAME_SPEED = 1.15  # runs whose speeds differ by less than this factor are alike while sigma is unknown
LEAST_TOLERANCE, MOST_TOLERANCE = 1.02, 1.5  # least and most factor, since changes of the code cost a little speed too
LEAST_MACHINE_TOLERANCE = 1.1  # the same of `machine_speed`, because of its own error
MACHINE_ERROR = 0.04  # standard deviation of the logarithm of the speed between runs alike by `machine_speed`, at least
CLOCK_ERROR = 0.01  # the same of runs whose budget a steady clock counted: a few of them may agree by chance
MUCH_SLOWER = 0.6  # of the incumbent's speed; a run slower than this, or faster than 1 / this, is far from it
BUSY = 0.85  # of the incumbent's speed: a machine below it may be why a run needed more than its time
STEADY = 0.1  # a machine within this share of its former speed is shown as steady
RECENT_RUNS = 9  # whose median speed shows whether the machine has changed since the incumbent ran
RERUN_EVERY, RERUN_EVERY_IN_DRIFT = 20, 10  # experiments between two runs of the incumbent
RERUN_WHEN_MOVED = 4  # the same, when the machine's speed has changed by more than the tolerance
RERUN_WEIGHT = 5  # a run of the incumbent counts as so many of the RECENT_RUNS
MEASURED_WEIGHT = 3  # the same of a run whose speed the supervisor measured, so that three of them decide


def tolerance(sigma: float | None, worth: float) -> float:
    """Factor between two speeds of the machine that does not affect scores.

    Args:
        sigma: in bits per byte; None while it is unknown.
        worth: bits per byte for a factor of e in speed.
    """
    if sigma is None:
        return SAME_SPEED
    return min(MOST_TOLERANCE, max(LEAST_TOLERANCE, math.exp(min(1.0, TOLERATED_SIGMAS * sigma / worth))))


# --- runs of the same code


def are_alike(one: Run, other: Run, factor: float = SAME_SPEED) -> bool:
    """Whether the machine made two runs of the same code at one speed: a measure says so, or none is known.

    Both measures must differ to set runs apart, so code cannot set its own runs apart by what it reports.
    """
    ratios = [
        (least, mine / theirs)
        for least, of in ((LEAST_MACHINE_TOLERANCE, _machine), (LEAST_TOLERANCE, _tokens))
        if (mine := of(one.measured)) and (theirs := of(other.measured))
    ]
    return not ratios or any(_within(ratio, max(factor, least)) for least, ratio in ratios)


def alike_to(run: Run, runs: Sequence[Run], factor: float = SAME_SPEED) -> tuple[Run, ...]:
    """The scored runs of the same code that were as fast as `run`, in their order."""
    return tuple(o for o in runs if o.val_bpb is not None and (o is run or are_alike(run, o, factor)))


def at_present_speed(runs: Sequence[Run], factor: float = SAME_SPEED) -> tuple[Run, ...]:
    """The scored runs of the same code that were as fast as the latest one; all where the speed is unknown."""
    scored = [run for run in runs if run.val_bpb is not None]
    return alike_to(scored[-1], scored, factor) if scored else ()


def alike(runs: Sequence[Run], factor: float = SAME_SPEED) -> Iterator[tuple[Run, ...]]:
    """Scored runs of the same code in groups that the machine made at one speed, the largest group first.

    A speed that varies within a group is part of the noise and stays in it; a machine that has changed is not noise.
    """
    left = [run for run in runs if run.val_bpb is not None]
    while left:
        group = max((alike_to(run, left, factor) for run in left), key=len) if len(left) > 1 else tuple(left)
        left = [run for run in left if all(run is not member for member in group)]
        yield group


def least_jitter(runs: Sequence[Run]) -> float:
    """The least standard deviation of the logarithm of the speed between like runs, by the measure that they have."""
    if any(_positive(run.measured.get("budget_speed")) for run in runs):
        return CLOCK_ERROR
    return MACHINE_ERROR if any(_machine(run.measured) for run in runs) else 0.0


def speeds_and_scores(runs: Sequence[Run], is_trusted: bool) -> list[tuple[float, float]]:
    """(speed, val_bpb) of scored runs of the same code, by one measure for all; empty without any.

    Args:
        is_trusted: a user wrote the code, so its own tokens per second are the better measure.
    """
    scored = [run for run in runs if run.val_bpb is not None]
    for of in (_tokens, _machine) if is_trusted else (_machine, _tokens):
        speeds = [of(run.measured) for run in scored]
        if speeds and all(speeds):
            return [(speed, score) for speed, score in zip(speeds, scores_of(scored), strict=True) if speed]
    return []


# --- a challenger and the incumbent


@dataclass(frozen=True)
class Level:
    """The incumbent's score at the machine's speed of a challenger's runs: what these have to beat."""

    runs: tuple[Run, ...]  # of the incumbent, behind it
    bpb: float
    is_like: bool  # the machine made all these runs at the challenger's speed, as far as that is known
    carried: float = 0.0  # logarithm of the factor in speed by which the score was carried

    def standard_error(self, sigma: float | None, worth_error: float) -> float | None:
        """Of `bpb`: the runs scatter, and what speed is worth is an estimate; None while sigma is unknown."""
        return None if sigma is None else math.hypot(sigma / math.sqrt(len(self.runs)), worth_error * self.carried)


def level(challenger: Sequence[Run], incumbent: Sequence[Run], factor: float, worth: float) -> Level | None:
    """What the runs of a challenger have to beat; None when one of the two has no scored run.

    Each run must beat two means. One is over the incumbent's runs at its own speed of the machine, or the nearest ones
    where there are none. The other is over all of the incumbent's runs, each carried to that speed by what speed is
    worth: a few runs at one speed may have been unlucky. So what a faster machine was worth to a challenger is taken
    off, and what a slower one cost it is never credited beyond what the incumbent's own runs showed. A score that was
    carried has an error of its own, since what speed is worth is an estimate (`Level.standard_error`). Without
    `machine_speed` the incumbent's present speed stands for all.
    """
    mine = [run for run in challenger if run.val_bpb is not None]
    theirs = [run for run in incumbent if run.val_bpb is not None]
    if not mine or not theirs:
        return None
    if all(_machine(run.measured) for run in mine) and any(_machine(run.measured) for run in theirs):
        found = [
            _level(theirs, _ratios(run, theirs, _machine), max(factor, LEAST_MACHINE_TOLERANCE), worth) for run in mine
        ]
    else:
        found = _levels_by_reports(mine, theirs, factor, worth)
    runs = tuple(run for run in theirs if any(run is other for one in found for other in one.runs))
    bpb, carried = (statistics.fmean(values) for values in zip(*((one.bpb, one.carried) for one in found), strict=True))
    return Level(runs, bpb, all(one.is_like for one in found), carried)


def _levels_by_reports(mine: Sequence[Run], theirs: Sequence[Run], factor: float, worth: float) -> list[Level]:
    """The same by tokens a second, where code may truly be faster: it is judged by the incumbent's present speed.

    What is the machine's for sure is how much faster the code was than in its own slowest run.
    """
    slowest = min((speed for run in mine if (speed := _tokens(run.measured))), default=None)
    found = []
    for run in mine:
        speed, relative = _tokens(run.measured), relative_speed(run.measured, theirs, factor)
        faster = speed / slowest if speed and slowest else 1.0
        faster = faster if faster > factor else 1.0
        ratios = [faster * ratio for ratio in _ratios(theirs[-1], theirs, _tokens)]
        is_near = relative is None or relative <= max(factor, SAME_SPEED)
        one = _level(theirs, ratios, factor, worth)
        found.append(replace(one, is_like=one.is_like and is_near))
    return found


def _ratios(run: Run, others: Sequence[Run], measure: Callable[[Mapping[str, Any]], float | None]) -> list[float]:
    """How much faster `run` was than each of the others; 1 where that is not known."""
    mine = measure(run.measured)
    return [mine / theirs if mine and (theirs := measure(other.measured)) else 1.0 for other in others]


def _level(runs: Sequence[Run], ratios: Sequence[float], factor: float, worth: float) -> Level:
    """The level for a challenger's run that was faster than each of the incumbent's runs by these ratios."""
    like = tuple(run for run, ratio in zip(runs, ratios, strict=True) if _within(ratio, factor))
    is_like = bool(like)
    if not like:
        nearest = min(zip(runs, ratios, strict=True), key=lambda item: abs(math.log(item[1])))[0]
        like = alike_to(nearest, runs, factor)
    carried = statistics.fmean(0.0 if _within(ratio, factor) else math.log(ratio) for ratio in ratios)
    of_like, of_all = statistics.fmean(scores_of(like)), statistics.fmean(scores_of(runs)) - worth * carried
    return Level(like, of_like, is_like) if of_like <= of_all else Level(like, of_all, is_like, carried)


def relative_speed(measured: Mapping[str, Any], incumbent: Sequence[Run], factor: float = SAME_SPEED) -> float | None:
    """Speed of a run, by its own report, relative to the incumbent's at present; None where nothing can be compared.

    Of the ratios of tokens a second and of FLOP/s it is the one nearer to 1: a larger model handles fewer tokens on the
    same machine, and a smaller one more.
    """
    runs = at_present_speed(incumbent, factor)
    ratios = []
    for of in (_tokens, _flops):
        theirs, mine = [value for run in runs if (value := of(run.measured))], of(measured)
        if theirs and mine:
            ratios.append(mine / statistics.median(theirs))
    return min(ratios, key=lambda ratio: abs(math.log(ratio)), default=None)


def relative_machine_speed(measured: Mapping[str, Any], incumbent: Sequence[Run]) -> float | None:
    """The machine's speed during a run relative to the incumbent's run that was nearest; None where it is unknown."""
    mine = _machine(measured)
    ratios = [mine / theirs for run in incumbent if mine and run.val_bpb and (theirs := _machine(run.measured))]
    return min(ratios, key=lambda ratio: abs(math.log(ratio)), default=None)


def is_far(relative: float | None) -> bool:
    """Whether a run of this relative speed says more about the machine than about the code."""
    return relative is not None and not _within(relative, 1 / MUCH_SLOWER)


def stays_far(run: Run, incumbent: Experiment, is_gain: bool) -> float | None:
    """The relative speed of a run that is far from the incumbent's, so the incumbent runs beside it; None when near.

    Where the machine's speed was not measured, this goes by what the code reports. Then a little faster is far already,
    but only where the rule would keep the run or repeat it (`is_gain`): a fast machine makes no score worse.
    """
    relative = relative_machine_speed(run.measured, incumbent.runs)
    if relative is not None:
        return relative if is_far(relative) else None
    told = run.measured.get("relative_speed")
    return told if told is not None and (told < MUCH_SLOWER or (is_gain and told > SAME_SPEED)) else None


def is_busy(measured: Mapping[str, Any], incumbent: Sequence[Run]) -> bool:
    """Whether the supervisor measured that the machine was clearly slower than for the incumbent."""
    relative = relative_machine_speed(measured, incumbent)
    return relative is not None and relative < BUSY


def void_by_speed(measured: Mapping[str, Any], incumbent: Experiment | None, causes: Sequence[Cause]) -> str:
    """Why a run is to be made again because the machine was far from its speed for the incumbent; "" when it is not.

    Only the supervisor's own measure can say so, and only of a run that was not made again for the machine before.
    """
    relative = relative_machine_speed(measured, incumbent.runs) if incumbent else None
    if relative is None or not is_far(relative) or OF_THE_MACHINE & set(causes):
        return ""
    times = f"{relative:.0%} of" if relative < 1 else f"{relative:.2f} times"
    return f"the machine ran at {times} its speed for the incumbent"


# --- the machine over the study


def rerun_due(experiments: Sequence[Experiment], incumbent: Experiment | None, factor: float = SAME_SPEED) -> str:
    """Why the incumbent should run again before the next proposal; "" while it need not."""
    if incumbent is None or not incumbent.runs:
        return ""
    decided = [e.on(incumbent.machine) for e in experiments if e.status is not None]
    incumbent = incumbent.on(incumbent.machine)
    since = len(decided) - max(incumbent.number + 1, *(run.num_decided for run in incumbent.runs))
    runs = [run for e in decided[-since:] for run in e.runs]
    recent = [relative for run in runs if (relative := _relative(run, incumbent))][-RECENT_RUNS:]
    if since >= RERUN_EVERY:
        return f"{since} experiments since its last run"
    now = statistics.median(recent) if recent else 1.0
    moved = abs(math.log(now))
    if (since >= RERUN_EVERY_IN_DRIFT and moved > math.log(factor) / 2) or (
        since >= RERUN_WHEN_MOVED and len(recent) >= RERUN_WHEN_MOVED and moved > math.log(factor)
    ):
        return f"{since} experiments since its last run, and the machine drifts ({now:.2f} x)"
    return ""


def machine_speeds(experiments: Sequence[Experiment]) -> list[tuple[float, float]]:
    """The machine's speed over the study: (experiments decided by then, speed relative to the start), oldest first.

    It is the median of the last RECENT_RUNS by weight, so that one slow run, or one change that costs speed, is not
    taken for a machine that has changed. Where the supervisor did not measure the speed, a run has one relative to its
    incumbent, which ran at a known speed of the machine; a run of the incumbent itself then counts as RERUN_WEIGHT.
    """
    own = [e.on("") for e in experiments]  # runs on the kind of machine that the study began on
    runs = [(run.num_decided, e.number, run.index, e, run) for e in own for run in e.runs if run.val_bpb]
    started = own[0].judged_runs if own else ()
    first = [speed for run in started if (speed := _machine(run.measured))]
    measured_at: dict[int | None, float] = {}  # experiment -> the machine's speed at its run
    recent, speeds = [1.0] * RECENT_RUNS, []
    for place, number, _, experiment, run in sorted(runs, key=lambda item: item[:3]):
        is_rerun, now = place > number, _machine(run.measured)
        weight, speed = MEASURED_WEIGHT, now / statistics.median(first) if now and first else None
        if speed is None and (relative := run.measured.get("relative_speed")) is not None:
            weight = RERUN_WEIGHT if is_rerun else 1
            speed = measured_at.get(number if is_rerun else experiment.parent, 1.0) * relative
        if speed is not None:
            recent = (recent + [speed] * weight)[-RECENT_RUNS:]
            speeds.append((float(place), statistics.median(recent)))
        measured_at[number] = statistics.median(recent)
        if speed is not None and is_rerun:  # the same code, so this run alone measures the machine
            measured_at[number] = speed
    return speeds


def normal_speed(experiments: Sequence[Experiment]) -> float | None:
    """The machine's speed at which a steady clock counts a second as one: that of the baseline's first run.

    None until that run has ended.
    """
    runs = experiments[0].runs if experiments else ()
    return next((speed for run in runs if (speed := _positive(run.measured.get("clock_speed")))), None)


def present_speed(experiments: Sequence[Experiment]) -> float:
    """The machine's speed now, relative to the start of the study."""
    speeds = machine_speeds(experiments)
    return speeds[-1][1] if speeds else 1.0


def _relative(run: Run, incumbent: Experiment) -> float | None:
    """Speed of a run relative to the incumbent, by the supervisor's measure where there is one."""
    relative = relative_machine_speed(run.measured, incumbent.runs)
    return run.measured.get("relative_speed") if relative is None else relative


def _within(ratio: float, factor: float) -> bool:
    return 1 / factor <= ratio <= factor


def _machine(measured: Mapping[str, Any]) -> float | None:
    """The machine's speed during a run, as the supervisor measured it; only ratios between runs of a study count.

    Where a steady clock counted the budget, it is what is left of the speed beyond the limits of this clock.
    """
    return _positive(measured.get("budget_speed", measured.get("machine_speed")))


def _tokens(measured: Mapping[str, Any]) -> float | None:
    """Tokens a second of the budget, as the training reports."""
    tokens, counted = _positive(measured.get("num_tokens")), _positive(measured.get("counted_seconds"))
    return tokens / counted if tokens and counted else _positive(measured.get("tokens_per_second"))


def _flops(measured: Mapping[str, Any]) -> float | None:
    """FLOP/s, by the model's own count."""
    speed, each = _tokens(measured), _positive(measured.get("flops_per_token"))
    return speed * each if speed and each else None


def _positive(value: Any) -> float | None:
    return float(value) if is_number(value) and value > 0 else None
