"""Dry run: trains a proposal for a few steps and scores it before the study spends its budget.

A typing error or too large a batch then costs seconds. What a dry run leaves is not recorded as a result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from ..core.errors import MachineFailed
from ..core.format import number
from ..core.types import Progress, Proposal, RunOutcome, Status
from ..record.archive import failure_output
from ..record.study import sha256
from ..run.training import Training, new_token
from ..scoring.job import HeldOut
from ..scoring.scorer_process import ScoringFailed
from ..system.machine import LONGEST_NAP_SECONDS
from ..system.untrusted_files import remove_tree
from .disk_space import DiskSpace
from .session import Session

NUM_STEPS = 3  # the second one runs on the memory that the first one left behind
LONGEST_SECONDS = 60.0  # for the steps, on top of the study's allowances
LEAST_SECONDS = 40.0  # for all of it, in a study of short runs
SCORING_SECONDS = 10.0  # of these, kept for the scorer, whose own start takes two
BUDGETS = 2.0  # all of it may take as long as so many trainings ...
BASELINES = 4.0  # ... or as so many times what the baseline needs beside its training, such as compilation

T = TypeVar("T")


def dry_run(session: Session, disk_space: DiskSpace, proposal: Proposal, number: int) -> str:
    """What goes wrong in the first steps, with the traceback; "" when nothing does.

    No code is tried twice. A proposal whose dry run never ended, as when it takes the machine down, passes: the
    experiment itself is guarded against that. So does one whose dry run was spoilt by sleep or a full disk.
    """
    digest, clock = sha256(proposal.train_source), session.clock
    if digest in session.state.dry_runs:
        return session.state.dry_runs[digest]
    disk_space.make()
    facts = {"experiment": number, "train_sha256": digest}
    session.history.append("dry_run", **facts, ended=None)
    begun, slept = clock.monotonic(), clock.slept_seconds()
    try:
        with session.telling(Progress("dry run", number, hypothesis=proposal.hypothesis)):
            failure = _failure(session, proposal, number)
    except BaseException:
        session.history.append("dry_run", **facts, ended="", void=True)
        raise
    is_void = bool(failure) and (clock.slept_seconds() - slept > LONGEST_NAP_SECONDS or disk_space.lacks() != "")
    failure = "" if is_void else failure
    seconds = round(clock.monotonic() - begun, 2)
    record = session.history.append("dry_run", **facts, ended=failure, seconds=seconds, void=is_void)
    return str(record["ended"])  # without what tells who the user is


def _failure(session: Session, proposal: Proposal, number: int) -> str:
    study, training = session.study, _training(session, proposal, number)
    try:
        outcome = _train(session, training)
    except MachineFailed as failure:
        if not failure.may_be_the_code:
            raise
        return f"crash: {failure}"
    if outcome.status is not None or outcome.artefact is None:
        has = f": within this limit a dry run sets up, compiles, makes {NUM_STEPS} steps and evaluates"
        why = has if outcome.status is Status.TIMEOUT else ""
        return f"{outcome.status}: {outcome.reason}{why}\n{failure_output(training.paths)}".strip()
    rows = _random_rows(session.heldout, study.facts["scoring"]["rows_per_batch"])
    left = training.limit_seconds - _seconds(outcome.measured, "total_seconds")
    own = {"may_quote": True, "limit_seconds": SCORING_SECONDS + max(0.0, left)}
    job = session.scoring_job(outcome.artefact, rows, **own)
    try:
        _once_more_where_lost(lambda: session.backend.score(replace(job, token=new_token())))
    except ScoringFailed as failure:
        return f"The model that it handed over could not be scored: {failure}"
    except MachineFailed as failure:
        if not failure.may_be_the_code:
            raise
        return f"The model that it handed over could not be scored, and this ended its worker twice: {failure}"
    remove_tree(training.paths.folder)
    return ""


def _train(session: Session, training: Training) -> RunOutcome:
    """Train, and once more where the worker, or what executes the notebook, ended meanwhile. Raises MachineFailed.

    Each time has a token of its own: a worker that answers again ends whatever has the first one.
    """

    def train() -> RunOutcome:
        remove_tree(training.paths.folder)
        training.paths.folder.mkdir(parents=True)
        token = new_token()
        listener = session.listener(token, on_tick=lambda seconds: session.tick())
        try:
            return session.backend.train(replace(training, token=token), listener)
        finally:
            session.forget(token)

    return _once_more_where_lost(train)


def _once_more_where_lost(act: Callable[[], T]) -> T:
    """What `act` returns; it is called once more where the code may have ended what runs it: only twice says so."""
    try:
        return act()
    except MachineFailed as failure:
        if not failure.may_be_the_code:
            raise
    return act()


def limit_seconds(session: Session) -> float:
    """Seconds that all of a dry run may take, the scorer too: few where a training is short."""
    facts, budget = session.study.facts, session.study.time_budget_seconds
    most = facts["startup_allowance_seconds"] + facts["handover_allowance_seconds"] + min(budget, LONGEST_SECONDS)
    runs = session.state.experiments[0].runs if session.state.experiments else []
    beside = [_seconds(run.measured, "overhead_seconds") for run in runs]
    return float(min(most, max(LEAST_SECONDS, BUDGETS * budget, BASELINES * max(beside, default=0.0))))


def _seconds(measured: Mapping[str, Any], name: str) -> float:
    return number(measured.get(name)) or 0.0


def _training(session: Session, proposal: Proposal, number: int) -> Training:
    study = session.study
    # The code sees the budget of the study; the limit of the whole leaves it less.
    limit = limit_seconds(session) - SCORING_SECONDS
    return session.training(
        number,
        source=proposal.train_source,
        paths=study.experiment(number).dry_run,
        run=0,
        seed=study.seed,
        title=f"{number:04d} · dry run",
        hypothesis=proposal.hypothesis,
        diff="",
        startup_allowance_seconds=0.0,
        handover_allowance_seconds=limit - study.time_budget_seconds,
        max_steps=NUM_STEPS,
    )


def _random_rows(heldout: HeldOut, num_rows: int) -> HeldOut:
    """Rows like the held-out ones, of random tokens: a traceback that quotes them gives nothing away."""
    rng = np.random.default_rng(0)
    ordinary = np.flatnonzero(heldout.token_bytes > 0)
    rows = rng.choice(ordinary, heldout.rows[:num_rows].shape).astype(heldout.rows.dtype)
    rows[:, 0] = heldout.rows[0, 0]  # BOS, with which each row begins
    return replace(heldout, rows=rows)
