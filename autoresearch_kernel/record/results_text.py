"""The text of a table of results, and the cells of its lines, as programs and people leave them."""

from __future__ import annotations

import csv
import re
from pathlib import Path

from ..core.format import in_lines
from ..core.sanitize import without_escapes
from ..source.encoding import unicode_mark

MOST_BYTES = 50_000_000  # of a table; the original's has about 100 bytes a row

TABS, TYPED_TABS, BARS, COMMAS, SEMICOLONS = "tabs", r"a typed \t", "bars", "commas", "semicolons"
TWO_SPACES, SPACES = "two or more spaces", "single spaces"
SEPARATORS = (TABS, TYPED_TABS, BARS, COMMAS, SEMICOLONS, TWO_SPACES, SPACES)
_QUOTED = {TABS: "\t", COMMAS: ",", SEMICOLONS: ";"}
_JOINTS = {TABS: " ", TYPED_TABS: " ", BARS: " | ", COMMAS: ", ", SEMICOLONS: "; ", TWO_SPACES: " ", SPACES: " "}


def decode(data: bytes) -> tuple[list[str], list[str]]:
    """The lines of a file, and a sentence for each liberty that was taken in reading them."""
    text, notes = _decode(data)
    text = without_escapes(text).replace("\r\n", "\n")  # a table copied from a terminal has its colours
    lines = (text if "\n" in text else text.replace("\r", "\n")).split("\n")
    if numbers := [number for number, line in enumerate(lines, 1) if "\0" in line]:
        notes.append(f"NUL characters were taken out of {in_lines(numbers)}.")
    return [line.replace("\0", "") for line in lines], notes


def _decode(data: bytes) -> tuple[str, list[str]]:
    encoding, mark = unicode_mark(data)
    if mark:
        return data[mark:].decode(encoding, "replace"), []
    for first, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):  # every other byte is 0, and there is no mark
        if data[first::2].count(0) > len(data) // 4:
            return data.decode(encoding, "replace"), []
    try:
        return data.decode("utf-8"), []
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace"), ["The file is not UTF-8 and was read as Windows-1252."]


def split(line: str, separator: str) -> list[str]:
    """The cells of a line, each on one line and without blanks at its ends."""
    return [" ".join(cell.split()) for cell in _split(line, separator)]


def _split(line: str, separator: str) -> list[str]:
    if separator == BARS:
        inner = re.sub("[│┃]", "|", line.strip()).removeprefix("|").removesuffix("|")
        return [cell.replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", inner)]
    if separator == TYPED_TABS:
        return line.split(r"\t")
    if separator in (TWO_SPACES, SPACES):
        return re.split(r"\s{2,}" if separator == TWO_SPACES else r"\s+", line.strip())
    sign = _QUOTED[separator]
    if '"' in line and line.count('"') % 2 == 0:
        try:
            return next(csv.reader([line], delimiter=sign), [])
        except csv.Error:  # a cell that is longer than the module allows
            return line.split(sign)
    return line.split(sign)


def merged(cells: list[str], num_columns: int, description: int | None, separator: str) -> list[str]:
    """The cells, with those that a description was cut into put together again."""
    extra = len(cells) - num_columns
    if extra <= 0 or description is None:
        return cells
    words = _JOINTS[separator].join(filter(None, cells[description : description + extra + 1]))
    return [*cells[:description], words, *cells[description + extra + 1 :]]


def read_bytes(path: Path) -> bytes:
    """At most MOST_BYTES + 1 bytes of a file. Raises OSError."""
    with open(path, "rb") as file:
        return file.read(MOST_BYTES + 1)
