"""Reads a history that another process is writing: everything at first, and then only new records.

Views may read several times a second. The reader writes nothing and needs no lock. Of a damaged history it gives what
can be trusted, and `damage` says what is left out.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ..core.format import count, in_lines
from ..core.state import Event, HistoryDamaged, StudyState, replay
from .history import decode, is_torn, parse

RESTORE = "This is left out of what is shown. Restore the file from a copy before the study continues."


@dataclass(frozen=True)
class Readable:
    """What views show of a history, also of a damaged one, which nothing continues."""

    events: list[Event]  # whose bytes can be trusted, oldest first; `seq` may have gaps
    damage: str = ""  # what is left out and what to do, in sentences; "" for a whole history


def readable_events(path: str | Path) -> Readable:
    """All records that can be trusted, wherever the damage is. Raises FileNotFoundError."""
    path = Path(path)
    data = path.read_bytes()
    try:
        return Readable(parse(path, data)[0])
    except HistoryDamaged as damage:
        first = str(damage)
    lines = data.split(b"\n")
    has_newline = lines[-1] == b""
    lines = lines[:-1] if has_newline else lines
    events: list[Event] = []
    unread: list[int] = []
    is_windows = bool(lines) and all(line.endswith(b"\r") for line in lines)  # an editor or git rewrote the file
    for number, line in enumerate(lines, 1):
        event, _ = decode(line.removesuffix(b"\r"), None)
        if event is not None and event["seq"] > (events[-1]["seq"] if events else 0):
            events.append(event)
        elif number < len(lines) or not is_torn(line, number, has_newline):
            unread.append(number)
    last = events[-1]["seq"] if events else 0
    missing = last - len(events)
    what = [f"{in_lines(unread)} of {len(lines)} cannot be trusted"] if unread else []
    if missing > len(unread):
        what.append(f"{count(missing, 'record')} of {last} {'is' if missing == 1 else 'are'} missing")
    if is_windows:
        return Readable(events, first)
    return Readable(events, f"{path} is damaged: {' and '.join(what)}. {RESTORE}")


def views_of(readable: Readable) -> tuple[StudyState, str]:
    """The state of a study as far as its history tells it, and what is left out of it."""
    left_out: list[Event] = []
    state = replay(readable.events, left_out)
    if not left_out or readable.damage:
        return state, readable.damage
    misfits = in_lines([event["seq"] for event in left_out])
    return state, f"In history.jsonl {misfits} do not fit what comes before. {RESTORE}"


class HistoryReader:
    """The events of a history, oldest first, as of the last `read`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._forget()

    def _forget(self) -> None:
        self.events: list[Event] = []
        self.damage = ""  # what is left out and what to do; "" for a whole history
        self._changed_at = 0  # of a damaged file, which a user may repair in its place
        self._size = 0  # bytes of the whole lines that were read
        self._inode: int | None = None

    def read(self) -> bool:
        """Read what was added; returns whether anything changed."""
        before = len(self.events)
        try:
            with open(self.path, "rb") as file:
                facts = os.fstat(file.fileno())
                is_mended = bool(self.damage) and facts.st_mtime_ns != self._changed_at
                if facts.st_size < self._size or facts.st_ino != self._inode or is_mended:
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
        found = readable_events(self.path)  # is silent of a last line that a power cut left
        if found.damage:
            self.events, self.damage = found.events, found.damage
            self._size, self._changed_at = facts.st_size, facts.st_mtime_ns
        return len(self.events) != before
