"""What the bytes of a server say: a reply of the chat-completions protocol, as events or as one body. Pure.

It is tolerant of how servers differ: where reasoning stands, how the end is marked, what an error looks like. It asks
for nothing, retries nothing and shows nothing to people.
"""

from __future__ import annotations

import json
from typing import Any


class Unreadable(Exception):
    """Bytes that are no reply, or only the beginning of one."""


class ServerError(Exception):
    """An error that the server put where the reply should be, under status 200."""


class Answer:
    """A reply as far as it came: events of a stream, or one JSON body from a server that does not stream."""

    def __init__(self) -> None:
        self.content: list[str] = []
        self.reasoning: list[str] = []
        self.finish: str | None = None  # the finish reason; "stop" when the server marks the end in another way
        self.usage: tuple[int, int] | None = None  # tokens in and out, as the server counts them
        self._start = b""  # of the body, to quote
        self._is_body: bool | None = None  # None until the first byte that is not blank
        self._rest = bytearray()  # a line that is not whole, or the body so far
        self._data: list[bytes] = []  # lines of the event that is not whole

    @property
    def text(self) -> str:
        """What the model said; its reasoning when there is nothing else; "" when there is neither."""
        said, thought = _without_thoughts(mended("".join(self.content)))
        return said.strip() or mended("".join(self.reasoning)).strip() or thought.strip()

    def feed(self, piece: bytes) -> None:
        self._start = self._start or piece[:200].lstrip()
        if self._is_body is None and self._start:
            self._is_body = self._start[:1] in (b"{", b"[")
        self._rest += piece
        if not self._is_body:
            *lines, rest = self._rest.split(b"\n")
            self._rest = bytearray(rest)
            for line in lines:
                self._take_line(bytes(line.rstrip(b"\r")))

    def close(self) -> None:
        """The end of the body. Raises Unreadable when the reply has not ended."""
        if self._is_body:
            self._take(self._parsed(bytes(self._rest)))
            self.finish = self.finish or "stop"
        else:
            self._take_line(bytes(self._rest))
            self._take_line(b"")
        if self.finish is None:
            begun = self.content or self.reasoning
            what = "the stream ended before the reply did" if begun else f"no reply in it: {_text(self._start)}"
            raise Unreadable(what)

    def _take_line(self, line: bytes) -> None:
        if line.startswith(b"data:"):
            self._data.append(line[5:].strip())
        elif not line.strip() and self._data:
            data, self._data = b"\n".join(self._data), []
            if data == b"[DONE]":
                self.finish = self.finish or "stop"
            elif data:
                self._take(self._parsed(data))

    def _parsed(self, data: bytes) -> dict[str, Any]:
        try:
            value = json.loads(data)
        except (ValueError, RecursionError) as error:  # bytes that are no UTF-8 included
            raise Unreadable(f"no JSON: {_text(data)}") from error
        if not isinstance(value, dict):
            raise Unreadable(f"not the JSON of a reply: {_text(data)}")
        return value

    def _take(self, chunk: dict[str, Any]) -> None:
        """A piece of the reply, or the whole."""
        if chunk.get("error"):
            raise ServerError(message_of(chunk["error"]) or "no message")
        self.usage = _usage(chunk.get("usage")) or self.usage
        choices = chunk.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, dict):
            return
        delta = choice.get("delta")
        part = delta if isinstance(delta, dict) else choice.get("message")
        if isinstance(part, dict):
            said, thought = _parts(part.get("content"))
            self.content += [said, _parts(part.get("refusal"))[0]]
            self.reasoning += [thought or _parts(part.get("reasoning_content") or part.get("reasoning"))[0]]
        if choice.get("finish_reason"):
            self.finish = str(choice["finish_reason"]).lower()


def _usage(value: Any) -> tuple[int, int] | None:
    """Tokens in and out. Some servers leave reasoning out of the tokens of the completion, but not out of the total."""
    counts = value if isinstance(value, dict) else {}
    given, made, total = (counts.get(k) for k in ("prompt_tokens", "completion_tokens", "total_tokens"))
    if not isinstance(given, int) or not isinstance(made, int) or given + made <= 0:
        return None
    return given, max(made, total - given if isinstance(total, int) else 0)


def _parts(content: Any) -> tuple[str, str]:
    """Text and reasoning of a content: a string, or a list of parts of either kind."""
    if isinstance(content, str):
        return content, ""
    said, thought = "", ""
    for part in content if isinstance(content, list) else []:
        if isinstance(part, dict) and "thinking" in part:
            thought += "".join(_parts(part["thinking"]))
        elif isinstance(part, dict) and isinstance(part.get("text"), str):
            said += part["text"]
    return said, thought


def _without_thoughts(text: str) -> tuple[str, str]:
    """`text` after a leading <think> … </think>, and what stood in there. The opening tag may be in the template."""
    start = text.lstrip()
    is_open = start.startswith("<think>")
    thought, closing_tag, said = start.removeprefix("<think>").partition("</think>")
    if is_open and not closing_tag:
        return "", thought
    if closing_tag and (is_open or "<think>" not in thought):
        return said, thought
    return text, ""


def message_of(body: Any) -> str:
    """The message in the body of an error, whatever its shape."""
    if isinstance(body, dict):
        body = body.get("error", body.get("message", body.get("detail", body)))
        body = body.get("message", body) if isinstance(body, dict) else body
    return body if isinstance(body, str) else json.dumps(body) if body else ""


def mended(text: str) -> str:
    """`text` with halves of surrogate pairs joined, and those that have no other half replaced."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _text(data: bytes) -> str:
    return repr(data[:2000].decode("utf-8", "replace"))
