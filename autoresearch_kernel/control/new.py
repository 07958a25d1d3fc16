"""Makes a project: a folder with everything that a study needs, copied from what comes with this program.

It overwrites nothing, installs nothing and starts nothing.
"""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

from ..record.study import StudyError
from ..system.locations import originals
from ..system.shell import shell_command

COPIED = ("prepare.py", "train.py", "program.md", "jupytext.toml", "presets", "notebooks", "notebooks/lessons")
GITIGNORE = """studies/
my-notebooks/
__pycache__/
.ipynb_checkpoints/
.jupyter/
.jupyter_ystore.db
.virtual_documents/
out.ipynb
"""
README = """# An autoresearch project

| file | what |
|---|---|
| `train.py` | the training that an agent edits; also a notebook |
| `program.md` | the research method that agents follow, yours to edit |
| `prepare.py` | corpus, tokenizer, clock and evaluation; fixed, since every edit of it ends the running studies |
| `presets/` | sizes for a laptop and for GPUs, prices of models, and command-line tools |
| `notebooks/` | the control panel, one experiment step by step, the analysis of a study, a course of six lessons |

Commands, from this folder:

    autoresearch doctor                           # is this machine fit for a study?
    autoresearch run --experiments 5 --budget 20  # a short study, which is kept in studies/
    autoresearch lab                              # JupyterLab with the control panel
    autoresearch lesson 1                         # the first lesson of the course
    autoresearch --help                           # all commands

`git init && git add -A && git commit -m start` lets each experiment's train.py become a commit.
"""


def new_project(folder: Path) -> str:
    """Make `folder` a project; returns the command to go on with. Raises StudyError rather than overwrite a file."""
    source = originals()
    files = [file for name in COPIED for file in _files(source / name)]
    written = {Path("README.md"): README, Path(".gitignore"): GITIGNORE}
    for target in (folder / path for path in (*(file.relative_to(source) for file in files), *written)):
        if target.exists() or target.is_symlink():
            raise StudyError(f"{target} exists and would be overwritten. Move it away, or name another folder.")
        if any(parent.exists() and not parent.is_dir() for parent in target.parents):
            raise StudyError(
                f"{folder} cannot be made a project: a file is where a folder has to be. Name another one."
            )
    for file in files:
        target = folder / file.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    for path, text in written.items():
        (folder / path).write_text(text, encoding="utf-8")
    start = shell_command("run --experiments 5 --budget 20", is_elsewhere=True)
    return (
        f"{folder} is a project now; its README.md says what is in it. A short study of six to seven minutes:\n"
        f"  cd {shlex.quote(str(folder))} && {start}"
    )


def _files(path: Path) -> list[Path]:
    """A file, or the files in a folder that belong to it: no caches, no checkpoints, no answers of the lessons."""
    if not path.is_dir():
        return [path]
    return sorted(path.glob("*.yaml" if path.name == "presets" else "*.ipynb"))
