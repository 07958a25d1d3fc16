"""Numbers and short texts in one form: four decimals for bits per byte, thin spaces, a real minus.

Control characters are removed from the text of an agent or a training, so that it cannot change the reader's terminal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .sanitize import flat, is_number

THIN_SPACE = "\u2009"
MINUS = "\u2212"


def plain(text: str, limit: int | None = None) -> str:
    """One line without control characters and escape sequences, cut to `limit` characters."""
    if limit is None:
        return flat(text)
    line = flat(text[: 8 * limit])
    return line if len(line) <= limit else line[: max(0, limit - 1)].rstrip(" ,.:(") + "…"


def number(value: Any) -> float | None:
    """A finite number of sensible size; None for any other value in a curve."""
    return float(value) if is_number(value) else None


def last_number(curve: Sequence[Mapping[str, Any]], name: str) -> float | None:
    """The last usable value of a quantity in a curve."""
    return next((value for point in reversed(curve) if (value := number(point.get(name))) is not None), None)


def bpb(value: float | None) -> str:
    """`1.4312`, or a dash for None."""
    return "–" if value is None else f"{value:.4f}"


def signed(value: float, decimals: int = 4) -> str:
    """`+0.0021` or `−0.0124`."""
    return f"{value:+.{decimals}f}".replace("-", MINUS)


def with_error(difference: float, error: float | None) -> str:
    """`−0.0124 ± 0.0030`; the difference alone where its standard error is not known."""
    return signed(difference) if error is None else f"{signed(difference)} ± {error:.4f}"


def thousands(value: float) -> str:
    """`131 072`, with thin spaces."""
    return f"{value:,.0f}".replace(",", THIN_SPACE)


def percent(share: float) -> str:
    """`62 %`."""
    return f"{share:.0%}".replace("%", " %")


def value_text(value: Any) -> str:
    """The value of a parameter, as `0.04` or `128`."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def count(number: int, noun: str) -> str:
    """`1 experiment`, `2 experiments`, `2 processes`."""
    plural = "es" if noun.endswith("s") else "s"
    return f"{thousands(number)} {noun}{'' if number == 1 else plural}"


def in_lines(numbers: list[int], most: int = 8) -> str:
    """`line 3`, `lines 3 and 5`, `lines 1, 2, 3, 4, 5, 6, 7, 8 and 92 more`."""
    if len(numbers) == 1:
        return f"line {numbers[0]}"
    shown = [str(number) for number in numbers[:most]]
    last = f"{len(numbers) - most} more" if len(numbers) > most else shown.pop()
    return f"lines {', '.join(shown)} and {last}"


def duration(seconds: float) -> str:
    """`41 s`, `12 min`, `3 h 12 min`, `2 d 3 h`."""
    if seconds < 119.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def clock(utc: str) -> str:
    """`2026-11-23 02:14 UTC`."""
    return f"{plain(utc).replace('T', ' ')[:16]} UTC"
