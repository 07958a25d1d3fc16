"""The labels of a reply: which line begins the hypothesis, the expected effect or the refutation, and what it says."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

from .blocks import FENCE, named_file
from .typography import in_ascii

MOST_LABEL_CHARS = 1000  # of a hypothesis; more is an essay
TAKEN = "\0"  # a line that stands for a block, a file or notes in what is left of a reply

_END_OF_LABEL = re.compile(r"[:\uff1a\u2236\ufe55\u2014\u2013]| - ")
_HEADING_OR_RULE = re.compile(r"\s*(?:#|[-*_]{3,}\s*$)")
_TAGS = re.compile(r"\s*(?:<[^<>\n]{1,60}>|\[[^\[\]\n]{1,40}\]\s+)+")
_BEFORE = "my new final revised updated main working the idea"  # words that may stand before "hypothesis"
_LABELS = {
    **{f"{before} hypothesis".strip(): "hypothesis" for before in ("", *_BEFORE.split())},
    **dict.fromkeys(("expected", "expected effect", "expected result", "expectation"), "expected"),
    **dict.fromkeys(("refuted by", "refuted if", "refuted when", "refuted", "refutation"), "refutation"),
}


def label_of(line: str) -> tuple[str, str]:
    """(label that a line begins with, what follows it in the line); the label is "" for a line without one."""
    line = line[:5000].lstrip(" \t\u200b\ufeff")
    if not line:
        return "", ""
    if line[0] in "<[":
        line = _TAGS.sub("", line, count=1)
    head, *rest = _END_OF_LABEL.split(line, maxsplit=1)
    if len(head) > 80:
        return "", ""
    head = in_ascii(head).split("(")[0].rsplit("/", 1)[-1]
    name = " ".join(head.strip(" \t>#*_`+-.)0123456789").split()).casefold()
    return _LABELS.get(name, ""), "".join(rest)


def read_labels(prose: Sequence[str]) -> dict[str, str]:
    """Label -> its text in one line; of a label given twice the last, which is no longer a draft."""
    found: dict[str, str] = {}
    label, text = "", [""]
    for line in [*prose, TAKEN]:
        if not line.strip():
            text.append(line)
            continue
        name, rest = label_of(line)
        if name or line.startswith(TAKEN) or FENCE.fullmatch(line) or _HEADING_OR_RULE.match(line) or named_file(line):
            if label and (said := _in_one_line(text)):
                found[label] = said
            label, text = name, [rest]
        else:
            text.append(line)
    return found


def _in_one_line(lines: list[str]) -> str:
    """Paragraphs joined, without those at the end that only announce what follows ("Here are the edits:")."""
    paragraphs = [" ".join(p.split()) for p in re.split(r"\n[ \t]*\n", "\n".join(lines).strip().strip("*").strip())]
    while len(paragraphs) > 1 and paragraphs[-1].rstrip("*_").endswith(":"):
        paragraphs.pop()
    return textwrap.shorten(" ".join(paragraphs), MOST_LABEL_CHARS, placeholder=" \u2026")
