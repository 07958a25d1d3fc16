"""Reads a results.tsv, of this program or the original autoresearch, as experiments.

Such a table has a commit, a score, memory, a status and a sentence, but no runs, sigma, times or parents, which are
None here. The original writes 0.000000 for a crash, which is not a score.

ValueError
  ResultsDamaged    a table that cannot be read; the message names the line
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..core.decide import best
from ..core.types import Experiment, Status
from .history import RESULT_COLUMNS

NEEDED = ("val_bpb", "status", "description")
MOST_BPB = 64.0  # bits per byte; a uniform guess over bytes has 8


class ResultsDamaged(ValueError):
    """A file cannot be read as a results.tsv."""


def read_results(path: str | Path) -> tuple[Experiment, ...]:
    """One experiment a row, in the order of the rows, each compared with the last kept one before it.

    Raises FileNotFoundError, or ResultsDamaged, which names the line.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ResultsDamaged(f"{path} is not UTF-8 text ({error}). Save it as UTF-8.") from error
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    columns = _columns(path, lines)
    experiments: list[Experiment] = []
    for line_number, line in lines[1:]:
        row = _cells(line, columns, f"{path}, line {line_number}")
        experiments.append(_experiment(row, experiments, f"{path}, line {line_number}"))
    return tuple(experiments)


def _columns(path: Path, lines: Sequence[tuple[int, str]]) -> list[str]:
    named = "\\t".join(RESULT_COLUMNS)
    if not lines:
        raise ResultsDamaged(f"{path} is empty. A results.tsv begins with the line {named}.")
    number, line = lines[0]
    columns = [name.strip().lower() for name in line.split("\t")]
    if missing := [name for name in NEEDED if name not in columns]:
        hint = " Its columns are apart by commas; they must be by tabs." if "," in line and "\t" not in line else ""
        raise ResultsDamaged(
            f"{path}, line {number}: no column {' and no '.join(missing)} in {line.strip()[:80]!r}.{hint} "
            f"A results.tsv begins with the line {named}."
        )
    return columns


def _cells(line: str, columns: Sequence[str], where: str) -> dict[str, str]:
    """Column -> text. A description in the last column may contain tabs."""
    cells = line.split("\t", len(columns) - 1 if columns[-1] == "description" else -1)
    least = 1 + max(columns.index(name) for name in ("val_bpb", "status"))
    if len(cells) < least or len(cells) > len(columns):
        raise ResultsDamaged(
            f"{where}: {len(cells)} cells where there are {len(columns)} columns ({', '.join(columns)}) in "
            f"{line.strip()[:80]!r}. Put one tab between two cells, or take the line out."
        )
    return dict(zip(columns, [" ".join(cell.split()) for cell in cells], strict=False))


def _experiment(row: Mapping[str, str], before: Sequence[Experiment], where: str) -> Experiment:
    status = _status(row["status"], where)
    score = _number(row["val_bpb"], "val_bpb", where)
    if score is not None and not 0 <= score <= MOST_BPB:
        raise ResultsDamaged(f"{where}: val_bpb is {row['val_bpb']}, which is not a number of bits per byte. Mend it.")
    val_bpb = None if status in (Status.CRASH, Status.TIMEOUT, Status.INVALID) else score or None
    if status is Status.KEEP and val_bpb is None:
        raise ResultsDamaged(
            f"{where}: kept with val_bpb {row['val_bpb'] or 'missing'}. What was kept has a score: write it, or the "
            "status `crash`."
        )
    incumbent = best(before)
    memory = _number(row.get("memory_gb", ""), "memory_gb", where)
    return Experiment(
        number=len(before),
        hypothesis=row.get("description", ""),
        agent="",
        parent=incumbent.number if incumbent else None,
        details={"memory_gb": memory} if memory else {},
        status=status,
        val_bpb=val_bpb,
        incumbent_bpb=incumbent.val_bpb if incumbent else None,
        commit=row.get("commit") or None,
    )


def _status(text: str, where: str) -> Status:
    try:
        return Status(text.lower())
    except ValueError:
        known = ", ".join(Status)
        raise ResultsDamaged(f"{where}: the status is {text!r}. Write one of {known}.") from None


def _number(text: str, name: str, where: str) -> float | None:
    """None for an empty cell or a dash, and for NaN or infinity, which a diverged training leaves."""
    if text.lower() in ("", "-", "–", "n/a", "na", "none", "null"):
        return None
    try:
        value = float(text)
    except ValueError:
        raise ResultsDamaged(f"{where}: {name} is {text[:40]!r}. Write a number, or leave the cell empty.") from None
    return value if math.isfinite(value) else None
