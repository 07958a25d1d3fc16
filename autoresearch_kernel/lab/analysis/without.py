"""Which kept changes carry the gain, by trainings without each of them: rows and words of `study/attribution.py`. Pure.

These trainings are on seeds that chose nothing. The differences at the decisions are another figure: they are of the
scores that a change was chosen for.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...core.attribution import Part
from ...core.format import bpb, plain, signed, with_error
from ...show.attribution_words import ALONE, VERDICTS, attribution_words
from ...show.words import idea
from ...system.shell import shell_command
from .data import StudyData, judged_delta
from .finding import Column, Row, shortened

SIGNS = {
    Part.CARRIES: "●", Part.LUCK: "○", Part.COSTS: "×", Part.UNCLEAR: "◐", Part.TANGLED: "▲", Part.REPLACED: "○",
    Part.OPEN: "◐",
}  # fmt: skip


def without_rows(data: StudyData) -> list[Row]:
    """A row for each kept change that is in the champion, oldest first."""
    by_number = {e.number: e for e in data.experiments}
    return [
        {
            "number": effect.change,
            "idea": idea(by_number[effect.change]),
            "part": str(effect.part),
            "without_bpb": effect.without_bpb,
            "with_bpb": effect.with_bpb,
            "gain": effect.gain,  # bits per byte that the champion loses without it, positive is better
            "standard_error": effect.error,
            "low": effect.low,  # the 95 % interval
            "high": effect.high,
            "seeds": effect.num_seeds,
            "judged": -judged_delta(by_number[effect.change]),  # the gain at its decision
            "why": effect.why,
        }
        for effect in data.effects
        if effect.change in by_number
    ]


def without_words(data: StudyData, rows: Sequence[Row]) -> str:
    """What the trainings say, in sentences."""
    if data.taken_out is None:
        return ""
    words = [attribution_words(data.taken_out, data.effects)]
    measured = [row for row in rows if row["gain"] is not None]
    if measured:
        fresh, judged = sum(row["gain"] for row in measured), sum(row["judged"] for row in measured)
        words.append(f"Taken out one by one, they gain {signed(fresh)} in all; at their decisions {signed(judged)}.")
    return " ".join([*words, ALONE])


def how_to_take_out(name: str) -> str:
    """How a user learns which of the kept changes were luck."""
    return f"`{shell_command(f'attribute {name}')}` trains without each of them, on fresh seeds."


WITHOUT = (
    Column("#", lambda row: str(row["number"])),
    Column("what was kept", lambda row: shortened(row["idea"]), is_number=False),
    Column("on fresh seeds", lambda row: f"{SIGNS[Part(row['part'])]} {VERDICTS[Part(row['part'])][0]}", False),
    Column("without it", lambda row: bpb(row["without_bpb"])),
    Column("with it", lambda row: bpb(row["with_bpb"])),
    Column("gain", lambda row: "–" if row["gain"] is None else with_error(row["gain"], row["standard_error"])),
    Column("95 %", lambda row: "–" if row["low"] is None else f"{signed(row['low'])} to {signed(row['high'])}"),
    Column("as judged", lambda row: signed(row["judged"])),
    Column("seeds", lambda row: str(row["seeds"] or "–")),
    Column("in the way", lambda row: plain(row["why"], 60), is_number=False),
)
