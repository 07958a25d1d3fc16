"""The command `autoresearch gpu-check`: shows the rows while they are found, then the table, and writes the file."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Any

from ...core.sanitize import flat
from ..checks import table
from .check import run_check
from .report import Row, document, summary, verdict, write_document


def gpu_check(device: str, out: Path) -> int:
    """Check a device, print what is found and write it to `out`; 1 when a step failed, else 0.

    Raises OSError where `out` cannot be written, before anything is measured.
    """
    with open(out, "a", encoding="utf-8"):  # it says now, and not after eight minutes, that this is no place for a file
        pass
    began, screen = time.monotonic(), _Screen()
    rows: list[Row] = []
    facts: dict[str, Any] = {}
    is_complete = False
    try:
        for row in run_check(device, screen.say, facts):
            rows.append(row)
            screen.show(row)
        is_complete = True
    finally:  # Ctrl-C keeps what was measured
        screen.clear()
        total = time.monotonic() - began
        write_document(out, document(rows, facts, is_complete=is_complete, total_seconds=total))
    print(f"\n{summary(rows)}\nThis took {total:.0f} s. {out} has all of it, to post as it is.")
    return int(verdict(rows) == "fail")


class _Screen:
    """A line for each row, and on a terminal one that says what is being done."""

    def __init__(self) -> None:
        self.is_live = sys.stdout.isatty()
        self._step = ""

    def say(self, words: str) -> None:
        """On a terminal all of it; elsewhere a line at the beginning of a step that takes long."""
        if self.is_live:
            width = shutil.get_terminal_size().columns - 1
            print("\r\033[K" + flat(words)[:width], end="", flush=True)
        elif "trains for" in words and words != self._step:
            self._step = words
            print(f"... {words}", flush=True)

    def show(self, row: Row) -> None:
        self.clear()
        print(table([row.check], is_coloured=self.is_live), flush=True)

    def clear(self) -> None:
        if self.is_live:
            print("\r\033[K", end="", flush=True)
