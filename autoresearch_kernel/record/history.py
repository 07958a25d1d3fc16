"""The history of a study: append-only events, from which everything else can be rebuilt.

It has one JSON object a line, each with a CRC-32 of its own text, written by a single write and an fsync. When `append`
returns, the record survives a power cut; when it raises, the file is as it was before. No record is ever edited.

Reading never changes the file. A last line that was cut off is ignored, because no caller was told that it was written.
Damage anywhere before it is an error.

    BlockingIOError
      StudyInUse        another process writes it (`files.py`)
    ValueError
      HistoryDamaged    a record that cannot be trusted (`state.py`)
    RuntimeError
      StudyError        the study was removed or moved while it was open for writing (`study.py`)
"""

from __future__ import annotations

import json
import os
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..core.sanitize import all_readable
from ..core.state import Event, HistoryDamaged, StudyState, replay
from ..system.files import (
    ensure_folder,
    sync,
    sync_folder,
    take_lock,
    truncate,
    utc_now,
    write,
)
from .study import StudyError

CRC_MARK = b', "crc": "'
CRC_FIELD_LENGTH = len(CRC_MARK) + 8 + len(b'"}')  # the CRC is always the last field
PARSE = json.JSONDecoder().raw_decode  # json.loads without its checks of encoding and trailing text
RESERVED = ("seq", "time", "event", "crc")
LOOK_EVERY_SECONDS = 1.0  # whether the file is still in its place, while nothing is written
TEXTS = {"reason", "text", "ended", "why"}  # fields with what a program or a person said


# --- writing


class History:
    """A history that is open for its only writer.

    with History.open(paths.history) as history:
        history.append("note", text="hello")
    """

    def __init__(
        self, path: Path, fd: int, lock_fd: int, clock: Callable[[], str], clean: Callable[[str], str] = str
    ) -> None:
        """Take over both descriptors. Call `open` instead, which has the lock."""
        self.path = path
        self.trimmed_bytes = 0  # of an incomplete last line that was cut off
        self._fd, self._lock_fd = fd, lock_fd
        self._clock, self._clean = clock, clean
        data = _read_all(fd)
        self._events, whole = parse(path, data)
        self._size = self._mend_tail(data, whole)  # bytes of the file, all of them whole records
        self._one_at_a_time = threading.Lock()
        self._looked_at = time.monotonic()

    @classmethod
    def open(
        cls, path: str | Path, *, lock: Path | None = None, clock: Callable[[], str] = utc_now,
        clean: Callable[[str], str] = str,
    ) -> History:  # fmt: skip
        """Take the lock, read the records, cut off an incomplete last line; create the file when there is none.

        Args:
            lock: file to lock, by default `lock` beside the history. It is not removed when the history is closed.
            clean: applied to each text that is recorded, so that it tells nothing about the user.

        Raises StudyInUse when another process writes the history, HistoryDamaged when a line cannot be trusted.
        """
        path = Path(path)
        ensure_folder(path.parent)
        lock_fd = take_lock(lock or path.with_name("lock"))
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            try:
                sync_folder(path.parent)
                return cls(path, fd, lock_fd, clock, clean)
            except BaseException:
                os.close(fd)
                raise
        except BaseException:
            os.close(lock_fd)
            raise

    def __enter__(self) -> History:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the lock. A second call does nothing."""
        for fd in (self._fd, self._lock_fd):
            if fd >= 0:
                os.close(fd)
        self._fd = self._lock_fd = -1

    @property
    def events(self) -> Sequence[Event]:
        """All records so far, oldest first, as a reader of the file gets them."""
        return tuple(self._events)

    def append(self, event: str, /, **fields: Any) -> Event:
        """Write one record durably and return it as a reader gets it.

        Texts lose their control characters, so that nothing that shows a record shows any. Paths become text, numpy
        scalars numbers, and NaN or infinity null, because JSON has neither. Raises OSError when the disk is full or
        fails; the file is then as it was before, and the same record may be tried again.
        Raises ValueError for a closed history or a reserved field name, StudyError when the study was removed.
        """
        taken = [name for name in RESERVED if name in fields]
        if taken:
            raise ValueError(f"The history writes {', '.join(taken)} itself; give the field of {event!r} another name.")
        with self._one_at_a_time:
            self._check_ready()
            if event != "study_started":  # whose facts are those of study.json
                fields = all_readable(fields)
            fields |= {name: self._clean(fields[name]) for name in TEXTS & set(fields) if isinstance(fields[name], str)}
            record = {"seq": len(self._events) + 1, "time": self._clock(), "event": event, **fields}
            line, record = _encode(record)
            size, count = self._size, len(self._events)
            try:
                write(self._fd, line)
                sync(self._fd)
                self._size += len(line)
                self._events.append(record)
            except BaseException:  # also after an interrupt: a record that was not acknowledged is removed
                self._size = size
                del self._events[count:]
                truncate(self._fd, size)
                raise
            return record

    @property
    def is_in_place(self) -> bool:
        """Whether its name still leads to the file that this history writes; it may be another study's by now."""
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(self._fd))
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:  # a drive that does not answer at this moment, which says nothing about the study
            return True

    def check_in_place(self) -> None:
        """Raises StudyError when the study was removed or moved, as nothing in its folder is this process's then."""
        self._looked_at = time.monotonic()
        if not self.is_in_place:
            raise StudyError(
                f"{self.path.parent} was removed or moved while this process ran the study, so it ends here and "
                "records nothing more."
            )

    def look(self) -> None:
        """As `check_in_place`, once a second at most, for whoever waits."""
        if time.monotonic() - self._looked_at >= LOOK_EVERY_SECONDS:
            self.check_in_place()

    def _check_ready(self) -> None:
        if self._fd < 0:
            raise ValueError(f"{self.path} is closed. Open it again with History.open to write to it.")
        self.check_in_place()
        actual = os.fstat(self._fd).st_size
        if actual != self._size:
            raise HistoryDamaged(
                f"{self.path} has {actual} bytes where {self._size} were written: something else changed it, or a "
                "failed write could not be taken back. Stop whatever writes to it and open the study again."
            )

    def _mend_tail(self, data: bytes, whole: int) -> int:
        """Cut off an incomplete last record, or add a missing newline; returns the size of the file."""
        if whole < len(data):
            self.trimmed_bytes = len(data) - whole
            truncate(self._fd, whole)
        elif data and not data.endswith(b"\n"):
            write(self._fd, b"\n")
            sync(self._fd)
            return whole + 1
        return whole


