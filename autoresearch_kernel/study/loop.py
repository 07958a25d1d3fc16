"""The loop: asks `next_step` what comes next, executes it, and again.

`research` is a generator, so the caller owns the loop: the overnight run iterates to the end, a lesson takes one
experiment and looks at it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ..core.agent import Agent, NothingToPropose
from ..core.decide import improvement, mean
from ..core.drift import at_present_speed, present_speed
from ..core.duel import DuelMode
from ..core.format import count
from ..core.next_step import Action, Step, is_drifting, late_scores, next_step
from ..core.types import Cause, Experiment, Limits, Progress, Status, ignore, scores_of
from ..record.study import Study, check_unchanged
from ..run.backend import Backend
from ..show.study_words import drift_words
from ..system.disk import is_full
from ..system.explain import explain
from .disk_space import forget_artefacts
from .execute import execute
from .notices import choose_notifier
from .quiet import AT_START
from .session import Watch
from .steering import StopNow
from .steps import Steps, open_session
from .train import interrupted

FULL_DISK_SECONDS = 1.0  # before a step that found the disk full is tried again
GONE = "the supervisor went away while it trained"

T = TypeVar("T")


def research(
    study: Study,
    agent: Agent,
    *,
    experiments: int | None = None,
    hours: float | None = None,
    approve: bool | None = None,
    limits: Limits | None = None,
    wait_for_quiet: float | None = None,
    duel: DuelMode | None = None,
    notify: str | None = None,
    watch: Watch = ignore,
    backend: Backend | None = None,
) -> Iterator[Experiment]:
    """Yield each experiment as it is decided; the baseline comes first.

    Example:
        >>> from autoresearch_kernel import SearchAgent, open_study, research
        >>> for experiment in research(open_study("nov23"), SearchAgent(), experiments=10):  # doctest: +SKIP
        ...     print(experiment.number, experiment.status, experiment.val_bpb)

    Args:
        experiments: stop after this many more proposals are decided, the baseline not counted; None for no limit.
        hours: propose nothing after this time; what runs then is finished.
        approve: train nothing that no user has approved; None for as the study has it.
        limits: of what the study spends on language models in all; those it has, where one is None.
        wait_for_quiet: minutes in all that this call may wait before trainings while other processes keep the machine
            busy; None for no wait.
        duel: train a confirmation in turns with the incumbent "always", "never", or "auto", where the machine's speed
            wanders; None for as the study has it.
        notify: a command that is told of news, as with `run --notify`; "none" for no more notices, None for as it was.
        watch: called with what is happening now.
        backend: what trains, scores and audits, and the clock; this machine when left out.

    A study that was cut off is resumed where its history ends, and the supervisor waits while the disk is full. Raises
    StudyError when it cannot go on (a changed prepare.py or corpus, a baseline that does not train, an agent that fails
    again and again), StudyInUse when another process runs it. A study that a user stops ends without an exception.
    While an agent cannot answer, the study pauses.
    """
    check_unchanged(study)
    choose_notifier(study, notify)
    with open_session(study, watch, backend) as session, ended_on_record(session):
        goal = _Goal(session, experiments, hours)
        session.enough, session.left = goal.reached, goal.left
        session.limit(limits or Limits())
        session.require_approval(approve)
        session.choose_duels(duel)
        session.quiet.allow(wait_for_quiet)
        session.quiet.look(AT_START)
        despite_full_disk(session, lambda: recover(session))
        goal.told = len(session.state.decided)
        goal.tried = max(0, goal.told - 1)
        goal.begun = goal.tried
        step: Step | None = None
        while step is None or step.action is not Action.CONCLUDE:
            try:
                step = despite_full_disk(session, lambda: _advance(session, agent, goal))
            except NothingToPropose as end:
                session.note(str(end))
                goal.why_ending = end.reason
            yield from goal.news()
        champion = step.experiment
        despite_full_disk(session, lambda: conclude(session, champion, goal.why_ending))


@dataclass
class _Goal:
    """How far a study goes on, and how far it has come."""

    session: Steps
    experiments: int | None
    hours: float | None
    told: int = 0  # decided experiments that the caller has got
    begun: int = 0  # proposals that were decided before this loop began
    tried: int = 0  # the same now; the baseline is no proposal
    why_ending: str = ""  # why nothing more is proposed; "" while something is
    _end: float | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if self.hours is not None:
            self._end = self.session.clock.real_seconds() + self.hours * 3600

    def reached(self, in_work: int = 0) -> str:
        """Why nothing more is to be proposed, after so many that are in work; "" while something is."""
        if self.experiments is not None and self.tried - self.begun + in_work >= self.experiments:
            return count(self.experiments, "experiment")
        return (
            f"{self.hours:g} hours" if self._end is not None and self.session.clock.real_seconds() >= self._end else ""
        )

    def left(self, in_work: int = 0) -> tuple[int | None, float | None]:
        """Experiments and seconds until nothing more is proposed, after so many that are in work; None for no limit."""
        experiments = None if self.experiments is None else max(0, self.experiments + self.begun - self.tried - in_work)
        seconds = None if self._end is None else max(0.0, self._end - self.session.clock.real_seconds())
        return experiments, seconds

    def news(self) -> Iterator[Experiment]:
        """Experiments that were decided since the last call."""
        for experiment in self.session.state.decided[self.told :]:
            self.told += 1
            self.tried += experiment.number > 0
            yield experiment


def _advance(session: Steps, agent: Agent, goal: _Goal) -> Step:
    """Execute the next step, unless it is CONCLUDE, and return it.

    Between two experiments, first hear whether users want a pause, or whether the goal is reached.
    """
    unfinished = session.state.unfinished
    if unfinished is None:
        session.steering.check()
        _record_drift(session)
        if not goal.why_ending and session.state.incumbent is not None:
            goal.why_ending = goal.reached()
        session.purpose = "conclusion" if goal.why_ending else "experiment"
    elif not goal.why_ending and not goal.reached(1):
        session.proposals.think_ahead(agent, unfinished)
    step = next_step(session.state, is_ending=bool(goal.why_ending))
    if step.action is not Action.CONCLUDE:
        execute(session, step, agent)
    return step


def _record_drift(session: Steps) -> None:
    """Record that the machine has left the speed that it had at the start, or is back at it."""
    state = session.state
    if state.incumbent is None or (is_moved := is_drifting(state)) == state.is_drifting:
        return
    speed = present_speed(state.experiments)
    session.history.append("drift", is_moved=is_moved, machine_speed=round(speed, 4))
    session.watch(Progress("note", text=drift_words(is_moved, speed)))


@contextmanager
def ended_on_record(session: Steps) -> Iterator[None]:
    """Record why a session ended before its time; that a user asked for it is no exception."""
    try:
        yield
    except StopNow as stop:
        session.history.append("stopped", reason=f"asked by {stop}")
        session.watch(Progress("note", text="Stopped. Nothing that was recorded is lost."))
    except BaseException as stop:  # also a panic of a library in Rust, which is no Exception
        reasons = {KeyboardInterrupt: "interrupted by hand", GeneratorExit: "the caller asked for no more"}
        session.history.append("stopped", reason=reasons.get(type(stop)) or explain(stop))
        raise


def despite_full_disk(session: Steps, step: Callable[[], T]) -> T:
    """Do a step; when the disk is full, wait for space and resume from what is recorded."""
    full: OSError | None = None
    while True:
        try:
            if full is not None:
                session.disk_space.wait_after(full)
                recover(session, Cause.FULL_DISK, "the disk was full")
            return step()
        except OSError as error:
            if not is_full(error):
                raise
            full = error
            session.clock.sleep(FULL_DISK_SECONDS)


def recover(session: Steps, cause: Cause = Cause.GONE, reason: str = GONE) -> None:
    """Bring a study that was cut off to where its history says it is, and git and its views with it."""
    resume(session, cause, reason)
    state = session.state
    if state.incumbent is not None and state.incumbent.runs[-1].num_decided > state.incumbent.number:
        session.show(state.incumbent)  # which was run again
    if state.decided:
        session.show(state.decided[-1])


def resume(session: Steps, cause: Cause = Cause.GONE, reason: str = GONE) -> None:
    """The same without the views, which take a second to draw."""
    for experiment in session.state.experiments:
        run = experiment.runs[-1] if experiment.runs else None
        if run is not None and run.status is Status.INTERRUPTED and not run.reason:
            interrupted(session, experiment, run.index, cause, reason)
            session.note(f"Experiment {experiment.number:04d} was interrupted: {reason}. It is trained again.")
    session.commits.reconcile()


def settle(session: Steps) -> Experiment:
    """Take the undecided experiment to its decision, from wherever it stands."""
    unfinished = session.state.unfinished
    assert unfinished is not None, "settle() needs a proposed experiment"
    while session.state.unfinished is not None:
        execute(session, next_step(session.state))
    return session.state.experiments[unfinished.number]


def conclude(session: Steps, number: int, reason: str) -> None:
    """Record what a study found: the champion with its fresh runs against the baseline."""
    champion = session.state.experiments[number]
    if (failed := champion.runs[-1]).status is not None:
        session.note(f"A last run of experiment {number:04d} failed: {failed.reason}")
    session.history.append("finished", reason=reason, **_findings(session, champion))
    forget_artefacts(session.study, session.state)
    session.show(champion)


def _findings(session: Steps, champion: Experiment) -> dict[str, Any]:
    """Baseline against champion on validation rows, means over runs."""
    state = session.state
    baseline = state.experiments[0]
    pair = baseline.scores, champion.scores
    if late := late_scores(baseline, state):
        pair = late, scores_of(at_present_speed(champion.runs, state.noise.like_speed))
    difference, error = improvement(*pair, state.sigma)
    return {
        "champion": champion.number,
        "baseline_bpb": mean(pair[0]),
        "champion_bpb": mean(pair[1]),
        "difference_bpb": difference,
        "difference_standard_error": error,
        "machine_speed": present_speed(state.experiments),
    }
