"""One training of an experiment: asks the backend, records what came of it, and says when it does not count."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..record.study import StudyError, check_prepare_py
from ..core.drift import is_busy, void_by_speed
from ..core.errors import MachineFailed
from ..core.format import duration
from ..core.grounds import grounds_of_confirmation, recorded
from ..core.next_step import MOST_ATTEMPTS
from ..core.overtime import starts_slower, works_overtime
from ..core.state import StudyState
from ..core.types import OF_THE_MACHINE, Cause, Experiment, Progress, RunOutcome, Status
from ..run.training import Training
from ..show import words
from ..source.cell import SourceError
from ..source.gate import check_clock
from ..system.disk import is_full
from ..system.machine import LONGEST_NAP_SECONDS
from ..system.untrusted_files import remove_tree
from .disk_space import DiskSpace
from .monitor import Monitor
from .session import Session
from .steering import StopNow

PREPARE_CHANGED = "prepare.py was changed while it trained"
SEEDS_PER_EXPERIMENT = 100  # so that no two runs of a study share a seed


def train(session: Session, disk_space: DiskSpace, experiment: Experiment, run: int) -> RunOutcome:
    """Train once, in a notebook of its own, within the budget, and record it.

    The status is `interrupted`, and the run is to be made again, when it says nothing about the code: the machine
    slept; once when its disk was full; and once in all when the machine was far from its speed for the incumbent, when
    it worked beyond its budget for longer than the baseline does on a busy machine, or when a system short of memory
    killed it. Only after a slow machine it is made again a second time, for overtime on a machine that is still busy.
    Whether the machine was busy is the supervisor's measurement, because a run that is made again is a second draw, and
    code must not be able to ask for one. Raises MachineFailed, on record, when the sandbox or the kernel did not start.
    """
    (outcome,) = _train_all(session, disk_space, [Attempt(session, experiment, run)])
    return outcome


def train_duel(
    session: Session, disk_space: DiskSpace, challenger: Experiment, run: int, incumbent: Experiment
) -> list[RunOutcome]:
    """Train a confirmation and a run of the incumbent in turns, and record both; the challenger's outcome is the first.

    Both are made again when either says nothing about its code, for the reasons of `train`.
    """
    theirs = _next_run(incumbent)
    sides = [
        Attempt(session, challenger, run, duel=(incumbent.number, theirs)),
        Attempt(session, incumbent, theirs, duel=(challenger.number, run)),
    ]
    return _train_all(session, disk_space, sides)


def _next_run(incumbent: Experiment) -> int:
    """The index of the incumbent's run in a duel: that of its last one where this was cut off, else a new one."""
    last = incumbent.runs[-1]
    is_cut_off = last.status is Status.INTERRUPTED and last.attempts < MOST_ATTEMPTS
    return last.index if is_cut_off else last.index + 1


