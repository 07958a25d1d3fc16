"""A language model to test with: a real HTTP server on loopback that speaks the chat-completions protocol by a script.

    with ScriptedServer([rate_limited("2"), say("good_edit"), CUT_OFF]) as server:
        Chat("tiny", base_url=server.base_url).ask(...)

Each request takes the next behaviour of the script, or what `respond` makes of its body. `server.requests` keeps what
came. It knows nothing of the project but the replies in tests/data/replies/.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

REPLIES = Path(__file__).parent / "data" / "replies"


@dataclass(frozen=True)
class Behaviour:
    """How one request is answered: a reply, or what stands in its place."""

    text: str = ""
    reasoning: str = ""
    reasoning_field: str = "reasoning_content"
    usage: Mapping[str, Any] | None = None  # None: the server does not count
    finish: str | None = "stop"  # None: the stream ends as if the server had died
    is_done_marked: bool = True  # `data: [DONE]` at the end
    streams: bool = True  # False: one JSON body, whatever was asked for
    num_chunks: int = 4
    chunk_wait_seconds: float = 0.0  # before each chunk
    keep_alives: int = 0  # comments of the stream before the first chunk, each after `chunk_wait_seconds`
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: bytes | None = None  # a body to send as it is
    content_type: str = "application/json"  # of `raw` and of errors
    hang_seconds: float = 0.0  # before anything is sent
    hangs_up: bool = False  # the connection is closed instead of an answer
    breaks_after: int | None = None  # chunks, then the connection is closed in the midst of one
    down_seconds: float = 0.0  # no answer, and the port is closed for so long


def say(name: str, **how: Any) -> Behaviour:
    """The reply in tests/data/replies/NAME.md, counted by the server."""
    return reply((REPLIES / f"{name}.md").read_text(encoding="utf-8"), **how)


def reply(text: str, **how: Any) -> Behaviour:
    return Behaviour(**({"text": text, "usage": {"prompt_tokens": 1000, "completion_tokens": 50}} | how))


def failing(status: int, message: str = "", *, headers: Mapping[str, str] | None = None, **error: Any) -> Behaviour:
    """An error as OpenAI words it; `error` are further fields, such as code and param."""
    body = {"error": {"message": message, "type": "error", "param": None, "code": None} | error}
    return Behaviour(status=status, headers=headers or {}, raw=json.dumps(body).encode())


def rate_limited(retry_after: str | None = None) -> Behaviour:
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return failing(429, "Rate limit reached for requests", headers=headers, code="rate_limit_exceeded")


def too_long(limit: int = 8192) -> Behaviour:
    message = f"This model's maximum context length is {limit} tokens. However, your messages resulted in 9000 tokens."
    return failing(400, message, param="messages", code="context_length_exceeded")


def down(seconds: float) -> Behaviour:
    """This request gets no answer, and the port refuses connections for `seconds`."""
    return Behaviour(down_seconds=seconds, hangs_up=True)


HANG = Behaviour(hang_seconds=60.0)  # or until the server stops
HANG_UP = Behaviour(hangs_up=True)
GARBAGE = Behaviour(raw=b"data: {\x00\xff\xfe not json\n\n" * 3, content_type="text/event-stream")
WEB_PAGE = Behaviour(raw=b"<html><body>It works!</body></html>", content_type="text/html")
EMPTY = reply("")
CUT_OFF = replace(say("good_edit"), usage=None, finish=None, is_done_marked=False)
SERVER_ERROR = failing(500, "The server had an error while processing your request.")


@dataclass(frozen=True)
class Request:
    """What came."""

    path: str
    headers: Mapping[str, str]  # names in small letters
    body: dict[str, Any]
    at: float  # time.monotonic()


class ScriptedServer:
    """Listens on a port of its own from `with` to its end; `stop` and `start` take it down and up on the same port."""

    def __init__(
        self,
        script: Iterable[Behaviour] = (),
        *,
        respond: Callable[[dict[str, Any]], Behaviour] | None = None,
        unknown: Mapping[str, str] | None = None,
    ):
        """`unknown` are parameters that the server refuses with the given words, without a step in the script."""
        self.script = list(script)
        self.respond = respond
        self.unknown = dict(unknown or {})
        self.requests: list[Request] = []
        self.pages: dict[str, Any] = {}  # what a GET of a path answers, as JSON; 404 for other paths
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._server: ThreadingHTTPServer | None = None
        self._timers: list[threading.Timer] = []
        self.port = 0

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        handler = type("Handler", (_Handler,), {"scripted": self})
        self._stopping.clear()
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        self._server.daemon_threads, self._server.block_on_close = True, False
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Refuse connections from now on; requests that hang are let go."""
        server, self._server = self._server, None
        self._stopping.set()
        if server is not None:
            server.shutdown()
            server.server_close()

    def go_down(self, seconds: float) -> None:
        self.stop()
        timer = threading.Timer(seconds, self.start)
        timer.daemon = True
        self._timers.append(timer)
        timer.start()

    def __enter__(self) -> ScriptedServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for timer in self._timers:
            timer.cancel()
        self.stop()

    def next(self, request: Request) -> Behaviour:
        """What happens to this request. A script at its end is an error that no client repeats."""
        with self._lock:
            self.requests.append(request)
            for name, words in self.unknown.items():
                if name in request.body:
                    return failing(400, words, param=name)
            if self.respond is not None:
                return self.respond(request.body)
            if self.script:
                return self.script.pop(0)
        return failing(400, "The script of this server is at its end.")

    def wait(self, seconds: float) -> bool:
        """Like sleep, but no longer than the server runs: True when it is being stopped."""
        return self._stopping.wait(seconds)


