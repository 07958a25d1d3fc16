"""The names of all files of the project, of a study and of the cache. No other module knows them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..system.locations import project_root

NOTEBOOKS = "notebooks"  # of the project, under git
MY_NOTEBOOKS = "my-notebooks"  # a user's copies of them
LESSONS = "lessons"  # below both: the course
LONGEST_NAME = 200  # bytes, of a study; file systems take 255


class _File:
    """An attribute of a folder's paths: the file `name` in it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, paths: Any, owner: type) -> Path:
        return Path(paths.folder, self.name)


@dataclass(frozen=True)
class ExperimentPaths:
    """Files of one experiment. Names of run 0 have no index; those of later runs do: `experiment-1.ipynb`."""

    folder: Path
    train = _File("train.py")
    diff = _File("change.diff")
    proposal = _File("proposal.json")

    def refused(self, index: int) -> Path:
        """A proposal that was refused and returned to its agent."""
        return self.folder / f"refused-{index}.json"

    @property
    def dry_run(self) -> ExperimentPaths:
        """The files of a dry run that failed."""
        return ExperimentPaths(self.folder / "dry-run")

    def without(self, change: int | None) -> ExperimentPaths:
        """The files of this champion without one kept change, or as it is: see `core/attribution.py`."""
        return ExperimentPaths(self.folder / ("as-it-is" if change is None else f"without-{change:04d}"))

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

    def trained(self, run: int) -> tuple[Path, ...]:
        """The files that a training leaves."""
        handover = self.handover(run)
        return self.notebook(run), self.metrics(run), self.artefact(run), handover / HANDOVER

    def of_run(self, run: int) -> tuple[Path, ...]:
        """All files of a run that are made again when it trains again."""
        return *self.trained(run), self.nll(run), self.cuts(run)

    def nll(self, run: int) -> Path:
        """Nats of each target, as the scorer claims them."""
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
    study = _File("study.json")
    history = _File("history.jsonl")
    results = _File("results.tsv")
    progress = _File("progress.png")
    commands = _File("commands.jsonl")  # of users to the supervisor: see `record/commands.py`
    notes = _File("notes.md")  # what the agent has learned, in its own words; a user may edit them
    review = _File("review/train.py")  # the train.py that waits for a user's approval
    program = _File("program.md")  # as the agent last got it
    notify = _File("notify.json")  # the command that is told of news: see `record/notices.py`
    notified = _File("notified.jsonl")  # which news it was told of
    lock = _File("lock")
    running = _File("running.json")  # the process that trains or scores now, so that a later supervisor can end it
    activity = _File("activity.json")  # what the supervisor does now, for views
    reserve = _File("reserve")  # disk space that is kept for the record
    supervisor_log = _File("supervisor.log")
    best_train = _File("best/train.py")

    @property
    def views(self) -> tuple[Path, ...]:
        """The files that are drawn anew from the history after each decision."""
        return self.results, self.progress, self.best_train

    def experiment(self, number: int) -> ExperimentPaths:
        return ExperimentPaths(self.folder / "experiments" / f"{number:04d}")


def study_paths(name: str, root: Path | None = None) -> StudyPaths:
    """The files of study `name`, with links resolved. Raises ValueError for a name that is not a plain file name.

    Example:
        >>> study_paths("nov23").history.name
        'history.jsonl'
    """
    is_plain = all(c.isalnum() or c in "-_." for c in name) and not name.startswith((".", "-"))
    if not name or not is_plain or len(name.encode()) > LONGEST_NAME:
        raise ValueError(
            f"Study name {name[:80]!r}: use letters, digits, '-', '_' and '.', at most {LONGEST_NAME}, and begin "
            "with none of '-' and '.', as in 'nov23'."
        )
    return StudyPaths(((root or project_root()) / "studies" / name).resolve())