def _encode(record: Event) -> tuple[bytes, Event]:
    """The line of a record, and the record as a reader gets it."""
    text = json.dumps(record, ensure_ascii=False, default=_plain)
    record = json.loads(text, parse_constant=lambda name: None)
    text = json.dumps(record, ensure_ascii=False, allow_nan=False)
    try:
        body = text.encode()
    except UnicodeEncodeError:  # a model's reply may contain half of a surrogate pair
        body = json.dumps(record, allow_nan=False).encode()
    return body[:-1] + CRC_MARK + b"%08x" % zlib.crc32(body) + b'"}\n', record


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if callable(getattr(value, "item", None)):  # numpy and torch scalars
        return value.item()
    raise TypeError(f"{type(value).__name__} {value!r} cannot be written to the history as JSON.")


# --- reading


def read_events(path: str | Path) -> list[Event]:
    """All complete records, oldest first; another process may be writing. The file is never changed.

    Raises FileNotFoundError, or HistoryDamaged when a line before the last cannot be trusted.
    """
    path = Path(path)
    events, _ = parse(path, path.read_bytes())
    return events


def events_so_far(path: str | Path) -> list[Event]:
    """As `read_events`; no records when the file does not exist."""
    return read_events(path) if Path(path).is_file() else []


def read_state(path: str | Path) -> StudyState:
    """The state of the study after all records of a history."""
    return replay(events_so_far(path))


def _read_all(fd: int) -> bytes:
    with os.fdopen(os.dup(fd), "rb") as file:
        file.seek(0)
        return file.read()


def parse(path: Path, data: bytes) -> tuple[list[Event], int]:
    """The records in `data`, and the number of bytes they take: not all when the last line is incomplete."""
    lines = data.split(b"\n")
    has_newline = lines[-1] == b""
    if has_newline:
        lines.pop()
    events: list[Event] = []
    for number, line in enumerate(lines, 1):
        event, problem = decode(line, number)
        if event is not None:
            events.append(event)
        elif number == len(lines) and is_torn(line, number, has_newline):
            return events, len(data) - len(line) - has_newline
        elif number == 1 and line.endswith(b"\r"):
            raise HistoryDamaged(
                f"{path} has the line ends of Windows (CRLF), which an editor or git gave it. Turn them back to LF: "
                f"sed -i 's/\\r$//' {path.name}"
            )
        else:
            raise HistoryDamaged(
                f"{path}, line {number} of {len(lines)}: {problem}. Restore the file from a copy; without one, move it "
                f"away and keep what came before the damage: head -n {number - 1} MOVED > {path.name}"
            )
    return events, len(data)


def is_torn(line: bytes, number: int, has_newline: bool) -> bool:
    """Whether an invalid last line is an interrupted write, and not a complete record that was damaged later.

    An interrupted write has no newline, unless a power cut left NUL bytes in a block that was never written.
    """
    if has_newline:
        return line.startswith(b"\0") or bytes(16) in line
    return decode(line[:-1], number)[0] is None  # else only its newline is damaged


def decode(line: bytes, number: int | None) -> tuple[Event | None, str]:
    """Line `number` of a history, counted from 1: the record without its CRC, or None and what is wrong with it.

    Where `number` is None, the record may be any.
    """
    body, field = line[:-CRC_FIELD_LENGTH], line[-CRC_FIELD_LENGTH:]
    if not field.startswith(CRC_MARK):
        return None, "it has no CRC, so it is not a whole record"
    if field[len(CRC_MARK) :] != b'%08x"}' % zlib.crc32(b"}", zlib.crc32(body)):
        return None, "its CRC does not fit its text, so the record was changed"
    try:
        event, _ = PARSE(body.decode() + "}")
        if not (isinstance(event["event"], str) and isinstance(event["time"], str) and isinstance(event["seq"], int)):
            return None, "its CRC fits, but it is not a record of this program"
        if number is not None and event["seq"] != number:
            return None, f"it is record {event['seq']} where {number} should be: a line is missing, doubled or moved"
    except (ValueError, KeyError, TypeError, RecursionError):
        return None, "its CRC fits, but it is not a record of this program"
    return event, ""
