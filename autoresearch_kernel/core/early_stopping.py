"""The rule that ends hopeless runs early: pure functions of curves.

A curve is what prepare.TrainingClock writes: points with step, progress (share of the budget, 0 to 1), seconds and
train_loss (mean since the point before, nats a token), about 200 over a run.

Curves say little about changes that are nearly as good as the incumbent, so only a much worse run is ended: at 30 % and
at 50 % of the budget, when its smoothed loss is behind the incumbent's *at the same progress* by a large share of the
incumbent's further descent from there to its end. This share has no units, so it suits every corpus and budget.

A run is not ended when the two curves cannot be compared: a curve with gaps, another kind of loss, an incumbent that
did not finish, a gap that is closing, or a change that affects the shape of the curve.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from .sanitize import is_number

Curve = Sequence[Mapping[str, Any]]

CHECKPOINTS = (0.3, 0.5)  # shares of the budget at which a run is checked
WINDOW = 0.1  # share of the run over which a loss is averaged
MARGIN = 0.5  # of the incumbent's descent from the checkpoint to its end; a run further behind is hopeless
NOISE_SIGMAS = 5.0  # of the scatter of the curves; the gap must also exceed this
MOST_CLOSED = 0.8  # a gap below this share of the gap one window earlier is closing
LATE = 0.05  # of the budget; a checkpoint that was passed by more than this is skipped
LEAST_POINTS = 4  # in a window
SAME_START = 0.1  # of the incumbent's whole descent: first losses further apart are not the same kind of loss
SAME_CLOCK = 0.01  # of the budget, between a point's seconds and its progress, on the clock of the study
COMPLETE = 0.98  # progress from which an incumbent's curve counts as whole

# Words of a change after which the curves may not be compared at all, or only with twice the margin.
_NEVER = """
    schedule scheduler warmup warmdown cooldown anneal annealing cosine final progress elapsed
    loss losses logits dlogits entropy nll smoothing target targets report clock evaluate dropout drop
    ema swa average averaged averaging sequence seq context length dataloader batches curriculum
"""
_DOUBLE = """
    lr lrs rate rates decay momentum beta beta1 beta2 betas nesterov batch passes accumulation
    optimizer optimizers adam adamw adagrad muon sgd lion clip grad grads gradient backward step
