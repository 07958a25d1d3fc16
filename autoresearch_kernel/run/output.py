"""What is kept of output without end: a beginning, an ending, and a steady trickle in between.

A cell that prints 300 MB must cost neither memory nor a hang, and its first and last words are what people read.
"""

from __future__ import annotations

import time
from collections import deque

CELL_LIMIT_BYTES = 1_000_000  # kept of one cell, half from its beginning and half from its end
NOTEBOOK_LIMIT_BYTES = 4_000_000  # kept of all cells together
LEAST_CELL_BYTES = 20_000  # kept of a cell even when the notebook's allowance is used up: errors must be seen
TRICKLE_BYTES_PER_SECOND = 50_000  # let through once the burst is used up, so that a live view stays live


class HeadTail:
    """A text of which the first and last `limit // 2` characters are kept; memory stays below three times `limit`."""

    def __init__(self, limit: int) -> None:
        self.half = max(1, limit // 2)
        self.head: list[str] = []
        self.head_size = 0
        self.tail: deque[str] = deque()
        self.tail_size = 0
        self.dropped = 0

    def add(self, text: str) -> None:
        room = self.half - self.head_size
        if room > 0:
            self.head.append(text[:room])
            self.head_size += len(self.head[-1])
            text = text[room:]
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


class Trickle:
    """Lets `burst` characters through at once, then `rate` a second, and says how many it held back."""

    LEAST = 4_000  # once something was held back, nothing comes in smaller helpings than this
    LAST_WORDS = 2_000  # of what was held back are kept for the end

    def __init__(self, burst: int = CELL_LIMIT_BYTES, rate: int = TRICKLE_BYTES_PER_SECOND) -> None:
        self.burst, self.rate = burst, rate
        self.room = float(burst)
        self.refilled = time.monotonic()
        self.held_back = 0
        self.tail = ""

    def let_through(self, text: str) -> str:
        """The part of `text` that may pass now, with a note before it about what did not."""
        if len(text) > self.room or self.held_back:
            now = time.monotonic()
            self.room = min(float(self.burst), self.room + (now - self.refilled) * self.rate)
            self.refilled = now
        if self.held_back and self.room < self.LEAST:
            self._hold(text)
            return ""
        allowed = text[: int(self.room)]
        if len(allowed) < len(text) and "\n" in allowed:
            allowed = allowed[: allowed.rindex("\n") + 1]
        note = f"\n[... {self.held_back:,} characters of output held back ...]\n" if self.held_back else ""
        self.room -= len(allowed)
        self.held_back, self.tail = 0, ""
        self._hold(text[len(allowed) :])
        return note + allowed

    def _hold(self, text: str) -> None:
        self.held_back += len(text)
        self.tail = (self.tail + text[-self.LAST_WORDS :])[-self.LAST_WORDS :]

    def last_words(self) -> str:
        """The end of what was held back, with a note about the rest; "" when nothing was."""
        gone = self.held_back - len(self.tail)
        text = f"\n[... {gone:,} characters of output held back ...]\n" if gone else ""
        text, self.held_back, self.tail = text + self.tail, 0, ""
        return text
