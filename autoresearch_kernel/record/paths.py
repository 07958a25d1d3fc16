"""The only module that knows the names of files: of the project, of a study, of the cache."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..system.locations import project_root

NOTEBOOKS = "notebooks"  # the project's, which git follows
MY_NOTEBOOKS = "my-notebooks"  # a person's copies of them


@dataclass(frozen=True)
class ExperimentPaths:
    """Files of one experiment. Run 0 is plain; a confirmation carries its index: `experiment-1.ipynb`."""

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
        """A proposal that was given back to its agent."""
        return self.folder / f"refused-{index}.json"

    @property
    def dry_run(self) -> ExperimentPaths:
        """What a dry run leaves, when it fails."""
        return ExperimentPaths(self.folder / "dry-run")

    def notebook(self, run: int) -> Path:
        return self.folder / _numbered("experiment.ipynb", run)

    def runner_log(self, run: int) -> Path:
        return self.folder / _numbered("runner.log", run)

    def handover(self, run: int) -> Path:
        """Folder the training kernel writes to: see HANDOVER_* names below."""
        return self.folder / _numbered("handover", run)

    def metrics(self, run: int) -> Path:
        return self.handover(run) / METRICS

    def artefact(self, run: int) -> Path:
        return self.handover(run) / ARTEFACT

    def nll(self, run: int) -> Path:
        return self.folder / _numbered("nll.npy", run)

    def cuts(self, run: int) -> Path:
        """Where the audit of a run looked, and what it found there."""
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
        """What people ask of the supervisor: see `record/commands.py`."""
        return self.folder / "commands.jsonl"

    @property
    def notes(self) -> Path:
        """What the agent has learned, in its own words; a person may edit it."""
        return self.folder / "notes.md"

    @property
    def review(self) -> Path:
        """The train.py that waits for a user's approval."""
        return self.folder / "review" / "train.py"

    @property
    def lock(self) -> Path:
        return self.folder / "lock"

    @property
    def running(self) -> Path:
        """Which process trains or scores now, so that it can be ended should the supervisor vanish."""
        return self.folder / "running.json"

    @property
    def activity(self) -> Path:
        """What the supervisor does at this moment, for views."""
        return self.folder / "activity.json"

    @property
    def reserve(self) -> Path:
        """Disk space kept for the record."""
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
    """The files of study `name`. Raises ValueError for a name that is not a plain file name.

    Example:
        >>> study_paths("nov23").history.name
        'history.jsonl'
    """
    if not name or name.startswith(".") or not all(c.isalnum() or c in "-_." for c in name):
        raise ValueError(f"Study name {name!r}: use letters, digits, '-', '_' and '.', as in 'nov23'.")
    return StudyPaths((root or project_root()) / "studies" / name)
