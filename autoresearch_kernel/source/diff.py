"""Two train.py texts compared and merged line by line, and a diff applied to one. Pure."""

from __future__ import annotations

import difflib
import io
import re
from typing import Any

from .syntax import parsed

_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)\s*(?::[^=]+)?=(?!=)")


def diff(old: str, new: str) -> str:
    """A unified diff of two train.py texts that `git apply` accepts; empty when they are equal."""
    before, after = lines_of(old), lines_of(new)
    text = difflib.unified_diff(before, after, "a/train.py", "b/train.py")
    return "".join(line if line.endswith("\n") else line + "\n\\ No newline at end of file\n" for line in text)


def rebase(base: str, mine: str, theirs: str) -> str | None:
    """The change from `base` to `mine`, made to `theirs`; None when both changed the same lines differently.

    Assignments that follow each other, such as those of the parameters cell, do not count as the same lines.
    """
    from merge3 import Merge3

    groups = Merge3(lines_of(ended(base)), lines_of(ended(mine)), lines_of(ended(theirs))).merge_groups()
    merged: list[str] = []
    for _, *sides in groups:
        chosen = sides[0] if len(sides) == 1 else _line_by_line(*sides)
        if chosen is None:
            return None
        merged += chosen
    text = "".join(merged)
    return None if parsed(text) is None and parsed(mine) is not None else text


def _line_by_line(base: Any, mine: Any, theirs: Any) -> list[str] | None:
    """Both sides of a conflict within assignments to the same names, of which each side changed others."""
    names = [[_ASSIGNMENT.match(line) for line in side] for side in (base, mine, theirs)]
    given = [[found and found[1] for found in side] for side in names]
    if None in given[0] or not given[0] == given[1] == given[2]:
        return None
    rows = list(zip(base, mine, theirs, strict=True))
    if any(b not in (m, t) and m != t for b, m, t in rows):
        return None
    return [t if m == b else m for b, m, t in rows]


def lines_of(text: str) -> list[str]:
    """Lines with their ends, split at newlines alone: a form feed is not a line."""
    return io.StringIO(text, newline="\n").readlines()


def ended(text: str) -> str:
    """`text` with exactly one newline at its end."""
    return text.rstrip("\n") + "\n"


_HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+\d+(?:,\d+)? @@")


def applied(old: str, change: str) -> str | None:
    """What a diff of `diff` makes of the text that it was made from; None where it does not fit that text."""
    before, made, place = lines_of(old), list[str](), 0
    for header, body in _hunks(change):
        count = 1 if header[2] is None else int(header[2])
        start = int(header[1]) - (count > 0)  # a hunk without old lines names the line before it
        removed = [line[1:] for line in body if line[0] in " -"]
        if start < place or before[start : start + count] != removed or len(removed) != count:
            return None
        made += before[place:start] + [line[1:] for line in body if line[0] in " +"]
        place = start + count
    return "".join(made + before[place:])


def _hunks(change: str) -> list[tuple[re.Match[str], list[str]]]:
    """The hunks of a unified diff with their lines, of which one without a newline at its end has lost it again."""
    hunks: list[tuple[re.Match[str], list[str]]] = []
    for line in lines_of(change):
        if header := _HUNK.match(line):
            hunks.append((header, []))
        elif hunks and line.startswith("\\"):
            hunks[-1][1][-1] = hunks[-1][1][-1].removesuffix("\n")
        elif hunks:
            hunks[-1][1].append(line)
    return hunks
