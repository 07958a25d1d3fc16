"""A model's reply read: its search/replace blocks or its whole file, its reasons and its notes. Pure.

Whatever a reply holds, reading it soon ends in a Submission or in an EditError.
"""

from __future__ import annotations

import re
import textwrap
from itertools import pairwise

from ..source.cell import has_cell
from ..source.diff import ended
from ..source.syntax import parse, parsed
from .edits import Edit, EditError, Submission
from .stream import mended

FORM = """HYPOTHESIS: one sentence that could turn out false
EXPECTED: the effect on val_bpb, and why that size
REFUTED BY: what result would show that it is wrong

<<<<<<< SEARCH
lines of train.py, copied exactly, indentation and comments included
=======
the lines that replace them
>>>>>>> REPLACE"""

MOST_LABEL_CHARS = 1000  # of a hypothesis; more is an essay
MOST_SPLITS = 20  # ======= lines of one block that are tried as its middle
MOST_FENCES = 30  # from either end of a reply, that may be those of the whole file
MOST_PARSES = 100  # of candidates for the whole file

_OPEN = re.compile(r"[\s*`]*<{5,9}\s*(?:SEARCH|ORIGINAL|HEAD)?(?![\w<])(.*)", re.IGNORECASE)
_DIVIDER = re.compile(r"\s*={5,9}\s*")
_CLOSE = re.compile(r"[\s*`]*>{5,9}(?!>).*")
_FENCE = re.compile(r"\s*(?:`{3,}|~{3,})([^`]*)")
_NOTES_TAG = re.compile(r"<(/?)notes>", re.IGNORECASE)
_THOUGHT = re.compile(r"\s*<(?:think|thinking|thought|reasoning)>", re.IGNORECASE)
_END_OF_THOUGHT = re.compile(r"</(?:think|thinking|thought|reasoning)>", re.IGNORECASE)
_FILE = re.compile(r"[\w./\\-]*\.(?:py|ipynb|md|txt|json|jsonl|ya?ml|toml|cfg|sh)", re.IGNORECASE)
_NOT_IN_FILES = re.compile(r"[\s:=\"'`~*#()\[\]<>]+")
_END_OF_LABEL = re.compile(r"[:：—–]| - ")
_HEADING_OR_RULE = re.compile(r"\s*(?:#|[-*_]{3,}\s*$)")
_TAGGED = re.compile(r"""\s*#\s*%%.*["']parameters["']""")
_LABELS = {
    "hypothesis": "hypothesis",
    **dict.fromkeys(("expected", "expected effect", "expected result", "expectation"), "expected"),
    **dict.fromkeys(("refuted by", "refuted if", "refuted when", "refuted", "refutation"), "refutation"),
}
_TAKEN = "\0"  # stands for a block, a file or notes in what is left of a reply


def read_submission(reply: str) -> Submission:
    """The edits or the whole file in a model's reply, with its reasons. Raises EditError when there is none to use."""
    lines, notes = _without_notes(_readable(reply))
    edits, prose = _blocks(lines)
    whole = None
    if not edits:
        whole, prose = _whole_file(prose)
    if not edits and whole is None:
        raise EditError(_no_edit(prose))
    labels = _labels(prose)
    if not labels.get("hypothesis"):
        raise EditError(f"The reply states no hypothesis. Send all of it again in this form:\n\n{FORM}")
    reasons = labels["hypothesis"], labels.get("expected", ""), labels.get("refutation", "")
    return Submission(*reasons, notes, tuple(edits), whole)


def _readable(reply: str) -> str:
    """Without what cannot be written to a file, and without the thoughts before the answer."""
    text = mended(reply).replace("\0", "").replace("\r\n", "\n").removeprefix("\ufeff")
    *_, last = [0, *(thought.end() for thought in _END_OF_THOUGHT.finditer(text))]
    is_answer = any(_OPEN.fullmatch(line) or _FENCE.fullmatch(line) for line in text[last:].split("\n"))
    text = text[last:] if is_answer else text
    thought = _THOUGHT.match(text)
    return text[thought.end() :] if thought else text


