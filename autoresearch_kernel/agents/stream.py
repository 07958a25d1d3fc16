"""What the bytes of a server say: a reply of the chat-completions protocol, as events or as one body. Pure.

It is tolerant of how servers differ: where reasoning stands, how the end is marked, what an error looks like. It asks
for nothing, retries nothing and shows nothing to people.
"""

from __future__ import annotations

import json
from typing import Any

from .error_body import message_of, read_body


class Unreadable(Exception):
    """Bytes that are no reply, or only the beginning of one."""


class ServerError(Exception):
    """An error that the server put where the reply should be, under status 200; `body` is what it says."""

    def __init__(self, body: Any, has_begun: bool = False) -> None:
        super().__init__(message_of(body) or "no message")
        self.body = body
        self.has_begun = has_begun  # some of the reply had come


class NotChat(Exception):
    """What answers is no server of chat completions: a web page, a server of completions only."""


# Finish reasons as servers name them, by the name that OpenAI gives them; "error" is the server's own failure.
_FINISHES = {
    **dict.fromkeys(("length", "max_tokens", "max_length", "model_length", "max_output_tokens", "token_limit",
                     "model_context_window_exceeded", "incomplete"), "length"),
    **dict.fromkeys(("content_filter", "safety", "recitation", "prohibited_content", "blocklist", "spii", "sensitive",
                     "content-filter", "moderation", "content_filtered", "error_toxic"), "content_filter"),
    **dict.fromkeys(("tool_calls", "function_call", "tool_use", "tool_call", "tool-calls",
                     "malformed_function_call", "unexpected_tool_call"), "tool_calls"),
    **dict.fromkeys(("error", "abort", "cancelled", "canceled", "network_error", "insufficient_system_resource",
                     "engine_error", "failed", "timeout"), "error"),
}  # fmt: skip


class StreamedReply:
    """A reply as far as it came: events of a stream, or one JSON body from a server that does not stream."""

    def __init__(self) -> None:
        self.content: list[str] = []
        self.reasoning: list[str] = []
        self.finish: str | None = None  # the finish reason; "stop" when the server marks the end in another way
        self.tools: list[str] = []  # names of the tools that the model called
        self.usage: tuple[int, int] | None = None  # tokens in and out, as the server counts them
        self._start = b""  # of the body, to quote
        self._is_body: bool | None = None  # None until the first byte that is not blank
        self._is_chat = False  # it has choices
        self._rest = bytearray()  # a line that is not whole, or the body so far
        self._data: list[bytes] = []  # lines of the event that is not whole

    @property
    def text(self) -> str:
        """What the model said; thoughts that the server did not part from it are still in it."""
        return mended("".join(self.content)).strip()

    @property
    def has_thought(self) -> bool:
        """Whether anything came, be it no answer."""
        return bool("".join(self.content).strip() or "".join(self.reasoning).strip())

    def so_far(self) -> str:
        """What the model has written until now: its answer once that has begun, its thoughts before."""
        return mended("".join(self.content) or "".join(self.reasoning))

    def feed(self, piece: bytes) -> None:
        self._start = (self._start + piece)[:2000].lstrip() if len(self._start) < 2000 else self._start
        if self._is_body is None and self._start:
            self._is_body = self._start[:1] in (b"{", b"[")
        self._rest += piece
        if not self._is_body:
            *lines, rest = self._rest.split(b"\n")
            self._rest = bytearray(rest)
            for line in lines:
                self._take_line(bytes(line.rstrip(b"\r")))

    def close(self) -> None:
        """The end of the body. Raises Unreadable when the reply has not ended, NotChat when it is none."""
        if self._is_body:
            self._take(self._parsed(bytes(self._rest)))
            if not self._is_chat:
                raise NotChat(f"no choices in the JSON of the answer: {_text(self._start[:300])}")
            self.finish = self.finish or "stop"
        else:
            self._take_line(bytes(self._rest))
            self._take_line(b"")
        if self.finish is None:
            begun = self.content or self.reasoning
            if not begun and (page := read_body(self._start.decode("utf-8", "replace"))).is_page:
                raise NotChat(page.message)
            what = "the stream ended before the reply did" if begun else f"no reply in it: {_text(self._start[:200])}"
            raise Unreadable(what)

    def _take_line(self, line: bytes) -> None:
        field, _, rest = line.partition(b":")
        if field in (b"data", b"error"):  # llama.cpp names the field of an error so
            self._data.append(rest.strip())
        elif not line.strip() and self._data:
            data, self._data = b"\n".join(self._data), []
            if data == b"[DONE]":
                self.finish = self.finish or "stop"
            elif data:
                self._take(self._parsed(data))

    def _parsed(self, data: bytes) -> Any:
        try:
            value = json.loads(data)
        except (ValueError, RecursionError) as error:  # bytes that are no UTF-8 included
            raise Unreadable(f"no JSON: {_text(data)}") from error
        return value

    def _take(self, chunk: Any) -> None:
        """A piece of the reply, or the whole."""
        if isinstance(chunk, list) and len(chunk) == 1:
            chunk = chunk[0]
        if not isinstance(chunk, dict):
            raise Unreadable(f"not the JSON of a reply: {_text(json.dumps(chunk).encode())}")
        choices = chunk.get("choices")
        self._is_chat = self._is_chat or isinstance(choices, list)
        self.usage = _usage(chunk.get("usage")) or self.usage
        choice = choices[0] if isinstance(choices, list) and choices else None
        if _is_error(chunk):
            raise ServerError(chunk, bool(self.content or self.reasoning))
        if not isinstance(choice, dict):
            return
        if isinstance(choice.get("error"), dict):
            raise ServerError(choice, bool(self.content or self.reasoning))
        if isinstance(choice.get("text"), str) and not ({"delta", "message"} & set(choice)):
            raise NotChat("a completion instead of a chat completion")
        delta = choice.get("delta")
        part = delta if isinstance(delta, dict) else choice.get("message")
        if isinstance(part, dict):
            said, thought = _parts(part.get("content"))
            self.content += [said, _parts(part.get("refusal"))[0]]
            self.reasoning += [thought or _parts(part.get("reasoning_content") or part.get("reasoning"))[0]]
            self.tools += _tools(part)
        if choice.get("finish_reason"):
            finish = str(choice["finish_reason"]).lower()
            self.finish = _FINISHES.get(finish, "stop")


def _is_error(chunk: dict[str, Any]) -> bool:
    """Whether a body or an event is an error: one that says so, or a message where no choices are."""
    if chunk.get("error") or chunk.get("errors"):
        return True
    status = chunk.get("base_resp")
    if isinstance(status, dict) and status.get("status_code"):
        return True
    has_words = any(isinstance(chunk.get(name), str) for name in ("message", "detail", "msg", "error_msg"))
    return "choices" not in chunk and (has_words or isinstance(chunk.get("detail"), list))


def _tools(part: dict[str, Any]) -> list[str]:
    """Names of the tools that a message or a delta calls; a call without a name counts as well."""
    calls = part.get("tool_calls")
    calls = [*calls] if isinstance(calls, list) else []
    functions = [call.get("function") for call in calls if isinstance(call, dict)]
    functions += [part["function_call"]] if isinstance(part.get("function_call"), dict) else []
    names = [function.get("name") for function in functions if isinstance(function, dict)]
    return [name for name in names if isinstance(name, str) and name]


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


def mended(text: str) -> str:
    """`text` with halves of surrogate pairs joined, and those that have no other half replaced."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _text(data: bytes) -> str:
    return repr(data[:2000].decode("utf-8", "replace"))
