"""Whether study.json of a bundle is what the history says the study began with: `checkSettings` in verify.js. Pure.

The pages take budget, device, agent, corpus and versions from study.json, and the first event of a history,
`study_started`, holds the same facts. Both are fixed when a study begins, and the cleaning replaces the same words in
both, so they are equal in every honest bundle.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..core.state import Event

SETTINGS = "study.json"
UNNAMED = "the history does not say what the study began with"
UNREAD = "it cannot be read"
_ABSENT = object()


def problems_of_settings(text: str, events: Sequence[Event]) -> list[str]:
    """What is wrong with the text of study.json; each field that differs is named by its path."""
    began = [event.get("study") for event in events if event["event"] == "study_started"]
    if not began:
        return [UNNAMED]
    try:
        facts = json.loads(text)
        names = dict.fromkeys(name for recorded in began for name in _differing(recorded, facts, ""))
    except (ValueError, RecursionError):
        return [UNREAD]
    end = "is not what the history says the study began with"
    return [f'its field "{name}" {end}' if name else f"it {end}" for name in names]


def _differing(one: Any, other: Any, path: str) -> Iterator[str]:
    """Paths of the fields that two values of JSON have otherwise."""
    for kind, parts in ((Mapping, dict), (list, lambda values: dict(enumerate(values)))):
        if isinstance(one, kind) and isinstance(other, kind):
            mine, theirs = parts(one), parts(other)
            for name in dict.fromkeys((*mine, *theirs)):
                inner = f"{path}.{name}" if path else str(name)
                yield from _differing(mine.get(name, _ABSENT), theirs.get(name, _ABSENT), inner)
            return
    if isinstance(one, bool) is not isinstance(other, bool) or one != other:
        yield path
