"""Which columns of a table of results hold score, status and description: by its header, else by its cells."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from .results_text import SEPARATORS, SPACES, split
from .results_words import is_metric, is_number_text, plain_name, status_of

VAL_BPB = "val_bpb"
_ORIGINAL = ("commit", VAL_BPB, "memory_gb", "status", "description")
SCORES = (VAL_BPB, "bpb", "validation_bpb", "valid_bpb", "val_bits_per_byte", "bits_per_byte", "best_val_bpb",
          "eval_bpb")  # fmt: skip
STATUSES = ("status", "verdict", "decision", "outcome", "kept", "keep", "keep_discard", "keep_or_discard", "accepted",
            "improved", "state", "action", "result")  # fmt: skip
ANSWERS = ("kept", "keep", "accepted", "improved")  # columns of yes and no
DESCRIPTIONS = ("description", "desc", "hypothesis", "idea", "changes", "change", "what_changed", "what", "summary",
                "notes", "note", "comment", "comments", "message", "details", "title", "modification",
                "experiment", "experiment_name", "name", "tag")  # fmt: skip
COMMITS = ("commit", "commit_hash", "commit_sha", "hash", "git_hash", "git_sha", "sha", "git", "rev", "revision",
           "run_id", "exp_id", "run", "id", "exp", "experiment_id", "trial", "branch")  # fmt: skip
_MEMORY = re.compile(r"(?:peak_)?(?:gpu_)?(?:v?ram|mem|memory)(?:_usage)?_?(?P<unit>gb|gib|mb|mib)?")
_NO_SCORE = re.compile(  # of a column: beside scores, tables hold these numbers
    r"(?:^|_)(?:times?|timestamp|date|secs?|seconds|mins?|minutes|hours|duration|params?|tokens?|tok|steps?|cost|price|"
    r"delta|diff|change|depth|budget|epochs?|seed|train|mfu|speed|lr|num|no|n|idx|index|iter|iteration|round)(?:$|_)"
)
MOST_LINES = 1_000  # in which a header is looked for


@dataclass(frozen=True)
class Columns:
    """Where a table holds what: the places of its columns, counted from 0."""

    separator: str  # one of SEPARATORS
    names: tuple[str, ...]  # plain names of all columns
    metric: str  # VAL_BPB, or the plain name of another score
    score: int
    status: int | None  # None where the table has no such column
    description: int | None
    commit: int | None = None
    memory: int | None = None

    @property
    def is_answer(self) -> bool:
        """Whether the status is a yes or no."""
        return self.status is not None and self.names[self.status] in ANSWERS

    @property
    def memory_unit(self) -> float:
        """Gigabytes in one of the column."""
        return 1 / 1024 if self.memory is not None and self.names[self.memory].endswith(("mb", "mib")) else 1.0


def header_of(line: str, separators: Sequence[str] = SEPARATORS) -> Columns | None:
    """The columns that a line names; None where it is no header."""
    for separator in separators:
        cells = split(line.lstrip("#/ ") if line.lstrip().startswith(("# ", "//", "#\t")) else line, separator)
        found = _named(cells, separator)
        if found is not None:
            return found
    return None


def _named(cells: Sequence[str], separator: str) -> Columns | None:
    names = tuple(plain_name(cell) for cell in cells)
    if len(cells) < 2 or any(is_number_text(cell) or re.search("[{}:=]", cell) for cell in cells):
        return None
    known = sum(1 for name in names if _is_known(name))
    score = _score(names)
    status = _place(names, STATUSES, without={score})
    if known < 2 or (separator == SPACES and known < 0.6 * len(cells)) or (score is None and status is None):
        return None
    description = _place(names, DESCRIPTIONS, without={score, status})
    commit = _place(names, COMMITS, without={score, status, description})
    memory = next((i for i, name in enumerate(names) if _MEMORY.fullmatch(name)), None)
    metric = "" if score is None else VAL_BPB if names[score] in SCORES else names[score]
    place = -1 if score is None else score  # -1: by the cells below, see `with_score`
    return Columns(separator, names, metric, place, status, description, commit, memory)


def _is_known(name: str) -> bool:
    known = name in (*SCORES, *STATUSES, *DESCRIPTIONS, *COMMITS) or _MEMORY.fullmatch(name) or _NO_SCORE.search(name)
    return bool(name) and bool(known or is_metric(name))


def _place(names: Sequence[str], wanted: Sequence[str], without: set[int | None]) -> int | None:
    """The column with the first of the wanted names that the table has."""
    return next((i for name in wanted for i, found in enumerate(names) if found == name and i not in without), None)


def _score(names: Sequence[str]) -> int | None:
    """val_bpb, else another metric: of validation rather than of training or test."""
    if (place := _place(names, SCORES, set())) is not None:
        return place
    others = (*STATUSES, *DESCRIPTIONS, *COMMITS)
    metrics = [i for i, name in enumerate(names) if is_metric(name) and name not in others]
    honest = [i for i in metrics if not _NO_SCORE.search(names[i])] or metrics
    validated = [i for i in honest if {"val", "valid", "validation", "eval", "dev"} & set(names[i].split("_"))]
    return next(iter(validated or honest), None)


def with_score(columns: Columns, rows: Sequence[Sequence[str]]) -> Columns | None:
    """The columns with a score that their names did not show: the first other column of numbers."""
    if columns.score >= 0:
        return columns
    taken = {columns.status, columns.description, columns.commit, columns.memory}
    for place, name in enumerate(columns.names):
        numbers = sum(len(row) > place and is_number_text(row[place]) for row in rows)
        if place not in taken and not _NO_SCORE.search(name) and numbers and 2 * numbers >= len(rows):
            values = {**vars(columns), "score": place, "metric": name or "its score"}
            return Columns(**values)
    return None


def columns_of_cells(lines: Sequence[str]) -> Columns | None:
    """The columns of a table without a header: a number with a point, and a word for what became of it."""
    best, most = None, 0
    for separator in SEPARATORS:
        rows = [split(line, separator) for line in lines]
        places = [status_place(row) for row in rows]
        fits = Counter(place for place in places if place is not None)
        if not fits:
            continue
        status = fits.most_common(1)[0][0]
        members = [row for row, place in zip(rows, places, strict=True) if place == status]
        score = _number_place(members, status)
        if score is not None and len(members) > most:
            best, most = _unnamed(separator, score, status, members), len(members)
    return best


def status_place(row: Sequence[str]) -> int | None:
    """Of the first cell that is a status; a row with one has a number, too."""
    if not any(map(is_number_text, row)):
        return None
    return next((i for i, cell in enumerate(row) if status_of(cell) and len(cell.split()) <= 3), None)


def _number_place(rows: Sequence[Sequence[str]], status: int) -> int | None:
    for sign in (".", ","):
        for place in range(max(map(len, rows))):
            cells = [row[place] for row in rows if place < len(row)]
            fits = sum(sign in cell and is_number_text(cell) for cell in cells)
            if place != status and 2 * fits > len(rows):
                return place
    return None


def _unnamed(separator: str, score: int, status: int, rows: Sequence[Sequence[str]]) -> Columns:
    widest = max(map(len, rows))
    if (score, status) == (1, 3) and widest > 4:
        return Columns(separator, _ORIGINAL, VAL_BPB, 1, 3, 4, 0, 2)
    description = status + 1 if widest > status + 1 and score < status else None
    num_columns = 1 + max(score, status, description or 0)
    names = ["" for _ in range(num_columns)]
    names[score], names[status] = VAL_BPB, "status"
    if description is not None:
        names[description] = "description"
    commit = 0 if score > 0 and status > 0 else None
    names[0] = "commit" if commit == 0 else names[0]
    return Columns(separator, tuple(names), VAL_BPB, score, status, description, commit)
