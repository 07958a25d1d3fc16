"""The display that a cell updates while a training runs; in a terminal, a line.

Drawing takes time from a training on the same machine, so it gets a small share of the time.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..core.format import duration, plain
from ..core.types import Progress
from ..show import html
from ..show.words import bar, curve_words, training_words
from .results import CURVE_WIDTH, says_no_more

UPDATE_SECONDS = 1.5  # between two updates of the display
DRAWING_SHARE = 0.04  # of the time since the training began that may go into pictures
MOST_NOTES = 5

Curve = Sequence[Mapping[str, Any]]
Beside = Callable[[Progress], tuple[str, Curve | None, str]]  # title of a run, the curve to compare it with, its name


class LiveDisplay:
    """Watches one step; give its `watch` to `open_session`."""

    def __init__(self, budget_seconds: float, beside: Beside) -> None:
        self.budget_seconds, self.beside = budget_seconds, beside
        self.has_curve = False  # a curve was drawn here
        self._heading = self._label = ""
        self._other: Curve | None = None
        self._hypothesis = self._line = ""
        self._fraction = 0.0
        self._points: list[Mapping[str, Any]] = []
        self._notes: list[str] = []
        self._picture = ""  # HTML
        self._drawing_seconds = 0.0
        self._began = self._updated_at = self._drawn_at = time.monotonic()
        self._handle: Any = None
        self._said = ""
        self._is_shown = False
        self._slot = ""  # that is shown, of several

    def watch(self, progress: Progress) -> None:
        """Take in what happens; see `Progress`. Of several slots the first one that begins is shown."""
        if progress.slot and progress.phase not in ("note", "paused", ""):
            self._slot = self._slot or progress.slot
            if progress.slot != self._slot:
                return
        match progress.phase:
            case "starting":
                self._start(progress)
            case "training":
                self._train(progress)
            case "scoring" | "auditing":
                is_done = progress.fraction == 1.0
                words = {"scoring": ("scoring on held-out text", "scored"), "auditing": ("auditing", "audited")}
                self._line = words[progress.phase][is_done]
                self._fraction = 0.0 if is_done else progress.fraction
                if progress.fraction == 0.0 and self._points and is_notebook():
                    self._draw()  # to its end
                self._update(is_new=progress.fraction in (0.0, 1.0))
            case "note" | "paused":
                self._notes.append(plain(progress.text))
                self._update(is_new=True)
            case "quiet":
                self.say(progress.text)
            case other if other not in ("proposing", "writing"):  # what is proposed lies there already
                self.say(other)

    def say(self, line: str) -> None:
        """What goes on now, in a few words."""
        self._line = line
        self._update(is_new=True)

    def done(self, line: str, heading: str = "") -> None:
        """The last words, which stay under the cell with the whole curve; nothing when nothing was shown before."""
        if not self._is_shown:
            return
        self._line, self._fraction, self._heading = line, 0.0, heading or self._heading
        if self._points and is_notebook():
            self._draw()
        self._update(is_new=True, is_last=True)

    def _start(self, progress: Progress) -> None:
        self._heading, self._other, self._label = self.beside(progress)
        self._hypothesis = plain(progress.hypothesis)
        self._points, self._picture, self._fraction = [], "", 0.0
        self._began, self._drawing_seconds = time.monotonic(), 0.0
        self.say("starting")

    def _train(self, progress: Progress) -> None:
        self._points.append(progress.metrics)
        self._fraction = progress.fraction
        left = max(0.0, self.budget_seconds * (1 - progress.fraction))
        self._line = " · ".join(filter(None, (f"{duration(left)} left", training_words(progress.metrics))))
        self._update(is_new=False)

    def _update(self, is_new: bool, is_last: bool = False) -> None:
        now = time.monotonic()
        if not is_new and now - self._updated_at < UPDATE_SECONDS:
            return
        if not is_notebook():
            self._print(is_last)
        else:
            is_cheap = self._drawing_seconds <= DRAWING_SHARE * (now - self._began)
            if self._points and is_cheap and now - self._drawn_at >= UPDATE_SECONDS and not is_last:
                self._draw()
            self._display()
        self._updated_at, self._is_shown = time.monotonic(), True

    def _draw(self) -> None:
        from ..show.plot_curve import curve_png

        began = time.monotonic()
        png = curve_png(self._points, self._other, label="this run", incumbent_label=self._label)
        self._picture = f"<div>{html.picture(png, curve_words([*map(dict, self._points)]), width=CURVE_WIDTH)}</div>"
        self.has_curve = True
        self._drawn_at = time.monotonic()
        self._drawing_seconds += self._drawn_at - began

    def _display(self) -> None:
        from IPython.display import display

        bundle = {"text/html": self._html(), "text/plain": self._text()}
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)

    def _html(self) -> str:
        head = f"<b>{html.text(self._heading)}</b> " if self._heading else ""
        words = "" if says_no_more(self._hypothesis, self._heading) else self._hypothesis
        done = html.progress_bar(self._fraction, "progress") if self._fraction else ""
        line = f'<span style="font-variant-numeric:tabular-nums">{html.text(self._line)}</span>'
        notes = "".join(html.paragraph(note, is_faint=True) for note in self._notes[-MOST_NOTES:])
        return (
            f'<div style="{html.UI_FONT};color:{html.INK};line-height:1.5">{head}{done}{line}'
            f"{html.paragraph(words, is_faint=True) if words else ''}{self._picture}{notes}</div>"
        )

    def _text(self) -> str:
        heading = f"{self._heading} · " if self._heading else ""
        return f"{heading}{bar(self._fraction) + ' ' if self._fraction else ''}{self._line}"

    def _print(self, is_last: bool) -> None:
        for note in self._notes:
            print(note)
        self._notes.clear()
        text = self._text()
        if sys.stdout.isatty():
            print(f"\r\033[K{text}", end="\n" if is_last else "", flush=True)
        elif (is_last or self._line == "starting") and text != self._said:
            print(text, flush=True)
            self._said = text


def is_notebook() -> bool:
    """Whether a notebook shows what is displayed. IPython is there already when one does."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")
