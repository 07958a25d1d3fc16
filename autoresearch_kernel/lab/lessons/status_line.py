"""The line under a cell that says what a lesson's study does now; in a terminal, nothing."""

from __future__ import annotations

import time
from typing import Any

from ...core.types import Progress
from ...show import html
from ..live_display import is_notebook

PHASES = {
    "starting": "starts",
    "training": "trains",
    "scoring": "is scored",
    "auditing": "is audited",
    "deciding": "is decided",
}
UPDATE_SECONDS = 0.5  # between two updates of the line in one phase


class StatusLine:
    """Shows one line, which is replaced; give its `watch` to `open_session`. Notes of a study are not shown."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._phase: tuple[str, int, int] | None = None
        self._shown_at = 0.0
        self._runs = 0

    def watch(self, progress: Progress) -> None:
        """Say what a run does now."""
        words = PHASES.get(progress.phase)
        if words is None:
            return
        phase = progress.phase, progress.experiment, progress.run
        if phase == self._phase and time.monotonic() - self._shown_at < UPDATE_SECONDS:
            return
        self._runs += progress.phase == "starting"
        self._phase = phase
        who = f"experiment {progress.experiment}" if progress.experiment else "the baseline"
        share = f", {100 * progress.fraction:.0f} %" if progress.fraction else ""
        self.say(f"{who}, run {progress.run + 1}, {words}{share}".capitalize())

    def done(self) -> None:
        """The last words, which stay; nothing where nothing was trained."""
        if self._runs:
            self.say(f"{self._runs} {'run was' if self._runs == 1 else 'runs were'} trained.")

    def say(self, words: str) -> None:
        """Replace the line."""
        self._shown_at = time.monotonic()
        if not is_notebook():
            return
        from IPython.display import display

        style = f"{html.UI_FONT};color:{html.FAINT};font-variant-numeric:tabular-nums"
        bundle = {"text/html": f'<span style="{style}">{html.text(words)}</span>', "text/plain": words}
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)
