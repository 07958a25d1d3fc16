"""Lines of a reply that stand for code which the model did not write out, such as "# ... existing code ...". Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

_COMMENT = re.compile(r"(?:#+|//+|/\*|--|<!--|%)(.*?)(?:\*/|-->)?\s*$")
_STUB = re.compile(r"(?:pass|\.\.\.|\u2026)\s*(?:#(.*))?$")
_ONE_LINE_BODY = re.compile(
    r"(?:async |def |class |for |while |if |elif |else|with |try|except).*:\s*\.\.\.\s*(?:#.*)?$"
)
_DOTS = re.compile(r"\.{3,}|\u2026")
_BRACKETED = re.compile(r"[\[<({].*[\]>)}]$")
_NOTHING_ELSE = re.compile(r"[\s.\u2026\[\](){}<>*_~=-]*$")

_STARTS_WITH_DOTS = re.compile(r"[\s\[\](){}<>*_~=-]*(?:\.{3}|\u2026)")
_ENDS_WITH_DOTS = re.compile(r"(?:\.{3}|\u2026)[\s\[\](){}<>*_~=-]*$")
_SAYS_CODE = re.compile(r"\b(?:rest|existing|remaining|code|implementation)\b", re.IGNORECASE)

_THINGS = r"(?:code|lines?|steps?|body|logic|implementations?|loops?|functions?|methods?|class(?:es)?|constants|"
_THINGS += r"parameters|definitions?|imports?|setup|training|optimi[sz]ers?|model|here|follows?|goes|continues?|file)"
_SAYS_UNCHANGED = re.compile(
    r"\b(?:unchanged|unmodified|untouched|omitted|elided|snip(?:ped)?|truncated|abbreviated)\b|\bfor brevity\b"
    r"|\b(?:rest|remainder|remaining) (?:of|is|are|stays?|remains?|as|the|code|lines?|steps?|body|methods?|param\w+)\b"
    rf"|\b(?:existing|original|previous|prior|other|your|remaining)\b(?: [\w.']+){{0,3}} {_THINGS}\b"
    r"|\b(?:same as|identical to|as) (?:the )?(?:above|before|previous(?:ly)?|original(?:ly)?|existing|earlier|is)\b"
    r"|\b(?:code|logic|implementation) (?:goes |follows |continues |stays |remains )?(?:here|below|above|the same)\b"
    r"|\bno (?:other |further )?changes?\b"
    r"|\b(?:stays?|remains?|keep|kept) (?:the |everything )?(?:same|as is|existing|rest)",
    re.IGNORECASE,
)
_SAYS_REMOVED = re.compile(
    r"\b(?:removed|deleted|dropped|disabled|gone|no longer|not needed|unnecessary)\b", re.IGNORECASE
)
_SAYS_NOTHING_ELSE = re.compile(  # a whole comment; with one of them a block is asked for again, lost lines or not
    r"[\[(<{\s]*(?:(?:the )?(?:rest|remaining|existing|previous|original)(?: \w+){0,2}"
    r" (?:the )?(?:code|lines?|here|same|unchanged|above|before|below|omitted)(?: here| below)?"
    r"|(?:code |lines? )?unchanged(?: (?:code|lines?))?"
    r"(?: omitted| here)?|(?:same )?as (?:above|before)|etc|snip(?:ped)?|(?:code )?omitted(?: for brevity)?"
    r"|no (?:other )?changes?(?: here| below)?)[\s\])>}.]*",
    re.IGNORECASE,
)
_MAY_SAY_UNCHANGED = re.compile(
    r"\b(?:rest|remain\w*|existing|same|previous\w*|original\w*|keep|leave|retain|before|above|here|unchanged|code|lines|"
    r"implementation|omitted|snip\w*|etc|more|other|continues?|as is)\b",
    re.IGNORECASE,
)


def elision(before: Sequence[str], after: Sequence[str], source: Collection[str]) -> str | None:
    """The first line of `after` that stands for code which `after` lacks; None when there is none.

    Args:
        before: the lines that `after` replaces.
        source: lines of train.py without the blanks around them; what stands there already is no elision.
    """
    num_before, num_after = _num_code_lines(before), _num_code_lines(after)
    is_shorter = num_before > num_after
    old = [line.strip() for line in before]
    for i, line in enumerate(map(str.strip, after)):
        if line in old or (line in source and not _STUB.match(line)):
            continue
        if (is_shorter and _may_elide(line)) or (_elides(line) and not _is_whole_body(after, i, is_shorter)):
            return line
    is_all_gone = num_before > 0 and num_after == 0  # and words stand in its place that do not say so
    words = (line for line in map(str.strip, after) if is_all_gone and line and line not in old)
    return next((line for line in words if not (_COMMENT.match(line) and _SAYS_REMOVED.search(line))), None)


def elided(line: str) -> bool:
    """Whether a line that is no line of train.py stands for others."""
    return _elides(line.strip())


def _num_code_lines(lines: Sequence[str]) -> int:
    return sum(1 for line in map(str.strip, lines) if line and line[0] not in "#'\"" and not _STUB.match(line))


def _elides(line: str) -> bool:
    """Whether a line is no code and says that code is left out, or holds dots alone."""
    if len(line) > 300:
        return False
    if stub := _STUB.match(line):
        says = stub[1] or ""
        return not line.startswith("pass") or bool(_SAYS_UNCHANGED.search(says) or _DOTS.search(says))
    comment = _COMMENT.match(line)
    words = comment[1].strip() if comment else line
    if comment and _SAYS_NOTHING_ELSE.fullmatch(words):
        return True
    if not _DOTS.search(words):
        return comment is None and bool(_BRACKETED.match(line)) and _is_said_in_words(line)
    if _NOTHING_ELSE.match(words):
        return comment is not None or ("..." in words and not words.strip(".\u2026 ()[]<>"))
    if _STARTS_WITH_DOTS.match(words):
        return bool(_MAY_SAY_UNCHANGED.search(words))
    ends_with_dots = comment is not None and _ENDS_WITH_DOTS.search(words)
    return bool(ends_with_dots and (_SAYS_UNCHANGED.search(words) or _SAYS_CODE.search(words)))


def _is_said_in_words(line: str) -> bool:
    """ "[unchanged]", "<rest of the file>": words in brackets and nothing of Python's."""
    return bool(_SAYS_UNCHANGED.search(line)) and not re.search(r"[=\"'+*/:,]|\w[(\[.]", line[1:-1])


def _may_elide(line: str) -> bool:
    """Whether a line says that code is left out, if code is gone as well."""
    if len(line) > 300:
        return False
    if _ONE_LINE_BODY.match(line):
        return True
    comment = _COMMENT.match(line)
    words = comment[1].strip() if comment else ""
    return bool(_SAYS_UNCHANGED.search(words) or _DOTS.match(words) or words.startswith(("TODO", "FIXME")))


def _is_whole_body(lines: Sequence[str], i: int, is_shorter: bool) -> bool:
    """Whether line `i`, three dots, is all that a new function or class holds, as Python allows."""
    if is_shorter or not lines[i].strip().startswith("..."):
        return False
    above = [line for line in lines[:i] if line.strip()]
    below = [line for line in lines[i + 1 :] if line.strip()]
    ends_there = not below or _indent(below[0]) < _indent(lines[i])
    return bool(above) and above[-1].rstrip().endswith((":", '"""')) and ends_there


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
