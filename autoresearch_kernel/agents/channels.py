"""The final channel of a reply: some models speak in channels, of which only the last is for the reader. Pure.

The marks of channels may be damaged, or gone but for the names of the channels. Marks within a search/replace block, a
whole file or notes are text like any other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from .blocks import block_spans, plain_files

NOTES_TAG = re.compile(r"<(/?)notes>", re.IGNORECASE)

_CHANNEL = re.compile(
    r"(?:(?:<|&lt;)[ ]?(?P<bar>[|\uff5c])[ ]?|<(?=[a-z]{3,9}[|\uff5c])"
    r"|(?<![\w<|\uff5c])[|\uff5c]?(?=[a-z]{3,9}[|\uff5c]>))"
    r"(?P<mark>channel|start|message|end|return|call|constrain)[ ]?(?:[|\uff5c](?:>|&gt;)?|>)",
    re.IGNORECASE,
)
_CHANNEL_NAME = re.compile(r"\s*(analysis|commentary|final|thoughts?|thinking|response|answer)", re.IGNORECASE)
_FINAL = {"final", "response", "answer"}
_STRIPPED = re.compile(
    r"assistant(?:final|(?P<other>analysis|commentary))"
    r"|^[ \t]*assistant[ \t]*\n+[ \t]*(?:final|(?P<lone>analysis|commentary))[ \t]*$",
    re.MULTILINE,
)
_STRIPPED_START = re.compile(r"\s*(?:analysis|commentary)(?=\S)|\s*(?:assistant)?final(?=HYPOTHESIS|\s)")


@dataclass(frozen=True)
class AnswerText:
    """What a model answered."""

    text: str
    ends_in_thought: bool = False  # the last words of the reply may be a thought that its end cut off
    may_be_thought: bool = False  # a thought was begun before the answer and never ended
    is_from_thought: bool = False  # it is the text of a thought, or may be one whose beginning has no mark


def final_channel(text: str) -> AnswerText:
    """The text of the last final channel; all of it when there are no channels."""
    hidden = hidden_of(text)
    marks = [m for m in _CHANNEL.finditer(hidden) if not is_quoted(hidden, m.start(), m.end())]
    if not any(m["mark"].lower() in ("channel", "message") for m in marks):
        return _final_of_stripped(text, hidden)
    parts = list(_channels(text, marks))
    finals = [part for name, part in parts if name in _FINAL and part.strip()]
    outside = "\n".join(part for name, part in parts if not name)
    is_final = bool(parts) and parts[-1][0] in ("", *_FINAL)
    return AnswerText(finals[-1] if finals else outside, ends_in_thought=not is_final)


def _channels(text: str, marks: Sequence[re.Match[str]]) -> Iterator[tuple[str, str]]:
    """(name of a channel, its text), as they follow each other; "" is the name of what stands outside of channels."""
    name, begin = "", 0
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    if marks and text[: marks[0].start()].strip():
        yield "", text[: marks[0].start()]
    for mark, end in zip(marks, ends, strict=True):
        kind, begin = mark["mark"].lower(), mark.end()
        if kind == "channel":
            found = _CHANNEL_NAME.match(text, begin) if mark["bar"] else None  # `<channel|>` closes one
            name = found[1].lower() if found else "final"
            begin = found.end() if found else begin
        elif kind == "start":
            is_ours = text[begin:end].strip().casefold().startswith("assistant")
            name = "final" if is_ours else "other"  # `<|start|>assistant<|message|>`, unless a channel follows
            continue
        elif kind in ("end", "return", "call"):
            name = ""
        elif kind == "constrain":
            continue
        if text[begin:end].strip():
            yield name, text[begin:end]


def _final_of_stripped(text: str, hidden: str) -> AnswerText:
    """The same where the marks are gone and the names of the channels are left: "analysisI think...assistantfinal"."""
    heads = list(_STRIPPED.finditer(hidden))
    start = _STRIPPED_START.match(hidden)
    finals = [head for head in heads if not (head["other"] or head["lone"])]
    if finals:
        following = [head.start() for head in heads if head.start() > finals[-1].start()]
        return AnswerText(text[finals[-1].end() : min(following, default=len(text))], ends_in_thought=bool(following))
    if start is None:
        return AnswerText(text)
    is_final = "final" in start[0]
    return AnswerText(text[start.end() :] if is_final else text, ends_in_thought=not is_final and bool(heads))


def hidden_of(text: str) -> str:
    """`text` with NUL for each character within a complete block, a whole file or notes, where no mark counts."""
    lines = text.split("\n")
    for span in [*block_spans(lines), *plain_files(lines)]:
        if not span.problem:
            for i in {*range(span.first + 1, span.last)} - {*span.middles}:
                lines[i] = "\0" * len(lines[i])
    hidden = "\n".join(lines)
    pieces, end = [], 0
    tags = list(NOTES_TAG.finditer(hidden))
    for a, b in pairwise(tags):
        if b[1] and not a[1]:
            pieces += [hidden[end : a.end()], re.sub(r"[^\n]", "\0", hidden[a.end() : b.start()])]
            end = b.start()
    return "".join([*pieces, hidden[end:]])


def is_quoted(text: str, start: int, end: int) -> bool:
    """Whether a mark stands between quotes or backticks: it is spoken of."""
    before, after = text[start - 1 : start], text[end : end + 1]
    return before == after and before in ("`", '"', "'")
