"""One experiment after another: the only module that knows the order of the steps.

`research` is a generator, so the caller owns the loop: the overnight run iterates to the end, a
lesson takes one experiment and looks at it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from ..core.agent import Agent, NothingToPropose
from ..core.decide import NUM_BASELINE_RUNS, best, improvement, mean
from ..core.drift import at_present_speed, is_much_slower, present_speed, rerun_due, tolerance
from ..core.errors import Plain
from ..core.format import count
from ..core.next_step import audit_due, late_audit_due, rule_says
from ..core.types import Cause, Experiment, Limits, Progress, RunOutcome, Status, scores_of
from ..record.study import Study, StudyError, check_unchanged
from ..system.disk import is_full
from ..system.machine import real_seconds
from .auditing import audit_run, refuse
from .disk_space import forget_artefacts
from .proposals import AgentFailed
from .session import Session, Watch, ignore, open_session
from .steering import StopNow

TRAIN, SCORE = "train", "score"  # what a run may lack
MOST_ATTEMPTS = 2  # trainings begun under one run index: one interruption is bad luck, two are the experiment's
FULL_DISK_SECONDS = 1.0  # before a step that found the disk full is tried again
AGENT_WAITS_SECONDS = (5.0, 30.0, 120.0, 600.0)  # before an agent that failed is asked again

T = TypeVar("T")


def research(
    study: Study,
    agent: Agent,
    *,
    experiments: int | None = None,
    hours: float | None = None,
    approve: bool | None = None,
    limits: Limits | None = None,
    watch: Watch = ignore,
) -> Iterator[Experiment]:
    """Yield each experiment as it is decided; the baseline comes first.

    Example:
        >>> from autoresearch_kernel import SearchAgent, open_study, research
        >>> for experiment in research(open_study("nov23"), SearchAgent(), experiments=10):  # doctest: +SKIP
        ...     print(experiment.number, experiment.status, experiment.val_bpb)

    Args:
        experiments: stop after this many more proposals are decided, the baseline not counted; None for no limit.
        hours: propose nothing after this time; what runs then is finished.
        approve: train nothing that no person has approved; None for as the study has it.
        limits: of what the study spends on language models in all; those it has, where one is None.
        watch: called with what is happening now.

    A study that was cut off is taken up where its history ends, and a full disk is waited for. Raises StudyError when
    it cannot go on (a changed prepare.py or corpus, a baseline that does not train, an agent that fails again and
    again), StudyInUse when another process runs it. What a person asked to stop ends without an exception. While an
    agent cannot answer, the study pauses.
    """
    check_unchanged(study)
    give_up_at = None if hours is None else real_seconds() + hours * 3600
    told = tried = 0

    def enough(in_work: int = 0) -> str:
        """Why nothing more is to be proposed, after so many that are in work; "" while something is."""
        if experiments is not None and told - tried + in_work >= experiments:
            return count(experiments, "experiment")
        return f"{hours:g} hours" if give_up_at is not None and real_seconds() >= give_up_at else ""

    with open_session(study, watch) as session, ended_on_record(session):
        session.enough = enough
        session.limit(limits or Limits())
        session.need_approval(approve)
        despite_full_disk(session, lambda: recover(session))
        told = tried = len(session.state.decided)
        reason = ""
        while session.state.unfinished or not reason:
            try:
                despite_full_disk(session, lambda: _next(session, agent, enough))
            except NothingToPropose as end:
                session.note(str(end))
                reason = end.reason
            for experiment in session.state.decided[told:]:
                told += 1
                tried += experiment.number == 0  # the baseline is no proposal
                yield experiment
            reason = reason or enough()
        despite_full_disk(session, lambda: conclude(session, reason))


@contextmanager
def ended_on_record(session: Session) -> Iterator[None]:
    """Record why a session ended before its time; that a person asked for it is no exception."""
    try:
        yield
    except StopNow as stop:
        session.history.append("stopped", reason=f"asked by {stop}")
        session.watch(Progress("note", text="Stopped. Nothing that was recorded is lost."))
    except (Exception, KeyboardInterrupt, GeneratorExit) as stop:
        words = {KeyboardInterrupt: "interrupted by hand", GeneratorExit: "nobody asked for more"}
        unforeseen = "" if isinstance(stop, Plain | ValueError | RuntimeError | OSError) else f"{type(stop).__name__}: "
        session.history.append("stopped", reason=words.get(type(stop)) or f"{unforeseen}{stop}")
        raise


def despite_full_disk(session: Session, step: Callable[[], T]) -> T:
    """Do a step; when the disk is full, wait for space and take it up from what is recorded."""
    full: OSError | None = None
    while True:
        try:
            if full is not None:
                session.room.wait_after(full)
                recover(session, Cause.FULL_DISK, "the disk was full")
            return step()
        except OSError as error:
            if not is_full(error):
                raise
            full = error
            time.sleep(FULL_DISK_SECONDS)


def _next(session: Session, agent: Agent, enough: Callable[[int], str]) -> None:
    """Finish what is unfinished; else propose and settle something new, unless that is enough or somebody stops it."""
    if session.state.unfinished is None:
        for begin in (look_after_incumbent, lambda session: _propose(session, agent)):
            mind_people(session)
            if enough(0) and session.state.incumbent is not None:
                return
            begin(session)
    unfinished = session.state.unfinished
    if unfinished is not None and not enough(1):
        session.proposals.think_ahead(agent, unfinished)
    settle(session)


def mind_people(session: Session) -> None:
    """Between two trainings: pause while somebody wants that. Raises StopNow when somebody wants the study to end."""
    session.people.wait_while_paused()
    if session.people.stopping:
        raise StopNow(session.people.stopping)


def _propose(session: Session, agent: Agent) -> None:
    """Ask the agent, again and again for a while when it fails: a network that is gone for a minute ends no night."""
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
            session.people.wait_seconds(wait_seconds)
            if session.people.stopping:
                raise StopNow(session.people.stopping) from failure


def recover(
    session: Session, cause: Cause = Cause.GONE, reason: str = "the harness went away while it trained"
) -> None:
    """Bring a study that was cut off to where its history says it is, and git and its views with it."""
    take_up(session, cause, reason)
    state = session.state
    if state.incumbent is not None and state.incumbent.runs[-1].num_decided > state.incumbent.number:
        session.show(state.incumbent)  # which was run again
    if state.decided:
        session.show(state.decided[-1])


def take_up(
    session: Session, cause: Cause = Cause.GONE, reason: str = "the harness went away while it trained"
) -> None:
    """The same without the views, which take a second to draw."""
    for experiment in session.state.experiments:
        run = experiment.runs[-1] if experiment.runs else None
        if run is not None and run.status is Status.INTERRUPTED and not run.reason:
            session.interrupted(experiment, run.index, cause, reason)
            session.note(f"Experiment {experiment.number:04d} was interrupted: {reason}. It is trained again.")
    session.reconcile()


def look_after_incumbent(session: Session) -> None:
    """Run the incumbent again when that is due, and finish such a run that was cut off."""
    incumbent = session.state.incumbent
    if incumbent is None:
        return
    if advance(session, incumbent) or late_audit_due(incumbent) is not None:
        if still_stands(session, incumbent.number):
            session.show(session.state.experiments[incumbent.number])
    elif why := rerun_due(session.state.experiments, incumbent, session.state.sigma):
        _rerun(session, incumbent, why)


def _rerun(session: Session, incumbent: Experiment, why: str) -> None:
    session.note(f"The incumbent {incumbent.number:04d} runs again: {why}.")
    before = session.state.incumbent_bpb
    train_and_score(session, incumbent, incumbent.runs[-1].index + 1)
    if session.state.experiments[incumbent.number].runs[-1].val_bpb is None:
        return  # it was voided, and is made again, or failed
    if not still_stands(session, incumbent.number):
        return
    after, speed = session.state.incumbent_bpb, present_speed(session.state.experiments)
    session.note(
        f"The incumbent {incumbent.number:04d} ran again: {before:.4f} -> {after:.4f}, the machine at {speed:.2f} "
        "times its speed at the start."
    )
    session.show(incumbent)


def settle(session: Session) -> Experiment:
    """Take the undecided experiment to its decision, from wherever it stands, and show it."""
    while True:
        experiment = session.state.unfinished
        assert experiment is not None, "settle() needs a proposed experiment"
        if advance(session, experiment) or ask_the_incumbent(session, experiment):
            continue
        if look_closely(session, experiment):
            continue
        if decided := close(session, experiment):
            return decided
        train_and_score(session, experiment, experiment.runs[-1].index + 1)


def close(session: Session, experiment: Experiment) -> Experiment | None:
    """Decide an experiment and show it; None when the rule wants one more run."""
    decided = session.decide(experiment)
    if decided is not None:
        forget_artefacts(session.study, session.state)
        session.show(decided)
    return decided


def lacks(experiment: Experiment) -> tuple[str, int] | None:
    """What is still to be done, TRAIN or SCORE, and to which run; None when the rule may be asked. A pure function."""
    run = experiment.runs[-1] if experiment.runs else None
    is_baseline = experiment.number == 0
    if run is None:
        return TRAIN, 0
    if run.status is Status.INTERRUPTED and (is_baseline or run.attempts < MOST_ATTEMPTS):
        return TRAIN, run.index
    if run.status is None and run.val_bpb is None:
        return SCORE, run.index
    if is_baseline and experiment.status is None and run.status is not None:  # what made it fail may be mended
        return TRAIN, run.index + 1
    return None


def advance(session: Session, experiment: Experiment) -> bool:
    """Do what the last run still lacks; False when it lacks nothing and the rule may be asked."""
    lacking = lacks(experiment)
    if lacking is None:
        return False
    step, run = lacking
    if step == SCORE:
        score_again(session, experiment, run)
    else:
        train_and_score(session, experiment, run)
    return True


def ask_the_incumbent(session: Session, experiment: Experiment) -> bool:
    """Whether the incumbent ran again because a challenger was slow twice: a slow incumbent means a slow machine."""
    incumbent, run = session.state.incumbent, experiment.runs[-1]
    if incumbent is None or not run.slow or not is_much_slower(run.measured.get("relative_speed")):
        return False
    if advance(session, incumbent):  # such a run was cut off
        if still_stands(session, incumbent.number):
            session.show(session.state.experiments[incumbent.number])
        return True
    if max(r.num_decided for r in incumbent.runs) >= experiment.number:
        return False  # asked already
    _rerun(session, incumbent, f"experiment {experiment.number:04d} was slow twice, which may be the machine")
    return True


def look_closely(session: Session, experiment: Experiment) -> bool:
    """Whether a run was audited, on whose score the rule would keep the experiment or want it once more."""
    run = audit_due(experiment, rule_says(experiment, session.state)[0])
    if run is not None:
        _audit(session, experiment, run)
    return run is not None


def _audit(session: Session, experiment: Experiment, run: int) -> None:
    """Audit a run; train it again when its model is gone."""
    if audit_run(session, experiment, run) is None:
        if experiment.runs[run].attempts < MOST_ATTEMPTS:
            session.note(f"The model of experiment {experiment.number:04d}, run {run + 1}, is gone; it trains again.")
            train_and_score(session, experiment, run)
        else:
            refuse(session, experiment, run, "its model or its scores were gone, twice, when the audit was due")
    _stop_without_baseline(session, experiment.number)


def still_stands(session: Session, number: int) -> bool:
    """Audit the further runs of what was kept; False when one was refused, and it is kept no more."""
    while (run := late_audit_due(session.state.experiments[number])) is not None:
        _audit(session, session.state.experiments[number], run)
    if session.state.experiments[number].status is Status.KEEP:
        return True
    session.reconcile()
    session.show(session.state.experiments[number])
    return False


def train_and_score(session: Session, experiment: Experiment, run: int) -> None:
    outcome = train(session, experiment, run)
    if outcome.status is None:
        session.score(experiment, run)
    _stop_without_baseline(session, experiment.number)


def train(session: Session, experiment: Experiment, run: int) -> RunOutcome:
    """Train once, when there is room for it."""
    session.room.make()
    return session.train(experiment, run)


def score_again(session: Session, experiment: Experiment, run: int) -> None:
    """Score a run that trained in an earlier session; train again when its model is gone."""
    if session.study.experiment(experiment.number).artefact(run).exists():
        session.score(experiment, run)
        _stop_without_baseline(session, experiment.number)
    else:
        session.note(f"The model of experiment {experiment.number:04d}, run {run + 1}, is gone; it trains again.")
        train_and_score(session, experiment, run)


def _stop_without_baseline(session: Session, number: int) -> None:
    """Raises StudyError when the run that just ended was the baseline's and it failed: nothing can be compared."""
    experiment = session.state.experiments[number]
    run = experiment.runs[-1]
    if number == 0 and experiment.status is None and run.status not in (None, Status.INTERRUPTED):
        paths = session.study.experiment(0)
        what = "was refused by the audit" if run.status is Status.REJECTED else "did not train"
        raise StudyError(
            f"The baseline {what} ({run.status}): {run.reason}. Its notebook and log are in {paths.folder}. "
            f"The same command tries it again; to begin with another train.py, remove {session.study.paths.folder}."
        )