class _Handler(BaseHTTPRequestHandler):
    scripted: ScriptedServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Tests read `requests`."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        behaviour = self.scripted.next(Request(self.path, headers, body, time.monotonic()))
        self.close_connection = True  # one request each, so that a server that is down answers nobody
        try:
            self._answer(behaviour, bool(body.get("stream")), str(body.get("model")))
        except (BrokenPipeError, ConnectionResetError):
            return  # the client gave up

    def do_GET(self) -> None:
        page = self.scripted.pages.get(self.path)
        self.close_connection = True
        data = json.dumps({"error": "not found"} if page is None else page).encode()
        self._head(Behaviour(status=404 if page is None else 200), "application/json", len(data))
        self.wfile.write(data)

    def _answer(self, behaviour: Behaviour, asks_for_stream: bool, model: str) -> None:
        is_let_go = behaviour.hang_seconds > 0 and self.scripted.wait(behaviour.hang_seconds)
        if behaviour.down_seconds:
            self.scripted.go_down(behaviour.down_seconds)
        if behaviour.hangs_up or is_let_go:
            self.connection.shutdown(socket.SHUT_RDWR)
        elif behaviour.raw is not None:
            self._head(behaviour, behaviour.content_type, len(behaviour.raw))
            self.wfile.write(behaviour.raw)
        elif behaviour.streams and asks_for_stream:
            self._stream(behaviour, model)
        else:
            data = json.dumps(self._chunk(behaviour, model, "message", self._message(behaviour))).encode()
            self._head(behaviour, "application/json", len(data))
            self.wfile.write(data)

    def _head(self, behaviour: Behaviour, content_type: str, length: int | None) -> None:
        self.send_response(behaviour.status)
        self.send_header("Content-Type", content_type)
        self.send_header("Connection", "close")
        self.send_header(*(("Transfer-Encoding", "chunked") if length is None else ("Content-Length", str(length))))
        for name, value in behaviour.headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _stream(self, behaviour: Behaviour, model: str) -> None:
        """Events with a delta each; then the finish reason, the usage, and the mark of the end."""
        self._head(behaviour, "text/event-stream", None)
        for _ in range(behaviour.keep_alives):
            self.scripted.wait(behaviour.chunk_wait_seconds)
            self._send(b": still thinking\n\n")
        deltas = [{"role": "assistant", "content": ""}]
        deltas += [{behaviour.reasoning_field: piece} for piece in _split(behaviour.reasoning, behaviour.num_chunks)]
        deltas += [{"content": piece} for piece in _split(behaviour.text, behaviour.num_chunks)]
        for number, delta in enumerate(deltas):
            if number == behaviour.breaks_after:
                self.wfile.write(b"ffff\r\ndata: {")  # less than it says: no end of a body
                return
            self.scripted.wait(behaviour.chunk_wait_seconds)
            self._event(self._chunk(behaviour, model, "delta", delta) | {"usage": None})
        if behaviour.finish is not None:
            self._event(self._chunk(behaviour, model, "delta", {}, finish=behaviour.finish))
        if behaviour.usage is not None:
            self._event({"object": "chat.completion.chunk", "model": model, "choices": [], "usage": behaviour.usage})
        if behaviour.is_done_marked:
            self._send(b"data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def _message(self, behaviour: Behaviour) -> dict[str, Any]:
        thought = {behaviour.reasoning_field: behaviour.reasoning} if behaviour.reasoning else {}
        return {"role": "assistant", "content": behaviour.text or None} | thought

    def _chunk(
        self, behaviour: Behaviour, model: str, part: str, value: dict[str, Any], finish: str | None = None
    ) -> dict[str, Any]:
        is_whole = part == "message"
        finish = behaviour.finish if is_whole else finish
        usage = {"usage": behaviour.usage} if is_whole and behaviour.usage else {}
        kind = "chat.completion" if is_whole else "chat.completion.chunk"
        choice = {"index": 0, part: value, "finish_reason": finish}
        return {"id": "c1", "object": kind, "created": 0, "model": model, "choices": [choice]} | usage

    def _event(self, value: dict[str, Any]) -> None:
        self._send(b"data: " + json.dumps(value).encode() + b"\n\n")

    def _send(self, data: bytes) -> None:
        """One chunk of HTTP."""
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")


def _split(text: str, count: int) -> list[str]:
    size = max(1, -(-len(text) // count))
    return [text[i : i + size] for i in range(0, len(text), size)]
