"""The figures of a bundle's page that the check recomputes from the history. Pure.

The page marks each with `data-figure="NAME"`; the element's whole text is the figure, as in
`<b data-figure="kept">7</b>`. Both checks, in Python and in verify.js, read the text as a number and compare it with
the value to as many decimals as the text has. The names are those of FIGURES, and of OF_EXPERIMENT with the number of
an experiment, as `bpb-12`; a status is compared as a word. `missing` names the figures that a page must have, so that
one cannot be changed by taking its mark away; pages of earlier versions had fewer of them.

What takes more than this to compute has no mark: sigma of all runs and its degrees of freedom, differences in sigma,
the champion's difference from the baseline, what the machine's speed, costs and attributions say, and all figures on
the pages of experiments. The command makes the pages again, and so checks these too (`remade.py`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from html.parser import HTMLParser
from typing import Any

from ..core.contrast import found_by
from ..core.format import MINUS
from ..core.state import from_event
from ..core.types import FAILED, Result
from .recorded import Recorded

Value = float | int | str | None
ROUNDING = 1e-9  # of a value that lies half-way between two figures

FIGURES: dict[str, Callable[[Recorded], Value]] = {
    "experiments": lambda recorded: sum(number > 0 for number in recorded.decided),  # without the baseline
    "kept": lambda recorded: sum(number > 0 for number in recorded.kept),
    "discarded": lambda recorded: _count(recorded, "discard"),
    "failed": lambda recorded: _count(recorded, *(str(status) for status in FAILED)),
    "refused": lambda recorded: _count(recorded, "rejected"),
    "champion": lambda recorded: recorded.incumbent,
    "baseline-bpb": lambda recorded: _of(recorded.decided.get(0), "val_bpb"),
    "baseline-error": lambda recorded: _of(recorded.decided.get(0), "standard_error"),
    "champion-bpb": lambda recorded: _of(recorded.decided.get(recorded.incumbent or 0), "val_bpb"),
    "result-difference": lambda recorded: _of(recorded.result, "test_difference"),
    "result-error": lambda recorded: _of(recorded.result, "test_standard_error"),
    "result-low": lambda recorded: _end(recorded, 0),
    "result-high": lambda recorded: _end(recorded, 1),
    "result-val-difference": lambda recorded: _of(recorded.result, "val_difference"),
    "result-val-error": lambda recorded: _of(recorded.result, "val_standard_error"),
    "result-judged-difference": lambda recorded: _of(recorded.result, "judged_difference"),
    "result-judged-error": lambda recorded: _of(recorded.result, "judged_standard_error"),
    "result-baseline-bpb": lambda recorded: _of(recorded.result, "baseline_test_bpb"),
    "result-champion-bpb": lambda recorded: _of(recorded.result, "champion_test_bpb"),
}
OF_EXPERIMENT: dict[str, Callable[[Mapping[str, Any]], Value]] = {  # of its decision
    "bpb": lambda decided: decided.get("val_bpb"),
    "incumbent-bpb": lambda decided: decided.get("incumbent_bpb"),
    "difference": lambda decided: decided["val_bpb"] - decided["incumbent_bpb"],
    "difference-error": lambda decided: error_of(decided),
    "status": lambda decided: decided["status"],
}


def value_of(name: str, recorded: Recorded) -> Value:
    """The value of a figure. Raises KeyError for a name that is not known, or an experiment that is not decided."""
    if name in FIGURES:
        return FIGURES[name](recorded)
    kind, _, number = name.rpartition("-")
    return OF_EXPERIMENT[kind](recorded.decided[int(number)])


def fits(text: str, value: Value) -> bool:
    """Whether a figure's text says this value, as far as its decimals go."""
    if isinstance(value, str):
        return text.strip() == value
    said = number_in(text)
    return said is not None and value is not None and abs(said[0] - value) <= 0.5 * 10.0 ** -said[1] + ROUNDING


def number_in(text: str) -> tuple[float, int] | None:
    """The number that a figure's text says, and its decimals; None for a text that is no number."""
    plain = text.strip().replace(MINUS, "-")
    if not re.fullmatch(r"[+-]?\d+(\.\d+)?", plain, flags=re.ASCII):
        return None
    return float(plain), len(plain.partition(".")[2])


