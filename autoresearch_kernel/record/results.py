"""Writes results.tsv, and reads it, also one of the original autoresearch, as experiments.

Such a table has a commit, a score, memory, a status and a sentence, but no runs, sigma, times or parents, which are
None here. People and agents write these tables by hand, so one odd line never refuses the others: it is named in a
note. `results_text.py` splits lines, `results_columns.py` and `results_rows.py` find columns and rows,
`results_words.py` reads a cell.

ValueError
  ResultsDamaged    a file in which no table is found
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.decide import is_better
from ..core.errors import Plain
from ..core.sanitize import flat, is_number, one_line
from ..core.types import FAILED, Experiment, Run, Status, is_trusted
from ..system.files import write_atomic
from .results_columns import MOST_LINES, VAL_BPB, Columns, columns_of_cells, header_of, with_score
from .results_rows import Oddities, Row, rows_of
from .results_text import MOST_BYTES, decode, read_bytes, split
from .results_words import ceiling_of, is_higher_better, number_of, status_of

RESULT_COLUMNS = ("commit", "val_bpb", "memory_gb", "status", "description")  # the original program's
FORMULA = ("=", "+", "-", "@", '"')  # first characters of cells that spreadsheets take for more than text
MOST_BPB = 64.0  # bits per byte; a uniform guess over bytes has 8


class ResultsDamaged(Plain, ValueError):
    """A file in which no table of results is found; the message says what it holds and what to do."""


def write_results(path: str | Path, experiments: Iterable[Experiment]) -> None:
    """Rebuild results.tsv atomically."""
    write_atomic(path, results_text(experiments))


def results_text(experiments: Iterable[Experiment]) -> str:
    """The table: decided experiments in the original program's five columns.

    The original writes 0.000000 for a crash. Here the cell is empty: lower is better, so a zero would be the best score
    of the table for every reader who sorts or plots it.
    """
    rows = [RESULT_COLUMNS, *(_row(e) for e in experiments if e.status is not None)]
    return "".join("\t".join(row) + "\n" for row in rows)


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
        _description(experiment),
    )


def _description(experiment: Experiment) -> str:
    """The hypothesis as one cell: a spreadsheet runs what begins with `=` and joins lines after an open quote."""
    words = flat(experiment.hypothesis)
    if not all(map(is_trusted, experiment.runs)):
        return f"untrusted (no sandbox): {words}"
    return f"'{words}" if words.startswith(FORMULA) else words


# --- reading


@dataclass(frozen=True)
class Results:
    """What a table tells: its experiments, and in `notes` what was left out of it or read with a doubt."""

    experiments: tuple[Experiment, ...]  # one a row, each compared with the last kept one before it; lower is better
    metric: str = VAL_BPB  # what the scores measure
    notes: tuple[str, ...] = ()  # sentences


def read_results(path: str | Path) -> Results:
    """Read a results.tsv of this program, of the original or of a fork, whatever became of some of its lines.

    A line that cannot be read is left out, and a status that is not known counts as not kept; `notes` name both with
    their lines. Raises FileNotFoundError, or ResultsDamaged for a file in which no table is found.
    """
    path = Path(path)
    try:
        data = read_bytes(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ResultsDamaged(f"{path} cannot be read ({error.strerror}). Give the path of a results.tsv.") from error
    if len(data) > MOST_BYTES:
        raise ResultsDamaged(
            f"{path} has more than {MOST_BYTES // 10**6} MB, too many for a table of results. Keep the rows to analyse."
        )
    lines, notes = decode(data)
    first, columns = _columns(path, lines)
    odd = Oddities()
    rows = list(rows_of(lines, first, columns, odd))
    if first is None:
        named = ", ".join(filter(None, columns.names))
        notes.append(f"The table has no header; its columns were taken for {named}.")
    statuses = {row.status.lower() for row in rows if row.status}
    is_ours = statuses <= set(Status)
    experiments, metric_notes, metric = _judged(rows, columns, odd, is_ours)
    return Results(tuple(experiments), metric, (*notes, *metric_notes, *odd.sentences()))


def _columns(path: Path, lines: Sequence[str]) -> tuple[int | None, Columns]:
    """The index of the header, None where there is none, and the columns."""
    named = "\\t".join(RESULT_COLUMNS)
    filled = [line for line in lines if line.strip()]
    if not filled:
        raise ResultsDamaged(f"{path} is empty. A results.tsv begins with the line {named}.")
    for index, line in enumerate(lines[:MOST_LINES]):
        columns = header_of(line) if line.strip() else None
        if columns is not None:
            cells = [split(row, columns.separator) for row in lines[index + 1 : index + MOST_LINES] if row.strip()]
            if (columns := with_score(columns, cells)) is not None:
                return index, columns
    if (columns := columns_of_cells(filled[:MOST_LINES])) is not None:
        return None, columns
    raise ResultsDamaged(
        f"{path} holds no table of results: no line names columns such as val_bpb and status, and none has a score and "
        f"a status. It begins with {one_line(filled[0], 80)!r}; a results.tsv begins with the line {named}."
    )


# --- what the rows say


def _judged(
    rows: Sequence[Row], columns: Columns, odd: Oddities, is_ours: bool
) -> tuple[list[Experiment], list[str], str]:
    """The experiments, sentences about the metric, and what the scores measure."""
    scores = [_score(row, columns, odd) for row in rows]
    statuses = [_status(row, is_ours) for row in rows]
    judged = zip(scores, statuses, strict=True)
    kept = [score for score, status in judged if status is Status.KEEP and score is not None]
    is_higher = columns.metric != VAL_BPB and is_higher_better(columns.metric, kept)
    metric, notes = columns.metric, []
    if metric != VAL_BPB:
        notes.append(f"The table measures {metric}, not val_bpb.")
    if is_higher:
        most = ceiling_of(columns.metric, [score for score in scores if score is not None])
        metric = f"{most:g}−{metric}" if most else f"−{metric}"
        scores = [None if score is None else most - score for score in scores]
        notes.append(f"A higher {columns.metric} is better; the scores shown are {metric}, of which lower is better.")
    if columns.status is None:
        notes.append("It has no column for the status: what scored better than all before it is taken as kept.")
    return _experiments(rows, scores, statuses, odd), notes, metric


def _score(row: Row, columns: Columns, odd: Oddities) -> float | None:
    """None where there is no score: also for 0, which the original writes for a crash."""
    try:
        score = number_of(row.score)
    except ValueError:
        odd.add(odd.NO_SCORE, f"{columns.metric} is {one_line(row.score, 40)!r}", row.line)
        return None
    if score is not None and columns.metric == VAL_BPB and not 0 <= score <= MOST_BPB:
        odd.add(odd.NO_SCORE, f"val_bpb is {one_line(row.score, 40)}, which is no number of bits per byte", row.line)
        return None
    return score or None


def _status(row: Row, is_ours: bool) -> Status | None:
    """None for one that is not known, and where the table has none."""
    if row.status is None:
        return None
    if is_ours and row.status.lower() == Status.REJECTED:
        return Status.REJECTED  # by the audit; elsewhere the word means that a change was not kept
    return status_of(row.status, is_answer=row.columns.is_answer)


def _experiments(
    rows: Sequence[Row], scores: Sequence[float | None], statuses: Sequence[Status | None], odd: Oddities
) -> list[Experiment]:
    experiments: list[Experiment] = []
    incumbent: Experiment | None = None
    for row, score, status in zip(rows, scores, statuses, strict=True):
        score = None if status in FAILED else score
        experiment = Experiment(
            number=len(experiments),
            hypothesis=row.description,
            agent="",
            parent=incumbent.number if incumbent else None,
            details=_memory(row),
            status=_verdict(row, score, status, incumbent, odd),
            val_bpb=score,
            incumbent_bpb=incumbent.val_bpb if incumbent else None,
            commit=row.commit or None,
        )
        experiments.append(experiment)
        incumbent = experiment if experiment.status is Status.KEEP else incumbent
    return experiments


def _verdict(
    row: Row, score: float | None, status: Status | None, incumbent: Experiment | None, odd: Oddities
) -> Status:
    """What is not known counts as not kept; without a column for it, the better score is kept."""
    is_best = score is not None and (incumbent is None or is_better(score, incumbent.val_bpb or 0.0))
    if row.status is None:
        return Status.KEEP if is_best else Status.CRASH if score is None else Status.DISCARD
    why = ""
    if status is None:
        why = f"the status {one_line(row.status, 40)!r} is not known" if row.status else "there is no status"
    elif status is Status.KEEP and score is None:
        why = "kept without a score"
    elif "baseline" in row.status.lower() and incumbent is not None and not is_best:
        why = "a baseline after the first"
    if why:
        odd.add(odd.NOT_KEPT, why, row.line)
        return Status.DISCARD
    assert status is not None
    return status


def _memory(row: Row) -> dict[str, float]:
    try:
        memory = number_of(row.memory)
    except ValueError:
        return {}
    return {"memory_gb": memory * row.columns.memory_unit} if memory else {}
