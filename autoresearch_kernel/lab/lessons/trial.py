"""Executes lessons from top to bottom, with their solutions, in a temporary project: `autoresearch lessons --check`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from ...control.new import new_project
from ...core.sanitize import one_line, without_escapes
from ...run.kernelspec import KERNEL_NAME, install_kernelspec
from ...system.locations import originals
from ...system.temporary import own_folder
from .build import FOLDER, built, sources
from .course import Lesson
from .form import Version
from .learned import PROGRESS_FILE

CELL_SECONDS = 3_600  # that one cell may take on a busy machine


@dataclass(frozen=True)
class Trial:
    """How the execution of one lesson ended."""

    lesson: Lesson
    seconds: float
    notebook: NotebookNode  # executed
    problem: str = ""  # "" when every cell ran

    def __str__(self) -> str:
        ended = f"failed: {self.problem}" if self.problem else "every cell ran"
        return f"Lesson {self.lesson.number}  {self.lesson.title:<28} {self.seconds:4.0f} s  {ended}"


def try_lessons(numbers: tuple[int, ...] = (), version: Version = Version.INSTRUCTOR) -> Iterator[Trial]:
    """Execute the lessons of these numbers, or all, one after the other; each in the same temporary project."""
    install_kernelspec(prefix=Path(sys.prefix))
    with own_folder() as folder:
        new_project(folder / "project")
        for lesson, source in sources(originals()):
            if not numbers or lesson.number in numbers:
                yield execute(lesson, built(source, version), folder / "project")


def execute(lesson: Lesson, notebook: NotebookNode, project: Path, cell_seconds: int = CELL_SECONDS) -> Trial:
    """Execute a notebook in a project's folder of lessons, without touching the progress of the user.

    A cell that takes longer than `cell_seconds` is the lesson's problem, which quotes its first lines.
    """
    client = NotebookClient(notebook, timeout=cell_seconds, kernel_name=KERNEL_NAME)
    environment = os.environ | {PROGRESS_FILE: str(project / "progress.json")}
    began, problem = time.monotonic(), ""
    try:
        client.execute(cwd=str(project / FOLDER), env=environment)
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        problem = error_of(notebook) or one_line(without_escapes(str(error)))
    return Trial(lesson, time.monotonic() - began, notebook, problem)


def error_of(notebook: NotebookNode) -> str:
    """The error of the first cell that failed, in one line; "" without one."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                return one_line(without_escapes(f"{output.ename}: {output.evalue}"))
    return ""
