"""Against what a claim is audited, and what is recorded of it.

How an audit works is `scoring/audit.py`'s; which claims are audited, `core/next_step.py`'s.
"""

from __future__ import annotations

import secrets
from dataclasses import asdict
from typing import TYPE_CHECKING

from ..core.types import Audit, Experiment, Progress
from ..scoring.audit import audit
from ..scoring.score import ScoringFailed

if TYPE_CHECKING:
    import numpy as np

    from .session import Session


def audit_run(session: Session, experiment: Experiment, run: int) -> Audit | None:
    """Audit a scored run and record what came of it; None when its model or its claims are gone."""
    import numpy as np

    paths = session.study.experiment(experiment.number)
    if not paths.artefact(run).exists() or not paths.nll(run).exists():
        return None
    about = Progress("auditing", experiment.number, run, experiment.hypothesis)
    claim_seconds = experiment.runs[run].measured.get("scoring_seconds") or 0.0
    try:
        found = session.ask(
            audit,
            about,
            session.heldout,
            np.load(paths.nll(run)),
            claim_seconds=claim_seconds,
            reference=_reference(session, experiment),
            cuts_path=paths.cuts(run),
            seed=secrets.randbits(128),
        )
    except ScoringFailed as failure:  # killed or slow twice, it is the model's doing
        found = Audit(False, 0.0, 0.0, 0, 0, f"the audit's process was ended twice: {failure}", 0.0)
    session.history.append("audited", experiment=experiment.number, run=run, **asdict(found))
    if not found.accepted:
        session.note(f"Experiment {experiment.number:04d}, run {run + 1}: the audit refused its score: {found.reason}.")
    return found


def refuse(session: Session, experiment: Experiment, run: int, reason: str) -> None:
    """Record that a run cannot be audited, which refuses its score."""
    facts = asdict(Audit(False, 0.0, 0.0, 0, 0, reason, 0.0))
    session.history.append("audited", experiment=experiment.number, run=run, **facts)


def _reference(session: Session, experiment: Experiment) -> np.ndarray | None:
    """Nats per target of what the experiment is compared with, else the baseline's; None where no file holds any."""
    import numpy as np

    for number in dict.fromkeys((experiment.parent, 0)):
        if number is not None and number != experiment.number:
            for run in reversed(session.state.experiments[number].runs):
                path = session.study.experiment(number).nll(run.index)
                if run.val_bpb is not None and path.exists():
                    return np.asarray(np.load(path))
    return None