class Page(HTMLParser):
    """Reads a bundle's page: `figures` has name and text of each figure, `data` the text of the script `bundle`."""

    def __init__(self) -> None:
        super().__init__()
        self.figures: list[tuple[str, str]] = []
        self.data: str | None = None  # None where the page has none
        self._tag = ""  # of the figure that is being read; "" outside of one
        self._is_data = False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        known = dict(attributes)
        if tag == "script" and known.get("id") == "bundle":
            self.data, self._is_data = "", True
        elif (name := known.get("data-figure")) is not None:
            self.figures.append((name, ""))
            self._tag = tag

    def handle_data(self, data: str) -> None:
        if self._is_data:
            self.data = (self.data or "") + data
        elif self._tag:
            name, text = self.figures[-1]
            self.figures[-1] = name, text + data

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self._is_data = False
        elif tag == self._tag:
            self._tag = ""


def read_page(html: str) -> Page:
    page = Page()
    page.feed(html)
    page.close()
    return page


def missing(page: Page, recorded: Recorded, version: Any) -> Iterator[str]:
    """The names of the figures that a page of this history must have and has not.

    Args:
        version: of the program that made the bundle, as its manifest names it; None where it is not known.
    """
    has = {name for name, _ in page.figures}
    yield from (name for name in dict.fromkeys(_needed(recorded, _numbers(version))) if name not in has)


def _needed(recorded: Recorded, version: tuple[float, ...]) -> Iterator[str]:
    yield from ("experiments", "kept")
    if recorded.result is not None:
        yield from ("result-difference", "result-error", "result-baseline-bpb", "result-champion-bpb")
    is_new = version >= (0, 12, 0)
    if is_new:
        yield from (name for name in ("discarded", "failed", "refused") if FIGURES[name](recorded))
        known = ["result-low", "result-high", "result-val-difference", "result-val-error"]
        known += ["result-judged-difference", "result-judged-error"]
        if FIGURES["baseline-bpb"](recorded) is not None:
            known += ["baseline-bpb", "baseline-error"]
            known += ["champion-bpb"] if recorded.incumbent else []
        yield from (name for name in known if FIGURES[name](recorded) is not None)
    for number, decided in sorted(recorded.decided.items()):
        has_score, status = decided.get("val_bpb") is not None, decided["status"]
        is_compared = has_score and decided.get("incumbent_bpb") is not None
        yield from [f"bpb-{number}"] if has_score else []
        yield from [f"incumbent-bpb-{number}", f"difference-{number}"] if is_compared else []
        yield from [f"difference-error-{number}"] if is_new and is_compared and error_of(decided) is not None else []
        is_baseline, is_ended_early = recorded.parents[number] is None, status == "discard" and not has_score
        has_other_word = is_ended_early or (is_baseline and status == "keep")  # which the page has for it
        yield from [f"status-{number}"] if is_new and not has_other_word else []


def _numbers(version: Any) -> tuple[float, ...]:
    """Of a version, for comparison; one that cannot be read is taken for a new one, and none for an old one."""
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", version, flags=re.ASCII) if isinstance(version, str) else None
    return tuple(map(int, found.groups())) if found else () if version is None else (math.inf,)


def _count(recorded: Recorded, *statuses: str) -> int:
    return sum(number > 0 and decided["status"] in statuses for number, decided in recorded.decided.items())


def error_of(decided: Mapping[str, Any]) -> float | None:
    """Of the difference that a decision rests on: that of a duel, else of two independent means."""
    known = decided.get("difference_error")
    if known is not None:
        return float(known)
    mine, theirs = decided.get("standard_error"), decided.get("incumbent_standard_error")
    return None if mine is None or theirs is None else math.hypot(mine, theirs)


def _end(recorded: Recorded, which: int) -> Value:
    """The low or the high end of the result's interval."""
    result = recorded.result
    if result is None:
        return None
    scores = (list(recorded.test_scores(number).values()) for number in (0, result["champion"]))
    interval = found_by(from_event(result, Result), *scores).gain.interval
    return None if interval is None else interval[which]


def _of(event: Mapping[str, Any] | None, name: str) -> Value:
    return None if event is None else event.get(name)
