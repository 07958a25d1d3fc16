"""A folder for a class: the lessons for students, for the instructor, and on demand a course of nbgrader.

Each of the three folders is a project of its own, so a student gets one folder in which everything works. This module
overwrites nothing.
"""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

from ...control.new import new_project
from ...record.study import StudyError
from ...run.notebook import write_notebook
from ...system.locations import originals
from ...system.shell import shell_command
from .build import FOLDER, built, sources
from .form import PLACEHOLDER, Version

PAGES = Path("docs") / "teaching"  # of the checkout or the package: a page for the instructor of each lesson
NBGRADER_CONFIG = f'''c = get_config()  # nbgrader defines it
c.CourseDirectory.course_id = "autoresearch"
c.ClearSolutions.code_stub = {{"python": 'raise NotImplementedError("{PLACEHOLDER}")'}}
c.ClearSolutions.enforce_metadata = True
c.Execute.timeout = 900  # seconds that one cell may take
'''
README = """# A class in autonomous research

| folder | for whom |
|---|---|
| `student/` | Hand this folder out. It has the lessons without solutions in `notebooks/lessons/`. |
| `instructor/` | The lessons with their solutions, and in `teaching/` a page for each lesson: aim, timing, mistakes. |
{row}
A student needs the program: `pip install` of the same package that made this folder, then, in `student/`:

    autoresearch lesson 1

The program has the solutions of all lessons, too: `instructor/teaching.md` says what you can do about it.

{grading}`instructor/teaching.md` describes a course from the first evening to the grades.
"""
NBGRADER_ROW = "| `nbgrader/` | A course of nbgrader: `source/` has the lessons with solutions and points. |\n"
GRADING = """nbgrader makes the students' version, and grades what they hand in. In `nbgrader/`:

    autoresearch kernel install --sys-prefix    # once: the kernel that the notebooks ask for
    nbgrader generate_assignment 1-bits-per-byte --create
    AUTORESEARCH_LESSON_SECONDS=0 nbgrader autograde 1-bits-per-byte --create

With the variable set to 0 the lessons show recorded results. Only a `train.py` that a student wrote in lesson 6 trains.

"""


def new_class(folder: Path, has_nbgrader: bool = False) -> str:
    """Make the folder of a class; returns what to do next. Raises StudyError rather than write into another folder."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StudyError(f"{folder} exists and is not empty. Name a new folder for the class.")
    _project_for(folder / "student", Version.STUDENT)
    _project_for(folder / "instructor", Version.INSTRUCTOR)
    shutil.copytree(originals() / PAGES, folder / "instructor" / "teaching")
    shutil.copyfile(originals() / f"{PAGES}.md", folder / "instructor" / "teaching.md")
    if has_nbgrader:
        _nbgrader_course(folder / "nbgrader")
    row, grading = (NBGRADER_ROW, GRADING) if has_nbgrader else ("", "")
    (folder / "README.md").write_text(README.format(row=row, grading=grading), encoding="utf-8")
    first = shell_command("lesson 1", is_elsewhere=True)
    return (
        f"{folder} is the folder of a class; its README.md says what is in it. To see what a student sees, work in a "
        "copy, because your answers stay in the folder:\n"
        f"  cp -r {shlex.quote(str(folder / 'student'))} try-out && cd try-out && {first}"
    )


def _project_for(folder: Path, version: Version) -> None:
    """A project whose lessons are those of `version`."""
    new_project(folder)
    for _, source in sources(originals()):
        write_notebook(built(source, version), folder / FOLDER / f"{source.stem}.ipynb")


def _nbgrader_course(folder: Path) -> None:
    """A course of nbgrader in a project, so that the lessons find prepare.py from every folder below it."""
    new_project(folder)
    shutil.rmtree(folder / FOLDER)
    (folder / "nbgrader_config.py").write_text(NBGRADER_CONFIG, encoding="utf-8")
    for _, source in sources(originals()):
        assignment = folder / "source" / source.stem
        assignment.mkdir(parents=True)
        write_notebook(built(source, Version.NBGRADER), assignment / f"{source.stem}.ipynb")