def conclude(session: Session, reason: str) -> None:
    """Run the champion on fresh seeds, until it has as many runs as the baseline: a difference of means.

    A night that nobody looks after so ends with a validation figure that is no lucky minimum, and `finish`, which opens
    the sealed test split, need not make these runs again. On a machine that is no longer what it was, the baseline runs
    again beside the champion: else the difference would be the machine's.
    """
    mind_people(session)
    champion = best(session.state.experiments)
    assert champion is not None, "a study is concluded once its baseline is decided"
    if len(champion.scores) < NUM_BASELINE_RUNS:
        _tell(session, f"Experiment {champion.number:04d}, the incumbent, runs again with fresh seeds")
    _run_until(session, champion.number, lambda experiment: len(experiment.scores))
    if not still_stands(session, champion.number):
        return conclude(session, reason)
    if champion.number > 0 and _machine_moved(session):
        _tell(session, "The machine's speed has changed, so the baseline runs again as well")
        _run_until(session, 0, lambda baseline: len(_late_scores(session, baseline)))
        session.show(session.state.experiments[0])
    champion = session.state.experiments[champion.number]
    session.history.append("finished", reason=reason, **_findings(session, champion))
    forget_artefacts(session.study, session.state)
    session.show(champion)


def _tell(session: Session, what: str) -> None:
    """Why the study still trains although its last experiment is decided; not a matter for the record."""
    text = f"{what}, until there are {NUM_BASELINE_RUNS} runs of each to compare."
    session.watch(Progress("note", text=text))


