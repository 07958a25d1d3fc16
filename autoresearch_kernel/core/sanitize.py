"""What foreign code wrote, made fit to be kept: numbers of sensible size, short printable texts, JSON of any depth.

A training may write whatever it likes into its hand-over and its curve. What is left out here is met by no reader.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any, TypeGuard

LARGEST = 1e15  # the largest number that anything here counts or measures is far below
MOST_FACTS = 100  # of one object
NAME_LIMIT = 100  # characters of a fact's name; an exception's name is cut to as many
TEXT_LIMIT = 200

_ESCAPES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_].*?(?:\x07|\x1b\\|$)|[ -/]*[0-~])|\x9b[0-?]*[ -/]*[@-~]", re.M
)


def is_number(value: Any) -> TypeGuard[int | float]:
    """Whether it is a finite number of sensible size; no boolean is one.

    Example:
        >>> [is_number(value) for value in (1, -2.5, 10**400, float("nan"), True, "1")]
        [True, True, False, False, False, False]
    """
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
    """A JSON object; None for anything else, brackets too deep to follow included."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def plain_facts(
    content: Mapping[str, Any], *, texts: Collection[str] = (), without: Collection[str] = ()
) -> dict[str, Any]:
    """Of an object the sensible numbers, and of the facts called `texts` a short line; all else is left out.

    Example:
        >>> plain_facts({"steps": 3, "loss": 10**400, "device": "cpu", "note": "x"}, texts=["device"])
        {'steps': 3, 'device': 'cpu'}
    """
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
