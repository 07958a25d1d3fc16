"""Edits of a train.py applied to its text: the lines that a block quotes are found and replaced. Pure.

Whether the result may run is for the gate to say.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from ..source.diff import ended, lines_of

TAB = 4  # columns
NEAR = 0.4  # similarity of lines below which they are not worth showing


class EditError(ValueError):
    """A reply that holds no edit which applies. The message is for the model: what is wrong, what to send instead."""


@dataclass(frozen=True)
class Edit:
    """Lines of train.py, each with its newline, and what replaces them; "" for no line at all."""

    search: str
    replace: str
    others: tuple[Edit, ...] = ()  # other readings of a block with several ======= lines


@dataclass(frozen=True)
class Submission:
    """What a model hands in: either `edits` or the `whole` train.py, with its reasons, each in one line."""

    hypothesis: str
    expected: str
    refutation: str
    notes: str  # its notes.md, rewritten; "" when it stays as it is
    edits: tuple[Edit, ...]
    whole: str | None


def apply_edits(source: str, submission: Submission) -> str:
    """`source` with the edits made, one after the other; it ends with one newline and keeps its kind of line ends.

    Raises EditError for a block that matches nowhere or in several places, and for an edit that changes nothing.
    """
    has_crlf = 2 * source.count("\r\n") > source.count("\n")
    before = ended(source.replace("\r\n", "\n"))
    if submission.whole is not None:
        after = ended(submission.whole.replace("\r\n", "\n"))
    else:
        lines = _bare_lines(before)
        for number, edit in enumerate(submission.edits, 1):
            lines = _applied(lines, edit, number, _bare_lines(before))
        after = ended("\n".join(lines))
    if after == before:
        raise EditError("The edit leaves train.py as it is. Send one that changes something.")
    return after.replace("\n", "\r\n") if has_crlf else after


def _applied(lines: list[str], edit: Edit, number: int, original: list[str]) -> list[str]:
    readings = sorted((edit, *edit.others), key=lambda reading: -len(reading.search))  # a part of it matches as well
    for find in (_exact_places, _tolerant_places):
        for reading in readings:
            search, replace = _bare_lines(reading.search), _bare_lines(reading.replace)
            places = find(lines, search)
            if len(places) > 1:
                raise EditError(_ambiguous(number, search, places))
            if places:
                if search == replace:
                    raise EditError(f"Block {number} replaces lines by themselves. Leave it out, or write the change.")
                if find is _exact_places:
                    return [*lines[: places[0]], *replace, *lines[places[0] + len(search) :]]
                return _replaced(lines, places[0], search, replace)
    raise EditError(_no_match(number, _bare_lines(edit.search), lines, original))


def _exact_places(lines: list[str], search: list[str]) -> list[int]:
    if not any(map(str.strip, search)):
        return []
    n = len(search)
    return [i for i in range(len(lines) - n + 1) if lines[i] == search[0] and lines[i : i + n] == search]


def _tolerant_places(lines: list[str], search: list[str]) -> list[int]:
    """Where the lines stand but for blanks within and after them and for a common shift to the right or left."""
    first, last = _blank_ends(search)
    quoted = [_indent_and_words(line) for line in search[first : len(search) - last]]
    if not quoted:
        return []
    there = [_indent_and_words(line) for line in lines]
    places = [i for i in range(len(lines) - len(quoted) + 1) if there[i][1] == quoted[0][1]]
    return [i for i in places if _is_shifted(there[i : i + len(quoted)], quoted)]


def _is_shifted(there: list[tuple[int, str]], quoted: list[tuple[int, str]]) -> bool:
    shift = there[0][0] - quoted[0][0]
    return all(a[1] == b[1] and (not b[1] or a[0] - b[0] == shift) for a, b in zip(there, quoted, strict=True))


def _indent_and_words(line: str) -> tuple[int, str]:
    body = line.expandtabs(TAB)
    return len(body) - len(body.lstrip()), " ".join(body.split())


def _blank_ends(lines: list[str]) -> tuple[int, int]:
    """Number of blank lines at the beginning and at the end; all of them, and 0, when there is no other."""
    full = [i for i, line in enumerate(lines) if line.strip()]
    return (full[0], len(lines) - 1 - full[-1]) if full else (len(lines), 0)


def _replaced(lines: list[str], place: int, search: list[str], replace: list[str]) -> list[str]:
    """`lines` with the replacement shifted to where they stand; a line that it only repeats stays as it was."""
    first, last = _blank_ends(search)
    shift = _indent_and_words(lines[place])[0] - _indent_and_words(search[first])[0]
    end = place + len(search) - first - last
    while first and place and not lines[place - 1].strip():  # the blank lines that it quotes and that are there
        first, place = first - 1, place - 1
    while last and end < len(lines) and not lines[end].strip():
        last, end = last - 1, end + 1
    blank_first, blank_last = _blank_ends(replace)
    search = search[first : len(search) - last]
    replace = replace[min(first, blank_first) : len(replace) - min(last, blank_last)]
    there = lines[place:end]
    has_tabs = any("\t" in line[: len(line) - len(line.lstrip())] for line in there)
    new: list[str] = []
    for tag, a, b, c, d in difflib.SequenceMatcher(None, search, replace, autojunk=False).get_opcodes():
        new += there[a:b] if tag == "equal" else [_shifted(line, shift, has_tabs) for line in replace[c:d]]
    return [*lines[:place], *new, *lines[end:]]


def _shifted(line: str, shift: int, has_tabs: bool) -> str:
    width = max(0, _indent_and_words(line)[0] + shift)
    indent = "\t" * (width // TAB) + " " * (width % TAB) if has_tabs else " " * width
    return (indent + line.lstrip()).rstrip()


def _ambiguous(number: int, search: list[str], places: list[int]) -> str:
    where = ", ".join(str(place + 1) for place in places[:10]) + (", ..." if len(places) > 10 else "")
    return (
        f"Block {number} matches {len(places)} places of train.py, lines {where}. It begins with:\n{_quoted(search)}\n"
        "Quote more lines around the place that you mean, and send the whole reply again."
    )


def _no_match(number: int, search: list[str], lines: list[str], original: list[str]) -> str:
    text = f"Block {number} matches nothing in train.py. It begins with:\n{_quoted(search)}\n"
    if number > 1 and _tolerant_places(original, search):
        return text + "An earlier block of this reply changed these lines. Make one block of both, and send all again."
    size = max(1, min(len(search), 12))
    start, likeness = _nearest(lines, search[:size])
    if likeness < NEAR:
        return text + "Nothing there is like it. Copy lines of train.py as it is above, and send the whole reply again."
    near = "\n".join(f"{i + 1:5} | {lines[i][:160]}" for i in range(start, min(start + size, len(lines))))
    return (
        f"{text}The nearest lines are:\n{near}\nCopy them exactly, without the numbers, and send the whole reply again."
    )


def _quoted(lines: list[str]) -> str:
    first = [line for line in lines if line.strip()][:3]
    return "\n".join(f"      | {line[:160]}" for line in first)


def _nearest(lines: list[str], search: list[str]) -> tuple[int, float]:
    """(0-based start, similarity 0..1) of the lines that are most like the quoted ones."""
    matcher = difflib.SequenceMatcher(autojunk=False)
    matcher.set_seq2("\n".join(line.strip()[:100] for line in search))
    best, start = 0.0, 0
    for i in range(max(1, len(lines) - len(search) + 1)):
        matcher.set_seq1("\n".join(line.strip()[:100] for line in lines[i : i + len(search)]))
        if matcher.real_quick_ratio() > best and matcher.quick_ratio() > best and (ratio := matcher.ratio()) > best:
            best, start = ratio, i
    return start, best


def _bare_lines(text: str) -> list[str]:
    return [line.removesuffix("\n") for line in lines_of(text)]
