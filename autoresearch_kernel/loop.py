"""One experiment after another: the only module that knows the order of the steps.

`research` is a generator, so the caller owns the loop: the overnight run iterates to the end, a
lesson takes one experiment and looks at it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from .judge.decide import NUM_BASELINE_RUNS, best, improvement
from .judge.score import HeldOut, ScoringFailed, ScoringSettings, score
from .propose.agent import Agent, NothingToPropose
from .record.experiment import Experiment, Run, Status
from .record.study import Study, StudyError, check_unchanged
from .session import Progress, Session, Watch, forget_artefacts, ignore, open_session

MOST_ATTEMPTS = 2  # trainings begun under one run index: one interruption is bad luck, two are the experiment's


def research(
    study: Study, agent: Agent, *, experiments: int | None = None, hours: float | None = None, watch: Watch = ignore
) -> Iterator[Experiment]:
    """Yield each experiment as it is decided; the baseline comes first.

    Args:
        experiments: stop after this many more proposals are decided, the baseline not counted; None for no limit.
        hours: propose nothing after this time; what runs then is finished.
        watch: called with what is happening now.

    A study that was cut off is taken up where its history ends. Raises StudyError when it cannot go on (a changed
    prepare.py or corpus, a baseline that does not train), StudyInUse when another process runs it.
    """
    check_unchanged(study)
    give_up_at = None if hours is None else time.monotonic() + hours * 3600
    remaining = experiments
    with open_session(study, watch) as session:
        recover(session)
        reason = ""
        while session.state.unfinished or not reason:
            if session.state.unfinished is None:
                try:
                    session.propose(agent)
                except NothingToPropose as end:
                    session.note(str(end))
                    reason = "nothing left to propose"
                    break
            experiment = settle(session)
            if experiment.number > 0 and remaining is not None:
                remaining -= 1
            yield experiment
            reason = _enough(experiments, remaining, hours, give_up_at)
        conclude(session, reason)


def _enough(experiments: int | None, remaining: int | None, hours: float | None, give_up_at: float | None) -> str:
    """Why nothing more is to be proposed; "" while something is."""
    if remaining == 0:
        return f"{experiments} experiments"
    if give_up_at is not None and time.monotonic() >= give_up_at:
        return f"{hours:g} hours"
    return ""


def recover(session: Session) -> None:
    """Bring a study that was cut off to where its history says it is, and its views with it."""
    state = session.state
    for experiment in state.experiments:
        run = experiment.runs[-1] if experiment.runs else None
        if run is not None and run.status is Status.INTERRUPTED and not run.reason:
            reason = "the harness went away while it trained"
            session.history.append("interrupted", experiment=experiment.number, run=run.index, reason=reason)
            session.note(f"Experiment {experiment.number:04d} was interrupted while it trained.")
    if state.decided:
        session.show(state.decided[-1])


def settle(session: Session) -> Experiment:
    """Take the undecided experiment to its decision, from wherever it stands, and show it."""
    while True:
        experiment = session.state.unfinished
        assert experiment is not None, "settle() needs a proposed experiment"
        if _advance(session, experiment):
            continue
        decided = session.decide(experiment)
        if decided is not None:
            forget_artefacts(session.study, session.state)
            session.show(decided)
            return decided
        _train_and_score(session, experiment, experiment.runs[-1].index + 1)


def _advance(session: Session, experiment: Experiment) -> bool:
    """Do what the last run still lacks; False when it lacks nothing and the rule may be asked."""
    run = experiment.runs[-1] if experiment.runs else None
    is_baseline = experiment.number == 0
    if run is None:
        _train_and_score(session, experiment, 0)
    elif run.status is Status.INTERRUPTED and (is_baseline or run.attempts < MOST_ATTEMPTS):
        _train_and_score(session, experiment, run.index)
    elif run.status is None and run.val_bpb is None:
        _score(session, experiment, run)
    elif is_baseline and run.status is not None:  # it failed in an earlier session, whatever it was may be mended
        _train_and_score(session, experiment, run.index + 1)
    else:
        return False
    return True


def _train_and_score(session: Session, experiment: Experiment, run: int) -> None:
    outcome = session.train(experiment, run)
    if outcome.status is None:
        session.score(experiment, run)
    _stop_without_baseline(session, experiment.number)


def _score(session: Session, experiment: Experiment, run: Run) -> None:
    """Score a run that trained in an earlier session; train again when its model is gone."""
    if session.study.experiment(experiment.number).artefact(run.index).exists():
        session.score(experiment, run.index)
        _stop_without_baseline(session, experiment.number)
    else:
        session.note(f"The model of experiment {experiment.number:04d}, run {run.index + 1}, is gone; it trains again.")
        _train_and_score(session, experiment, run.index)


def _stop_without_baseline(session: Session, number: int) -> None:
    """Raises StudyError when the run that just ended was the baseline's and it failed: nothing can be compared."""
    run = session.state.experiments[number].runs[-1]
    if number == 0 and run.status is not None:
        paths = session.study.experiment(0)
        raise StudyError(
            f"The baseline did not train ({run.status}): {run.reason}. Its notebook and log are in {paths.folder}. "
            f"The same command tries it again; to begin with another train.py, remove {session.study.paths.folder}."
        )


