"""Reads a history that another process is writing: everything at first, and then only new records.

Views may read several times a second. The reader writes nothing and needs no lock.
"""

from __future__ import annotations

import os
from pathlib import Path

from ..core.state import Event
from .history import decode, read_events


class HistoryReader:
    """The events of a history, oldest first, as of the last `read`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._forget()

    def _forget(self) -> None:
        self.events: list[Event] = []
        self._size = 0  # bytes of the whole lines that were read
        self._inode: int | None = None

    def read(self) -> bool:
        """Read what was added; returns whether anything changed. Raises HistoryDamaged."""
        before = len(self.events)
        try:
            with open(self.path, "rb") as file:
                facts = os.fstat(file.fileno())
                if facts.st_size < self._size or facts.st_ino != self._inode:
                    self._forget()
                    self._inode, before = facts.st_ino, -1
                file.seek(self._size)
                lines = file.read().split(b"\n")[:-1]  # what has no newline yet is not whole
        except FileNotFoundError:
            self._forget()
            return before > 0
        is_first = self._size == 0
        for line in lines:
            event, _ = decode(line, len(self.events) + 1)
            if event is None:
                break
            self.events.append(event)
            self._size += len(line) + 1
        else:
            return len(self.events) != before
        if not is_first:  # a record that we saw was taken back and another one written
            self._forget()
            return self.read()
        read_events(self.path)  # says what is damaged; is silent of a last line that a power cut left
        return len(self.events) != before
