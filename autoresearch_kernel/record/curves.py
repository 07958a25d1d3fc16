"""The curve of a run, metrics.jsonl, and other files that another process appends to.

A training writes its curve, so the content is not trusted: lines that are no JSON object or far too long are left out,
and so are values that are no sensible numbers.
"""

from __future__ import annotations

import codecs
import os
from pathlib import Path
from typing import Any

from ..core.sanitize import parse_object, plain_facts
from ..system.untrusted_files import open_plain_file, read_plain_file

LINE_LIMIT_BYTES = 20_000  # of one point of the curve
CURVE_LIMIT_BYTES = 2_000_000  # of a whole curve, which normally has about 20 kB


class Tail:
    """Reads what is appended to a file, which need not exist yet."""

    def __init__(self, path: Path, chunk_bytes: int = 1_000_000) -> None:
        self.path, self.chunk_bytes = path, chunk_bytes
        self.offset = 0
        self.rest = b""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def read_bytes(self) -> bytes:
        try:
            with open_plain_file(self.path) as file:
                file.seek(self.offset)
                data = file.read(self.chunk_bytes)
        except OSError:  # it is missing, or it is no plain file
            return b""
        self.offset += len(data)
        return data

    def read(self) -> str:
        """New text, without an incomplete character at its end."""
        return self._decoder.decode(self.read_bytes())

    def read_lines(self) -> list[bytes]:
        """New complete lines."""
        *lines, self.rest = (self.rest + self.read_bytes()).split(b"\n")
        if len(self.rest) > LINE_LIMIT_BYTES:
            self.rest = self.rest[-1:]
        return lines


def curve_points(lines: list[bytes]) -> list[dict[str, Any]]:
    """The points in lines of a metrics.jsonl, without lines that are no JSON object, as an incomplete last one."""
    points = []
    for line in lines:
        if line.strip() and len(line) <= LINE_LIMIT_BYTES:
            point = parse_object(line)
            if point is not None:
                points.append(plain_facts(point))
    return points


def read_curve(path: Path) -> list[dict[str, Any]]:
    """The points of a run's curve so far; none when the file is missing."""
    try:
        return curve_points(read_plain_file(path, CURVE_LIMIT_BYTES).splitlines())
    except OSError:
        return []


def shorten_curve(path: Path) -> None:
    """Cut a curve that is far too long after its first complete lines, so that the study does not keep all of it."""
    with open(os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "r+b", buffering=0) as file:
        if os.fstat(file.fileno()).st_size > CURVE_LIMIT_BYTES:
            file.truncate((file.read(CURVE_LIMIT_BYTES) or b"").rfind(b"\n") + 1)
