"""How fast a study went, where its seconds went, and whether its machine stayed what it was. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ...core.decide import mean
from ...core.drift import STEADY
from ...core.format import bpb, count, duration, percent, signed
from ...core.types import Experiment, Run, Spent, Status
from ...show.cost import tokens
from ...show.words import SECONDS
from .data import StudyData
from .finding import Column, Row, in_words

GAIN_STEP = 0.01  # bits per byte, that time and money are told for
FEW_KEEPS = 4  # below, which half of the study they came in says nothing


def where_the_seconds_go(data: StudyData) -> dict[str, float]:
    """Name -> seconds of all runs, of the attribution, and of the rest of a study; {} where nothing is known."""
    runs = [run for e in data.experiments for run in e.runs]
    sums = {name: math.fsum(float(run.measured.get(key) or 0.0) for run in runs) for key, name in SECONDS}
    sums["attribution"] = data.attribution_seconds
    known = {name: seconds for name, seconds in sums.items() if seconds > 0}
    rest = (data.whole_seconds or 0.0) - sum(known.values())
    return known | ({"waiting and the rest": rest} if known and rest > 0 else {})


def pace_rows(data: StudyData) -> list[Row]:
    """A row for each quantity: its name, value and words; the value is None where it cannot be known."""
    tried, kept, failed, seconds = len(data.proposals), len(data.kept), len(data.failed), data.seconds
    steps = data.whole_gain / GAIN_STEP if data.whole_gain > 0 else None
    rate = tried * 3600 / seconds if seconds else None
    keep_rate, crash_rate = _per(kept, tried), _per(failed, tried)
    rows = [
        _row("experiments", tried, str(tried)),
        _row("kept", keep_rate, f"{kept}, {percent(keep_rate or 0)}"),
        _row("failed", crash_rate, f"{failed}, {percent(crash_rate or 0)}"),
        _row("experiments an hour", rate, f"{rate or 0:.1f}"),
        _row("time for a keep", value := _per(seconds, kept), duration(value or 0)),
        _row(f"time for {GAIN_STEP:g} bpb", value := _per(seconds, steps), duration(value or 0)),
    ]
    return rows + _cost_rows(data, kept, steps) + _seconds_rows(data)


def _cost_rows(data: StudyData, kept: int, steps: float | None) -> list[Row]:
    total = sum((data.spent or {}).values(), Spent())
    if not total.calls:
        return []
    cost = total.cost if total.unpriced_calls < total.calls else None
    return [
        _row("tokens for a keep", value := _per(total.tokens, kept), tokens(round(value or 0))),
        _row(f"tokens for {GAIN_STEP:g} bpb", value := _per(total.tokens, steps), tokens(round(value or 0))),
        _row("cost of a keep", value := _per(cost, kept), f"${value or 0:.2f}"),
        _row(f"cost of {GAIN_STEP:g} bpb", value := _per(cost, steps), f"${value or 0:.2f}"),
    ]


def _seconds_rows(data: StudyData) -> list[Row]:
    where = where_the_seconds_go(data)
    whole = sum(where.values())
    return [_row(name, seconds, f"{duration(seconds)}, {percent(seconds / whole)}") for name, seconds in where.items()]


def _row(name: str, value: float | None, words: str) -> Row:
    return {"quantity": name, "value": value, "words": "–" if value is None else words}


def _per(amount: float | None, parts: float | None) -> float | None:
    return amount / parts if amount is not None and parts else None


PACE = (
    Column("quantity", lambda row: row["quantity"], is_number=False),
    Column("value", lambda row: row["words"], is_number=False),
)


def pace_words(data: StudyData) -> str:
    tried, kept = len(data.proposals), len(data.kept)
    if not tried:
        return "Nothing but the baseline was tried."
    words = f"{kept} of {count(tried, 'experiment')} {'was' if kept == 1 else 'were'} kept"
    words += f", {len(data.failed)} failed." if data.failed else ", none failed."
    if kept >= FEW_KEEPS:
        halves = data.proposals[: tried // 2], data.proposals[tried // 2 :]
        first, second = (sum(e.status is Status.KEEP for e in half) for half in halves)
        words += f" {first} of the keeps came in the first half, {second} in the second."
    where = where_the_seconds_go(data)
    if where.get("training"):
        words += f" {percent(where['training'] / sum(where.values()))} of the time was training."
    elif data.seconds is None:
        words += " When things happened is not recorded, so times and rates are unknown."
    return words


def reruns(data: StudyData) -> list[Row]:
    """A row for each run of an incumbent that was made after its decision, oldest first."""
    pairs = [(e, run) for e in data.experiments for run in e.runs if run.num_decided > e.number]
    rows = [_rerun_row(data, e, run, run.val_bpb) for e, run in pairs if run.val_bpb is not None]
    return sorted(rows, key=lambda row: row["at"])


def _rerun_row(data: StudyData, e: Experiment, run: Run, val_bpb: float) -> Row:
    before = [r.val_bpb for r in e.on(run.machine).runs if r.val_bpb is not None and r.index < run.index]
    against = mean(before) if before else None
    delta = val_bpb - against if against is not None else None
    return {
        "at": run.num_decided,  # experiments decided by then
        "number": e.number,
        "val_bpb": val_bpb,
        "against": against,  # the mean of its earlier runs
        "delta": delta,
        "sigmas": data.in_sigmas(delta),
        "relative_speed": run.measured.get("relative_speed"),
        "tokens_per_second": run.measured.get("tokens_per_second"),
    }


DRIFT = (
    Column("after", lambda row: str(row["at"])),
    Column("ran again", lambda row: f"{row['number']:04d}", is_number=False),
    Column("val_bpb", lambda row: bpb(row["val_bpb"])),
    Column("mean of its earlier runs", lambda row: bpb(row["against"])),
    Column("Δ", lambda row: in_words(row["delta"])),
    Column("in σ of now", lambda row: in_words(row["sigmas"], 1)),
    Column("speed", lambda row: f"{row['relative_speed']:.2f} ×" if row["relative_speed"] else "–"),
)


def drift_words(data: StudyData, speeds: Sequence[tuple[float, float]], rows: Sequence[Row]) -> str:
    if not speeds:
        return "How fast the machine was is not recorded."
    values = [speed for _, speed in speeds]
    steady = max(abs(speed - 1) for speed in values) <= STEADY
    words = "The machine kept its speed" if steady else "The machine did not keep its speed"
    words += f": {min(values):.2f} to {max(values):.2f} times that of the start, {values[-1]:.2f} at the end."
    deltas = [row["delta"] for row in rows if row["delta"] is not None]
    if not deltas:
        return f"{words} No incumbent was run again later."
    words += f" {count(len(deltas), 're-run')} of incumbents, on average {signed(mean(deltas))} against earlier runs"
    sigmas = data.in_sigmas(mean(deltas))
    return f"{words} ({signed(sigmas, 1)} σ)." if sigmas is not None else f"{words}."
