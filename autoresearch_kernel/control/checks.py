"""What was looked at and what was found: a line for people, a record for scripts, a status for shells.

It looks at nothing itself; `control/doctor.py` and `control/verify.py` do.
"""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

MARKS = {"ok": "✓", "skip": "-", "warn": "!", "fail": "✗"}
COLOURS = {"ok": "32", "skip": "90", "warn": "33", "fail": "31"}  # of ANSI terminals
NAME_CELLS, WIDEST = 14, 110


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    verdict: Literal["ok", "skip", "warn", "fail"]
    found: str  # one line
    remedy: str = ""  # what to do; "" where nothing is to be done
    facts: dict[str, Any] = field(default_factory=dict)  # the same for scripts


def worst(checks: Sequence[Check]) -> str:
    """The worst verdict among them."""
    return max((check.verdict for check in checks), key=list(MARKS).index, default="ok")


def as_json(checks: Sequence[Check]) -> dict[str, Any]:
    """For scripts: the worst verdict, and each check."""
    return {"verdict": worst(checks), "checks": [asdict(check) for check in checks]}


def table(checks: Sequence[Check], *, width: int | None = None, is_coloured: bool = False) -> str:
    """A line a check: mark, name, what was found; a remedy stands below it."""
    width = min(WIDEST, width or shutil.get_terminal_size().columns)
    return "\n".join(line for check in checks for line in _lines(check, width, is_coloured))


def _lines(check: Check, width: int, is_coloured: bool) -> list[str]:
    indent = " " * (NAME_CELLS + 4)
    lines = [
        line
        for text, first in ((check.found, indent), (check.remedy, indent + "→ "))
        for line in textwrap.wrap(
            text, max(40, width), initial_indent=first, subsequent_indent=indent + "  " * (first != indent),
            break_long_words=False, break_on_hyphens=False,
        )
    ]  # fmt: skip
    mark = MARKS[check.verdict]
    if is_coloured:
        mark = f"\033[{COLOURS[check.verdict]}m{mark}\033[0m"
    lines[0] = f"{mark} {check.name:<{NAME_CELLS + 1}} {lines[0].lstrip()}"
    return lines
