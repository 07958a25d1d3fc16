"""Edits of a train.py applied to its text: the lines that a block quotes are found and replaced. Pure.

Whether the result may run is for the gate to say.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from ..source.diff import ended, lines_of
from ..source.syntax import parsed
from .elisions import elided, elision
from .transport import Repair, is_numbered, repairs_of
from .typography import character_name, damage, in_ascii

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
        if left_out := elision(_bare_lines(before), _bare_lines(after), ()):
            raise EditError(_leaves_out("The file", left_out))
    else:
        lines = _bare_lines(before)
        for number, edit in enumerate(submission.edits, 1):
            lines = _applied(lines, edit, number, _bare_lines(before))
        after = ended("\n".join(lines))
    if after == before:
        raise EditError("The edit leaves train.py as it is. Send one that changes something.")
    if problem := damage(before, after) or _numbered(before, after):
        raise EditError(f"{problem} Send the whole reply again.")
    return after.replace("\n", "\r\n") if has_crlf else after


def _applied(lines: list[str], edit: Edit, number: int, original: list[str]) -> list[str]:
    readings = sorted((edit, *edit.others), key=lambda reading: -len(reading.search))  # a part of it matches as well
    repairs: tuple[Repair, ...] = (str, *repairs_of(readings[0].search).values())
    for find in (_exact_places, _tolerant_places, _alike_places):
        for repair in repairs:
            for reading in readings:
                search, replace = _bare_lines(repair(reading.search)), repair(reading.replace)
                places = find(lines, search)
                if len(places) > 1:
                    raise EditError(_ambiguous(number, search, places))
                if places:
                    return _with_best(lines, places[0], search, replace, number, is_exact=find is _exact_places)
    raise EditError(_no_match(number, edit.search, lines, original))


def _with_best(lines: list[str], place: int, search: list[str], replace: str, number: int, is_exact: bool) -> list[str]:
    """The lines with the replacement made; it is repaired when they are Python with the repair and not without it."""

    def edited(text: str) -> list[str]:
        new = _bare_lines(text)
        if search == new:
            raise EditError(f"Block {number} replaces lines by themselves. Leave it out, or write the change.")
        if left_out := elision(search, new, {line.strip() for line in lines}):
            raise EditError(_leaves_out(f"Block {number}", left_out))
        if is_exact:
            return [*lines[:place], *new, *lines[place + len(search) :]]
        return _replaced(lines, place, search, new)

    before = "\n".join(lines)
    result = edited(replace)
    repairs = repairs_of(replace)
    if repairs and not _is_sound(before, result):
        for repair in repairs.values():
            if _is_sound(before, repaired := edited(repair(replace))):
                return repaired
    return result


def _is_sound(before: str, lines: list[str]) -> bool:
    after = "\n".join(lines)
    return parsed(after) is not None and damage(before, after) is None


def _numbered(before: str, after: str) -> str | None:
    """A sentence on the first new line that begins with a line number, where the result is no Python."""
    known = set(before.split("\n"))
    for i, line in enumerate(after.split("\n"), 1):
        if line not in known and is_numbered(line) and parsed(after) is None:
            return f"Line {i} of the new train.py, {line.strip()[:160]!r}, begins with a line number: leave it out."
    return None


def _leaves_out(what: str, line: str) -> str:
    return (
        f"{what} leaves code out: {line[:160]!r} stands for lines that would be gone. "
        "Write the code out, or quote only the lines that change, and send the whole reply again."
    )


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


def _alike_places(lines: list[str], search: list[str]) -> list[int]:
    """The same for lines that differ in typographic characters, such as a curly quote or a long dash."""
    if all(line.isascii() for line in (*lines, *search)):
        return []
    return _tolerant_places([in_ascii(line) for line in lines], [in_ascii(line) for line in search])


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
        if tag == "equal":
            new += there[a:b]
            continue
        changed = replace[c:d]
        if b - a == d - c:
            changed = [_restored(*three) for three in zip(there[a:b], search[a:b], changed, strict=True)]
        new += [_shifted(line, shift, has_tabs) for line in changed]
    return [*lines[:place], *new, *lines[end:]]


def _restored(there: str, quoted: str, new: str) -> str:
    """A changed line whose beginning and end, where they repeat the quoted line, are in the characters of train.py."""
    old, line = quoted.strip(), new.strip()
    if quoted.isascii() or len(in_ascii(there)) != len(there):
        return new
    head = _num_equal(old, line)
    tail = _num_equal(old[head:][::-1], line[head:][::-1])
    here, end = there.strip(), len(line) - tail
    text = (
        here[: len(in_ascii(old[:head]))] + line[head:end] + here[len(here) - len(in_ascii(old[len(old) - tail :])) :]
    )
    return new.replace(line, text) if in_ascii(text) == in_ascii(line) else new


def _num_equal(a: str, b: str) -> int:
    """Number of characters with which both begin."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


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


def _no_match(number: int, quoted: str, lines: list[str], original: list[str]) -> str:
    search = _bare_lines(quoted)
    text = f"Block {number} matches nothing in train.py. It begins with:\n{_quoted(search)}\n"
    if number > 1 and _tolerant_places(original, search):
        return text + "An earlier block of this reply changed these lines. Make one block of both, and send all again."
    text += _why_no_match(search, original)
    size = max(1, min(len(search), 12))
    start, likeness = _nearest(lines, search[:size])
    if likeness < NEAR:
        return text + "Nothing there is like it. Copy lines of train.py as it is above, and send the whole reply again."
    near = "\n".join(f"{i + 1:5} | {lines[i][:160]}" for i in range(start, min(start + size, len(lines))))
    return (
        f"{text}The nearest lines are:\n{near}\nCopy them exactly, without the numbers, and send the whole reply again."
    )


def _why_no_match(search: list[str], original: list[str]) -> str:
    """What is known to be wrong with the quoted lines, in a line; "" when nothing is."""
    source = {line.strip() for line in original}
    strange = [line for line in search if line.strip() not in source - {"..."}]
    if left_out := next(filter(elided, strange), None):
        return f"{left_out.strip()[:160]!r} stands for lines that the block leaves out. Write the code out.\n"
    characters = set("".join(strange)) - set("".join(original))
    if found := next((char for char in sorted(characters) if not char.isascii()), None):
        return f"The block holds {character_name(found)}, which train.py does not.\n"
    text = "".join(line + "\n" for line in strange)
    names = [name for name in repairs_of(text) if "two characters" not in name or not set(text) & set("\"'")]
    return f"The block has {names[0]}.\n" if names else ""


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
