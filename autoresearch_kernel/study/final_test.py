"""The sealed test split: which models it is opened for, and what is recorded of it. Only `study/finish.py` opens it.

Each model is scored once, and that is recorded before the next one is. What an agent wrote is audited on these rows as
on the validation rows; the baseline's code is no agent's.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial

import numpy as np

from ..core.types import Audit, Evaluation, Progress
from ..record.study import StudyError
from ..scoring.job import HeldOut
from ..scoring.scorer_process import ScoringFailed
from ..system.shell import shell_command
from ..system.temporary import own_folder
from .evaluation import ask
from .execute import despite_machine
from .steps import Steps


def open_test_split(session: Steps, champion: int, keys: Sequence[tuple[int, int]]) -> None:
    """Score models, named by experiment and run, on the test rows unless that is done.

    Raises StudyError for a model that cannot be scored, and for a score that the audit refuses.
    """
    heldout = HeldOut.load(session.study.corpus_dir, session.study.heldout_dir, "test")
    known = {(t.experiment, t.run) for t in session.state.tested}
    for number, run in keys:
        if (number, run) not in known:
            session.steering.check()
            _test(session, heldout, champion, number, run)
    for tested in session.state.tested:
        if (tested.experiment, tested.run) in keys and tested.test_bpb is None:
            raise StudyError(
                f"The audit refused the test score of experiment {tested.experiment:04d}, run {tested.run + 1}: "
                f"{tested.reason} So there is no result."
            )


def _test(session: Steps, heldout: HeldOut, champion: int, number: int, run: int) -> None:
    """Score one model on the test rows and, where an agent wrote its code, audit the score."""
    experiment = session.state.experiments[number]
    about = Progress("scoring", number, run, "the sealed test split")
    with own_folder() as folder:
        score = partial(session.backend.score, nll_path=folder / "nll.npy")
        try:
            claim = despite_machine(session, lambda _: ask(session, score, about, heldout))
            made_with = session.made_with(experiment)
            found = _audited(session, about, heldout, claim) if number > 0 else None
        except ScoringFailed as failure:
            raise StudyError(
                f"Experiment {number:04d}, run {run + 1}, could not be scored on the test split: {failure}. "
                f"`{shell_command(f'finish --name {session.study.name}')}` tries again."
            ) from failure
    is_refused = found is not None and not found.accepted
    session.history.append(
        "tested",
        experiment=number,
        run=run,
        champion=champion,
        test_bpb=None if is_refused else claim.val_bpb + (found.correction_bpb if found else 0.0),
        reason=found.reason if found else "",
        claimed_bpb=claim.val_bpb,
        standard_error=claim.standard_error,
        num_tokens=claim.num_tokens,
        num_bytes=claim.num_bytes,
        evaluation_seconds=claim.evaluation_seconds,
        audit=asdict(found) if found else None,
        **made_with,
    )


def _audited(session: Steps, about: Progress, heldout: HeldOut, claim: Evaluation) -> Audit:
    assert claim.nll_path is not None
    seconds, seed = claim.evaluation_seconds, secrets.randbits(128)
    question = partial(session.backend.audit, nll=np.load(claim.nll_path), claim_seconds=seconds, seed=seed)
    return despite_machine(session, lambda _: ask(session, question, about, heldout))
