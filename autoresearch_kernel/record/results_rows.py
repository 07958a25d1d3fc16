"""The rows of a table of results: which lines are one, also those that lack a cell or have another separator."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..core.format import count, in_lines
from ..core.sanitize import one_line
from ..core.types import FAILED
from .results_columns import Columns, header_of, status_place
from .results_text import SEPARATORS, SPACES, merged, split
from .results_words import is_number_text, is_text, status_of

MOST_REASONS = 6  # of a note
LONGEST_DESCRIPTION = 2_000  # characters
CONFLICT_MARKS = ("<<<<<<<", "=======", ">>>>>>>", "|||||||")


@dataclass(frozen=True)
class Row:
    line: int  # its number in the file, from 1
    score: str
    status: str | None  # None where the table has no such column
    description: str
    commit: str
    memory: str
    columns: Columns


class Oddities:
    """Lines that were left out or read with a doubt, by what was done with them and why."""

    LEFT_OUT, READ = "left out", "read all the same"
    NOT_KEPT, NO_SCORE = "counted as not kept", "taken without a score"

    def __init__(self) -> None:
        self.lines: dict[str, dict[str, list[int]]] = {}

    def add(self, what: str, why: str, line: int) -> None:
        self.lines.setdefault(what, {}).setdefault(why, []).append(line)

    def sentences(self) -> list[str]:
        """One for each thing that was done; the rarest reasons beyond MOST_REASONS are only counted."""
        found = []
        for what, reasons in sorted(self.lines.items()):
            told = [f"{in_lines(lines)} ({why})" for why, lines in list(reasons.items())[:MOST_REASONS]]
            rest = sum(map(len, list(reasons.values())[MOST_REASONS:]))
            told += [f"{rest} more for other reasons"] if rest else []
            found.append(f"{count(sum(map(len, reasons.values())), 'row')} {what}: {', '.join(told)}.")
        return found


def rows_of(lines: Sequence[str], header: int | None, columns: Columns, odd: Oddities) -> Iterator[Row]:
    metric = columns.metric
    for number, line in enumerate(lines, 1):
        is_mark = line.startswith(CONFLICT_MARKS)
        if number - 1 == header or (not is_mark and not any(map(str.isalnum, line))):
            continue  # a blank line, or the rule below the header of a Markdown table
        if is_mark:
            odd.add(odd.LEFT_OUT, "the mark of a merge conflict", number)
        elif cells := _cells(line, columns, number, odd):
            if columns.metric == metric:
                yield _row(number, cells, columns)
            else:
                odd.add(odd.LEFT_OUT, f"measures {columns.metric} instead of {metric}", number)
        elif (again := header_of(line)) is not None:
            odd.add(odd.LEFT_OUT, "a header again", number)
            columns = again if again.score >= 0 else columns
        else:
            is_comment = line.lstrip().startswith(("#", "//"))
            odd.add(odd.LEFT_OUT, "a comment" if is_comment else "no score with a status", number)


def _cells(line: str, columns: Columns, number: int, odd: Oddities) -> list[str] | None:
    """The cells of a row in their columns; None where the line is none."""
    cells = _fitted(split(line, columns.separator), columns, columns.separator)
    if cells and (_is_whole(cells, columns) or _has_status(cells, columns)):
        return cells
    for separator in (columns.separator, *SEPARATORS):
        found = split(line, separator)
        fitted = _fitted(found, columns, separator)
        if fitted and _has_status(fitted, columns) and _says_score(fitted, columns):
            odd.add(odd.READ, f"separated by {separator}", number)
            return fitted
        if separator != SPACES and (moved := _moved(found, columns)):
            odd.add(odd.READ, "cells missing or moved", number)
            return moved
    return cells if cells and header_of(line) is None and _may_be_row(cells, columns) else None


def _fitted(cells: list[str], columns: Columns, separator: str) -> list[str] | None:
    """As many cells as columns, or fewer; None where the score or the status is missing."""
    while len(cells) > len(columns.names) and not cells[-1]:
        cells = cells[:-1]
    least = 1 + max(columns.score, columns.status or 0)
    return merged(cells, len(columns.names), columns.description, separator) if len(cells) >= least else None


def _is_whole(cells: Sequence[str], columns: Columns) -> bool:
    """Whether a row has all cells and a score."""
    return len(cells) == len(columns.names) and is_number_text(cells[columns.score])


def _has_status(cells: Sequence[str], columns: Columns) -> bool:
    """Whether the cell of the status holds one that is known."""
    return columns.status is not None and status_of(cells[columns.status], is_answer=columns.is_answer) is not None


def _says_score(cells: Sequence[str], columns: Columns) -> bool:
    """Whether the cell of the score holds a number, or a word for a missing one."""
    cell = cells[columns.score]
    return any(map(str.isalnum, cell)) and not is_text(cell)


def _may_be_row(cells: Sequence[str], columns: Columns) -> bool:
    """Whether cells without a known status are a row: they have a score, or one word as a status."""
    if columns.status is None:
        return _says_score(cells, columns)
    status = cells[columns.status]
    is_word = len(status.split()) == 1 and any(map(str.isalpha, status))
    return is_number_text(cells[columns.score]) or (is_word and not is_text(cells[columns.score]))


def _moved(cells: Sequence[str], columns: Columns) -> list[str] | None:
    """The cells of a row that lacks some, by what they hold: a number with a point, then a status.

    What failed may have no number.
    """
    if columns.status is None or not 2 < len(cells) < len(columns.names):
        return None
    score = next((i for i, cell in enumerate(cells) if re.search("[.,]", cell) and is_number_text(cell)), None)
    failed = (i for i, cell in enumerate(cells) if len(cell.split()) == 1 and status_of(cell) in FAILED)
    status = next(failed, None) if score is None else status_place(cells)
    if status is None or (score is not None and score > status):
        return None
    placed = ["" for _ in columns.names]
    placed[columns.score], placed[columns.status] = "" if score is None else cells[score], cells[status]
    if columns.description is not None:
        placed[columns.description] = " ".join(cells[status + 1 :])
    if columns.commit is not None and score != 0 and status > 0:
        placed[columns.commit] = cells[0]
    return placed


def _row(number: int, cells: Sequence[str], columns: Columns) -> Row:
    def cell(place: int | None) -> str:
        return cells[place] if place is not None and place < len(cells) else ""

    return Row(
        line=number,
        score=cell(columns.score),
        status=None if columns.status is None else cell(columns.status),
        description=one_line(re.sub(r"^'(?=[=+@\"-])", "", cell(columns.description)).strip('"'), LONGEST_DESCRIPTION),
        commit=one_line(cell(columns.commit).strip("*`"), 40),
        memory=cell(columns.memory),
        columns=columns,
    )