class Attempt:
    """One training under way, and what the session records of it."""

    def __init__(self, session: Session, experiment: Experiment, run: int, duel: tuple[int, int] | None = None) -> None:
        self.session, self.experiment, self.run, self.duel = session, experiment, run, duel
        self.paths = session.study.experiment(experiment.number)
        self.training = _training(session, experiment, run)
        self.monitor = Monitor(session, experiment, run, is_shown=duel is None or experiment.status is None)
        self.listener = session.listener(
            self.training.token, on_metrics=self.monitor.at_point, on_tick=self.monitor.at_clock
        )
        self.where = {"experiment": experiment.number, "run": run}
        self.sandbox, self.has_begun, self.has_trained = "", False, False
        self.measured: dict[str, Any] = {}
        self.overtime = ""  # how far it worked beyond its budget; "" when it did not

    def begin(self) -> RunOutcome | None:
        """Record that it starts; the outcome of code that is refused without a training, else None."""
        check_prepare_py(self.session.study)
        made_again = forgotten(self.session, self.paths.of_run(self.run))
        self.sandbox = self.session.used_sandbox(is_next=True)
        facts = {"seed": self.training.seed, "sandbox": self.sandbox, **made_again}
        facts |= {"duel": self.duel} if self.duel else {}
        facts |= {"slot": self.session.slot_name} if self.session.slot_name else {}
        facts |= {"machine": self.session.machine} if self.session.machine else {}
        if asked := grounds_of_confirmation(self.experiment, self.run, self.session.state):
            facts["rule"] = recorded(asked)
        self.session.history.append("started", **self.where, **facts)
        self.has_begun = True
        refused = _refused(self.experiment, self.training)
        self.has_trained = refused is None
        return refused

    def judge(self, outcome: RunOutcome) -> RunOutcome:
        """The outcome with what was measured; a timeout where it worked too long beyond its budget."""
        self.measured = self.monitor.measured(outcome.measured)
        self.overtime = _overtime(self.session, self.experiment, outcome, self.measured)
        if self.overtime:
            return replace(outcome, status=Status.TIMEOUT, reason=self.overtime, artefact=None)
        return outcome

    def interrupt(self, cause: Cause, why: str) -> None:
        """Record that it does not count."""
        if cause is Cause.FULL_DISK:
            remove_tree(self.paths.handover(self.run))  # which may be what filled it
        interrupted(self.session, self.experiment, self.run, cause, why, self.measured)

    def record(self, outcome: RunOutcome) -> None:
        """Record that it has ended; with its sandbox where another worker than was expected trained it, in another."""
        sandbox = self.session.used_sandbox() if self.has_trained else self.sandbox
        self.session.history.append(
            "trained",
            **self.where,
            **({"sandbox": sandbox} if sandbox != self.sandbox else {}),
            status=outcome.status,
            reason=outcome.reason,
            measured=self.measured,
            files=self.session.hashes(*self.paths.trained(self.run)),
        )


def _train_all(session: Session, disk_space: DiskSpace, attempts: Sequence[Attempt]) -> list[RunOutcome]:
    """Train one code alone, or two in turns, and record what came of it."""
    session.slept_before, first = session.clock.slept_seconds(), attempts[0]
    try:
        outcomes = _outcomes(session, attempts)
    except MachineFailed as failure:
        causes = session.state.experiments[first.experiment.number].runs[first.run].causes
        is_again = len(attempts) == 1 and failure.may_be_the_code and Cause.DIED in causes
        for attempt in () if is_again else attempts:
            attempt.interrupt(Cause.DIED if failure.may_be_the_code else Cause.NOT_STARTED, str(failure))
        if not is_again:
            raise
        outcomes = [RunOutcome(Status.CRASH, str(failure), None, None)]
    except (KeyboardInterrupt, StopNow) as stop:
        for attempt in attempts:
            if attempt.has_begun:
                _stopped(session, attempt.experiment, attempt.run, stop)
        raise
    session.forget(*(attempt.training.token for attempt in attempts))
    outcomes = [attempt.judge(outcome) for attempt, outcome in zip(attempts, outcomes, strict=True)]
    slept = session.clock.slept_seconds() - session.slept_before
    for attempt, outcome in zip(attempts, outcomes, strict=True):
        if void := _Ended(attempt, slept).void(outcome, session, disk_space):
            return _made_again(session, attempts, outcomes, attempt, *void)
    _check_prepare_py(session, attempts)
    for attempt, outcome in zip(attempts, outcomes, strict=True):
        attempt.record(outcome)
    return [replace(outcome, measured=a.measured) for a, outcome in zip(attempts, outcomes, strict=True)]


def _check_prepare_py(session: Session, attempts: Sequence[Attempt]) -> None:
    """Raises StudyError when prepare.py changed while these trained: they count neither for nor against their code."""
    try:
        check_prepare_py(session.study)
    except StudyError:
        for attempt in attempts:
            attempt.interrupt(Cause.ASKED, PREPARE_CHANGED)
        raise


def _outcomes(session: Session, attempts: Sequence[Attempt]) -> list[RunOutcome]:
    """What the backend makes of them; that of a code which is refused costs no training."""
    refused = [attempt.begin() for attempt in attempts]
    first = attempts[0]
    session.tell(Progress("starting", first.experiment.number, first.run, first.experiment.hypothesis))
    if len(attempts) == 1:
        return [refused[0] or session.backend.train(first.training, first.listener)]
    assert session.backend.duel is not None, "a duel is only due where the backend can make one"
    first, second = attempts
    return list(session.backend.duel((first.training, second.training), (first.listener, second.listener)))