"""
_PARAMETER = re.compile(r"[A-Z][A-Z0-9_]*\s*(?::[^=]+)?=(?!=)")
_WORD = re.compile(r"[A-Z]+(?![a-z])\d*|[A-Z]?[a-z]+\d*")


def caution(diff: str) -> float | None:
    """By how many times the margin a run with this change must be behind to be ended: 1 as a rule, None for never.

    Learning rates, momentum, weight decay and the batch affect losses on the way more than at the end: 2. A schedule,
    the sequence length, dropout, averaged weights, and the way the loss is computed or reported change the meaning of
    the curve: None. A parameter is judged by itself, other code together with the lines around it and without comments.
    A text that is not a diff gives None.

    Args:
        diff: unified diff of train.py against the incumbent's.
    """
    if not diff.strip():
        return 1.0
    words: set[str] = set()
    changed = 0
    for hunk in re.split(r"^@@.*$", diff, flags=re.MULTILINE)[1:]:
        lines = hunk.splitlines()
        edits = [line[1:] for line in lines if line[:1] in ("+", "-")]
        changed += len(edits)
        is_code = any(_without_comment(edit) and not _PARAMETER.match(edit) for edit in edits)
        for line in lines if is_code else edits:
            words |= _words(_without_comment(line[1:] if is_code else line))
    if not changed or words & set(_NEVER.split()):
        return None
    return 2.0 if words & set(_DOUBLE.split()) else 1.0


def hopeless(curve: Curve, incumbent_curve: Curve, *, caution: float | None) -> str:
    """Why the run cannot win, in one line for users; "" while it may.

    Call it with each new point: the answer is "" except at the checkpoints.

    Args:
        curve: the run's points so far.
        incumbent_curve: the points of a complete run of the incumbent, with the same budget.
        caution: the result of `caution()` for the change.
    """
    now = _number(curve[-1].get("progress")) if curve else math.nan
    at = next((checkpoint for checkpoint in CHECKPOINTS if checkpoint <= now < checkpoint + LATE), None)
    if caution is None or at is None:
        return ""
    run, incumbent = _points(curve), _points(incumbent_curve)
    if not run or not incumbent or incumbent[-1].progress < COMPLETE:
        return ""
    if min(len(_within(run, at)), len(_within(incumbent, at))) < LEAST_POINTS:
        return ""
    mine, theirs, final = _level(run, at), _level(incumbent, at), _level(incumbent, incumbent[-1].progress)
    whole = incumbent[0].loss - final
    if theirs <= final or whole <= 0 or abs(run[0].loss - incumbent[0].loss) > SAME_START * whole:
        return ""
    gap, gap_before = mine - theirs, _level(run, at - WINDOW) - _level(incumbent, at - WINDOW)
    share = gap / (theirs - final)
    noise = math.hypot(_standard_error(run, at), _standard_error(incumbent, at))
    if share <= MARGIN * caution or gap <= NOISE_SIGMAS * caution * noise or gap < MOST_CLOSED * gap_before:
        return ""
    return (
        f"at {at:.0%} of the budget its train_loss is {mine:.3f} where the incumbent's was {theirs:.3f}: behind by "
        f"{share:.0%} of all that the incumbent still gained (the limit is {MARGIN * caution:.0%})"
    )


def projected_timeout(
    curve: Curve, *, seconds_since_start: float, time_budget_seconds: float, hard_limit_seconds: float
) -> str:
    """Why the run cannot hand over before its hard limit; "" while it can.

    Only a run whose clock follows the study's budget is judged: one that reports no steps, or that counts steps or
    seconds of its own, may end at any time. The time after training counts as zero, so the answer is certain.

    Args:
        seconds_since_start: from the start of the process to the arrival of the curve's last point.
        time_budget_seconds: of training, which begins after the start-up.
        hard_limit_seconds: from the start of the process to its end by force.
    """
    last = curve[-1] if curve else {}
    seconds, progress = _number(last.get("seconds")), _number(last.get("progress"))
    if not (seconds > 0 and abs(seconds - progress * time_budget_seconds) <= SAME_CLOCK * time_budget_seconds):
        return ""
    end = seconds_since_start + time_budget_seconds - seconds
    if end <= hard_limit_seconds:
        return ""
    return (
        f"training began after {seconds_since_start - seconds:.0f} s, so {time_budget_seconds:.0f} s of it would end "
        f"after {end:.0f} s, and its hard limit is {hard_limit_seconds:.0f} s"
    )


def _words(text: str) -> set[str]:
    """`MATRIX_LR` gives matrix and lr, `HeadLoss` gives head and loss."""
    return {word.lower() for word in _WORD.findall(text)}


def _without_comment(line: str) -> str:
    """The code of a line; a `#` after a quote may be part of a string and stays."""
    code, _, _ = line.partition("#")
    return line if '"' in code or "'" in code else code.strip()


@dataclass(frozen=True)
class _Point:
    progress: float
    loss: float  # mean since the point before


@dataclass(frozen=True)
class _Stretch:
    """The part of a window that one point represents."""

    width: float
    middle: float
    loss: float


def _points(curve: Curve) -> list[_Point]:
    """The curve's points; none unless all numbers are finite and progress only grows, because a train.py wrote them."""
    points = [_Point(_number(point.get("progress")), _number(point.get("train_loss"))) for point in curve]
    finite = all(math.isfinite(point.progress) and math.isfinite(point.loss) for point in points)
    return points if finite and all(a.progress < b.progress for a, b in pairwise(points)) else []


def _number(value: Any) -> float:
    return float(value) if is_number(value) else math.nan


def _within(points: list[_Point], end: float) -> list[_Stretch]:
    """The window that ends at `end`: each point represents the stretch since the one before."""
    start, before, stretches = end - WINDOW, 0.0, []
    for point in points:
        low, high = max(before, start), min(point.progress, end)
        if high > low:
            stretches.append(_Stretch(high - low, (low + high) / 2, point.loss))
        before = point.progress
    return stretches


def _level(points: list[_Point], end: float) -> float:
    """Mean loss over the window that ends at `end`."""
    stretches = _within(points, end)
    return sum(s.width * s.loss for s in stretches) / sum(s.width for s in stretches)


def _standard_error(points: list[_Point], end: float) -> float:
    """Standard error of that level, from the scatter of the losses around a straight line."""
    stretches = _within(points, end)
    line = statistics.linear_regression([s.middle for s in stretches], [s.loss for s in stretches])
    squares = sum((s.loss - line.intercept - line.slope * s.middle) ** 2 for s in stretches)
    return math.sqrt(squares / (len(stretches) - 2) / len(stretches))
