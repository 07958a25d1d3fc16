"""The names of all files of the project, of a study and of the cache. No other module knows them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..system.locations import project_root

NOTEBOOKS = "notebooks"  # of the project, under git
MY_NOTEBOOKS = "my-notebooks"  # a user's copies of them


@dataclass(frozen=True)
class ExperimentPaths:
    """Files of one experiment. Names of run 0 have no index; those of later runs do: `experiment-1.ipynb`."""

    folder: Path

    @property
    def train(self) -> Path:
        return self.folder / "train.py"

    @property
    def diff(self) -> Path:
        return self.folder / "change.diff"

    @property
    def proposal(self) -> Path:
        return self.folder / "proposal.json"

    def refused(self, index: int) -> Path:
        """A proposal that was refused and returned to its agent."""
        return self.folder / f"refused-{index}.json"

    @property
    def dry_run(self) -> ExperimentPaths:
        """The files of a dry run that failed."""
        return ExperimentPaths(self.folder / "dry-run")

    def notebook(self, run: int) -> Path:
        return self.folder / _numbered("experiment.ipynb", run)

    def runner_log(self, run: int) -> Path:
        return self.folder / _numbered("runner.log", run)

    def handover(self, run: int) -> Path:
        """Folder that the training kernel writes to: METRICS, ARTEFACT and HANDOVER below."""
        return self.folder / _numbered("handover", run)

    def metrics(self, run: int) -> Path:
        return self.handover(run) / METRICS

    def artefact(self, run: int) -> Path:
        return self.handover(run) / ARTEFACT

    def nll(self, run: int) -> Path:
        return self.folder / _numbered("nll.npy", run)

    def cuts(self, run: int) -> Path:
        """The places and answers of the audit of a run."""
        return self.folder / _numbered("audit.npy", run)


METRICS = "metrics.jsonl"  # the curve, one JSON object a line, written by prepare.TrainingClock
ARTEFACT = "model.pkl"  # cloudpickle, written by prepare.evaluate_bpb
HANDOVER = "handover.json"  # what prepare measured in the training process


def _numbered(name: str, run: int) -> str:
    stem, dot, suffix = name.partition(".")
    return name if run == 0 else f"{stem}-{run}{dot}{suffix}"


@dataclass(frozen=True)
class StudyPaths:
    """Files of one study."""

    folder: Path

    @property
    def study(self) -> Path:
        return self.folder / "study.json"

    @property
    def history(self) -> Path:
        return self.folder / "history.jsonl"

    @property
    def results(self) -> Path:
        return self.folder / "results.tsv"

    @property
    def progress(self) -> Path:
        return self.folder / "progress.png"

    @property
    def commands(self) -> Path:
        """Commands of users to the supervisor: see `record/commands.py`."""
        return self.folder / "commands.jsonl"

    @property
    def notes(self) -> Path:
        """The agent's own notes on what it has learned; a user may edit them."""
        return self.folder / "notes.md"

    @property
    def desk(self) -> Path:
        """The train.py that waits for a user's approval."""
        return self.folder / "desk" / "train.py"

    @property
    def lock(self) -> Path:
        return self.folder / "lock"

    @property
    def running(self) -> Path:
        """The process that trains or scores now, so that a later supervisor can end it."""
        return self.folder / "running.json"

    @property
    def activity(self) -> Path:
        """What the supervisor does now, for views."""
        return self.folder / "activity.json"

    @property
    def reserve(self) -> Path:
        """Disk space that is reserved for the record."""
        return self.folder / "reserve"

    @property
    def supervisor_log(self) -> Path:
        return self.folder / "supervisor.log"

    @property
    def best_train(self) -> Path:
        return self.folder / "best" / "train.py"

    def experiment(self, number: int) -> ExperimentPaths:
        return ExperimentPaths(self.folder / "experiments" / f"{number:04d}")


def study_paths(name: str, root: Path | None = None) -> StudyPaths:
    """The files of study `name`. Raises ValueError for a name that is not a plain file name."""
    if not name or name.startswith(".") or not all(c.isalnum() or c in "-_." for c in name):
        raise ValueError(f"Study name {name!r}: use letters, digits, '-', '_' and '.', as in 'nov23'.")
    return StudyPaths((root or project_root()) / "studies" / name)
