"""What the body of an error says, whatever its shape: its message, all its words, and the status it names. Pure.

Gateways wrap the error of the server behind them, as an object, a list, JSON in a string or the text of a Python dict.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

MOST_CHARS = 8_000  # of one text that is looked at
MOST_DEPTH = 8
_MESSAGES = (
    "error", "errors", "message", "detail", "msg", "error_message", "error_msg", "errorMessage", "status_msg",
    "base_resp", "base", "reason", "title", "code",
)  # fmt: skip
_ECHOES = {"input", "messages", "prompt", "request", "user_id"}  # what the client sent, which says nothing of the cause
_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_IS_PAGE = re.compile(r"\s*(?:<!--.{0,500}?-->\s*)?<(?:!doctype|html|head|\?xml)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class ErrorBody:
    """An error as its server words it."""

    message: str  # the innermost, to quote
    words: str  # all texts and `name=value` of all numbers, for the table of causes
    status: int | None  # of HTTP, the innermost that is named
    is_page: bool = False  # HTML


def read_body(body: Any) -> ErrorBody:
    """The error in a body: JSON as values, or text."""
    if isinstance(body, str) and _IS_PAGE.match(body):
        title = _TITLE.search(body)
        named = f' titled "{" ".join(title[1].split())[:80]}"' if title and title[1].strip() else ""
        return ErrorBody(f"a web page{named}", f"a web page{named}", None, is_page=True)
    scalars = list(_scalars(body, "", 0))
    words = " | ".join(f"{name}={value}" if isinstance(value, int | float) else value for name, value in scalars)
    return ErrorBody(_message(body, 0).strip(), words[: 4 * MOST_CHARS], _status(scalars))


def message_of(body: Any) -> str:
    """The message in the body of an error, whatever its shape."""
    return read_body(body).message


def _message(value: Any, depth: int) -> str:
    """The innermost message; "" for none."""
    if depth > MOST_DEPTH or value is None or isinstance(value, bool):
        return ""
    if isinstance(value, str):
        return (_message(inner, depth + 1) if (inner := _within(value)) is not None else "") or value
    if isinstance(value, list):
        return "; ".join(filter(None, (_message(item, depth + 1) for item in value[:3])))
    if not isinstance(value, dict):
        return str(value)
    if "loc" in value and "msg" in value:  # of FastAPI
        where = value["loc"] if isinstance(value["loc"], list) else [value["loc"]]
        return f"{'.'.join(map(str, where))}: {value['msg']}"
    metadata = value.get("metadata")
    raw = _message(metadata.get("raw"), depth + 1) if isinstance(metadata, dict) else ""
    error, message = value.get("error"), value.get("message") or value.get("detail")
    if isinstance(error, str) and isinstance(message, str) and not error.lstrip().startswith("{"):
        return message if error in message else f"{error}: {message}"
    found = (_message(value[name], depth + 1) for name in _MESSAGES if name in value)
    return raw or next(filter(None, found), "") or (json.dumps(value)[:MOST_CHARS] if value and not depth else "")


def _scalars(value: Any, name: str, depth: int) -> Iterator[tuple[str, str | int | float]]:
    """Texts and numbers of a body with their names, from the outside to the inside."""
    if depth > MOST_DEPTH or name in _ECHOES or isinstance(value, bool):
        return
    if isinstance(value, str):
        yield name, value[:MOST_CHARS]
        if (inner := _within(value)) is not None:
            yield from _scalars(inner, name, depth + 1)
    elif isinstance(value, int | float):
        yield name, value
    elif isinstance(value, dict):
        for key, item in list(value.items())[:50]:
            yield from _scalars(item, str(key), depth + 1)
    elif isinstance(value, list):
        for item in value[:20]:
            yield from _scalars(item, name, depth + 1)


def _within(text: str) -> Any:
    """The object or list that stands in a text, as JSON or as Python prints it; None without one."""
    start = min((i for i in (text.find("{"), text.find("[{")) if i >= 0), default=-1)
    end = max(text.rfind("}"), text.rfind("]")) + 1
    if start < 0 or end <= start or end - start > MOST_CHARS:
        return None
    for parse in (json.loads, ast.literal_eval):
        try:
            value = parse(text[start:end])
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        return value if isinstance(value, dict | list) else None
    return None


def _status(scalars: list[tuple[str, str | int | float]]) -> int | None:
    """The innermost HTTP status among the values of a body."""
    named = ("code", "status", "status_code", "http_status", "statusCode")
    found = [str(value) for name, value in scalars if name in named]
    statuses = [int(value) for value in found if re.fullmatch(r"[45]\d\d", value)]
    return statuses[-1] if statuses else None
