"""One training of an experiment: asks the backend, records what came of it, and says when it does not count."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..core.drift import is_much_slower
from ..core.format import duration
from ..core.overtime import works_overtime
from ..core.types import Cause, Experiment, Progress, RunOutcome, Status
from ..run.training import Training
from ..show import words
from ..system.disk import is_full
from ..system.machine import LONGEST_NAP_SECONDS
from ..system.untrusted_files import remove_tree
from .disk_space import DiskSpace
from .monitor import Monitor
from .session import Session
from .steering import StopNow

SEEDS_PER_EXPERIMENT = 100  # so that no two runs of a study share a seed


def train(session: Session, disk_space: DiskSpace, experiment: Experiment, run: int) -> RunOutcome:
    """Train once, in a notebook of its own, within the budget, and record it.

    The status is `interrupted`, and the run is to be made again, when it says nothing about the code: the machine
    slept; once when its disk was full; and once when it ran much slower than the incumbent, worked beyond its budget
    for longer than the baseline does, or was killed from outside, as by a system short of memory.
    """
    study, paths = session.study, session.study.experiment(experiment.number)
    training = _training(session, experiment, run)
    monitor = Monitor(session, experiment, run)
    slept = session.clock.slept_seconds()
    listener = session.listener(training.token, on_metrics=monitor.at_point, on_tick=monitor.at_clock)
    num_events = len(session.history.events)
    try:
        where = {"experiment": experiment.number, "run": run}
        session.history.append("started", **where, seed=training.seed, sandbox=session.sandbox)
        session.tell(Progress("starting", experiment.number, run, experiment.hypothesis))
        outcome = session.backend.train(training, listener)
    except (KeyboardInterrupt, StopNow) as stop:
        if len(session.history.events) > num_events:
            _stopped(session, experiment, run, stop)
        raise
    study.paths.running.unlink(missing_ok=True)
    measured = monitor.measured(outcome.measured)
    overtime = _overtime(session, experiment, outcome, measured)
    if overtime:
        outcome = replace(outcome, status=Status.TIMEOUT, reason=overtime, artefact=None)
    ended = _Ended(experiment, run, measured, session.clock.slept_seconds() - slept, overtime)
    if void := ended.void(outcome, session, disk_space):
        cause, why = void
        if cause is Cause.FULL_DISK:
            remove_tree(paths.handover(run))  # which may be what filled it
        interrupted(session, experiment, run, cause, why, measured)
        session.note(f"Experiment {experiment.number:04d}, run {run + 1}: {why}. It is trained again.")
        return replace(outcome, status=Status.INTERRUPTED, reason=why, artefact=None)
    session.history.append("trained", **where, status=outcome.status, reason=outcome.reason, measured=measured)
    return replace(outcome, measured=measured)


def _training(session: Session, experiment: Experiment, run: int) -> Training:
    study = session.study
    return session.training(
        experiment.number,
        source=session.source(experiment),
        run=run,
        seed=run_seed(study.seed, experiment.number, run),
        title=words.title(experiment),
        hypothesis=words.argument(experiment),
        diff=study.experiment(experiment.number).diff.read_text(encoding="utf-8"),
    )


def run_seed(study_seed: int, experiment: int, run: int) -> int:
    """A seed of its own for every run of a study: a confirmation must not repeat the luck it checks."""
    return (study_seed * 1_000_003 + experiment * SEEDS_PER_EXPERIMENT + run) % 2**31


def interrupted(
    session: Session,
    experiment: Experiment,
    run: int,
    cause: Cause,
    reason: str,
    measured: Mapping[str, Any] | None = None,
) -> None:
    """Record that a training ended without saying anything about its code: it is made again."""
    facts = {"cause": cause, "reason": reason, "measured": measured or {}}
    session.history.append("interrupted", experiment=experiment.number, run=run, **facts)


def _stopped(session: Session, experiment: Experiment, run: int, stop: BaseException) -> None:
    """Record that a user stopped it; what a full disk does not take, `resume` writes."""
    by = f"by {stop}" if str(stop) else "by hand"
    try:
        interrupted(session, experiment, run, Cause.ASKED, f"stopped {by} while it trained")
    except OSError as error:
        if not is_full(error):
            raise


def _overtime(session: Session, experiment: Experiment, outcome: RunOutcome, measured: Mapping[str, Any]) -> str:
    """How far a training of an agent's code worked beyond its budget; "" when it did not."""
    if outcome.status is not None or experiment.number == 0:
        return ""
    baseline = session.state.experiments[0].runs
    return works_overtime(baseline, measured, session.study.time_budget_seconds)


@dataclass(frozen=True)
class _Ended:
    """A training that has ended, and what was measured from outside."""

    experiment: Experiment
    run: int
    measured: dict[str, Any]
    slept_seconds: float
    overtime: str  # how far it worked beyond its budget; "" when it did not

    def void(self, outcome: RunOutcome, session: Session, disk_space: DiskSpace) -> tuple[Cause, str] | None:
        """Why the training says nothing about its code; None when it does.

        Except for sleep, a second time under the same run index is taken to be the experiment's own doing: it could
        be, and a run that is made again is a second draw.
        """
        before = session.state.experiments[self.experiment.number].runs[self.run]
        if self.slept_seconds > LONGEST_NAP_SECONDS:
            return Cause.SLEPT, f"the machine slept for {duration(self.slept_seconds)} while it trained"
        if outcome.status is Status.CRASH and Cause.FULL_DISK not in before.causes and (lack := disk_space.lacks()):
            return Cause.FULL_DISK, f"it failed on a full disk: {lack}"
        if {Cause.KILLED, Cause.OVERTIME, Cause.SLOW} & set(before.causes):
            return None
        return self._perhaps_the_machine(outcome)

    def _perhaps_the_machine(self, outcome: RunOutcome) -> tuple[Cause, str] | None:
        if outcome.status is Status.CRASH and outcome.measured.get("exit_code") == -signal.SIGKILL:
            return Cause.KILLED, f"something killed it: {outcome.reason}"
        if self.overtime:
            return Cause.OVERTIME, f"it {self.overtime}: the machine may have been busy"
        relative = self.measured.get("relative_speed")
        if outcome.status in (None, Status.DISCARD) and is_much_slower(relative):
            return Cause.SLOW, f"it ran at {relative:.0%} of the incumbent's speed: the machine may have been busy"
        return None
