"""What a study gained and how sure that is: the summary, who gained what, and how much of it may be luck. Pure.

Gains are as they were judged, each against the incumbent of its time. Means over all runs are another figure: they
also differ by the machine's speed.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from ...core.decide import is_better, mean
from ...core.drift import alike, machine_speeds
from ...core.duel import duels_between
from ...core.format import bpb, count, duration, percent, signed, with_error
from ...core.noise import by_machine
from ...core.types import Experiment, Spent, Status, scores_of
from ...show.cost import money
from ...show.html import MARKS
from ...show.study_words import against_baseline, compared_at_end, gain_words, is_clear
from ...show.words import idea
from ...system.files import seconds_of
from .data import StudyData, judged_delta
from .finding import Column, Row, in_time, in_words, share, shortened


def summary(data: StudyData) -> str:
    """What was found, in a few sentences."""
    return " ".join(sentence for sentence in (*_outcome(data), *_trust(data), data.machine, data.note) if sentence)


def _outcome(data: StudyData) -> Iterator[str]:
    if not data.experiments:
        yield "No experiment is decided yet."
        return
    baseline, champion = data.baseline, data.best
    tried = count(len(data.proposals), "experiment") + (f" in {duration(data.seconds)}" if data.seconds else "")
    if baseline is None or champion is None:
        yield f"{tried}, none of them kept: there is no baseline to gain on."
    elif not data.proposals:
        yield f"The baseline alone: {data.metric} {bpb(baseline.val_bpb)}."
    elif not data.kept:
        yield f"{tried}, none of which beat the baseline, {data.metric} {bpb(baseline.val_bpb)}."
    else:
        yield from _gained(data, tried, baseline, champion)


def _gained(data: StudyData, tried: str, baseline: Experiment, champion: Experiment) -> Iterator[str]:
    compared = champion.against(baseline)
    assert compared is not None, "both have a score"
    before, after, difference, error = compared.theirs, compared.mine, compared.difference, compared.error
    is_gain = data.is_steady and is_better(after, before) and before > 0 and is_clear(difference, error)
    better = f" ({100 * (before - after) / before:.1f} % better)" if is_gain else ""
    yield f"{tried} took {data.metric} from {bpb(before)} to {bpb(after)}, {gain_words(difference, error)}{better}."
    were = "change was" if len(data.kept) == 1 else "changes were"
    gained = with_error(-data.gain, data.gain_standard_error)
    judged = "" if data.is_steady else f", which gained {gained} as judged at their hours"
    yield f"{len(data.kept)} {were} kept{judged}."
    largest = max(attributed(data), key=lambda row: row["gain"])
    if len(data.kept) > 1 and largest["share"] is not None:
        what = f"{largest['number']:04d}: {shortened(largest['idea'])}"
        yield f"The largest, {percent(largest['share'])} of the gain, is {what}."


def _trust(data: StudyData) -> Iterator[str]:
    champion, finished = data.best, data.finished or {}
    if champion is not None and finished.get("champion") == champion.number and data.kept:
        yield f"By the runs at its end: {against_baseline(compared_at_end(finished), data.metric)}."
    if data.sigma is not None:
        yield f"Two runs of the same code differ by a standard deviation of {data.sigma:.4f}."
    elif data.experiments:
        yield "How much two runs of the same code differ is not known."
    if not data.is_steady:
        speeds = [speed for _, speed in machine_speeds(data.experiments)]
        yield f"The machine ran at {min(speeds):.2f} to {max(speeds):.2f} times its speed at the start."


def attributed(data: StudyData) -> list[Row]:
    """A row for each kept change, oldest first."""
    rows: list[Row] = []
    if data.baseline is None:
        return rows
    cumulative = 0.0
    for before, kept in pairwise([data.baseline, *data.kept]):
        gain = -judged_delta(kept)
        cumulative += gain
        as_decided = kept.against(data.baseline)
        added = {"cumulative": cumulative, "cumulative_standard_error": as_decided.error if as_decided else None}
        rows.append(_gain_row(data, before, kept, gain) | added)
    return rows


def _gain_row(data: StudyData, before: Experiment, kept: Experiment, gain: float) -> Row:
    between = [e for e in data.experiments if before.number < e.number <= kept.number]
    spent = None if data.spent is None else sum((data.spent.get(e.number, Spent()) for e in between), Spent())
    times = [seconds_of(e.decided_at) for e in (before, kept) if e.decided_at]
    return {
        "number": kept.number,
        "idea": idea(kept),
        "val_bpb": kept.val_bpb,
        "against": kept.incumbent_bpb,
        "gain": gain,  # bits per byte, positive is better
        "standard_error": kept.delta_standard_error,
        "share": gain / data.gain if data.gain > 0 else None,
        "sigmas": -kept.compared.sigmas if kept.compared and kept.compared.sigmas is not None else None,
        "runs": len(kept.judged_runs) or None,
        "experiments": len(between),  # tried since the last keep, this one included
        "seconds": times[1] - times[0] if len(times) == 2 else None,
        "tokens": spent.tokens if spent and spent.calls else None,
        "cost": spent.cost if spent and spent.unpriced_calls < spent.calls else None,  # US dollars
        "spent": spent,
    }


ATTRIBUTION = (
    Column("#", lambda row: str(row["number"])),
    Column("what was kept", lambda row: f"● {shortened(row['idea'])}", is_number=False),
    Column("val_bpb", lambda row: bpb(row["val_bpb"])),
    Column("against", lambda row: bpb(row["against"])),
    Column("Δ", lambda row: with_error(-row["gain"], row["standard_error"])),
    Column("σ", lambda row: in_words(None if row["sigmas"] is None else -row["sigmas"], 1)),
    Column("of the whole", lambda row: share(row["share"])),
    Column("runs", lambda row: str(row["runs"] or "–")),
    Column("Δ added up", lambda row: with_error(-row["cumulative"], row["cumulative_standard_error"])),
    Column("tried for it", lambda row: str(row["experiments"])),
    Column("took", lambda row: in_time(row["seconds"])),
    Column("cost", lambda row: money(row["spent"]) if row["spent"] is not None and row["spent"].calls else "–"),
)


def attribution_words(data: StudyData, rows: Sequence[Row]) -> str:
    if data.baseline is None:
        return "Nothing was kept, not even a baseline: there is no gain to share out."
    if not rows:
        baseline = f"{data.metric} {bpb(data.baseline.val_bpb)}"
        return f"Nothing has beaten the baseline, {baseline}: there is no gain to share out."
    gained = with_error(-data.gain, data.gain_standard_error)
    words = f"{gained} {data.unit} in {count(len(rows), 'kept change')}, each as it was judged."
    largest = sorted(rows, key=lambda row: -row["gain"])[:3]
    if len(rows) > 3 and all(row["gain"] >= 0 for row in rows) and data.gain > 0:
        words += f" The three largest make {percent(sum(row['gain'] for row in largest) / data.gain)} of it."
    single = sum(row["runs"] == 1 for row in rows)
    if single:
        rests = "rests" if single == 1 else "rest"
        words += f" {single} of them {rests} on one run, which flatters what was chosen for its score."
    if (so_far := data.so_far) is not None and abs(so_far.difference + data.gain) >= 0.00005:
        words += f" Over all runs so far, re-runs included: {against_baseline(so_far, data.metric)}."
    return words


def noise_rows(data: StudyData) -> list[Row]:
    """A row for each proposal that was kept, or run again before it was judged."""
    by_number = {e.number: e for e in data.experiments}
    rows = []
    for e in data.proposals:
        runs = e.judged_runs
        if e.incumbent_bpb is not None and runs and (len(runs) > 1 or e.status is Status.KEEP):
            parent = by_number.get(e.parent) if e.parent is not None else None
            rows.append(_noise_row(e, parent, scores_of(runs), e.incumbent_bpb, data.sigma))
    return rows


def _noise_row(
    e: Experiment, parent: Experiment | None, scores: Sequence[float], incumbent: float, sigma: float | None
) -> Row:
    by_duels = e.difference_error is not None
    if by_duels:  # its first run and the incumbent's score are of other hours
        first, later, delta = judged_delta(e), _later_in_duels(e, parent), judged_delta(e)
    else:
        first, delta = scores[0] - incumbent, mean(scores) - incumbent
        later = mean(scores[1:]) - incumbent if len(scores) > 1 else None
    return {
        "number": e.number,
        "idea": idea(e),
        "status": str(e.status),
        "against": incumbent,
        "by_duels": by_duels,  # so that its first run says nothing
        "first_delta": first,  # to the incumbent, negative is better; the judged difference where duels decided
        "later_delta": later,  # of the runs after the first, which were not selected for a low score
        "delta": delta,
        "sigmas": delta / e.sigma if e.sigma else None,  # as it was known at the decision
        "shrinkage": 1 - later / first if later is not None and first < 0 and not by_duels else None,
        "luck": _luck(e, parent, scores, sigma),
    }


def _later_in_duels(e: Experiment, parent: Experiment | None) -> float | None:
    """The mean difference of the duels behind a decision, without the first run, which was selected for its score."""
    duels = [] if parent is None else duels_between(e, parent)
    later = [d.difference for d in duels if d.challenger.index > 0 and d.challenger.num_decided <= e.number]
    return mean(later) if later else None


def _luck(e: Experiment, parent: Experiment | None, scores: Sequence[float], sigma: float | None) -> float | None:
    """Probability that a kept change is in truth no better; from the runs after the first, which were not selected.

    Where there is only one run, this figure is too low, because the change was selected for that run's score.
    """
    if e.status is not Status.KEEP or not sigma or parent is None or e.incumbent_bpb is None:
        return None
    if e.difference_error is not None:
        return 0.5 * math.erfc(-judged_delta(e) / e.difference_error / math.sqrt(2)) if e.difference_error else None
    fair = scores[1:] or scores
    known = [run for run in parent.on(e.machine).runs if run.val_bpb is not None and run.num_decided <= e.number]
    error = sigma * math.sqrt(1 / len(fair) + 1 / max(1, len(known)))
    return 0.5 * math.erfc((e.incumbent_bpb - mean(fair)) / error / math.sqrt(2))


NOISE = (
    Column("#", lambda row: str(row["number"])),
    Column(
        "what was kept or run again", lambda row: f"{MARKS[Status(row['status'])][0]} {shortened(row['idea'])}", False
    ),
    Column("against", lambda row: bpb(row["against"])),
    Column("first run Δ", lambda row: in_words(None if row["by_duels"] else row["first_delta"])),
    Column("later runs Δ", lambda row: in_words(row["later_delta"])),
    Column("mean Δ", lambda row: in_words(row["delta"])),
    Column("σ", lambda row: in_words(row["sigmas"], 1)),
    Column("luck alone", lambda row: share(row["luck"])),
)


def noise_words(data: StudyData, rows: Sequence[Row]) -> str:
    if data.sigma is None:
        return "No code was run twice, so how much of a gain is luck cannot be known."
    parts = [_sigma_words(data)]
    gains = [-row["sigmas"] for row in _kept(rows) if row["sigmas"] is not None]
    if gains:
        gained = f"{statistics.median(gains):.1f} σ, with σ as it was known at its decision"
        parts.append(f"The median kept change gained {gained}.")
    again = [row for row in rows if row["later_delta"] is not None and row["first_delta"] < 0 and not row["by_duels"]]
    if again:
        parts.append(_shrinkage_words(again))
    luck = [row["luck"] for row in rows if row["luck"] is not None]
    if luck:
        keeps = count(len(luck), "keep")
        parts.append(f"Of {keeps}, {sum(luck):.1f} may be expected to be luck alone, more where one run decided.")
    return " ".join(parts)


def _sigma_words(data: StudyData) -> str:
    assert data.sigma is not None
    words = f"Two runs of the same code differ by a standard deviation of {data.sigma:.4f}"
    judged = [e for e in data.experiments if e.status is not Status.REJECTED]
    repeats = sum(len(group) - 1 for e in judged for runs in by_machine(e) for group in alike(runs))  # behind sigma
    if repeats:
        words += f" ± {data.sigma / math.sqrt(2 * repeats):.4f}, from {count(repeats, 'repeated run')}"
    believed = [e.sigma for e in data.experiments if e.sigma is not None]
    if believed and max(believed) > 1.1 * min(believed):
        words += f"; during the study it was believed to be {min(believed):.4f} to {max(believed):.4f}"
    return f"{words}."


def _kept(rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if row["status"] == Status.KEEP]


def _shrinkage_words(again: Sequence[Row]) -> str:
    """How promising first scores fared in later runs: regression to the mean."""

    def means(rows: Sequence[Row]) -> str:
        first, later = mean([r["first_delta"] for r in rows]), mean([r["later_delta"] for r in rows])
        return f"from {signed(first)} to {signed(later)}"

    kept = _kept(again)
    words = f"Run again, {count(len(again), 'promising change')} went {means(again)} on average"
    return words + (f", the {len(kept)} that stayed {means(kept)}." if kept and len(kept) < len(again) else ".")
