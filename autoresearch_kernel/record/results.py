"""Writes results.tsv, and reads it, also one of the original autoresearch, as experiments.

Such a table has a commit, a score, memory, a status and a sentence, but no runs, sigma, times or parents, which are
None here. The original writes 0.000000 for a crash, which is not a score.

ValueError
  ResultsDamaged    a table that cannot be read; the message names the line
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ..core.decide import best
from ..core.sanitize import is_number
from ..core.types import Experiment, Run, Status, is_trusted
from ..system.files import write_atomic

RESULT_COLUMNS = ("commit", "val_bpb", "memory_gb", "status", "description")  # the original program's
NEEDED = ("val_bpb", "status", "description")
MOST_BPB = 64.0  # bits per byte; a uniform guess over bytes has 8


class ResultsDamaged(ValueError):
    """A file cannot be read as a results.tsv."""


def write_results(path: str | Path, experiments: Iterable[Experiment]) -> None:
    """Rebuild results.tsv atomically: decided experiments in the original program's five columns.

    The original writes 0.000000 for a crash. Here the cell is empty: lower is better, so a zero would be the best score
    of the table for every reader who sorts or plots it.
    """
    rows = [RESULT_COLUMNS, *(_row(e) for e in experiments if e.status is not None)]
    write_atomic(path, "".join("\t".join(row) + "\n" for row in rows))


def peak_memory_mb(run: Run) -> float | None:
    """Peak memory of the training: on a CPU as the system counted it, on a GPU as its allocator did."""
    on_cpu = run.measured.get("device") == "cpu"
    peak = run.measured.get("process_peak_memory_mb" if on_cpu else "peak_memory_mb")
    return float(peak) if is_number(peak) else None


def _row(experiment: Experiment) -> tuple[str, ...]:
    """Without git, the first 7 digits of the SHA-256 of train.py replace the commit."""
    peak = max(filter(None, map(peak_memory_mb, experiment.runs)), default=None)
    return (
        (experiment.commit or experiment.train_sha256)[:7],
        "" if experiment.val_bpb is None else f"{experiment.val_bpb:.6f}",
        "" if peak is None else f"{peak / 1024:.1f}",
        str(experiment.status),
        ("" if all(map(is_trusted, experiment.runs)) else "untrusted (no sandbox): ")
        + " ".join(experiment.hypothesis.split()),
    )


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
