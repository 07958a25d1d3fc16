"""The loop: asks `next_step` what comes next, executes it, and again.

`research` is a generator, so the caller owns the loop: the overnight run iterates to the end, a lesson takes one
experiment and looks at it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

from ..core.agent import Agent, NothingToPropose
from ..core.decide import improvement, mean
from ..core.drift import at_present_speed, present_speed
from ..core.duel import DuelMode
from ..core.next_step import Action, Step, late_scores, next_step
from ..core.types import Experiment, Limits, Progress, ignore, scores_of
from ..record.study import Study, check_unchanged
from ..run.backend import Backend, Joined
from ..system.explain import explain
from .across import note_workers, on_cluster
from .disk_space import forget_artefacts
from .execute import execute
from .goal import Goal
from .notices import choose_notifier
from .pool import open_pool
from .quiet import AT_START
from .recovery import despite_full_disk, recover
from .session import Watch
from .steering import StopNow
from .steps import Steps, open_session


def research(
    study: Study,
    agent: Agent,
    *,
    experiments: int | None = None,
    hours: float | None = None,
    slot_hours: float | None = None,
    approve: bool | None = None,
    limits: Limits | None = None,
    wait_for_quiet: float | None = None,
    duel: DuelMode | None = None,
    notify: str | None = None,
    watch: Watch = ignore,
    backend: Backend | None = None,
    cluster: str | None = None,
) -> Iterator[Experiment]:
    """Yield each experiment as it is decided; the baseline comes first.

    Example:
        >>> from autoresearch_kernel import SearchAgent, open_study, research
        >>> for experiment in research(open_study("nov23"), SearchAgent(), experiments=10):  # doctest: +SKIP
        ...     print(experiment.number, experiment.status, experiment.val_bpb)

    Args:
        experiments: stop after this many more proposals are decided, the baseline not counted; None for no limit.
        hours: propose nothing after this time; what runs then is finished.
        slot_hours: the same, of all slots of the machine together.
        approve: train nothing that no user has approved; None for as the study has it.
        limits: of what the study spends on language models in all; those it has, where one is None.
        wait_for_quiet: minutes in all that this call may wait before trainings while other processes keep the machine
            busy; None for no wait.
        duel: train a confirmation in turns with the incumbent "always", "never", or "auto", where the machine's speed
            wanders; None for as the study has it.
        notify: a command that is told of news, as with `run --notify`; "none" for no more notices, None for as it was.
        watch: called with what is happening now.
        backend: what trains, scores and audits, and the clock; this machine when left out.
        cluster: address of the scheduler of a Dask cluster whose workers are the backend; `local` is for the command.

    A study that was cut off is resumed where its history ends, and the supervisor waits while the disk is full. Raises
    StudyError when it cannot go on (a changed prepare.py or corpus, a baseline that does not train, an agent that fails
    again and again), StudyInUse when another process runs it. A study that a user stops ends without an exception.
    While an agent cannot answer, the study pauses.
    """
    check_unchanged(study)
    choose_notifier(study, notify)
    with (
        on_cluster(study, cluster, backend, study.agent) as chosen,
        open_session(study, watch, chosen) as session,
        ended_on_record(session),
    ):
        note_workers(session, cluster)
        goal = Goal(session, experiments, hours, slot_hours)
        session.enough, session.left = goal.reached, goal.left
        session.limit(limits or Limits())
        session.require_approval(approve)
        session.choose_duels(duel)
        session.quiet.allow(wait_for_quiet)
        session.quiet.look(AT_START)
        despite_full_disk(session, lambda: recover(session))
        goal.begin()
        num_slots = session.backend.num_slots or study.num_slots
        champion = (yield from _one_by_one(session, agent, goal)) if num_slots == 1 else Joined()
        if isinstance(champion, Joined):
            with open_pool(session, num_slots) as pool:
                pool.joined = champion
                champion = yield from pool.run(agent, goal)
        despite_full_disk(session, lambda: conclude(session, champion, goal.why_ending))


def _one_by_one(session: Steps, agent: Agent, goal: Goal) -> Generator[Experiment, None, int | Joined]:
    """Yield each experiment as it is decided; returns the number of the champion, to be concluded.

    Returns machines that have joined meanwhile, once no experiment is in work: the study goes on with several slots.
    """
    step: Step | None = None
    joined = Joined()
    while step is None or step.action is not Action.CONCLUDE:
        joined = joined if joined.slots else _joined(session)
        is_between = session.state.incumbent is not None and session.state.unfinished is None
        if joined.slots and is_between and not goal.why_ending:
            return joined
        try:
            step = despite_full_disk(session, lambda: _advance(session, agent, goal))
        except NothingToPropose as end:
            session.note(str(end))
            goal.why_ending = end.reason
        yield from goal.news()
    return step.experiment


def _joined(session: Steps) -> Joined:
    """What has joined a study with one slot, which is asked at each step; what is no new slot is noted here."""
    joined = Joined() if session.backend.joined is None else session.backend.joined({""})
    if joined.words and not joined.slots:
        session.note(joined.words)
    return joined


def _advance(session: Steps, agent: Agent, goal: Goal) -> Step:
    """Execute the next step, unless it is CONCLUDE, and return it.

    Between two experiments, first hear whether users want a pause, or whether the goal is reached.
    """
    unfinished = session.state.unfinished
    if unfinished is None:
        session.steering.check()
        goal.look()
        session.purpose = "conclusion" if goal.why_ending else "experiment"
    elif not goal.why_ending and not goal.reached(1):
        session.proposals.think_ahead(agent)
    step = next_step(session.state, is_ending=bool(goal.why_ending))
    if step.action is not Action.CONCLUDE:
        execute(session, step, agent)
    return step


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


def settle(session: Steps) -> Experiment:
    """Take the undecided experiment to its decision, from wherever it stands."""
    unfinished = session.state.unfinished
    assert unfinished is not None, "settle() needs a proposed experiment"
    while session.state.unfinished is not None:
        execute(session, next_step(session.state))
    return session.state.experiments[unfinished.number]


def conclude(session: Steps, number: int, reason: str) -> None:
    """Record what a study found: the champion with its fresh runs against the baseline."""
    champion = session.state.experiments[number].on("")
    if (failed := champion.runs[-1]).status is not None:
        session.note(f"A last run of experiment {number:04d} failed: {failed.reason}")
    session.history.append("finished", reason=reason, **_findings(session, champion))
    forget_artefacts(session.study, session.state)
    session.show(session.state.experiments[number])


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
