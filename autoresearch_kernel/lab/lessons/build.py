"""Builds notebooks/lessons/*.ipynb, which learners open, from the sources beside them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nbformat

from ...run.notebook import write_notebook
from .course import LESSONS, Lesson
from .form import Version, make_notebook

FOLDER = Path("notebooks") / "lessons"  # of the project


def sources(project: Path) -> Iterator[tuple[Lesson, Path]]:
    """Each lesson whose source the project has."""
    for lesson in LESSONS:
        if (path := project / FOLDER / f"{lesson.slug}.py").is_file():
            yield lesson, path


def built(path: Path, version: Version = Version.LEARNER) -> nbformat.NotebookNode:
    """The notebook that a source becomes."""
    return make_notebook(path.read_text(encoding="utf-8"), path.stem, version)


def build_lessons(project: Path) -> Iterator[Path]:
    """Write the notebook of each lesson that differs from its source; yields those that were written."""
    for _, source in sources(project):
        target = source.with_suffix(".ipynb")
        notebook = built(source)
        if not target.is_file() or target.read_text(encoding="utf-8") != nbformat.writes(notebook) + "\n":
            write_notebook(notebook, target)
            yield target
