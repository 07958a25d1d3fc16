"""Which studies of a project can be read, for `autoresearch doctor`: a broken one is named among the good ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..record.history_reader import Readable, readable_events, views_of
from ..record.study import StudyError, open_study, study_names
from .checks import Check


def studies(project: Path) -> Iterator[Check]:
    """One check of all studies; none where the project has no study."""
    names = study_names(project)
    broken = dict(filter(lambda pair: pair[1], ((name, _damage(name, project)) for name in names)))
    for history in sorted((project / "studies").glob("*/history.jsonl")):
        if not history.with_name("study.json").exists():
            broken[history.parent.name] = f"{history.with_name('study.json')} is missing."
    if not names and not broken:
        return
    all_names = broken.keys() | set(names)
    readable = f"{len(all_names) - len(broken)} of {len(all_names)} can be read"
    if not broken:
        yield Check("studies", "ok", readable, facts={"broken": {}})
        return
    told = " ".join(f"{name}: {words}" for name, words in sorted(broken.items()))
    remedy = "The others are not affected. Restore the named files from a copy, or move the folders away."
    yield Check("studies", "warn", f"{readable}. {told}", remedy, {"broken": broken})


def _damage(name: str, project: Path) -> str:
    """What is wrong with the files of a study; "" for one that is whole."""
    try:
        history = open_study(name, project).paths.history
        return views_of(readable_events(history) if history.is_file() else Readable([]))[1]
    except (StudyError, OSError) as error:
        return str(error)
