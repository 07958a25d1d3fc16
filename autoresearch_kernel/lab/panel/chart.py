"""The numbers behind the panel's drawings (`panel.js`), as JSON: the history, the curve of a run, the table's rows.

Marks and scale are those of the PNGs: see `show/plot_scale.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...core.format import bpb, number, plain
from ...core.types import FAILED, Experiment, Status
from ...show.plot_labels import label_of
from ...show.plot_scale import as_drawn, limits_of, points_of, scored_runs
from ...show.snapshot import Snapshot
from ...show.study_words import counts, findings, gain_words, incumbent_scores
from ...show.words import comparison, curve_words, head_and_rest, idea, is_ended_early, last_speed, losses, status_word
from ...system.files import seconds_of

NEAR_SIGMAS = 2.0  # a discard within so many standard deviations of the incumbent is a near miss
HYPOTHESIS_CHARACTERS = 2000  # of one experiment that are sent to the table
CURVE_POINTS = 400  # of one curve; a real one has about 200


def mark_of(experiment: Experiment) -> str:
    """`keep`, `discard`, `ended`, `failed`, `rejected` or `pending`: as it is drawn."""
    if experiment.status is None:
        return "pending"
    if is_ended_early(experiment):
        return "ended"
    return "failed" if experiment.status in FAILED else str(experiment.status)


Known = dict[tuple[Any, ...], dict[str, Any]]  # rows made before: each look adds one experiment to a thousand


def history_data(experiments: Sequence[Experiment], sigma: float | None, known: Known | None = None) -> dict[str, Any]:
    """Points, scale and noise of the history chart; `known` keeps the points from one call to the next."""
    experiments = [_so_far(e) for e in experiments]
    sorted_out = points_of(experiments)
    limits = limits_of(sorted_out, sigma) if sorted_out.scored else None
    drawn = [e for e in experiments if e.status is not None or e.val_bpb is not None]
    return {
        "points": [_once(_point, e, known) for e in drawn],
        "limits": limits and {name: getattr(limits, name) for name in ("low", "high", "bottom", "top")},
        "sigma": sigma,
        "summary": _summary(experiments),
    }


def _once(make: Callable[[Experiment], dict[str, Any]], experiment: Experiment, known: Known | None) -> dict[str, Any]:
    known = {} if known is None else known
    key = (experiment.number, experiment.status, experiment.val_bpb, len(experiment.runs), experiment.scores)
    if key not in known:
        known[key] = make(experiment)
    return known[key]


def _so_far(experiment: Experiment) -> Experiment:
    """One that is not decided yet with the mean of the runs that it has, a rejected one with its claim."""
    is_open = experiment.status is None and experiment.val_bpb is None
    return replace(experiment, val_bpb=experiment.mean_bpb) if is_open else as_drawn(experiment)


def _point(experiment: Experiment) -> dict[str, Any]:
    score, is_refused = experiment.val_bpb, experiment.status is Status.REJECTED
    shown = f"claimed {bpb(score)}" if is_refused else bpb(score)
    compared = "" if is_refused else comparison(experiment)
    words = [
        f"{experiment.number:04d} · {status_word(experiment)}",
        head_and_rest(idea(experiment))[0],
        compared or (shown if score is not None else ""),
        plain(experiment.reason)[:200] if score is None or is_refused else "",
    ]
    return {
        "number": experiment.number,
        "val_bpb": number(score),
        "standard_error": experiment.standard_error,
        "mark": mark_of(experiment),
        "is_baseline": experiment.parent is None,
        "runs": [[column, score] for column, score in scored_runs(experiment)],
        "label": label_of(experiment) if experiment.status is Status.KEEP else "",
        "words": "\n".join(filter(None, words)),
    }


def _summary(experiments: Sequence[Experiment]) -> str:
    scores = incumbent_scores(experiments)
    words = counts(experiments)
    keeps = [e for e in experiments if e.status is Status.KEEP and e.val_bpb is not None]
    if len(keeps) < 2:
        return f"{words}; the baseline's val_bpb is {bpb(scores[0])}" if scores else words
    compared = keeps[-1].against(keeps[0])
    gain = gain_words(compared.difference, compared.error) if compared else ""
    return f"{words}; the incumbent's val_bpb went from {bpb(scores[0])} to {bpb(scores[-1])}, {gain}"


def curve_data(
    mine: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]], *, theirs_label: str, budget_seconds: float
) -> dict[str, Any]:
    """Train loss over seconds of a run and of the one it is compared with, as [seconds, loss]."""
    return {
        "mine": _losses(mine),
        "theirs": _losses(theirs),
        "mine_label": "this run",
        "theirs_label": theirs_label,
        "budget": budget_seconds,
        "summary": curve_words([dict(point) for point in mine]),
    }


def _losses(curve: Sequence[Mapping[str, Any]]) -> list[tuple[float, float]]:
    every = max(1, len(curve) // CURVE_POINTS)
    return [(round(seconds, 3), round(loss, 5)) for seconds, loss in losses(curve[::every], at="seconds")]


def table_data(
    experiments: Sequence[Experiment], now: Snapshot | None = None, known: Known | None = None
) -> dict[str, Any]:
    """The rows of the table, oldest first; `known` keeps those of decided experiments from one call to the next."""
    rows = [
        _once(_row, e, known)
        if e.status is not None
        else _row(e) | {"status": now.doing(e.number) if now is not None else "unfinished"}
        for e in experiments
    ]
    return {"rows": rows}


def _row(experiment: Experiment) -> dict[str, Any]:
    compared = experiment.compared
    hypothesis = plain(experiment.hypothesis)[:HYPOTHESIS_CHARACTERS]
    return {
        "number": experiment.number,
        "idea": "baseline" if experiment.parent is None else head_and_rest(idea(experiment))[0],
        "hypothesis": hypothesis,
        "is_long": bool(head_and_rest(hypothesis)[1]),
        "is_baseline": experiment.parent is None,
        "agent": experiment.agent,
        "val_bpb": number(experiment.val_bpb),
        "against": compared and compared.theirs,
        "delta": compared and compared.difference,
        "delta_error": compared and compared.error,
        "sigmas": compared and compared.sigmas,
        "speed": last_speed(experiment),
        "mark": mark_of(experiment),
        "status": status_word(experiment),
        "reason": plain(experiment.reason)[:300],
        "near": is_near_miss(experiment),
        "time": seconds_of(experiment.decided_at) if experiment.decided_at else None,
        "utc": experiment.decided_at.replace("T", " ")[:19] + " UTC" if experiment.decided_at else "",
    }


def is_near_miss(experiment: Experiment) -> bool:
    """Discarded, though noise could have done that."""
    sigmas = experiment.compared.sigmas if experiment.compared else None
    return experiment.status is Status.DISCARD and sigmas is not None and sigmas < NEAR_SIGMAS


def found(now: Snapshot) -> str:
    """What the study has found, in a sentence."""
    return " ".join(findings(now.state, now.finished, finish="lab.finish()").split())