def _made_again(
    session: Session,
    attempts: Sequence[Attempt],
    outcomes: Sequence[RunOutcome],
    whose: Attempt,
    cause: Cause,
    why: str,
) -> list[RunOutcome]:
    """Record that the trainings do not count, because of what happened to one of them."""
    name = f"Experiment {whose.experiment.number:04d}, run {whose.run + 1}"
    for attempt in attempts:
        attempt.interrupt(cause, why if attempt is whose else f"the other side of its duel: {why}")
    again = "It is trained again" if len(attempts) == 1 else "The duel is made again"
    session.note(f"{name}: {why}. {again}.")
    return [replace(outcome, status=Status.INTERRUPTED, reason=why, artefact=None) for outcome in outcomes]


def forgotten(session: Session, paths: Iterable[Path]) -> dict[str, Any]:
    """The field `files` of an event after which these are made again; none where no hash of them is recorded."""
    names = [path.relative_to(session.study.paths.folder).as_posix() for path in paths]
    known = {name: None for name in names if name in session.state.files}
    return {"files": known} if known else {}


def _refused(experiment: Experiment, training: Training) -> RunOutcome | None:
    """The outcome of an agent's train.py that no budget could end, which is not trained; None for any other."""
    try:
        if experiment.number:
            check_clock(training.source)
    except SourceError as error:
        return RunOutcome(Status.INVALID, str(error), None, None)
    return None


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
    baseline = session.state.usual_runs(session.machine)
    return works_overtime(baseline, measured, session.study.time_budget_seconds)


@dataclass(frozen=True)
class _Ended:
    """A training that has ended, and what was measured from outside."""

    attempt: Attempt
    slept_seconds: float

    def void(self, outcome: RunOutcome, session: Session, disk_space: DiskSpace) -> tuple[Cause, str] | None:
        """Why the training says nothing about its code; None when it does.

        Except for sleep, a second time under the same run index is taken to be the experiment's own doing.
        """
        attempt = self.attempt
        causes = session.state.experiments[attempt.experiment.number].runs[attempt.run].causes
        if self.slept_seconds > LONGEST_NAP_SECONDS:
            return Cause.SLEPT, f"the machine slept for {duration(self.slept_seconds)} while it trained"
        if outcome.status is Status.CRASH and Cause.FULL_DISK not in causes and (lack := disk_space.after_crash()):
            return Cause.FULL_DISK, f"it failed on a full disk: {lack}"
        if outcome.status is Status.CRASH and outcome.measured.get("exit_code") == -signal.SIGKILL:
            return None if OF_THE_MACHINE & set(causes) else (Cause.KILLED, f"something killed it: {outcome.reason}")
        return self._of_busy_machine(outcome, session.state, causes)

    def _of_busy_machine(
        self, outcome: RunOutcome, state: StudyState, causes: Sequence[Cause]
    ) -> tuple[Cause, str] | None:
        """Only of a challenger: a run of the incumbent shows what speed the machine has."""
        experiment, measured = self.attempt.experiment, self.attempt.measured
        machine = self.attempt.session.machine
        incumbent = state.reference_for(experiment, machine)
        if experiment.number == 0 or experiment.status is not None or incumbent is None:
            return None
        if overtime := self.attempt.overtime:
            is_machine = is_busy(measured, incumbent.runs) or starts_slower(state.usual_runs(machine), measured)
            why = f"it {overtime}, and the machine was slower than for the incumbent"
            return (Cause.OVERTIME, why) if is_machine and OF_THE_MACHINE & set(causes) <= {Cause.SLOW} else None
        if self.attempt.duel is not None:  # the incumbent met the same machine
            return None
        if outcome.status in (None, Status.DISCARD) and (why := void_by_speed(measured, incumbent, causes)):
            is_slow = measured["relative_machine_speed"] < 1
            return Cause.SLOW if is_slow else Cause.FAST, why
        return None