def _without_notes(text: str) -> tuple[list[str], str]:
    """(lines of the rest, notes): the last section that is closed. Notes that were cut off are none."""
    tags = list(_NOTES_TAG.finditer(text))
    for start, end in reversed(list(pairwise(tags))):
        if end[1] and not start[1]:
            rest = f"{text[: start.start()]}\n{_TAKEN}\n{text[end.end() :]}"
            return rest.split("\n"), text[start.end() : end.start()].strip()
    return text.split("\n"), ""


def _blocks(lines: list[str]) -> tuple[list[Edit], list[str]]:
    """(search/replace blocks, the lines around them)."""
    edits: list[Edit] = []
    prose: list[str] = []
    i = 0
    while i < len(lines):
        opening = _OPEN.fullmatch(lines[i])
        if opening is None:
            prose.append(lines[i])
            i += 1
            continue
        number = len(edits) + 1
        _check_file(f"Block {number}", opening[1], prose)
        end = _end_of_block(lines, i, number)
        edits.append(_edit(lines[i + 1 : end], number))
        prose.append(_TAKEN)
        i = end + 1
    return edits, prose


def _end_of_block(lines: list[str], start: int, number: int) -> int:
    divided = False
    for i in range(start + 1, len(lines)):
        if _CLOSE.fullmatch(lines[i]):
            if divided:
                return i
            raise EditError(f"Block {number} has no ======= line between SEARCH and REPLACE. {_again(number)}")
        if _OPEN.fullmatch(lines[i]):
            break
        divided = divided or _DIVIDER.fullmatch(lines[i]) is not None
    raise EditError(f"Block {number} has no >>>>>>> REPLACE line: it was cut off or not closed. {_again(number)}")


def _again(number: int) -> str:
    return f"Send the whole reply again, block {number} mended, with fewer and shorter blocks if it grew too long."


def _edit(body: list[str], number: int) -> Edit:
    middles = [i for i, line in enumerate(body) if _DIVIDER.fullmatch(line)][:MOST_SPLITS]
    readings = [(_code(body[:i], is_search=True), _code(body[i + 1 :])) for i in middles]
    edits = [Edit(search, replace) for search, replace in readings if search.strip()]
    if not edits:
        raise EditError(
            f"Block {number} has an empty SEARCH part. To insert lines, quote a line of train.py beside the place, "
            "and give that line and the new ones in the REPLACE part."
        )
    return Edit(edits[0].search, edits[0].replace, tuple(edits[1:]))


def _code(lines: list[str], is_search: bool = False) -> str:
    """The lines of one half of a block, without a fence around them or a file's name before them."""
    if is_search and lines and _FILE.fullmatch(lines[0].strip(" \t*`:")):
        lines = lines[1:]
    if len(lines) > 1 and _FENCE.fullmatch(lines[0]) and _FENCE.fullmatch(lines[-1]):
        lines = lines[1:-1]
    return "".join(line + "\n" for line in lines)


def _named_file(line: str) -> str:
    """The name of the file that a line gives as a title: "### `train.py`", "```python prepare.py"; "" for none."""
    words = [word for word in _NOT_IN_FILES.split(line[:200]) if word]
    names = [word for word in words if _FILE.fullmatch(word)] if len(words) <= 3 else []
    return names[-1].replace("\\", "/").split("/")[-1] if names else ""


def _check_file(what: str, title: str, before: list[str]) -> None:
    """Raises EditError when the title, or the nearest lines before, name another file than train.py."""
    names = [_named_file(title)]
    for line in reversed(before[-3:]):
        names.append(_named_file(line))
        if line.strip() and not _FENCE.fullmatch(line):
            break
    name = next(filter(None, names), "train.py")
    if name != "train.py":
        raise EditError(
            f"{what} is for {name}. Only train.py may change: the others prepare the data and measure the result. "
            "Send edits of train.py alone."
        )


