"""The curve of a run, metrics.jsonl, and other files that grow while somebody reads them.

What a training writes is read with care: a line that is no JSON object, or far too long, is left out, and of a point
whatever is no sensible number.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..core.sanitize import parse_object, plain_facts
from ..system.untrusted_files import open_plain_file, read_plain_file

LINE_LIMIT_BYTES = 20_000  # of one point of the curve
CURVE_LIMIT_BYTES = 2_000_000  # of a whole curve; a real one has some 20 kB


class Tail:
    """Reads what is appended to a file that may not exist yet."""

    def __init__(self, path: Path, chunk_bytes: int = 1_000_000) -> None:
        self.path, self.chunk_bytes = path, chunk_bytes
        self.offset = 0
        self.rest = b""

    def read_bytes(self) -> bytes:
        try:
            with open_plain_file(self.path) as file:
                file.seek(self.offset)
                data = file.read(self.chunk_bytes)
        except OSError:  # not there, or nothing that may be read
            return b""
        self.offset += len(data)
        return data

    def read(self) -> str:
        """New text, without half a character at its end."""
        data = self.rest + self.read_bytes()
        cut = len(data)
        for back in range(1, min(4, len(data)) + 1):
            if data[-back] >= 0xC0:  # the first byte of a character of several
                cut = len(data) - back if back < _utf8_length(data[-back]) else cut
                break
            if data[-back] < 0x80:
                break
        self.rest = data[cut:]
        return data[:cut].decode("utf-8", errors="replace")

    def read_lines(self) -> list[bytes]:
        """New complete lines."""
        *lines, self.rest = (self.rest + self.read_bytes()).split(b"\n")
        if len(self.rest) > LINE_LIMIT_BYTES:
            self.rest = self.rest[-1:]
        return lines


def _utf8_length(first: int) -> int:
    return 2 if first < 0xE0 else 3 if first < 0xF0 else 4


def curve_points(lines: list[bytes]) -> list[dict[str, Any]]:
    """Points of a metrics.jsonl. What is no JSON object, as a line that the end of a run cut off, is left out."""
    points = []
    for line in lines:
        if line.strip() and len(line) <= LINE_LIMIT_BYTES:
            point = parse_object(line)
            if point is not None:
                points.append(plain_facts(point))
    return points


def read_curve(path: Path) -> list[dict[str, Any]]:
    """Points of a run's curve so far; none when it left none."""
    try:
        return curve_points(read_plain_file(path, CURVE_LIMIT_BYTES).splitlines())
    except OSError:
        return []


def shorten_curve(path: Path) -> None:
    """Cut a curve that is far too long to its first whole lines, so that it is not kept for ever."""
    with open(os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "r+b", buffering=0) as file:
        if os.fstat(file.fileno()).st_size > CURVE_LIMIT_BYTES:
            file.truncate((file.read(CURVE_LIMIT_BYTES) or b"").rfind(b"\n") + 1)
