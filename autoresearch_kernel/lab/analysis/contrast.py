"""Two studies of one corpus and budget beside each other, in a notebook: what each found, and whether they differ."""

from __future__ import annotations

from pathlib import Path

from ...control import compare
from ...core.contrast import Contrast
from ...record.study import Study, explained
from ...show.contrast_words import differing, program_diff, rows, verdict
from ...system.locations import project_root
from .finding import Column, Finding, Row
from .plots import contrast_figure


@explained()
def compare_studies(first: str | Path | Study, second: str | Path | Study) -> Finding:
    """Two studies of the same corpus and budget side by side: two program.md's, agents or models.

    >>> compare_studies("nov23", "nov24")  # doctest: +SKIP

    Args:
        first, second: a study's name, a Study, or its folder.

    Raises StudyError when their scores cannot be compared.
    """
    found = compare.compare_studies(*(_study(named) for named in (first, second)))
    names = found.first.name, found.second.name
    title = f"{names[0]} against {names[1]}"
    draw = (lambda: contrast_figure(found)) if found.difference is not None else None
    return Finding(title, " ".join(verdict(found)), _rows(rows(found)), _columns(names), draw, _settings(found, names))


def _study(named: str | Path | Study) -> Study:
    return named if isinstance(named, Study) else compare.study_at(str(named), project_root())


def _settings(found: Contrast, names: tuple[str, str]) -> Finding | None:
    """In what they differ; None where they differ in nothing."""
    settings, diff = differing(found), program_diff(found)
    if not settings:
        return None
    return Finding("They differ in", "\n".join(diff), _rows(settings), _columns(names))


def _rows(table: list[tuple[str, str, str]]) -> list[Row]:
    return [{"what": what, "first": one, "second": other} for what, one, other in table]


def _columns(names: tuple[str, str]) -> tuple[Column, ...]:
    return (
        Column("", lambda row: str(row["what"]), is_number=False),
        Column(names[0], lambda row: str(row["first"]), is_number=False),
        Column(names[1], lambda row: str(row["second"]), is_number=False),
    )
