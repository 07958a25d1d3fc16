"""Reduces values that untrusted code wrote: to numbers of sensible size, short printable texts, and plain JSON objects.

A training may write anything into its hand-over and its curve. Values that are removed here reach no reader.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any, TypeGuard

LARGEST = 1e15  # far above every number that is counted or measured here
MOST_FACTS = 100  # of one object
NAME_LIMIT = 100  # characters of a fact's name; an exception's name is cut to as many
TEXT_LIMIT = 200

_ESCAPES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_].*?(?:\x07|\x1b\\|$)|[ -/]*[0-~])|\x9b[0-?]*[ -/]*[@-~]", re.M
)


def is_number(value: Any) -> TypeGuard[int | float]:
    """Whether the value is a finite number of sensible size; a boolean is not."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST


def without_escapes(text: str) -> str:
    """Without the sequences that steer a terminal."""
    return _ESCAPES.sub("", text)


def visible(line: str) -> str:
    """Without characters that have no glyph; blanks of all kinds become plain ones, tabs stay."""
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() or c == "\t" else " " if c.isspace() else "" for c in line)


def flat(text: str) -> str:
    """All visible characters on one line."""
    return " ".join(visible(without_escapes(text)).split())


def one_line(text: str, most: int = TEXT_LIMIT) -> str:
    r"""At most `most` printable characters on one line, without the sequences that steer a terminal.

    Example:
        >>> one_line("\x1b[31mred\x1b[0m\n\x07alert")
        'red alert'
    """
    return flat(text[: 20 * most])[:most]


def parse_object(text: str | bytes) -> dict[str, Any] | None:
    """A JSON object; None for anything else, also for brackets that are nested too deep."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def plain_facts(
    content: Mapping[str, Any], *, texts: Collection[str] = (), without: Collection[str] = ()
) -> dict[str, Any]:
    """The sensible numbers of an object, and one short line of each fact in `texts`; everything else is left out."""
    facts: dict[str, Any] = {}
    for name, value in content.items():
        if len(facts) == MOST_FACTS:
            break
        if name in without or len(name) > NAME_LIMIT or not name.isprintable():
            continue
        if name in texts:
            if isinstance(value, str):
                facts[name] = one_line(value)
        elif is_number(value):
            facts[name] = value
    return facts
