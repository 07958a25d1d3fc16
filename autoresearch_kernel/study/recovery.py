"""Brings a study that was cut off, or that met a full disk, to where its history says it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ..core.types import Cause, Status
from ..record.history import events_so_far
from ..system.disk import is_full
from .steps import Steps
from .train import interrupted

FULL_DISK_SECONDS = 1.0  # before a step that found the disk full is tried again
GONE = "the supervisor went away while it trained"

T = TypeVar("T")
IsMine = Callable[[int, int], bool]


def every_run(experiment: int, run: int) -> bool:
    """With one slot all that is in work is the caller's."""
    return True


def despite_full_disk(session: Steps, step: Callable[[], T], is_mine: IsMine = every_run) -> T:
    """Do a step; when the disk is full, wait for space and resume from what is recorded.

    Args:
        is_mine: whether the caller has an experiment's run in work; others may be in work on other slots.
    """
    full: OSError | None = None
    while True:
        try:
            if full is not None:
                session.disk_space.wait_after(full)
                recover(session, Cause.FULL_DISK, "the disk was full", is_mine)
            return step()
        except OSError as error:
            if not is_full(error):
                raise
            full = error
            session.clock.sleep(FULL_DISK_SECONDS)


def recover(session: Steps, cause: Cause = Cause.GONE, reason: str = GONE, is_mine: IsMine = every_run) -> None:
    """Bring a study that was cut off to where its history says it is, and git and its views with it."""
    resume(session, cause, reason, is_mine)
    decided = sorted(session.state.decided, key=lambda e: e.order)
    again = _not_shown_since(session, is_mine)
    for experiment in decided:
        if experiment is decided[-1] or experiment.number in again:
            session.show(experiment)


def _not_shown_since(session: Steps, is_mine: IsMine) -> set[int]:
    """Experiments with a run of which something is recorded after they were shown last."""
    found: set[int] = set()
    for event in events_so_far(session.study.paths.history):
        if event["event"] == "drawn":
            found.discard(event["experiment"])
        elif "run" in event and "experiment" in event and is_mine(event["experiment"], event["run"]):
            found.add(event["experiment"])
    return found


def resume(session: Steps, cause: Cause = Cause.GONE, reason: str = GONE, is_mine: IsMine = every_run) -> None:
    """The same without the views, which take a second to draw."""
    for experiment in session.state.experiments:
        for run in experiment.runs:
            if run.status is Status.INTERRUPTED and not run.reason and is_mine(experiment.number, run.index):
                interrupted(session, experiment, run.index, cause, reason)
                session.note(f"Experiment {experiment.number:04d} was interrupted: {reason}. It is trained again.")
    session.commits.reconcile()
