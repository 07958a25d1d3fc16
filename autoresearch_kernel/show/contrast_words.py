"""Two studies side by side, in words: a table, the difference with its interval, and what that says. Pure text."""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from ..core.contrast import CONFIDENCE, Contrast, Estimate, Side
from ..core.format import bpb, percent, plain, signed, with_error
from ..core.sanitize import escaped
from ..system.shell import shell_command
from .cost import money, tokens

MOST_CELL = 40  # characters
MOST_COLUMNS = 100  # of a sentence, in a terminal
MOST_DIFF_LINES = 60  # of program.md
ONE_DRAW = (
    "The interval covers the seeds of the trainings. Another night of the same agent would have other ideas, which no "
    "interval of one night covers: more studies of each kind say more."
)
SELECTED = (
    "These are the validation scores that chose the champions, so each of them is a little too good to be a result."
)


def rows(contrast: Contrast) -> list[tuple[str, str, str]]:
    """A label and the words of both sides: what they found, what that took, and in what the studies differ."""
    sides = contrast.first, contrast.second
    split = "test" if contrast.is_sealed else "validation"
    found = [contrast.found(side) for side in sides]
    figures: list[tuple[str, list[Estimate | None]]] = [
        (f"champion on {split}", [one.champion if one else None for one in found]),
        (f"baseline on {split}", [one.baseline if one else None for one in found]),
    ]
    table = [_row("experiments", *(str(side.num_experiments) for side in sides))]
    table.append(_row("kept", *(str(side.num_kept) for side in sides)))
    table.append(_row("failed", *(str(side.num_failed) for side in sides)))
    if any(side.spent.calls for side in sides):
        table.append(_row("calls of a model", *(str(side.spent.calls) for side in sides)))
        table.append(_row("tokens", *(tokens(side.spent.tokens) for side in sides)))
        table.append(_row("cost", *(money(side.spent) for side in sides)))
    table.append(_row("champion", *(_champion(side) for side in sides)))
    table += [_row(label, *(_score(estimate) for estimate in pair)) for label, pair in figures]
    table.append(
        _row("gain", *(_gain(one.gain if one else None, side) for one, side in zip(found, sides, strict=True)))
    )
    return table


def differing(contrast: Contrast) -> list[tuple[str, str, str]]:
    """The settings in which the studies differ."""
    one, other = contrast.first.settings, contrast.second.settings
    names = dict.fromkeys([*one, *other])
    return [_row(name, one.get(name, "–"), other.get(name, "–")) for name in names if one.get(name) != other.get(name)]


def _row(label: str, one: str, other: str) -> tuple[str, str, str]:
    return plain(label, MOST_CELL), plain(one, MOST_CELL), plain(other, MOST_CELL)


def _champion(side: Side) -> str:
    return f"{side.champion:04d}" if side.champion else "the baseline"


def _score(estimate: Estimate | None) -> str:
    if estimate is None:
        return "–"
    return bpb(estimate.value) + ("" if estimate.error is None else f" ± {estimate.error:.4f}")


def _gain(estimate: Estimate | None, side: Side) -> str:
    if estimate is None:
        return "–"
    return with_error(estimate.value, estimate.error) if side.champion else "0, as nothing was kept"


def verdict(contrast: Contrast) -> list[str]:
    """The difference with its interval, what it says and what it does not say: sentences."""
    first, second = contrast.first.name, contrast.second.name
    if not (contrast.first.champion or contrast.second.champion):
        return [f"Neither study has kept a change, so it cannot be told whether {first} or {second} finds more."]
    if contrast.difference is None:
        return ["One of the studies has no score that could be compared."]
    what = "gains" if contrast.is_of_gains else "champions' scores"
    lines = [f"The difference of the {what}, {first} less {second}: {_interval_words(contrast.difference)}."]
    if contrast.better is not None:
        lines.append(f"Study {contrast.better.name} found more: the interval does not contain zero. Lower is better.")
    elif contrast.difference.interval is None:
        lines.append("It cannot be told which study found more: the error of a score is not known.")
    else:
        lines.append("It cannot be told which study found more: the interval contains zero.")
    if not contrast.is_of_gains:
        lines.append(
            "They did not begin with the same train.py, so the champions' scores are compared and not the gains. A "
            "machine that was faster in one of the studies is part of that difference."
        )
    if not contrast.is_sealed:
        lines.append(_selected(contrast))
    return [*lines, ONE_DRAW]


