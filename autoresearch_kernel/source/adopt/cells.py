"""Where cells begin: at banners, and before classes, loops and the main block."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

from ..cell import CELL_MARKER
from .clock import is_training
from .draft import Draft, Edit, Finding

_RULE = re.compile(r"#+\s*[-=#*~─═_]{4,}\s*#*")
_BETWEEN = re.compile(r"#+\s*[-=#*~─═_]{2,}\s*([^-=#*~─═_\s].*?)\s*[-=#*~─═_]*\s*#*")
_EMPTY_CELL = re.compile(r"^# %%\n(?:[ \t]*\n)*(?=# %%)", re.MULTILINE)
_BLANK_LINES = re.compile(r"(?<=\n\n\n)\n+(?=# %%)|(?<=^# %%\n)\n+", re.MULTILINE)
LONGEST_BANNER = 3  # lines of text between two rules


@dataclass(frozen=True)
class Banner:
    """Comment lines `first` to `last` that name a section."""

    first: int
    last: int
    title: str


def find_banners(draft: Draft) -> list[Banner]:
    """Banners at the left margin, outside of statements."""
    inside = {n for s in draft.tree.body for n in range(s.lineno, (s.end_lineno or s.lineno) + 1)}
    free = {n: text for n, (column, text) in draft.comments.items() if column == 0 and n not in inside}
    free = {n: text for n, text in free.items() if not CELL_MARKER.match(text) and "-*-" not in text}
    found, line = [], 1
    while line <= len(draft.lines):
        if (banner := _banner(free, line)) is not None:
            found.append(banner)
            line = banner.last
        line += 1
    return found


def _banner(comments: dict[int, str], line: int) -> Banner | None:
    text = comments.get(line, "").rstrip()
    if _RULE.fullmatch(text):
        for last in range(line + 1, line + 2 + LONGEST_BANNER):
            if _RULE.fullmatch(comments.get(last, "").rstrip()):
                title = " ".join(comments[n].lstrip("# ").strip() for n in range(line + 1, last))
                return Banner(line, last, title) if title else None
            if last not in comments:
                break
        return Banner(line, line + 1, comments[line + 1].lstrip("# ").strip()) if line + 1 in comments else None
    if text and _RULE.fullmatch(comments.get(line + 1, "").rstrip()):
        return None if line + 2 in comments else Banner(line, line + 1, text.lstrip("# ").strip())
    between = _BETWEEN.fullmatch(text)
    return Banner(line, line, between[1]) if between else None


def mark_cells(draft: Draft, banners: list[Banner]) -> None:
    """Banners become headings, and code cells begin where sections, classes and loops do."""
    for number, banner in enumerate(banners, 1):
        end = banners[number].first if number < len(banners) else len(draft.lines) + 1
        section = [s for s in draft.tree.body if banner.last < s.lineno < end]
        start, stop = draft.starts[banner.first - 1], draft.starts[banner.last]
        is_empty = bool(section) and all(s in draft.moved or s in draft.removed for s in section)
        heading = "# %%\n" if is_empty else f"# %% [markdown]\n# ## {banner.title}\n\n# %%\n"
        draft.edits.append(Edit(start, stop, heading))
        if not is_empty:
            draft.converted.append(Finding(banner.first, banner.title, "a heading and a cell"))
    for statement in _openings(draft, has_banners=bool(banners)):
        draft.insert(draft.starts[draft.first_line(statement) - 1], "# %%\n")


def _openings(draft: Draft, has_banners: bool) -> Iterator[ast.stmt]:
    """Statements that begin a cell: not those of a file that has cells already."""
    if any(column == 0 and CELL_MARKER.match(text) for column, text in draft.comments.values()):
        return
    for statement in draft.tree.body:
        is_main = isinstance(statement, ast.If) and "__name__" in ast.unparse(statement.test)
        kinds = ast.ClassDef if has_banners else ast.ClassDef | ast.FunctionDef
        if isinstance(statement, kinds) or is_training(statement) or is_main:
            yield statement


def tidy(source: str) -> str:
    """Without cells in which nothing is left, and with two blank lines before a cell at most."""
    source = _EMPTY_CELL.sub("", source)
    return _BLANK_LINES.sub("", source).strip("\n") + "\n"
