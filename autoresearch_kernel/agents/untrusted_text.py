"""What a file or a run wrote, made fit to be quoted to a language model: cleaned, cut and fenced. Pure."""

from __future__ import annotations

import re
from itertools import groupby

from ..core.sanitize import visible, without_escapes

MANY_ALIKE = 3  # equal lines in a row that are shown as they are
NOTE_LENGTH = 50  # characters of the note that says how much was left out


def clean_output(text: str, limit: int) -> str:
    """What a run printed as a reader would have seen it, at most `limit` characters; the middle goes first.

    Escape sequences, control characters and invisible ones are gone. Of a line that was overwritten again and again,
    as progress bars are, the last state is left; of many equal lines, one and their number.
    """
    text = without_escapes(text).replace("\r\n", "\n")
    lines = [next((part for part in reversed(line.split("\r")) if part.strip()), "") for line in text.split("\n")]
    cleaned: list[str] = []
    for line, alike in groupby(visible(line).rstrip() for line in lines):
        times = len(list(alike))
        if times <= MANY_ALIKE:
            cleaned += [line] * times
        else:
            cleaned += [line, f"[{times - 1} more such lines]"] if line else [""]
    text = "\n".join(cleaned).strip("\n")
    if len(text) <= limit:
        return text
    room = max(0, limit - NOTE_LENGTH)
    start, end = text[: room // 3], text[len(text) - (room - room // 3) :]  # the end of a traceback says more
    start, end = start[: start.rfind("\n") + 1] or start, end[end.find("\n") + 1 :] or end  # whole lines where possible
    left_out = f"[... {len(text) - len(start) - len(end)} characters left out ...]"
    return "\n".join(filter(None, (start.rstrip("\n"), left_out, end)))[:limit]


def fence(text: str, language: str = "") -> str:
    """Text between fences of backticks, longer than any run of backticks in it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    mark = "`" * max(3, longest + 1)
    return f"{mark}{language}\n{text.rstrip(chr(10))}\n{mark}"
