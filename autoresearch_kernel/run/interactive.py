"""Configures the kernel of a notebook that a user runs, from the folder where it starts, before the first cell.

In the folder of an experiment, `import prepare` then uses the study's corpus, budget and seed, as the training did.
Elsewhere a training gets a minute, which is enough to work through train.py. Such a training never becomes part of the
record: it hands nothing over and is scored in the kernel itself, on the study's validation rows.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from ..record.study import Study, StudyError, check_corpus, open_study, sha256, study_names
from ..system.files import lock_holder
from ..system.locations import PROJECT, ForeignProject, NoProject, project_root
from ..system.shell import shell_command

BUDGET_SECONDS = 60  # of a training outside an experiment, unless AUTORESEARCH_TIME_BUDGET is set
NOTEBOOK = "JPY_SESSION_NAME"  # the path of the notebook; most Jupyter servers set it
INJECTED = "injected-parameters"  # papermill's tag


@dataclass(frozen=True)
class Rerun:
    """An experiment whose notebook a user runs again."""

    study: Study
    number: str  # its folder's name, as in 0007
    seed: int | None  # of the run in the notebook; None when it does not contain a seed


def rerun_in(folder: Path, notebook: str = "experiment.ipynb") -> Rerun | None:
    """The experiment that `folder` belongs to; None for any other folder. Raises StudyError for a damaged study."""
    if len(folder.parents) < 4 or folder.parent.name != "experiments" or folder.parents[2].name != "studies":
        return None
    if not (folder.parents[1] / "study.json").is_file():
        return None
    return Rerun(open_study(folder.parents[1].name, folder.parents[3]), folder.name, _seed(folder / notebook))


def _seed(notebook: Path) -> int | None:
    """SEED in the cell that papermill inserted into an executed notebook."""
    try:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        (injected,) = (cell for cell in cells if INJECTED in cell["metadata"].get("tags", []))
        lines = "".join(injected["source"]).splitlines()
        return next(int(line.partition("=")[2]) for line in lines if line.partition("=")[0].strip() == "SEED")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration):
        return None


def configure_kernel(folder: Path, environ: MutableMapping[str, str]) -> Callable[[], None]:
    """Set in `environ` what prepare.py reads; returns a function to call when a cell imports prepare.

    That function checks the study and prints what differs. It raises StudyError when the notebook is an experiment's
    and cannot train as the experiment did.
    """
    notebook = Path(environ.get(NOTEBOOK) or "experiment.ipynb")
    if notebook.is_absolute() and notebook.parent.resolve() == folder.resolve():
        folder = notebook.parent  # the system resolves a link of `studies` to another disk, where no project is
    try:
        rerun = rerun_in(folder, notebook.name)
        settings = _settings(rerun) if rerun is not None else {}
    except (StudyError, ValueError, KeyError, TypeError) as error:  # an incomplete study.json
        message = str(error)
        return lambda: _refuse(message)
    if rerun is None:
        environ.setdefault("AUTORESEARCH_TIME_BUDGET", str(BUDGET_SECONDS))
        return say_who_else_trains
    environ.pop("AUTORESEARCH_HANDOVER", None)
    environ.pop("AUTORESEARCH_MAX_STEPS", None)
    environ.update(settings)
    return lambda: _check(rerun)


def script_of(folder: Path, environ: Mapping[str, str]) -> Path:
    """The Python file that the notebook of this kernel is: itself, as JupyterLab opens it, or train.py beside it."""
    notebook = Path(environ.get(NOTEBOOK) or "train.py")
    return folder / (notebook.name if notebook.suffix == ".py" else "train.py")


def _settings(rerun: Rerun) -> dict[str, str]:
    study = rerun.study
    settings = {
        "AUTORESEARCH_CORPUS": str(study.corpus_dir),
        "AUTORESEARCH_HELDOUT": str(study.heldout_dir),
        "AUTORESEARCH_TIME_BUDGET": repr(study.time_budget_seconds),
        PROJECT: str(study.project),
    }
    if rerun.seed is not None:
        settings["AUTORESEARCH_SEED"] = str(rerun.seed)
    if study.facts["hardware"].get("device") == "cpu":
        settings["AUTORESEARCH_DEVICE"] = "cpu"  # a machine with a GPU can do this too, but not the reverse
    if study.facts["scoring"].get("dtype") == "float32":
        settings["AUTORESEARCH_DTYPE"] = "float32"  # every machine supports it, as above
    return settings


def _check(rerun: Rerun) -> None:
    study = rerun.study
    check_corpus(study)
    seed = "" if rerun.seed is None else f", seed {rerun.seed}"
    print(
        f"Experiment {rerun.number} of study {study.name}, by hand: {study.time_budget_seconds:g} s of training on "
        f"{study.corpus_dir.name}{seed}. Nothing of it goes into the record."
    )
    prepare = study.project / "prepare.py"
    if prepare.is_file() and sha256(prepare.read_bytes()) != study.facts["sha256"]["prepare.py"]:
        print(f"{prepare} has changed since the study began, so the score may differ from the recorded one.")
    say_who_else_trains(study.project)


def say_who_else_trains(project: Path | None = None) -> None:
    """Print a line for each study of the project that another process runs on this machine now.

    Raises ForeignProject where `import prepare` would run another program's file.
    """
    try:
        project = project or project_root()
    except ForeignProject:
        raise
    except NoProject:
        return
    for name in study_names(project):
        holder = lock_holder(project / "studies" / name / "lock")
        if holder is not None and holder.get("pid") != os.getpid():
            print(
                f"Study {name} is running on this machine: its trainings and one here slow each other down. "
                f"`{shell_command(f'pause --name {name}')}` makes room."
            )


def _refuse(message: str) -> None:
    raise StudyError(message)


class OnImport(MetaPathFinder):
    """Calls `before` when a notebook first imports `module`; an exception of `before` fails that import."""

    def __init__(self, module: str, before: Callable[[], Any]) -> None:
        self.module, self.before = module, before

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == self.module:
            self.before()
            sys.meta_path.remove(self)
        return None
