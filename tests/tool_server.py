"""The servers of four coding agents on loopback, each in its own protocol, so that the real programs can be tested.

    with ToolServer() as server:
        server.trouble = "429"
        ...
        server.posts  # path and body of each request

It speaks Anthropic Messages, OpenAI Responses, Gemini generateContent and chat completions, as far as the tools need.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

JSON, EVENTS = "application/json", "text/event-stream"
TROUBLE = {  # status, and the words of each protocol
    "401": (401, {
        "messages": ("authentication_error", "invalid x-api-key"),
        "gemini": ("UNAUTHENTICATED", "API key not valid. Please pass a valid API key."),
        "openai": ("invalid_api_key", "Incorrect API key provided"),
    }),
    "429": (429, {
        "messages": ("rate_limit_error", "Rate limit reached, resets in 2 hours"),
        "gemini": ("RESOURCE_EXHAUSTED", "You exceeded your current quota. Please retry in 2h10m."),
        "openai": ("rate_limit_exceeded", "You've hit your usage limit. Try again in 2 hours 5 minutes."),
    }),
    "too long": (400, {
        "messages": ("invalid_request_error", "prompt is too long: 250000 tokens > 200000 maximum"),
        "gemini": ("INVALID_ARGUMENT", "The input token count (1200000) exceeds the maximum number of tokens allowed "
                   "(1048576)."),
        "openai": ("context_length_exceeded", "Your input exceeds the context window of this model."),
    }),
}  # fmt: skip


def events(values: Iterable[dict[str, Any]]) -> bytes:
    """Server-sent events; those of Anthropic and of Responses name their type twice."""
    lines = (f"event: {v['type']}\ndata: {json.dumps(v)}\n\n" if "type" in v else _data(v) for v in values)
    return "".join(lines).encode()


def _data(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value)}\n\n"


def messages(reply: str, body: dict[str, Any]) -> tuple[str, bytes]:
    usage = {"input_tokens": 1234, "output_tokens": 55}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": body.get("model"), "content": [],
               "stop_reason": None, "stop_sequence": None, "usage": usage}  # fmt: skip
    if not body.get("stream"):
        done = {"content": [{"type": "text", "text": reply}], "stop_reason": "end_turn"}
        return JSON, json.dumps(message | done).encode()
    return EVENTS, events([
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": reply}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": usage},
        {"type": "message_stop"},
    ])  # fmt: skip


def responses(reply: str, body: dict[str, Any]) -> tuple[str, bytes]:
    content = [{"type": "output_text", "text": reply, "annotations": []}]
    item = {"id": "m1", "type": "message", "role": "assistant", "status": "completed", "content": content}
    usage = {"input_tokens": 1234, "output_tokens": 55, "total_tokens": 1289,
             "input_tokens_details": {"cached_tokens": 0},
             "output_tokens_details": {"reasoning_tokens": 0}}  # fmt: skip
    return EVENTS, events([
        {"type": "response.created", "response": {"id": "r1"}},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": {"id": "r1", "output": [item], "usage": usage}},
    ])  # fmt: skip


def gemini(reply: str, path: str) -> tuple[str, bytes]:
    content = {"role": "model", "parts": [{"text": reply}]}
    usage = {"promptTokenCount": 1234, "candidatesTokenCount": 55, "totalTokenCount": 1289}
    said = {"candidates": [{"content": content, "finishReason": "STOP", "index": 0}], "usageMetadata": usage}
    return (EVENTS, _data(said).encode()) if "stream" in path else (JSON, json.dumps(said).encode())


def chat_completions(reply: str, body: dict[str, Any]) -> tuple[str, bytes]:
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": body.get("model")}
    usage = {"prompt_tokens": 1234, "completion_tokens": 55, "total_tokens": 1289}
    delta = {"role": "assistant", "content": reply}
    chunks = [
        chunk | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]},
        chunk | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        chunk | {"choices": [], "usage": usage},
    ]
    return EVENTS, "".join(map(_data, chunks)).encode() + b"data: [DONE]\n\n"


class ToolServer:
    """Listens on a port of its own from `with` to its end."""

    def __init__(self, reply: str) -> None:
        self.reply, self.trouble = reply, ""
        self.posts: list[tuple[str, dict[str, Any]]] = []

    def __enter__(self) -> ToolServer:
        handler = type("Handler", (_Handler,), {"owner": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, str, bytes]:
        """Status, type and body."""
        protocol = "messages" if "v1/messages" in path else "gemini" if "generateContent" in path.replace(
            "streamG", "g") else "openai"  # fmt: skip
        if self.trouble:
            status, words = TROUBLE[self.trouble]
            kind, message = words[protocol]
            error: dict[str, Any] = {"type": kind, "message": message, "status": kind, "code": kind}
            error["code"] = status if protocol == "gemini" else kind
            return status, JSON, json.dumps({"type": "error", "error": error}).encode()
        if "count_tokens" in path:
            return 200, JSON, b'{"input_tokens": 100}'
        if protocol == "messages":
            return 200, *messages(self.reply, body)
        if protocol == "gemini":
            return 200, *gemini(self.reply, path)
        return 200, *(responses if "responses" in path else chat_completions)(self.reply, body)


class _Handler(BaseHTTPRequestHandler):
    owner: ToolServer

    def do_GET(self) -> None:
        self._send(200, JSON, b'{"data": [], "models": []}')

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")
        self.owner.posts.append((self.path, body))
        self._send(*self.owner.answer(self.path, body))

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: Any) -> None:
        """Say nothing on the terminal of the tests."""
