"""Executes one step of a study, and what belongs to it: notes, audits that refuse, views."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from ..core.agent import Agent
from ..core.decide import mean
from ..core.drift import at_present_speed, present_speed
from ..core.errors import MachineFailed
from ..core.next_step import MOST_ATTEMPTS, Action, Step, of_decided, of_last_run, why_alone
from ..core.types import Experiment, Status, scores_of
from ..record.study import StudyError
from ..system.shell import shell_command
from .disk_space import forget_artefacts
from .evaluation import audit_run, refuse
from .question import AgentFailed
from .steps import Steps

MACHINE_WAITS_SECONDS = (5.0, 60.0, 600.0)  # before a step is tried again that the machine has failed
AGENT_WAITS_SECONDS = (5.0, 30.0, 120.0, 600.0)  # before an agent that failed is asked again

T = TypeVar("T")


def execute(session: Steps, step: Step, agent: Agent | None = None) -> None:
    """Execute a step that `next_step` returned; CONCLUDE is the caller's.

    A failure of the machine or of this program counts against no experiment: the step is tried again, but the
    baseline's and those that a user takes by hand are not. Raises NothingToPropose, StopNow, and StudyError when the
    baseline fails, or when the agent or the machine fails again and again.
    """

    def act(is_again: bool) -> None:  # again alone and not in a duel, so that it is clear whose fault it is
        _execute(session, replace(step, against=None) if is_again else step, agent)

    despite_machine(session, act)


def despite_machine(session: Steps, act: Callable[[bool], T]) -> T:
    """What `act` returns; after a while it is called again, with True, where the machine fails.

    Raises StudyError when the machine fails again and again, and at once where a user waits for the answer.
    """
    is_attended = session.is_interactive or session.state.incumbent is None
    for i, wait_seconds in enumerate((*(() if is_attended else MACHINE_WAITS_SECONDS), None)):
        try:
            return act(i > 0)
        except MachineFailed as failure:
            if wait_seconds is None:
                raise StudyError(
                    f"{str(failure).rstrip('.')}. This is not the experiment's fault, and nothing was counted against "
                    f"it. `{shell_command('doctor')}` checks the machine; the same command then goes on."
                ) from failure
            session.note(f"{failure} This is not the experiment's fault; it is tried again in {wait_seconds:g} s.")
            session.steering.wait_seconds(wait_seconds)
            session.steering.end_if_stopping()
    raise AssertionError("the last attempt returns or raises")


def _execute(session: Steps, step: Step, agent: Agent | None) -> None:
    if step.action is Action.PROPOSE:
        assert agent is not None, "a proposal needs an agent"
        _propose(session, agent)
        return
    experiment = session.state.experiments[step.experiment]
    session.purpose, session.why = _purpose(session, experiment), step.why if step.action is Action.TRAIN else ""
    match step.action:
        case Action.TRAIN:
            _train(session, experiment, step)
        case Action.SCORE:
            _score(session, experiment, step.run)
        case Action.AUDIT:
            _audit(session, experiment, step.run)
        case Action.DECIDE:
            decided = session.decide(step)
            forget_artefacts(session.study, session.state)
            session.show(decided)
    if step.action is not Action.DECIDE:
        _stop_without_baseline(session, step)


def _purpose(session: Steps, experiment: Experiment) -> str:
    if experiment.status is None:
        return "experiment" if experiment.number else "baseline"
    return session.purpose if session.purpose in ("conclusion", "result") else "rerun"


def _propose(session: Steps, agent: Agent) -> None:
    """Ask the agent, again and again for a while when it fails: a network that is gone for a minute ends no study."""
    session.purpose, session.why = "experiment", ""
    for wait_seconds in (*AGENT_WAITS_SECONDS, None):
        try:
            session.propose(agent)
            return
        except AgentFailed as failure:
            if wait_seconds is None:
                raise StudyError(
                    f"The agent {agent.name!r} failed {len(AGENT_WAITS_SECONDS) + 1} times, last with {failure}. "
                    "Everything decided is recorded; the same command goes on."
                ) from failure
            session.note(f"The agent {agent.name!r} failed ({failure}); it is asked again in {wait_seconds:g} s.")
            session.steering.wait_seconds(wait_seconds)
            session.steering.end_if_stopping()


def _train(session: Steps, experiment: Experiment, step: Step) -> None:
    if step.why:
        who = "The baseline" if experiment.number == 0 else f"Experiment {experiment.number:04d}, the incumbent,"
        session.note(f"{who} runs again: {step.why}.")
    session.quiet.look_before(experiment, step)
    if step.against is not None:
        incumbent = session.state.experiments[step.against]
        session.note(f"Experiment {experiment.number:04d} meets the incumbent {incumbent.number:04d} in a duel.")
        session.duel(experiment, step.run, incumbent)
        return
    _say_no_duel(session, experiment, step.run)
    session.train(experiment, step.run)


def _say_no_duel(session: Steps, experiment: Experiment, run: int) -> None:
    """Tell the user who asked for duels why this confirmation is none."""
    is_confirmation = experiment.number > 0 and run > 0 and experiment.status is None
    why = why_alone(experiment, session.state) if is_confirmation and session.state.duels == "always" else ""
    if why:
        session.note(f"Experiment {experiment.number:04d} is confirmed by a run alone and in no duel, because {why}.")


def _score(session: Steps, experiment: Experiment, run: int) -> None:
    """Score a run; train it again when its model is gone."""
    if session.study.experiment(experiment.number).artefact(run).exists():
        session.score(experiment, run)
        _show_rerun(session, experiment)
    else:
        session.note(f"The model of experiment {experiment.number:04d}, run {run + 1}, is gone; it trains again.")
        session.train(experiment, run)


def _audit(session: Steps, experiment: Experiment, run: int) -> None:
    """Audit a run; train it again when its model is gone."""
    if audit_run(session, experiment, run) is None:
        if experiment.runs[run].attempts < MOST_ATTEMPTS:
            session.note(f"The model of experiment {experiment.number:04d}, run {run + 1}, is gone; it trains again.")
            session.train(experiment, run)
            return
        refuse(session, experiment, run, "its model or its scores were gone, twice, when the audit was due")
    _show_rerun(session, experiment)


def _show_rerun(session: Steps, before: Experiment) -> None:
    """After a later run of a decided experiment: say what it has changed, and draw it."""
    experiment = session.state.experiments[before.number]
    if before.status is None:
        return
    if experiment.status is not Status.KEEP:  # the audit refused the run, so it is no longer kept
        session.commits.reconcile()
    elif of_decided(experiment) is not None:
        return
    elif (runs := experiment.on(session.machine).runs)[-1].val_bpb is not None and len(runs) > 1:
        old = scores_of(at_present_speed(runs[:-1], session.state.noise.like_speed))
        new = scores_of(at_present_speed(runs, session.state.noise.like_speed))
        means = f": mean {mean(old):.4f} → {mean(new):.4f}" if old and new else ""  # an earlier run may have failed
        session.note(
            f"Experiment {experiment.number:04d} ran again{means}, the machine at "
            f"{present_speed(session.state.experiments):.2f} times its speed at the start."
        )
    session.show(experiment)


def _stop_without_baseline(session: Steps, step: Step) -> None:
    """Raises StudyError when the run that just ended was the baseline's and it failed: nothing can be compared."""
    experiment = session.state.experiments[step.experiment]
    run = experiment.runs[step.run]
    if step.experiment == 0 and experiment.status is None and run.status not in (None, Status.INTERRUPTED):
        paths = session.study.experiment(0)
        what = "was refused by the audit" if run.status is Status.REJECTED else "did not train"
        raise StudyError(
            f"The baseline {what} ({run.status}): {run.reason}. Its notebook and log are in {paths.folder}. "
            f"The same command tries it again; to begin with another train.py, remove {session.study.paths.folder}."
        )


def one_more_run(session: Steps, number: int) -> Step:
    """What the last run of a decided experiment lacks, else the training of one more run."""
    experiment = session.state.experiments[number]
    return of_last_run(experiment) or Step(Action.TRAIN, number, experiment.next_run)