def _run_until(session: Session, number: int, count: Callable[[Experiment], int]) -> None:
    """Train a decided experiment on fresh seeds until `count` says that it has as many runs as a baseline has."""
    while count(experiment := session.state.experiments[number]) < NUM_BASELINE_RUNS:
        mind_people(session)
        if not advance(session, experiment):
            if experiment.runs[-1].status is not None:
                session.note(f"A last run of experiment {number:04d} failed: {experiment.runs[-1].reason}")
                return
            train_and_score(session, experiment, experiment.runs[-1].index + 1)


def _machine_moved(session: Session) -> bool:
    """Whether the machine's speed differs from the start's by more than scores bear."""
    factor = tolerance(session.state.sigma)
    return not 1 / factor <= present_speed(session.state.experiments) <= factor


def _late_scores(session: Session, experiment: Experiment) -> tuple[float, ...]:
    """Of the runs that began after the last decision: beside the champion's last ones."""
    return scores_of(run for run in experiment.runs if run.num_decided == len(session.state.decided))


def _findings(session: Session, champion: Experiment) -> dict[str, Any]:
    """Baseline against champion on validation rows, means over runs."""
    state = session.state
    baseline = state.experiments[0]
    pair = baseline.scores, champion.scores
    if late := _late_scores(session, baseline):
        pair = late, scores_of(at_present_speed(champion.runs, state.sigma))
    difference, error = improvement(*pair, state.sigma)
    return {
        "champion": champion.number,
        "baseline_bpb": mean(pair[0]),
        "champion_bpb": mean(pair[1]),
        "difference_bpb": difference,
        "difference_standard_error": error,
        "machine_speed": present_speed(state.experiments),
    }
