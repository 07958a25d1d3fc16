"""The lines of a reply that edit train.py: search/replace blocks, and the whole file in a fence. Pure."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from ..source.cell import has_cell
from ..source.diff import ended
from ..source.syntax import parse, parsed
from .edits import Edit, EditError
from .typography import in_ascii, without_entities

MOST_SPLITS = 20  # ======= lines of one block that are tried as its middle
MOST_FENCES = 30  # from either end of a reply, that may be those of the whole file
MOST_PARSES = 100  # of candidates for the whole file
LONGEST_MARK = 200  # characters of a line that is read as a mark in spite of entities or look-alikes

_SEARCH = re.compile(
    r"[\s*`]*(?:<{5,9}\s*(?:SEARCH|ORIGINAL|HEAD)?(?![\w<])|-{5,9}\s*SEARCH\b)(.*)", re.IGNORECASE | re.DOTALL
)
_DIVIDER = re.compile(r"\s*={5,9}\s*")
_REPLACE = re.compile(r"[\s*`]*(?:>{5,9}(?!>)|\+{5,9}\s*REPLACE\b).*", re.IGNORECASE | re.DOTALL)
_NUMBERED_SEARCH = re.compile(r"\s*:(?:start|end)_line:\s*\d*\s*|\s*-{5,9}\s*")  # what some forms put above the lines
FENCE = re.compile(r"\s*(?:`{3,}|~{3,})([^`]*)")
_FILE = re.compile(r"[\w./\\-]*\.(?:py|ipynb|md|txt|json|jsonl|ya?ml|toml|cfg|sh)", re.IGNORECASE)
_NOT_IN_FILES = re.compile(r"[\s:=\"'`~*#()\[\]<>]+")
_IN_TITLES = {  # words beside the name of a file, so that "See results.json:" is none
    "file", "filename", "path", "edit", "edits", "in", "of", "to", "for", "the", "update", "updated", "modify",
    "change", "changes", "changed", "patch", "diff", "new", "complete", "full", "whole", "python", "python3", "py",
    "json", "yaml", "search", "replace", "block", "fix", "step", "now", "---", "+++", "",
}  # fmt: skip
_TAGGED = re.compile(r"""\s*#\s*%%.*["']parameters["']""")


@dataclass(frozen=True)
class Span:
    """Lines `first` to `last` of a reply, both counted from 0, that are a block; `middles` are its ======= lines.

    A block that was begun and not ended, or that has no middle, has a `problem`.
    """

    first: int
    last: int
    middles: tuple[int, ...] = ()
    problem: str = ""


def block_spans(lines: Sequence[str]) -> list[Span]:
    """The search/replace blocks of a reply, also those that are not complete."""
    marks = [(i, mark) for i, line in enumerate(lines) if line and (mark := _mark(line))]
    spans: list[Span] = []
    first = -1
    middles: list[int] = []
    for i, mark in [*marks, (len(lines), "search")]:
        if mark == "search":
            if first >= 0:
                problem = "has no >>>>>>> REPLACE line: it was cut off or not closed"
                spans.append(Span(first, first, problem=problem))
            first, middles = i, []
        elif mark == "divider":
            middles.append(i)
        elif first >= 0:
            problem = "" if middles else "has no ======= line between SEARCH and REPLACE"
            spans.append(Span(first, i, tuple(middles[:MOST_SPLITS]), problem))
            first = -1
    return spans


def _mark(line: str) -> str:
    """What a line marks: "search", "divider" or "replace"; "" for any other line."""
    if len(line) <= LONGEST_MARK and ("&" in line or not line.isascii()):
        line = in_ascii(without_entities(line))
    start = line.lstrip(" \t*`")[:1]
    if start in "<-" and start and _SEARCH.fullmatch(line):
        return "search"
    if start in ">+" and start and _REPLACE.fullmatch(line):
        return "replace"
    return "divider" if start == "=" and _DIVIDER.fullmatch(line) else ""


def read_block(lines: Sequence[str], span: Span, number: int) -> Edit:
    """The edit of one block. Raises EditError for one that is not complete or is for another file."""
    if span.problem:
        raise EditError(
            f"Block {number} {span.problem}. Send the whole reply again, block {number} mended, with fewer and "
            "shorter blocks if it grew too long."
        )
    title = _SEARCH.fullmatch(in_ascii(without_entities(lines[span.first])))
    check_file(f"Block {number}", title[1] if title else "", lines[max(0, span.first - 3) : span.first])
    search = [_code(lines[span.first + 1 : i], is_search=True) for i in span.middles]
    edits = [
        Edit(quoted, _code(lines[i + 1 : span.last]))
        for i, quoted in zip(span.middles, search, strict=True)
        if quoted.strip()
    ]
    if not edits:
        raise EditError(
            f"Block {number} has an empty SEARCH part. To insert lines, quote a line of train.py beside the place, "
            "and give that line and the new ones in the REPLACE part."
        )
    return Edit(edits[0].search, edits[0].replace, tuple(edits[1:]))


def _code(lines: Sequence[str], is_search: bool = False) -> str:
    """The lines of one half of a block, without a fence around them or a file's name before them."""
    if is_search and lines and _FILE.fullmatch(lines[0].strip(" \t*`:")):
        lines = lines[1:]
    while is_search and lines and _NUMBERED_SEARCH.fullmatch(lines[0]):
        lines = lines[1:]
    if len(lines) > 1 and FENCE.fullmatch(lines[0]) and FENCE.fullmatch(lines[-1]):
        lines = lines[1:-1]
    return "".join(line + "\n" for line in lines)