def _whole_file(lines: list[str]) -> tuple[str | None, list[str]]:
    """(the train.py in a fence, the lines around it): the longest that parses, since it may hold fences itself."""
    fences = [i for i, line in enumerate(lines) if _FENCE.fullmatch(line)]
    fences = sorted({*fences[:MOST_FENCES], *fences[-MOST_FENCES:]})
    tagged = [i for i, line in enumerate(lines) if _TAGGED.match(line)]
    opened = [i for i in fences if tagged and i < tagged[-1]]
    if not opened:
        return None, lines
    closing = [i for i in fences if i > tagged[0] and lines[i].strip("`~ \t") == ""]
    spans = [(a, b) for a in opened for b in closing if any(a < i < b for i in tagged)]
    spans = sorted(spans, key=lambda span: span[0] - span[1])[:MOST_PARSES]
    texts = {(a, b): ended(textwrap.dedent("\n".join(lines[a + 1 : b]))) for a, b in spans}
    found: list[tuple[int, int]] = []
    for a, b in spans:
        if all(b < start or a > end for start, end in found) and parsed(texts[a, b]) and has_cell(texts[a, b]):
            found.append((a, b))
    if len({texts[span] for span in found}) > 1:
        raise EditError(
            f"The reply holds {len(found)} whole files. Send one, or search/replace blocks, and nothing twice."
        )
    if not found:
        raise EditError(_broken_file(texts[spans[-1]] if spans else None))
    start, end = found[0]
    _check_file("The file", lines[start], lines[:start])
    return texts[start, end], [*lines[:start], _TAKEN, *lines[end + 1 :]]


def _broken_file(text: str | None) -> str:
    if text is None:
        return "The whole file in the reply was cut off: no ``` line closes it. Send search/replace blocks instead."
    try:
        parse(text)
        problem = 'it needs exactly one cell that begins with: # %% tags=["parameters"]'
    except SyntaxError as error:
        problem = f"line {error.lineno}: {error.msg}"
    except (ValueError, RecursionError, MemoryError) as error:
        problem = str(error) or "it is nested too deeply"
    return f"The whole file in the reply is no train.py: {problem}. Mend it, or send search/replace blocks instead."


def _no_edit(prose: list[str]) -> str:
    others = [name for line in prose if (name := _named_file(line)) not in ("", "train.py")]
    if others:
        return f"The reply is about {others[0]}. Only train.py may change, in this form:\n\n{FORM}"
    what = "The reply holds no edit of train.py" if any(map(str.strip, prose)) else "The reply is empty"
    return (
        f"{what}. A diff or a description is not read. Send it in this form, with as many blocks as needed:\n\n{FORM}"
    )


def _labels(prose: list[str]) -> dict[str, str]:
    """Label -> its text in one line; of a label given twice the last, which is no longer a draft."""
    found: dict[str, str] = {}
    label, text = "", [""]
    for line in [*prose, _TAKEN]:
        head, *rest = _END_OF_LABEL.split(line, maxsplit=1)
        name = " ".join(head.split("(")[0].strip(" \t>#*_`+-.)0123456789").split()).casefold()
        begins = name in _LABELS
        if begins or line == _TAKEN or _FENCE.fullmatch(line) or _HEADING_OR_RULE.match(line) or _named_file(line):
            if label and (said := _in_one_line(text)):
                found[label] = said
            label, text = _LABELS.get(name, ""), ["".join(rest)]
        else:
            text.append(line)
    return found


def _in_one_line(lines: list[str]) -> str:
    """Paragraphs joined, without those at the end that only announce what follows ("Here are the edits:")."""
    paragraphs = [" ".join(p.split()) for p in re.split(r"\n[ \t]*\n", "\n".join(lines).strip().strip("*").strip())]
    while len(paragraphs) > 1 and paragraphs[-1].rstrip("*_").endswith(":"):
        paragraphs.pop()
    return textwrap.shorten(" ".join(paragraphs), MOST_LABEL_CHARS, placeholder=" …")
