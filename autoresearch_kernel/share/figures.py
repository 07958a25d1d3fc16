"""The figures of a bundle's page that the check recomputes from the history. Pure.

The page marks each with `data-figure="NAME"`; the element's whole text is the figure, as in
`<b data-figure="kept">7</b>`. Both checks, in Python and in verify.js, read the text as a number and compare it with the
value to as many decimals as the text has.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser

from ..core.format import MINUS
from ..core.state import StudyState
from ..core.types import Status

Value = float | int | None

FIGURES: dict[str, Callable[[StudyState], Value]] = {
    "experiments": lambda state: sum(e.number > 0 for e in state.decided),  # without the baseline
    "kept": lambda state: sum(e.number > 0 and e.status is Status.KEEP for e in state.decided),
    "champion": lambda state: state.incumbent.number if state.incumbent else None,
    "baseline-bpb": lambda state: state.experiments[0].val_bpb if state.experiments else None,
    "champion-bpb": lambda state: state.incumbent.val_bpb if state.incumbent else None,
    "result-difference": lambda state: state.result.test_difference if state.result else None,
    "result-error": lambda state: state.result.test_standard_error if state.result else None,
    "result-baseline-bpb": lambda state: state.result.baseline_test_bpb if state.result else None,
    "result-champion-bpb": lambda state: state.result.champion_test_bpb if state.result else None,
}


def number_in(text: str) -> tuple[float, int] | None:
    """The number that a figure's text says, and its decimals; None for a text that is no number."""
    plain = text.strip().replace(MINUS, "-")
    if not re.fullmatch(r"[+-]?\d+(\.\d+)?", plain, flags=re.ASCII):
        return None
    return float(plain), len(plain.partition(".")[2])


def fits(text: str, value: Value) -> bool:
    """Whether a figure's text says this value, as far as its decimals go."""
    said = number_in(text)
    return said is not None and value is not None and abs(said[0] - value) <= 0.5 * 10.0 ** -said[1] + 1e-9


class Figures(HTMLParser):
    """Reads the figures of a page: `found` has name and text of each."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self._tag = ""  # of the figure that is being read; "" outside of one

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        name = dict(attributes).get("data-figure")
        if name is not None:
            self.found.append((name, ""))
            self._tag = tag

    def handle_data(self, data: str) -> None:
        if self._tag:
            name, text = self.found[-1]
            self.found[-1] = name, text + data

    def handle_endtag(self, tag: str) -> None:
        if tag == self._tag:
            self._tag = ""


def figures_in(page: str) -> list[tuple[str, str]]:
    """Name and text of each figure of a page, in their order."""
    parser = Figures()
    parser.feed(page)
    return parser.found
