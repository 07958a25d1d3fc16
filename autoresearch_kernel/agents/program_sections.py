"""The sections of program.md: those that always hold, and those that a heading ties to a number of experiments. Pure.

"Every 10 experiments", "after 5 variants" and "after 20 discards" are such headings.
"""

from __future__ import annotations

import re

from ..core.format import count, plain
from ..core.types import Context, Status
from .history_text import subjects

_HEADING = re.compile(r"#{1,2}\s")
_COMMENT = re.compile(r"<!--.*?-->\n?", re.DOTALL)
_WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
_NUMBER = rf"(?P<number>\d{{1,6}}|{'|'.join(_WORDS)})(?:st|nd|rd|th)?"
_NOTES = re.compile(rf"\bevery {_NUMBER} experiments?\b")
_VARIANTS = re.compile(rf"\bafter {_NUMBER} variants?\b")
_DISCARDS = re.compile(rf"\bafter {_NUMBER} (?:discards?|experiments? without)\b")


def lasting_sections(program: str) -> list[str]:
    """The sections that hold for every experiment."""
    conditions = (_NOTES, _VARIANTS, _DISCARDS)
    return [s for s in _sections(program) if all(_number_of(condition, s) is None for condition in conditions)]


def due_sections(context: Context) -> list[str]:
    """The sections of program.md whose headings name a number that is reached, in their order, with the reason."""
    due = []
    for section in _sections(context.program):
        if why := _why_due(section, context):
            heading, _, body = section.partition("\n")
            due.append(f"{heading}\n\n({why})\n\n{body.strip()}".rstrip())
    return due


def notes_due(context: Context) -> bool:
    """Whether program.md wants the agent's notes rewritten now."""
    numbers = (_number_of(_NOTES, section) for section in _sections(context.program))
    return any(number and _since_notes(context) >= number for number in numbers)


def _since_notes(context: Context) -> int:
    return sum(e.number > 0 for e in context.experiments) - context.notes_at


def _why_due(section: str, context: Context) -> str:
    """Why a section applies now; "" when it does not, or always does."""
    tried = [e for e in context.experiments if e.number > 0 and e.status is not Status.INTERRUPTED]
    if (number := _number_of(_NOTES, section)) and (since := _since_notes(context)) >= number:
        return f"Now: {count(since, 'experiment')} since your notes were last written."
    # In a hybrid, the optimiser's experiments between two of the model's are no other idea of the model's.
    mine = [e for e in tried if e.agent != "search"] if context.study.get("agent") == "hybrid" else tried
    if (number := _number_of(_VARIANTS, section)) and len(mine) >= number:
        last = mine[-number:]
        shared = set(subjects(last[0])).intersection(*map(subjects, last))
        if shared and not any(e.status is Status.KEEP for e in last):
            return f"Now: the last {number} were about {plain(', '.join(sorted(shared)), 200)}, and none was kept."
    if number := _number_of(_DISCARDS, section):
        kept = max((i for i, e in enumerate(tried, 1) if e.status is Status.KEEP), default=0)
        if len(tried) - kept >= number:
            return f"Now: {count(len(tried) - kept, 'experiment')} in a row without a keep."
    return ""


def _number_of(condition: re.Pattern[str], section: str) -> int | None:
    """What a heading says after "every" or "after"; None when it says nothing of the kind."""
    heading = re.sub(r"(?<=\d)[,_](?=\d{3})", "", section.partition("\n")[0].lower())
    match = condition.search(" ".join(re.sub(r"[*_`]", "", heading).split()))
    if match is None:
        return None
    return _WORDS.index(match["number"]) if match["number"] in _WORDS else int(match["number"])


def _sections(program: str) -> list[str]:
    """program.md without comments for people, cut before each heading of the first two levels."""
    sections: list[list[str]] = [[]]
    opened = ""  # the fence that a line is within: no heading there
    for line in _COMMENT.sub("", program).splitlines():
        if mark := re.match(r" {0,3}(`{3,}|~{3,})", line):
            opened = "" if opened and mark[1].startswith(opened) else opened or mark[1]
        elif _HEADING.match(line) and not opened:
            sections.append([])
        sections[-1].append(line)
    return [text for lines in sections if (text := "\n".join(lines).strip())]
