"""Disk space for the next training: removes what a study can do without, and waits while the disk is full."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from ..core.decide import best
from ..core.next_step import of_decided
from ..core.state import StudyState
from ..core.types import Status
from ..record.paths import METRICS
from ..record.study import Study
from ..system.disk import Reserve, footprint_bytes, takes
from .session import Session
from .steering import Steering

LEAST_FREE_BYTES = 64 * 2**20  # disk space without which no training is begun, besides what one is expected to leave
MOST_TRIED_BYTES = 256 * 2**20  # of a file by which a quota is found
TRY_AGAIN_SECONDS = 30.0
ARTEFACT_LIMIT_BYTES = 500 * 10**6  # models, scores and audits of discarded experiments: the oldest go first


class DiskSpace:
    """Disk space for one session's trainings, and the reserve that keeps the record writable."""

    def __init__(self, session: Session, steering: Steering) -> None:
        self.session, self.steering = session, steering
        self.reserve = Reserve(session.study.paths.reserve)
        self._is_refused = False  # a training failed where the file system took no more, though it has room: a quota
        self._tried: tuple[float, str] | None = None  # when a file was tried last, and what was missing then

    def make(self) -> None:
        """Wait until there is disk space for a training, after removing what the study can do without."""
        session = self.session
        if self.lacks():
            forget_artefacts(session.study, session.state, limit_bytes=0)
        if missing := self.lacks():
            session.note(f"{missing}. Free some space; the study then goes on by itself.")
            self.steering.wait(missing, lambda: not self.lacks(), "nothing is missing any more")
            self.steering.end_if_stopping()
        self._is_refused = False
        self.reserve.take()

    def wait_after(self, error: OSError) -> None:
        """After a write failed because the disk is full: use the reserve to say so, and wait."""
        self.reserve.release()
        forget_artefacts(self.session.study, self.session.state, limit_bytes=0)
        self.session.note(f"The disk is full ({error}).")
        self.steering.end_unrecorded_pause()
        self.make()

    def after_crash(self) -> str:
        """What `lacks` says once a training has crashed: a file is made and removed, too, which finds a quota."""
        self._is_refused, self._tried = True, None
        lack = self.lacks()
        self._is_refused = bool(lack)
        return lack

    def lacks(self) -> str:
        """What is missing for one more training, in a sentence; "" when nothing is."""
        study = self.session.study
        folders = [study.experiment(e.number).folder for e in self.session.state.experiments[-5:]]
        largest = max((footprint_bytes(folder) for folder in folders), default=0)
        needed_bytes = LEAST_FREE_BYTES + 2 * largest
        for folder, needed in (
            (study.paths.folder, needed_bytes),
            (Path(tempfile.gettempdir()), LEAST_FREE_BYTES),
        ):
            free = self.session.backend.free_bytes(folder)
            if free < needed:
                return f"The disk of {folder} has {free / 1e6:.0f} MB left, and a training needs {needed / 1e6:.0f} MB"
        return self._lacks_of_quota(study.paths.folder, min(needed_bytes, MOST_TRIED_BYTES)) if self._is_refused else ""

    def _lacks_of_quota(self, folder: Path, num_bytes: int) -> str:
        """A file is tried every half a minute at most: others need the space that it takes for a moment."""
        now = self.session.clock.monotonic()
        if self._tried is None or now - self._tried[0] > TRY_AGAIN_SECONDS:
            size = f"{num_bytes / 1e6:.0f} MB"
            lack = "" if takes(folder, num_bytes) else f"{folder} takes no {size} more: a quota is used up"
            self._tried = now, lack
        return self._tried[1]


def release_reserve_if_full(study: Study, free_bytes: Callable[[Path], int]) -> None:
    """Release the reserve of a study on a disk that is all but full, so that its record can say so."""
    if free_bytes(study.paths.folder) < LEAST_FREE_BYTES // 4:
        Reserve(study.paths.reserve).release()


def forget_artefacts(study: Study, state: StudyState, limit_bytes: int = ARTEFACT_LIMIT_BYTES) -> None:
    """Remove the oldest models of discarded experiments, and what else these left, down to `limit_bytes`.

    Those of the baseline, the incumbent and the best stay, and those of a kept experiment of which a run is in work on
    another slot; notebooks, diffs, curves and code are kept for ever.
    """
    needed = {0} | {e.number for e in (state.incumbent, best(state.experiments)) if e is not None}
    needed |= {e.number for e in state.decided if e.status is Status.KEEP and of_decided(e) is not None}
    left_bytes = limit_bytes
    for experiment in reversed(state.decided):
        if experiment.number not in needed:
            paths = study.experiment(experiment.number)
            for run in experiment.runs:
                left = [p for p in paths.handover(run.index).rglob("*") if p.is_file() and p.name != METRICS]
                for path in (*left, paths.nll(run.index), paths.cuts(run.index)):
                    left_bytes -= path.stat().st_size if path.exists() else 0
                    if left_bytes < 0:
                        path.unlink(missing_ok=True)