def _selected(contrast: Contrast) -> str:
    """That validation scores chose the champions, and what measures a result."""
    sides = (contrast.first, contrast.second)
    commands = [f"`{shell_command(f'finish --name {s.name}')}`" for s in sides if s.champion and s.on_test is None]
    remedy = f" Run {' and '.join(commands)} and compare again, to compare results on the sealed test split."
    return SELECTED + (remedy if commands else "")


def _interval_words(difference: Estimate) -> str:
    words = f"{with_error(difference.value, difference.error)} bits per byte"
    if difference.interval is None:
        return words
    low, high = difference.interval
    freedom = difference.degrees_of_freedom
    by = f", Student's t with {int(freedom)} degrees of freedom" if freedom is not None else ""
    return f"{words}, {percent(CONFIDENCE)} interval {signed(low)} to {signed(high)}{by}"


def program_diff(contrast: Contrast) -> list[str]:
    """In what program.md differs, as a unified diff; a sentence where a text is not kept; empty for the same text."""
    one, other = contrast.first, contrast.second
    if one.settings.get("program.md") == other.settings.get("program.md"):
        return []
    if one.program is None or other.program is None:
        lacks = one if one.program is None else other
        return [f"The text of program.md in study {lacks.name} is not kept, so the difference cannot be shown."]
    sides = one.program.splitlines(), other.program.splitlines()
    lines = list(difflib.unified_diff(*sides, f"{one.name}/program.md", f"{other.name}/program.md", n=1, lineterm=""))
    shown = [escaped(line) for line in lines[:MOST_DIFF_LINES]]
    left = len(lines) - len(shown)
    return [*shown, *([f"... and {left} more lines"] if left else [])]


def contrast_table(contrast: Contrast) -> str:
    """All of it, for a terminal."""
    return "\n".join(_lines(contrast))


def _lines(contrast: Contrast) -> Iterator[str]:
    found, settings = rows(contrast), differing(contrast)
    table = [("", contrast.first.name, contrast.second.name), *found, *settings]
    widths = [max(len(row[column]) for row in table) for column in (0, 1)]
    for place, (label, one, other) in enumerate(table):
        if place == len(found) + 1:
            yield ""
            yield "They differ in:"
        yield f"  {label:<{widths[0]}}  {one:<{widths[1]}}  {other}".rstrip()
    yield ""
    for sentence in verdict(contrast):
        yield textwrap.fill(sentence, MOST_COLUMNS, break_on_hyphens=False)
    if diff := program_diff(contrast):
        yield ""
        yield from diff


def contrast_json(contrast: Contrast) -> dict[str, Any]:
    """The same for scripts."""
    difference, better = contrast.difference, contrast.better
    sides = {key: _side_json(side) for key, side in (("first", contrast.first), ("second", contrast.second))}
    return sides | {
        "is_sealed": contrast.is_sealed,
        "compared": "gains" if contrast.is_of_gains else "scores",
        "difference_bpb": difference and difference.value,
        "difference_standard_error": difference and difference.error,
        "degrees_of_freedom": difference and difference.degrees_of_freedom,
        "interval_bpb": difference and difference.interval,
        "confidence": CONFIDENCE,
        "better": better and better.name,
        "says": verdict(contrast),
    }


def _side_json(side: Side) -> dict[str, Any]:
    facts = {name: value for name, value in asdict(side).items() if name not in ("program", "start_sha256")}
    return facts | {"settings": dict(side.settings)}
