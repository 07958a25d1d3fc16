"""A few steps of a proposal before its budget is spent: run, handed over and scored as an experiment is.

A typing error or too large a batch then costs seconds. What a dry run leaves is not recorded as a result.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..core.types import Progress, Proposal
from ..record.archive import failure_output
from ..record.study import sha256
from ..run.training import run_experiment
from ..scoring.score import HeldOut, ScoringFailed, ScoringSettings, score
from ..system.machine import LONGEST_NAP_SECONDS, slept_seconds
from ..system.untrusted_files import remove_tree

if TYPE_CHECKING:
    from .session import Session

NUM_STEPS = 3  # the second one runs on the memory that the first one left behind
LONGEST_SECONDS = 60.0  # for the steps, on top of the study's allowances


def dry_run(session: Session, proposal: Proposal, number: int) -> str:
    """What goes wrong in the first steps, with the traceback; "" when nothing does.

    No code is tried twice. One whose dry run never ended, as when it takes the machine down, passes: the experiment
    itself is guarded against that. So does one whose dry run was spoilt by sleep or a full disk.
    """
    digest = sha256(proposal.train_source)
    if digest in session.state.dry_runs:
        return session.state.dry_runs[digest]
    session.room.make()
    session.watch(Progress("dry run", number, hypothesis=proposal.hypothesis))
    facts = {"experiment": number, "train_sha256": digest}
    session.history.append("dry_run", **facts, ended=None)
    begun, slept = time.monotonic(), slept_seconds()
    try:
        failure = _failure(session, proposal, number)
    except BaseException:
        session.history.append("dry_run", **facts, ended="", void=True)
        raise
    is_void = bool(failure) and (slept_seconds() - slept > LONGEST_NAP_SECONDS or session.room.lacks() != "")
    failure = "" if is_void else failure
    seconds = round(time.monotonic() - begun, 2)
    session.history.append("dry_run", **facts, ended=failure, seconds=seconds, void=is_void)
    return failure


def _failure(session: Session, proposal: Proposal, number: int) -> str:
    study, paths = session.study, session.study.experiment(number).dry_run
    budget, facts = study.time_budget_seconds, study.facts
    remove_tree(paths.folder)
    paths.folder.mkdir(parents=True)
    token = secrets.token_hex(16)
    outcome = run_experiment(
        proposal.train_source,
        paths,
        run=0,
        seed=study.seed,
        title=f"{number:04d} · dry run",
        hypothesis=proposal.hypothesis,
        diff="",
        corpus_dir=study.corpus_dir,
        time_budget_seconds=budget,
        startup_allowance_seconds=facts["startup_allowance_seconds"],
        # The code sees the budget of the study; the limit of the whole leaves it less.
        handover_allowance_seconds=facts["handover_allowance_seconds"] - budget + min(budget, LONGEST_SECONDS),
        project=study.project,
        token=token,
        max_steps=NUM_STEPS,
        dtype=facts["scoring"]["dtype"],
        on_tick=lambda seconds: session.tick(),
        on_spawn=lambda pid: session.begun(pid, token),
        on_wait=session.wait_for_machine,
        study=study.name,
    )
    study.paths.running.unlink(missing_ok=True)
    if outcome.status is not None or outcome.artefact is None:
        return f"{outcome.status}: {outcome.reason}\n{failure_output(paths)}".strip()
    settings = ScoringSettings(**facts["scoring"])
    try:
        score(
            outcome.artefact,
            _nonsense(session.heldout, settings.rows_per_batch),
            settings,
            project=study.project,
            token=token,
            on_tick=session.tick,
            may_quote=True,
            **session.sandboxed(),
        )
    except ScoringFailed as failure:
        return f"The model that it handed over could not be scored: {failure}"
    remove_tree(paths.folder)
    return ""


def _nonsense(heldout: HeldOut, num_rows: int) -> HeldOut:
    """Rows like the held-out ones, of random tokens: a traceback that quotes them tells nobody anything."""
    rng = np.random.default_rng(0)
    ordinary = np.flatnonzero(heldout.token_bytes > 0)
    rows = rng.choice(ordinary, heldout.rows[:num_rows].shape).astype(heldout.rows.dtype)
    rows[:, 0] = heldout.rows[0, 0]  # BOS, with which each row begins
    return replace(heldout, rows=rows)