def conclude(session: Session, reason: str) -> None:
    """Before a figure is published: run the champion on fresh seeds, then score baseline and champion on test.

    Both then rest on the same number of runs, so the difference is one of means, not a lucky minimum. Should
    another kept experiment turn out to be the best, it becomes the champion and has its runs as well.
    """
    champion = best(session.state.experiments)
    while champion is not None and champion.number > 0 and len(champion.scores) < NUM_BASELINE_RUNS:
        if not _advance(session, champion):
            if champion.runs[-1].status is not None:
                session.note(f"A last run of the champion {champion.number:04d} failed: {champion.runs[-1].reason}")
                break
            _train_and_score(session, champion, champion.runs[-1].index + 1)
        champion = best(session.state.experiments)
    assert champion is not None, "a study is concluded once its baseline is decided"
    session.history.append("finished", reason=reason, **_findings(session, champion))
    forget_artefacts(session.study, session.state)
    session.show(champion)


def _findings(session: Session, champion: Experiment) -> dict[str, Any]:
    """Baseline against champion, on validation (means over all runs) and on the sealed test split (one model each)."""
    state = session.state
    baseline = state.experiments[0]
    difference, error = improvement(baseline.scores, champion.scores, state.sigma)
    test_bpb = {number: _test_bpb(session, number) for number in {0, champion.number}}
    return {
        "champion": champion.number,
        "baseline_bpb": baseline.val_bpb,
        "champion_bpb": champion.val_bpb,
        "difference_bpb": difference,
        "difference_standard_error": error,
        "baseline_test_bpb": test_bpb[0],
        "champion_test_bpb": test_bpb[champion.number],
    }


def _test_bpb(session: Session, number: int) -> float | None:
    """Bits per byte of an experiment's first scored model on the test rows; None when that model is gone."""
    study = session.study
    experiment = session.state.experiments[number]
    artefacts = [study.experiment(number).artefact(r.index) for r in experiment.runs if r.val_bpb is not None]
    artefact = next((path for path in artefacts if path.exists()), None)
    if artefact is None:
        return None
    session.watch(Progress("scoring", number, hypothesis="the sealed test split"))
    heldout = HeldOut.load(study.corpus_dir, study.heldout_dir, "test")
    settings = ScoringSettings(**study.facts["scoring"])
    try:
        return score(artefact, heldout, settings, project=study.project).val_bpb
    except ScoringFailed as failure:
        session.note(f"Experiment {number:04d} could not be scored on the test split: {failure}")
        return None
