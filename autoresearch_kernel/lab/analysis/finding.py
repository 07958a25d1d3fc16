"""An answer of the analysis: sentences, a picture, a table, and its rows as dicts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...core.format import MINUS, count, duration, percent, plain, signed
from ...core.types import Status
from ...show import html
from ...show.plot_style import png

Row = dict[str, Any]

MOST_ROWS = 40  # of a table; `.rows` holds all
NO_BREAK = "\u00a0"
NOTHING = ("", "–")  # in a cell
MOST_CHARACTERS = 72  # of what a row was about


@dataclass(frozen=True)
class Column:
    """One column of a table: how a row's values are told."""

    head: str
    words: Callable[[Row], str]  # "" or "–" where there is nothing
    is_number: bool = True


@dataclass(frozen=True, repr=False)
class Finding:
    """An answer: in a notebook sentences, a picture and a table; `print` gives the text, `rows` the numbers."""

    title: str
    words: str  # sentences
    rows: list[Row] = field(default_factory=list)
    columns: tuple[Column, ...] = ()
    draw: Callable[[], Any] | None = None  # a figure of matplotlib
    beside: Finding | None = None  # what belongs to it, shown below it

    def __repr__(self) -> str:
        lines = [self.title, *([self.words] if self.words else [])]
        if self._told():
            lines += _text_table(self._told(), self.rows[:MOST_ROWS])
            lines += [self._more()] if self._more() else []
        return "\n".join(lines) + (f"\n\n{self.beside!r}" if self.beside else "")

    def _repr_html_(self) -> str:
        picture = html.picture(png(self.draw()), f"{self.title}. {self.words}") if self.draw else ""
        body = html.paragraph(self.words) + framed(picture) + self._table()
        return html.card(self.title, body) + (self.beside._repr_html_() if self.beside else "")

    def _table(self) -> str:
        columns = self._told()
        if not columns:
            return ""
        right = [i for i, column in enumerate(columns) if column.is_number]
        rows = [[_cell(column.words(row), column.is_number) for column in columns] for row in self.rows[:MOST_ROWS]]
        table = html.table([column.head for column in columns], rows, right=right)
        return f'<div style="overflow-x:auto">{table}</div>' + (
            html.paragraph(self._more(), is_faint=True) if self._more() else ""
        )

    def _told(self) -> list[Column]:
        """The columns in which there is something: what is unknown of all rows is said in words."""
        return [c for c in self.columns if any(c.words(row) not in NOTHING for row in self.rows)]

    def _more(self) -> str:
        hidden = len(self.rows) - MOST_ROWS
        return f"{count(hidden, 'row')} more in .rows" if hidden > 0 else ""


def framed(picture: str) -> str:
    """A picture is drawn on white: in a dark theme it stands on a sheet of its own."""
    return f'<div style="margin:6px 0;border-radius:3px;overflow:hidden">{picture}</div>' if picture else ""


def _cell(words: str, is_number: bool) -> str:
    """HTML of a cell; the marks keep their colours, a number and its unit stay on one line."""
    if is_number:
        return html.text((words or "–").replace(" ", NO_BREAK))
    sign, _, rest = words.partition(" ")
    for status in Status:
        if sign == html.MARKS[status][0] and rest:
            return f"{html.mark(status)} {html.text(rest)}"
    return html.text(words or "–")


def _text_table(columns: Sequence[Column], rows: Sequence[Row]) -> Iterator[str]:
    cells = [[column.head for column in columns], *([plain(c.words(row)) or "–" for c in columns] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        padded = [
            text.rjust(width) if column.is_number else text.ljust(width)
            for text, width, column in zip(line, widths, columns, strict=True)
        ]
        yield "  ".join(padded).rstrip()


def shortened(words: str) -> str:
    """One line that fits a table; an agent's description may be a page."""
    return plain(words, MOST_CHARACTERS)


def in_words(value: float | None, decimals: int = 4) -> str:
    return "–" if value is None else signed(value, decimals)


def share(value: float | None) -> str:
    return "–" if value is None else percent(value).replace("-", MINUS)


def in_time(value: float | None) -> str:
    return "–" if value is None else duration(value)
