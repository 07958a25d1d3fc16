"""A study as a terminal shows it while it runs: a line for each event, and one that is rewritten."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Sequence

from ..core.format import plain
from ..core.sanitize import readable
from ..core.types import Progress
from ..system.disk import is_full
from .status import cut, writing_lines
from .words import bar, training_words

WITHOUT_RUN = ("writing", "note", "quiet", "reviewing", "paused")  # phases that tell nothing of a run
MOST_WRITTEN = 4  # lines with what the agent writes, the heading among them


class Screen:
    """A line for each event, and on a terminal a live line below them, with what the agent writes under it.

    It ends no study: what a full disk does not take is in the history, and a terminal that was closed is told no more.
    """

    def __init__(self) -> None:
        self.live = sys.stdout.isatty()
        self.is_gone = False  # the terminal was closed
        self.height = 1  # of what is rewritten, in lines
        self.shown = 0.0
        self.last: object = None  # what `_tell_once` told
        self.head = ""  # the live line
        self.writes = ""  # the last lines of what the agent writes, below it
        self.lock = threading.RLock()  # several slots tell of what they do
        self.slots: dict[str, str] = {}  # the live line of each slot, where there is more than one

    def line(self, text: str) -> None:
        with self.lock:
            self.clear()
            self._print(f"{readable(text)}\n")

    def clear(self) -> None:
        if self.live:
            self._print(self._to_start())

    def _print(self, text: str) -> None:
        self.is_gone = self.is_gone or not _is_printed(text)

    def _to_start(self) -> str:
        """What takes the cursor to the first of the lines that are rewritten, and empties them."""
        above, self.height = self.height - 1, 1
        return f"\r\033[{above}A\033[J" if above else "\r\033[K"

    def _draw(self, lines: Sequence[str]) -> None:
        width = shutil.get_terminal_size().columns - 1
        start, self.height = self._to_start(), len(lines)
        self._print(start + "\n".join(cut(line, width) for line in lines))

    def _draw_head(self, head: str, writes: str = "") -> None:
        """Draw the live line, and below it what the agent writes: as `writes` says, else as it was told last."""
        self.head = head
        width = shutil.get_terminal_size().columns - 1
        self._draw([head, *writing_lines(writes or self.writes, width, MOST_WRITTEN)])

    def watch(self, progress: Progress) -> None:
        with self.lock:
            self._watch(progress)

    def _watch(self, progress: Progress) -> None:
        if progress.slot and progress.phase not in WITHOUT_RUN:
            is_known = progress.phase == "training" or progress.fraction > 0
            doing = f"{progress.experiment:04d} {progress.phase}" + (f" {progress.fraction:.0%}" if is_known else "")
            self.slots[progress.slot] = doing if progress.phase else "waits"
        if progress.phase == "writing":
            self.writes = progress.writes
            if self.live and self.head:
                self._draw_head(self.head)
        elif progress.phase == "note":
            self.line(progress.text)
        elif progress.phase == "quiet" and not self.live:
            self._tell_once(("quiet", progress.experiment), progress.text)
        elif progress.phase == "reviewing" or (progress.phase == "paused" and not self.live):
            self._tell_once(progress.text, progress.text)
        elif not self.live:
            self._tell_start(progress)
        elif progress.phase in ("paused", "quiet"):
            self._draw_head(plain(progress.text))
        elif progress.fraction == 0 or time.monotonic() - self.shown > 0.2:
            self.shown = time.monotonic()
            self._draw_head(self._live_line(progress), progress.writes)

    def _live_line(self, progress: Progress) -> str:
        """What is done now; of several slots what each does, in short."""
        if not progress.slot:
            return _live_line(progress)
        return " · ".join(f"{name}: {doing}" for name, doing in sorted(self.slots.items()))

    def _tell_start(self, progress: Progress) -> None:
        """Piped: one line when a run starts, nothing while it goes on."""
        if progress.phase == "starting":
            words = f"{progress.experiment:04d}   training, run {progress.run + 1}: {plain(progress.hypothesis)}"
            self._tell_once((progress.experiment, progress.run), words)

    def _tell_once(self, key: object, text: str) -> None:
        if key != self.last:
            self.last = key
            self.line(text)


def say(text: object) -> None:
    """Print a line; neither a full disk nor a terminal that was closed ends the program."""
    _is_printed(f"{text}\n")


def _is_printed(text: str) -> bool:
    """Print; whether the terminal is still there. A reader that has gone, as of `attach | head -1`, is an error."""
    try:
        print(text, end="", flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        return is_full(error)  # as the log of a study in the background is written on a full disk
    return True


def _live_line(progress: Progress) -> str:
    run = f" run {progress.run + 1}" if progress.run else ""
    doing = f"{progress.experiment:04d} {progress.phase} {bar(progress.fraction)}{run}"
    return " · ".join(filter(None, (doing, training_words(progress.metrics), plain(progress.hypothesis))))
