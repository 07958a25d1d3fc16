"""Which claims are audited, against what, and what is recorded of it. How an audit works is `judge/audit.py`'s.

A discard needs no audit. A run whose score would make the rule say "keep" or "once more" is audited first: that costs
less than the training that a confirmation is. Of the baseline, which is no agent's code, the last of the three runs is
audited, since a leak in the code shows in each; of the champion the runs that the published figure rests on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING

from .judge.audit import audit
from .judge.drift import of_one_machine
from .judge.score import ScoringFailed
from .record.experiment import Audit, Experiment, Progress, Run, Status
from .record.state import StudyState

if TYPE_CHECKING:
    import numpy as np

    from .session import Session


def audit_due(experiment: Experiment, verdict: str) -> int | None:
    """The run to be audited before `verdict`, the rule's, counts; None when none must. A pure function."""
    if experiment.status is not None or verdict not in ("keep", "confirm"):
        return None
    if experiment.number == 0:
        return _first_unaudited(experiment.runs[-1:]) if verdict == "keep" else None
    return _first_unaudited(of_one_machine(experiment.runs))


def late_audit_due(experiment: Experiment, state: StudyState) -> int | None:
    """The run of a champion, trained after the last decision, that is still to be audited. A pure function."""
    if experiment.number == 0 or experiment.status is not Status.KEEP:
        return None
    return _first_unaudited(run for run in experiment.runs if run.num_decided == len(state.decided))


def _first_unaudited(runs: Iterable[Run]) -> int | None:
    return next((run.index for run in runs if run.val_bpb is not None and run.audit is None), None)


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
        )
    except ScoringFailed as failure:  # killed twice, it is the model's doing
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
