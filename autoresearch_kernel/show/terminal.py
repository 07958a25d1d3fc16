"""A study as a terminal shows it while it runs: a line for each event, and one that is rewritten."""

from __future__ import annotations

import shutil
import sys
import time

from ..core.format import plain
from ..core.sanitize import readable
from ..core.types import Progress
from ..system.disk import is_full
from .words import bar, training_words


class Screen:
    """A line for each event, and on a terminal one live line below them."""

    def __init__(self) -> None:
        self.live = sys.stdout.isatty()
        self.shown = 0.0
        self.last: object = None  # what `_tell_once` told

    def line(self, text: str) -> None:
        self.clear()
        try:
            print(readable(text), flush=True)
        except OSError as error:
            if not is_full(error):  # the log of a study in the background; the history has it all
                raise

    def clear(self) -> None:
        if self.live:
            print("\r\033[K", end="", flush=True)

    def watch(self, progress: Progress) -> None:
        if progress.phase == "note":
            self.line(progress.text)
        elif progress.phase == "quiet" and not self.live:
            self._tell_once(("quiet", progress.experiment), progress.text)
        elif progress.phase == "reviewing" or (progress.phase == "paused" and not self.live):
            self._tell_once(progress.text, progress.text)
        elif not self.live:
            self._tell_start(progress)
        elif progress.phase in ("paused", "quiet"):
            print("\r\033[K" + plain(progress.text)[: shutil.get_terminal_size().columns - 1], end="", flush=True)
        elif progress.fraction == 0 or time.monotonic() - self.shown > 0.2:
            self.shown = time.monotonic()
            width = shutil.get_terminal_size().columns - 1
            print("\r\033[K" + _live_line(progress)[:width], end="", flush=True)

    def _tell_start(self, progress: Progress) -> None:
        """Piped: one line when a run starts, nothing while it goes on."""
        if progress.phase == "starting":
            words = f"{progress.experiment:04d}   training, run {progress.run + 1}: {plain(progress.hypothesis)}"
            self._tell_once((progress.experiment, progress.run), words)

    def _tell_once(self, key: object, text: str) -> None:
        if key != self.last:
            self.last = key
            self.line(text)


def _live_line(progress: Progress) -> str:
    run = f" run {progress.run + 1}" if progress.run else ""
    doing = f"{progress.experiment:04d} {progress.phase} {bar(progress.fraction)}{run}"
    return " · ".join(filter(None, (doing, training_words(progress.metrics), plain(progress.hypothesis))))
