"""Limits the output that is sent and kept: the beginning, the end, and a steady rate in between.

A cell that prints 300 MB must not use up memory or block the run, and its first and last lines are the ones that users
read. A progress bar that is drawn a thousand times over one line is kept as it stood last.
"""

from __future__ import annotations

import re
import time
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nbformat import NotebookNode

CELL_LIMIT_BYTES = 1_000_000  # of pictures and values, kept of one cell
NOTEBOOK_LIMIT_BYTES = 4_000_000  # of all cells together
LEAST_CELL_BYTES = 20_000  # kept of a cell even when the notebook has reached its limit: errors must be visible
CELL_TEXT, NOTEBOOK_TEXT, LEAST_TEXT = 16_000, 32_000, 4_000  # the same for what is printed
LINE_BYTES = 16  # that a line takes in a notebook beside its characters
LONGEST_LINE = 10_000  # characters after which a line is taken for several
MOST_SWITCHES = 40  # between stdout and stderr in one cell, after which each goes on where it was
MOST_OUTPUTS = 500  # of one cell, half of them its first and half its last ones
BURST = 1_000_000  # characters of one cell that are sent at once
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

    def add(self, text: str, overhead: int = 0) -> None:
        """Append a text, which takes `overhead` characters more than it has."""
        missing = self.half - self.head_size
        if missing > 0:
            self.head.append(text[:missing])
            self.head_size += len(self.head[-1]) + overhead
            text = text[missing:]
        if not text:
            return
        if len(text) > self.half:
            self.dropped += len(text) - self.half
            text = text[-self.half :]
        self.tail.append(text)
        self.tail_size += len(text) + overhead
        while self.tail_size - len(self.tail[0]) - overhead >= self.half:
            gone = len(self.tail.popleft())
            self.tail_size -= gone + overhead
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

    def __init__(self, burst: int = BURST, rate: int = BYTES_PER_SECOND) -> None:
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


class Printed:
    """What a terminal shows of a stream in the end: `\\r` goes back in the line, and the next text overwrites it.

    Of more than `limit` characters the first and the last lines are kept.
    """

    def __init__(self, limit: int) -> None:
        self.lines = HeadTail(limit)
        self.line = ""  # the open one
        self.place = 0  # in it, of the next character

    def add(self, text: str) -> None:
        *whole, rest = text.replace("\r\n", "\n").split("\n")
        for line in whole:
            self._write(line)
            self._end_line("\n")
        self._write(rest)

    def _write(self, text: str) -> None:
        first, *overs = text.split("\r")
        self._overwrite(first)
        for over in overs:
            self.place = 0
            self._overwrite(over)
        if len(self.line) > LONGEST_LINE:
            self._end_line("")

    def _overwrite(self, text: str) -> None:
        """Put a text where the next character goes; a terminal's code to erase the line erases what follows."""
        erased = _ERASE.sub("", text)
        rest = self.line[self.place + len(text) :] if erased == text else ""
        self.line = self.line[: self.place] + erased + rest
        self.place += len(erased)

    def _end_line(self, end: str) -> None:
        self.lines.add(self.line + end, overhead=LINE_BYTES)
        self.line, self.place = "", 0

    def text(self) -> str:
        return self.lines.text() + self.line

    def __len__(self) -> int:
        return len(self.lines) + len(self.line)


class CellOutputs:
    """The outputs of one cell that are kept, in a notebook that may keep so much more of data and of text."""

    def __init__(self, allowance: int, text_allowance: int = NOTEBOOK_TEXT) -> None:
        self.limit = max(LEAST_CELL_BYTES, min(CELL_LIMIT_BYTES, allowance))
        self.text_limit = max(LEAST_TEXT, min(CELL_TEXT, text_allowance))
        self.used = self.text_used = 0
        self.dropped = 0  # outputs, not characters
        self.num_switches = 0
        self.streams: dict[str, tuple[NotebookNode, Printed]] = {}  # the last output of each stream

    def add_stream(self, outputs: list[NotebookNode], name: str, text: str) -> NotebookNode:
        """Append to the last output when it is the same stream, else start a new one while there are not too many."""
        import nbformat  # not at the top: the kernel uses this module without it

        node, printed = self.streams.get(name, (None, None))
        is_last = bool(outputs) and outputs[-1] is node
        may_go_on = self.num_switches >= MOST_SWITCHES and any(output is node for output in outputs)
        if node is None or printed is None or not (is_last or may_go_on):
            self._close(name)
            self.num_switches += 1
            printed = Printed(max(self.text_limit - self.text_used, LEAST_TEXT // 2))
            node = nbformat.v4.new_output("stream", name=name, text="")
            self.streams[name] = node, printed
            outputs.append(node)
        printed.add(text)
        return node

    def _close(self, name: str) -> None:
        """Write the text of a stream into its output; what comes later goes into another one."""
        if name in self.streams:
            node, printed = self.streams.pop(name)
            node["text"] = printed.text()
            self.text_used += len(printed)

    def flush(self, close: bool = False) -> None:
        """Write the text of the open streams into the notebook; with `close`, the next output is a new one."""
        for name, (node, printed) in list(self.streams.items()):
            node["text"] = printed.text()
            if close:
                self._close(name)

    def clear(self) -> None:
        """Forget all outputs of the cell, which asked for it."""
        self.flush(close=True)
        self.used = self.text_used = self.num_switches = self.dropped = 0

    def admit(self, outputs: list[NotebookNode], content: dict[str, Any]) -> int | None:
        """Prepare for another output; the place of an older one that has to go for it, None where none has to.

        The data of one that is too large is replaced by a note about its size.
        """
        self.flush(close=self.num_switches < MOST_SWITCHES)
        self.shrink(content)
        if len(outputs) < MOST_OUTPUTS:
            return None
        self.dropped += 1
        return MOST_OUTPUTS // 2

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
            words = f"[... {self.dropped:,} more outputs were not kept ...]\n"
            outputs.insert(MOST_OUTPUTS // 2, nbformat.v4.new_output("stream", name="stderr", text=words))
            self.dropped = 0


def shorten_traceback(traceback: list[str]) -> list[str]:
    """A traceback, without its middle when it is too long to keep."""
    text = "\n".join(str(line) for line in traceback)
    if len(text) <= TRACEBACK_LIMIT:
        return [str(line) for line in traceback]
    kept = HeadTail(TRACEBACK_LIMIT)
    kept.add(text)
    return [kept.text()]


_ERASE = re.compile(r"\x1b\[[02]?K")  # of the rest of a line, or of a whole one


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
