"""The parts that the panel is built of: its drawings in the browser (`panel.js`), its buttons, its folds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets as widgets
from traitlets import Int, Unicode

HERE = Path(__file__).parent
FOLLOW = -1  # nothing is selected: the card shows what runs


class Drawing(anywidget.AnyWidget):
    """One of the drawings of `panel.js`."""

    _esm = HERE / "panel.js"
    _css = HERE / "panel.css"
    kind = Unicode("history").tag(sync=True)  # "history", "curve", "table", or "spoken": a line of HTML
    data = Unicode("null").tag(sync=True)  # JSON: as a string it goes through a widget untouched, ten times as fast
    selected = Int(FOLLOW).tag(sync=True)  # number of an experiment
    beat = Int(0).tag(sync=True)  # counts up while the kernel lives: without it the browser says that it does not

    def draw(self, numbers: dict[str, Any]) -> None:
        self.numbers = numbers
        self.data = json.dumps(numbers, allow_nan=False)


def button(words: str, does: str, style: str = "") -> widgets.Button:
    return widgets.Button(
        description=words, tooltip=does, button_style=style, layout=widgets.Layout(width="auto", height="28px")
    )


def fold(words: str) -> widgets.ToggleButton:
    return widgets.ToggleButton(description=f"▸ {words}", layout=widgets.Layout(width="auto", height="28px"))
