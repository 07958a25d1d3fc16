"""A server on this machine that replays recorded replies of a language model; it needs no key and no network.

It speaks the chat-completions protocol, so an agent asks it as any other server. Which recording it replays depends on
the program.md that it finds in the prompt.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from ...system.locations import originals

REPLIES = Path("notebooks") / "lessons" / "data" / "5-replies.yaml"
UNKNOWN = (
    "This server only has replies to the program.md files of the lesson, and the prompt holds none of them. Use one of "
    "them as it is."
)


@dataclass(frozen=True)
class Recording:
    """Replies that were given to the prompts with one program.md, in their order."""

    program: str
    replies: tuple[str, ...]


def recordings() -> dict[str, Recording]:
    """The recordings of lesson 5, by the name of their program.md."""
    data = yaml.safe_load((originals() / REPLIES).read_text(encoding="utf-8"))
    return {name: Recording(str(of["program"]), tuple(of["replies"])) for name, of in data.items()}


class RecordedServer:
    """Listens on a free port of this machine until `stop`, or until the block of its `with` ends.

    >>> with RecordedServer(recordings()) as server:  # doctest: +SKIP
    ...     ask(server.base_url, context, server.recordings["small steps"].program)
    """

    def __init__(self, recordings: Mapping[str, Recording]) -> None:
        self.recordings = dict(recordings)
        self.prompts: list[str] = []  # that came
        self._given = dict.fromkeys(self.recordings, 0)  # replies given so far
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"recorded": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads, self._server.block_on_close = True, False
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def reply_to(self, messages: Sequence[Mapping[str, str]]) -> str | None:
        """The next recorded reply to the program.md in the first message; None where it is in none."""
        prompt = str(messages[0]["content"])
        words = " ".join(prompt.split())  # the prompt may set the blank lines between two sections anew
        with self._lock:
            self.prompts.append(prompt)
            for name, recording in self.recordings.items():
                if " ".join(recording.program.split()) in words:
                    number = self._given[name] % len(recording.replies)
                    self._given[name] += 1
                    return recording.replies[number]
        return None

    def start_over(self) -> None:
        """Give the first reply of each recording next."""
        with self._lock:
            self._given = dict.fromkeys(self.recordings, 0)

    def stop(self) -> None:
        """Answer no further request."""
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> RecordedServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class _Handler(BaseHTTPRequestHandler):
    recorded: RecordedServer

    def log_message(self, format: str, *args: Any) -> None:
        """A cell shows no requests."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        reply = self.recorded.reply_to(body["messages"])
        if reply is None:
            self._send(400, {"error": {"message": UNKNOWN, "type": "invalid_request_error"}})
            return
        message = {"role": "assistant", "content": reply}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        self._send(200, {"id": "recorded", "object": "chat.completion", "model": "recorded", "choices": [choice]})

    def do_GET(self) -> None:
        if self.path.endswith("/models"):
            self._send(200, {"object": "list", "data": [{"id": "recorded", "object": "model"}]})
        else:
            self._send(404, {"error": {"message": "There is nothing at this address."}})

    def _send(self, status: int, body: Mapping[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
