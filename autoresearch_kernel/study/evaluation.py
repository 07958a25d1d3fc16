"""Scores and audits of one session's models: asks the backend, and records what it answers.

How an audit works is in `scoring/audit.py`; which runs are audited is in `core/next_step.py`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..core.errors import MachineFailed
from ..core.overtime import allowed_scorer_seconds
from ..core.types import Audit, Evaluation, Experiment, Progress, Status
from ..record.study import check_prepare_py
from ..scoring.job import HeldOut, ScoringJob
from ..scoring.scorer_process import ScoringFailed
from .session import Session

T = TypeVar("T")


def ask(
    session: Session,
    question: Callable[[ScoringJob], T],
    about: Progress,
    heldout: HeldOut,
    *,
    artefact: Path | None = None,
    measured: Mapping[str, Any] | None = None,
) -> T:
    """What `question`, a score or an audit, answers about the model of the run that `about` names.

    It is asked once more when its process was killed or slow, as the model is on the disk. `artefact` and `measured`
    are those of a training that is no run of the experiment. Raises ScoringFailed.
    """
    study, token, state, machine = session.study, secrets.token_hex(16), session.state, ""
    if measured is None:
        run = state.experiments[about.experiment].runs[about.run]
        measured, machine = run.measured, run.machine
    baseline = state.usual_runs(machine) if about.experiment > 0 else ()
    allowed = partial(allowed_scorer_seconds, baseline, measured, study.time_budget_seconds)
    total, num_validated = allowed("answer_seconds"), len(session.heldout.rows)

    def once() -> T:
        job = session.scoring_job(
            artefact or study.experiment(about.experiment).artefact(about.run),
            heldout,
            token=token,
            batch_limit_seconds=allowed("slowest_batch_seconds"),
            total_limit_seconds=total and total * max(1.0, len(heldout.rows) / num_validated),
            on_progress=lambda fraction: session.tell(replace(about, fraction=fraction)),
            on_spawn=lambda pid: session.remember(pid, token),
        )
        return question(job)

    check_prepare_py(study)  # a scorer reads prepare.py
    session.tell(about)
    try:
        answer = once()
    except ScoringFailed as failure:
        if not failure.may_be_the_machine:
            raise
        session.note(f"{failure}; the supervisor asks once more.")
        answer = once()
    session.forget(token)
    check_prepare_py(study)
    return answer


def _ask_of_run(session: Session, question: Callable[[ScoringJob], T], about: Progress) -> T:
    """`ask` for a run of an experiment, on the validation rows.

    Its model may be what ends or freezes a worker. The second worker that is lost over its score, or over its audit,
    counts as the experiment's doing, also where the study was cut off between the two.
    """
    try:
        return ask(session, question, about, session.heldout)
    except MachineFailed as failure:
        if not failure.may_be_the_code:
            raise
        if _has_lost_worker(session, about.experiment, about.run):
            raise ScoringFailed(f"{str(failure).rstrip('.')}, the second one over this model") from failure
        facts = {"phase": about.phase, "reason": str(failure)}
        session.history.append("worker_lost", experiment=about.experiment, run=about.run, **facts)
        raise


def _has_lost_worker(session: Session, experiment: int, run: int) -> bool:
    """Whether a worker was lost over a run since its training began, or since it was scored, before its audit."""
    of_run = (e for e in reversed(session.history.events) if (e.get("experiment"), e.get("run")) == (experiment, run))
    kinds = (event["event"] for event in of_run if event["event"] in ("worker_lost", "started", "scored"))
    return next(kinds, "") == "worker_lost"


def score_run(session: Session, experiment: Experiment, run: int) -> Evaluation | None:
    """Score a run's model and record it; None when it cannot be scored, which counts as a crash."""
    about = Progress("scoring", experiment.number, run, experiment.hypothesis)
    nll_path = session.study.experiment(experiment.number).nll(run)
    record = partial(session.history.append, "scored", experiment=experiment.number, run=run)
    try:
        evaluation = _ask_of_run(session, partial(session.backend.score, nll_path=nll_path), about)
    except ScoringFailed as failure:
        record(status=Status.CRASH, reason=f"scoring failed: {failure}")
        return None
    facts = {name: value for name, value in asdict(evaluation).items() if name != "nll_path"}
    record(**facts, **session.made_with(experiment), files=session.hashes(nll_path))
    return evaluation


def audit_run(session: Session, experiment: Experiment, run: int) -> Audit | None:
    """Audit a scored run and record what came of it; None when its model or its claims are gone."""
    paths = session.study.experiment(experiment.number)
    if not paths.artefact(run).exists() or not paths.nll(run).exists():
        return None
    about = Progress("auditing", experiment.number, run, experiment.hypothesis)
    question = partial(
        session.backend.audit,
        nll=np.load(paths.nll(run)),
        claim_seconds=experiment.runs[run].measured.get("scoring_seconds") or 0.0,
        reference=_reference(session, experiment),
        cuts_path=paths.cuts(run),
        seed=secrets.randbits(128),
    )
    try:
        found = _ask_of_run(session, question, about)
    except ScoringFailed as failure:  # killed or slow twice, it is the model's doing
        found = _refused(f"the audit's process was ended twice: {failure}")
    files = session.hashes(paths.cuts(run))
    session.history.append("audited", experiment=experiment.number, run=run, **asdict(found), files=files)
    if not found.accepted:
        session.note(f"Experiment {experiment.number:04d}, run {run + 1}: the audit refused its score: {found.reason}.")
    return found


def refuse(session: Session, experiment: Experiment, run: int, reason: str) -> None:
    """Record that a run cannot be audited, which refuses its score."""
    session.history.append("audited", experiment=experiment.number, run=run, **asdict(_refused(reason)))


def _refused(reason: str) -> Audit:
    return Audit(False, 0.0, 0.0, 0, 0, reason, 0.0)


def _reference(session: Session, experiment: Experiment) -> np.ndarray | None:
    """Nats per target of what the experiment is compared with, else the baseline's; None where no file holds any."""
    for number in dict.fromkeys((experiment.parent, 0)):
        if number is not None and number != experiment.number:
            for run in reversed(session.state.experiments[number].on(experiment.machine).runs):
                path = session.study.experiment(number).nll(run.index)
                if run.val_bpb is not None and path.exists():
                    return np.asarray(np.load(path))
    return None
