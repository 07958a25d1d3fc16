"""The chain of a bundle's history: each line has a hash of its own text and of all lines before it. Pure.

A line is `{"seq": 1, ..., "chain": "64 digits", "crc": "8 digits"}`. Its chain is the SHA-256 of the chain of the line
before, as text (nothing for the first line), followed by the line's JSON text without `chain` and `crc`. The CRC is
that of a study's own history (`record/history.py`), so each line can be read as one of those.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

CHAIN_MARK = ', "chain": "'
CRC_MARK = ', "crc": "'
CHAIN_LENGTH = len(CHAIN_MARK) + 64 + 1  # of the field, without the brace
CRC_LENGTH = len(CRC_MARK) + 8 + 1


@dataclass(frozen=True)
class BrokenLine:
    """A line that does not continue the chain."""

    number: int  # from 1
    problem: str  # "its ... "; for a sentence that begins with the line


def chained(lines: Iterable[str]) -> list[str]:
    """The lines of a bundle's history, without line ends.

    Args:
        lines: JSON texts of the events, oldest first; a `chain` and a `crc` at the end of one are made anew.
    """
    found, chain = [], ""
    for line in lines:
        body = bare(line)
        chain = link(chain, body)
        text = f'{body[:-1]}{CHAIN_MARK}{chain}"}}'
        found.append(f'{text[:-1]}{CRC_MARK}{zlib.crc32(text.encode()):08x}"}}')
    return found


def check(lines: Sequence[str]) -> list[BrokenLine]:
    """The lines whose text is not what their chain and CRC were made of.

    A line that was changed is named alone: the next one is compared with the chain that this line states. A line that
    is missing, doubled or moved breaks the chain of the line after it.
    """
    broken, before = [], ""
    for number, line in enumerate(lines, 1):
        if problem := _problem(line, before):
            broken.append(BrokenLine(number, problem))
        before = stated(line)
    return broken


def head(lines: Sequence[str]) -> str:
    """The chain of the last line, which stands for all of them; "" without any."""
    return stated(lines[-1]) if lines else ""


def link(before: str, body: str) -> str:
    """The chain of a line with the text `body` after a line with the chain `before`."""
    return hashlib.sha256((before + body).encode()).hexdigest()


def bare(line: str) -> str:
    """The JSON text of a line without its `chain` and `crc`."""
    if line[-CRC_LENGTH - 1 :].startswith(CRC_MARK):
        line = line[: -CRC_LENGTH - 1] + "}"
    if line[-CHAIN_LENGTH - 1 :].startswith(CHAIN_MARK):
        line = line[: -CHAIN_LENGTH - 1] + "}"
    return line


def stated(line: str) -> str:
    """The chain that a line carries; "" when it has none."""
    text = _without_crc(line)
    field = text[-CHAIN_LENGTH - 1 :]
    return field[len(CHAIN_MARK) : -2] if field.startswith(CHAIN_MARK) else ""


def _without_crc(line: str) -> str:
    return line[: -CRC_LENGTH - 1] + "}" if line[-CRC_LENGTH - 1 :].startswith(CRC_MARK) else line


def _problem(line: str, before: str) -> str:
    text, chain = _without_crc(line), stated(line)
    if text == line or not chain:
        return "it has no chain or no CRC, so it is not a whole record"
    if line[-10:-2] != f"{zlib.crc32(text.encode()):08x}":
        return "its CRC does not fit its text, so the record was changed"
    if link(before, bare(line)) != chain:
        return "its chain does not fit its text and the line before it"
    return ""