def named_file(line: str) -> str:
    """The name of the file that a line gives as a title: "### `train.py`", "```python prepare.py"; "" for none."""
    words = [word for word in _NOT_IN_FILES.split(line[:200]) if word]
    names = [word for word in words if _FILE.fullmatch(word)]
    beside = [word.casefold().strip(".,)") for word in words if word not in names]
    is_title = all(word.isdigit() or word in _IN_TITLES for word in beside)
    names = names if len(words) <= 4 and is_title else []
    return names[-1].replace("\\", "/").split("/")[-1] if names else ""


def check_file(what: str, title: str, before: Sequence[str]) -> None:
    """Raises EditError when the title, or the nearest lines before, name another file than train.py."""
    names = [named_file(title)]
    for line in reversed(before[-3:]):
        if _mark(line):
            break
        names.append(named_file(line))
        if line.strip() and not FENCE.fullmatch(line):
            break
    name = next(filter(None, names), "train.py")
    if name != "train.py":
        raise EditError(
            f"{what} is for {name}. Only train.py may change: the others prepare the data and measure the result. "
            "Send edits of train.py alone."
        )


def whole_files(lines: Sequence[str]) -> list[tuple[int, int]]:
    """(line of the fence that opens, line of the one that closes) of each train.py in the lines.

    Of fences that may belong together, the longest text that parses counts, since a file may hold fences itself.
    """
    found: list[tuple[int, int]] = []
    for a, b in _fenced(lines)[0]:
        text = fenced_text(lines, (a, b))
        if all(b < start or a > end for start, end in found) and parsed(text) and has_cell(text):
            found.append((a, b))
    return sorted(found)


def plain_files(lines: Sequence[str]) -> list[Span]:
    """What looks like a whole train.py between two fences that follow each other."""
    fences = [i for i, line in enumerate(lines) if FENCE.fullmatch(line)]
    return [
        Span(a, b)
        for a, b in pairwise(fences)
        if lines[b].strip("`~ \t") == "" and any(map(_TAGGED.match, lines[a:b])) and not any(map(_mark, lines[a:b]))
    ]


def fenced_text(lines: Sequence[str], span: tuple[int, int]) -> str:
    return ended(textwrap.dedent("\n".join(lines[span[0] + 1 : span[1]])))


def _fenced(lines: Sequence[str]) -> tuple[list[tuple[int, int]], bool]:
    """(fenced lines that hold a parameters cell, the most of them first; whether such a fence is opened at all)."""
    fences = [i for i, line in enumerate(lines) if FENCE.fullmatch(line)]
    fences = sorted({*fences[:MOST_FENCES], *fences[-MOST_FENCES:]})
    tagged = [i for i, line in enumerate(lines) if _TAGGED.match(line)]
    opened = [i for i in fences if tagged and i < tagged[-1]]
    closing = [i for i in fences if opened and i > tagged[0] and lines[i].strip("`~ \t") == ""]
    spans = [(a, b) for a in opened for b in closing if any(a < i < b for i in tagged)]
    return sorted(spans, key=lambda span: span[0] - span[1])[:MOST_PARSES], bool(opened)


def broken_file(lines: Sequence[str]) -> str | None:
    """Why the whole file in a reply cannot be read; None when there is none."""
    spans, is_opened = _fenced(lines)
    if not is_opened:
        return None
    if not spans:
        return "The whole file in the reply was cut off: no ``` line closes it. Send search/replace blocks instead."
    try:
        parse(fenced_text(lines, spans[-1]))
        problem = 'it needs exactly one cell that begins with: # %% tags=["parameters"]'
    except SyntaxError as error:
        problem = f"line {error.lineno}: {error.msg}"
    except (ValueError, RecursionError, MemoryError) as error:
        problem = str(error) or "it is nested too deeply"
    return f"The whole file in the reply is no train.py: {problem}. Mend it, or send search/replace blocks instead."


def other_form(lines: Sequence[str]) -> str | None:
    """The name of the form in which a reply without a block or a file gives its edit; None when it knows none."""
    text = in_ascii("\n".join(lines))[:100_000]
    return next((name for name, pattern in _OTHER_FORMS.items() if pattern.search(text)), None)


_OTHER_FORMS = {
    name: re.compile(pattern, re.IGNORECASE | re.MULTILINE)
    for name, pattern in {
        "A patch of the form *** Begin Patch": r"^\*\*\* (?:Begin Patch|Update File)",
        "A unified diff": r"^[ ]{0,3}(?:@@.*@@|diff --git |--- a?/?\S*\.py|\+\+\+ b?/?\S*\.py)|^```diff",
        "An edit in JSON": r'"(?:search|replace|find|edits?|patch|diff|hypothesis|(?:old|new)_?(?:str(?:ing)?|text))'
        r'"\s*:',
        "A call of a tool": r"<\|?/?(?:tool_call|function|invoke|tool_use)|\[TOOL_CALLS\]",
        "An edit in XML tags": r"^[ \t]*</?(?:search|replace|edit|original|updated|file|patch|diff|(?:old|new)(?:_\w+)?"
        r")\b[^>\n]{0,80}>",
        "A command that edits files, such as sed,": r"^[ \t]*(?:\$ )?(?:sed -|cat >|ed |perl -p|patch -)",
        "A piece of code in a fence, without its place,": r"^[ \t]*(?:`{3,}|~{3,})",
    }.items()
}
