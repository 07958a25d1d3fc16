"""Limits the output that is sent and kept: the beginning, the end, and a steady rate in between.

A cell that prints 300 MB must not use up memory or block the run, and its first and last lines are the ones that users
read.
"""

from __future__ import annotations

import re
import time
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nbformat import NotebookNode

CELL_LIMIT_BYTES = 1_000_000  # kept of one cell, half from its beginning and half from its end
NOTEBOOK_LIMIT_BYTES = 4_000_000  # kept of all cells together
LEAST_CELL_BYTES = 20_000  # kept of a cell even when the notebook has reached its limit: errors must be visible
MOST_OUTPUTS = 500  # of one cell
TRACEBACK_LIMIT = 50_000  # characters
BYTES_PER_SECOND = 50_000  # sent after the burst, so that a live view keeps changing


class HeadTail:
    """Keeps the first and last `limit // 2` characters of a text; memory stays below three times `limit`."""

    def __init__(self, limit: int) -> None:
        self.half = max(1, limit // 2)
        self.head: list[str] = []
        self.head_size = 0
        self.tail: deque[str] = deque()
        self.tail_size = 0
        self.dropped = 0

    def add(self, text: str) -> None:
        missing = self.half - self.head_size
        if missing > 0:
            self.head.append(text[:missing])
            self.head_size += len(self.head[-1])
            text = text[missing:]
        if not text:
            return
        if len(text) > self.half:
            self.dropped += len(text) - self.half
            text = text[-self.half :]
        self.tail.append(text)
        self.tail_size += len(text)
        while self.tail_size - len(self.tail[0]) >= self.half:
            gone = len(self.tail.popleft())
            self.tail_size -= gone
            self.dropped += gone

    def text(self) -> str:
        gap = f"\n[... {self.dropped:,} characters not kept ...]\n" if self.dropped else ""
        return "".join(self.head) + gap + "".join(self.tail)

    def __len__(self) -> int:
        return self.head_size + self.tail_size


class RateLimit:
    """Admits `burst` characters at once, then `rate` a second, and says how many it held back."""

    LEAST = 4_000  # characters sent at once after something was held back
    REMAINDER = 2_000  # characters at the end of the held-back text that are kept

    def __init__(self, burst: int = CELL_LIMIT_BYTES, rate: int = BYTES_PER_SECOND) -> None:
        self.burst, self.rate = burst, rate
        self.allowance = float(burst)
        self.refilled = time.monotonic()
        self.held_back = 0
        self.tail = ""

    def admit(self, text: str) -> str:
        """The part of `text` that may be sent now, after a note about the characters that were held back."""
        if len(text) > self.allowance or self.held_back:
            now = time.monotonic()
            self.allowance = min(float(self.burst), self.allowance + (now - self.refilled) * self.rate)
            self.refilled = now
        if self.held_back and self.allowance < self.LEAST:
            self._hold(text)
            return ""
        allowed = text[: int(self.allowance)]
        if len(allowed) < len(text) and "\n" in allowed:
            allowed = allowed[: allowed.rindex("\n") + 1]
        note = f"\n[... {self.held_back:,} characters of output held back ...]\n" if self.held_back else ""
        self.allowance -= len(allowed)
        self.held_back, self.tail = 0, ""
        self._hold(text[len(allowed) :])
        return note + allowed

    def _hold(self, text: str) -> None:
        self.held_back += len(text)
        self.tail = (self.tail + text[-self.REMAINDER :])[-self.REMAINDER :]

    def remainder(self) -> str:
        """The end of the held-back text, after a note about the rest; "" when nothing was held back."""
        gone = self.held_back - len(self.tail)
        text = f"\n[... {gone:,} characters of output held back ...]\n" if gone else ""
        text, self.held_back, self.tail = text + self.tail, 0, ""
        return text


class CellOutputs:
    """The outputs of one cell that are kept, in a notebook that may keep `allowance` more bytes."""

    def __init__(self, allowance: int) -> None:
        self.limit = max(LEAST_CELL_BYTES, min(CELL_LIMIT_BYTES, allowance))
        self.used = 0
        self.dropped = 0  # outputs, not characters
        self.stream: HeadTail | None = None
        self.node: NotebookNode | None = None

    def add_stream(self, outputs: list[NotebookNode], name: str, text: str) -> NotebookNode | None:
        """Append to the last output when it is the same stream, else start a new one."""
        import nbformat  # not at the top: the kernel uses this module without it

        same = self.node is not None and outputs and outputs[-1] is self.node and self.node["name"] == name
        if not same:
            self.flush(close=True)
            if len(outputs) >= MOST_OUTPUTS:
                self.dropped += 1
                return None
            self.stream = HeadTail(max(self.limit - self.used, 2_000))
            self.node = nbformat.v4.new_output("stream", name=name, text="")
            outputs.append(self.node)
        assert self.stream is not None
        self.stream.add(text)
        return self.node

    def flush(self, close: bool = False) -> None:
        """Write the text of the open stream into the notebook; with `close`, the next output is a new one."""
        if self.node is None or self.stream is None:
            return
        self.node["text"] = self.stream.text()
        if close:
            self.used += len(self.stream)
            self.node = self.stream = None

    def admits(self, outputs: list[NotebookNode], content: dict[str, Any]) -> bool:
        """Whether another output is kept. The data of one that is too large is replaced by a note about its size."""
        self.flush(close=True)
        if len(outputs) >= MOST_OUTPUTS:
            self.dropped += 1
            return False
        self.shrink(content)
        return True

    def shrink(self, content: dict[str, Any]) -> None:
        data = content.get("data")
        if not isinstance(data, dict):
            return
        size = sum(len(value) if isinstance(value, str) else len(str(value)) for value in data.values())
        if self.used + size > self.limit:
            content["data"] = {"text/plain": f"[an output of {size:,} characters was not kept]"}
            size = 100
        self.used += size

    def close(self, outputs: list[NotebookNode]) -> None:
        import nbformat

        self.flush(close=True)
        if self.dropped:
            outputs.append(
                nbformat.v4.new_output("stream", name="stderr", text=f"[{self.dropped:,} more outputs were not kept]\n")
            )
            self.dropped = 0


def shorten_traceback(traceback: list[str]) -> list[str]:
    """A traceback, without its middle when it is too long to keep."""
    text = "\n".join(str(line) for line in traceback)
    if len(text) <= TRACEBACK_LIMIT:
        return [str(line) for line in traceback]
    kept = HeadTail(TRACEBACK_LIMIT)
    kept.add(text)
    return [kept.text()]


# --- output of untrusted code

_KINDS = {
    "status", "stream", "error", "execute_input", "clear_output", "display_data", "execute_result",
    "update_display_data",
}  # fmt: skip
_PICTURES = {"image/png", "image/jpeg"}
_BASE64 = re.compile(r"[A-Za-z0-9+/=\s]*")


def make_plain(message: dict[str, Any]) -> bool:
    """Leave only text and pictures of the right types in a kernel's message; False when the message is dropped.

    JupyterLab does not run scripts of a notebook that it does not trust, but it shows their HTML, fetches their images,
    and runs everything once a user trusts the notebook. Other readers and converters run it at once. A kernel that runs
    an agent's code may also send messages that no kernel sends.
    """
    kind, content = message["msg_type"], message["content"]
    if kind not in _KINDS:
        return False  # such as widgets
    if "execution_count" in content:
        count = content["execution_count"]
        content["execution_count"] = count if isinstance(count, int) else None
    if kind == "stream":
        content |= {"name": "stderr" if content.get("name") == "stderr" else "stdout", "text": _text(content, "text")}
    elif kind == "error":
        lines = content.get("traceback")
        lines = [_text({"line": line}, "line") for line in lines] if isinstance(lines, list) else []
        content |= {"ename": _text(content, "ename"), "evalue": _text(content, "evalue"), "traceback": lines}
    elif kind in ("display_data", "execute_result", "update_display_data"):
        content |= {"data": plain_data(content.get("data")), "metadata": {}}
    return True


def plain_data(data: Any) -> dict[str, str]:
    """The text and the pictures among the forms of one output; a note about the output when there are none."""
    forms = data if isinstance(data, dict) else {}
    kept = {kind: _text(forms, kind) for kind in forms if kind in ("text/plain", *_PICTURES)}
    kept = {kind: value for kind, value in kept.items() if kind not in _PICTURES or _BASE64.fullmatch(value)}
    kinds = ", ".join(sorted(re.sub(r"[^a-z0-9+./-]", "?", str(kind))[:50] for kind in forms)[:5])
    return kept or {"text/plain": f"[{kinds or 'an output'} was not kept: only text and pictures are]"}


def _text(content: dict[str, Any], name: str) -> str:
    """A string that can be written to a file, whatever the value is."""
    value = content.get(name, "")
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else str(type(value).__name__)
