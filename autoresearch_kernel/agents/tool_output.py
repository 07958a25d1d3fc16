"""What a command-line tool said: its reply, why there is none, and its usage, read as its preset says. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..core.sanitize import without_escapes
from .blocks import block_spans
from .edits import EditError
from .error_body import ErrorBody, read_body
from .reply import read_submission
from .tools import Place, Tool

MOST_WORDS = 4_000  # characters of a tool's messages that are looked at
USAGE = {"usage", "modelUsage", "stats"}  # fields of counts, which say nothing of a failure
LONGEST_MESSAGE = 2_000  # characters; a longer text without an edit is a reply and no message of the tool

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_PROGRESS = re.compile(  # a turning mark, alone or with a word
    r"^[ \t]*[\u2800-\u28ff|/\\◐◓◑◒◴◷◶◵-][ \t]*(?:thinking|working|loading|generating)?[. …]*$", re.IGNORECASE
)
_FRAME = re.compile(r"^[ \t]*[╭╮╰╯┌┐└┘│─━═║╔╗╚╝┃]")  # how tools draw a banner around news of an update


@dataclass(frozen=True)
class Said:
    """What a tool said; counts are None where it reports none."""

    reply: str = ""  # of the model; "" where the error stands in its place
    error: ErrorBody | None = None  # it says that there is no reply
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost: float | None = None  # US dollars
    is_unreadable: bool = False  # it is not in the form that the preset states


def read_output(tool: Tool, stdout: bytes, stderr: bytes) -> Said:
    """The output of one question."""
    out, err = (text.decode("utf-8", "replace") for text in (stdout, stderr))
    if tool.output == "text":
        text = cleaned(out)
        return Said(text or (cleaned(err) if holds_proposal(cleaned(err)) else ""))
    objects = _objects(tool, out) or _told(tool, _values(err))
    if not objects:
        return Said(cleaned(out) if holds_proposal(cleaned(out)) else "", is_unreadable=True)
    counts = (_sum(objects, paths) for paths in (tool.tokens_in, tool.tokens_out, tool.cost))
    tokens_in, tokens_out, cost = counts
    reply, error = _reply(objects, tool.reply), _error(objects, tool.failed)
    is_error = error is not None and any(_reply([each], tool.failed) == reply for each in objects)
    return Said(
        "" if is_error else reply,
        error,
        None if tokens_in is None else int(tokens_in),
        None if tokens_out is None else int(tokens_out),
        cost,
    )


def words_so_far(tool: Tool, stdout: bytes) -> str:
    """What the model has written until now, as far as the output of a tool that still runs tells it."""
    text = stdout.decode("utf-8", "replace")
    if tool.output == "text":
        return text
    return _reply(_objects(tool, text[: text.rfind("\n") + 1]), tool.reply) + "\n" if "\n" in text else ""


def cleaned(text: str) -> str:
    """Text as a terminal would leave it: no control sequences, no overwritten progress, no framed banners."""
    lines = without_escapes(text.replace("\r\n", "\n")).split("\n")
    shown = (_CONTROL.sub("", line.rstrip("\r").rpartition("\r")[2]) for line in lines)
    return "\n".join(line for line in shown if not (_PROGRESS.match(line) or _FRAME.match(line))).strip()


def holds_proposal(text: str, *, may_lack_end: bool = False) -> bool:
    """Whether a text holds a whole proposal in the form that the prompt asks for; see `read_submission`."""
    try:
        read_submission(text, may_lack_end=may_lack_end)
    except EditError:
        return False
    return True


def may_be_message(text: str) -> bool:
    """Whether a text may be the tool's own message instead of the model's reply."""
    return len(text) <= LONGEST_MESSAGE and not looks_like_reply(text)


def looks_like_reply(text: str) -> bool:
    """Whether a text holds a hypothesis or an edit, in any spelling, be it only the beginning of one."""
    return "hypothesis" in text.casefold() or bool(block_spans(text.split("\n"))) or holds_proposal(text)


def values_at(value: Any, path: str) -> Iterator[Any]:
    """What stands at a path of keys with dots between them; * is every key."""
    key, _, rest = path.partition(".")
    if not isinstance(value, Mapping):
        return
    for found in value.values() if key == "*" else [value[key]] if key in value else []:
        if rest:
            yield from values_at(found, rest)
        else:
            yield found


def _objects(tool: Tool, text: str) -> list[dict[str, Any]]:
    """The JSON objects of an output that count: one a line, or the one that says how the question ended."""
    if tool.output != "lines":
        return _told(tool, _values(text))
    lines = (line.strip() for line in text.splitlines())
    values = (_value_at(line, 0)[0] for line in lines if line.startswith("{"))
    return [value for value in values if isinstance(value, dict)]


def _told(tool: Tool, objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The last object that holds a reply or a failure, as lines of a log may stand around it; else the last of all."""
    for each in reversed(objects):
        if _reply([each], tool.reply) or _error([each], tool.failed) is not None:
            return [each]
    return objects[-1:]


def _values(text: str) -> list[dict[str, Any]]:
    """The whole JSON objects that begin a line of a text, and those of a list that begins one."""
    found, end = list[dict[str, Any]](), 0
    for start in re.finditer(r"^[ \t]*(?=[{\[])", text, re.MULTILINE):
        if start.end() >= end:  # else it is a part of the value before
            value, end = _value_at(text, start.end())
            found += [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, dict)]
    return found


def _value_at(text: str, start: int) -> tuple[Any, int]:
    """(the JSON value that begins there, where it ends); (None, start) for anything else."""
    try:
        return json.JSONDecoder().raw_decode(text, start)
    except ValueError:
        return None, start
    except RecursionError:  # no tool nests its output so deep, so no part of it counts
        return None, len(text)


def _chosen(objects: Iterable[dict[str, Any]], place: Place) -> list[dict[str, Any]]:
    return [
        each
        for each in objects
        if all(
            any(value is not None and wanted in ("*", value) for value in values_at(each, path))
            for path, wanted in place.when.items()
        )
    ]


def _reply(objects: list[dict[str, Any]], place: Place) -> str:
    texts = [v for each in _chosen(objects, place) for v in values_at(each, place.at) if isinstance(v, str)]
    return "".join(texts if place.take == "all" else texts[-1:]).strip()


def _error(objects: list[dict[str, Any]], place: Place) -> ErrorBody | None:
    if not place.when or not (found := _chosen(objects, place)):
        return None
    said = next((v for v in values_at(found[-1], place.at) if v), None)
    body = read_body({k: v for k, v in found[-1].items() if k not in USAGE} if said is None else said)
    status = next((v for v in values_at(found[-1], place.status) if isinstance(v, int)), body.status)
    return ErrorBody(body.message, body.words[:MOST_WORDS], status)


def _sum(objects: list[dict[str, Any]], paths: Iterable[str]) -> float | None:
    """The sum of the numbers at all paths; None where there is none."""
    found = [v for each in objects for path in paths for v in values_at(each, path)]
    numbers = [v for v in found if isinstance(v, int | float) and not isinstance(v, bool)]
    return sum(numbers) if numbers else None
