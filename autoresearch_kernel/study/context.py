"""What an agent may read of a study, from its files: for the supervisor, and for a client that asks from outside."""

from __future__ import annotations

from ..core.drift import present_speed
from ..core.state import StudyState
from ..core.types import Context, Objection
from ..record.archive import StudyArchive
from ..record.study import Study


def context_of(
    study: Study,
    state: StudyState,
    *,
    train_source: str,
    program: str,
    prepare_source: str,
    notes: str,
    left: tuple[int | None, float | None] = (None, None),
) -> Context:
    """All that an agent may read now.

    Args:
        train_source: of the incumbent.
        left: experiments and seconds until nothing more is proposed; None where there is no limit.
    """
    assert state.incumbent is not None, "an agent is asked only once the baseline is decided"
    return Context(
        program=program,
        train_source=train_source,
        incumbent=state.incumbent,
        experiments=state.decided,
        in_work=state.in_work,
        sigma=state.sigma,
        study=study.facts,
        seed=study.seed,
        machine_speed=present_speed(state.experiments),
        hints=state.hints,
        refusals=tuple(r for r in state.refusals if r.objection is Objection.PERSON),
        notes=notes,
        notes_at=state.notes_at,
        archive=StudyArchive(study.paths),
        spent=state.spent,
        limits=state.limits,
        prepare_source=prepare_source,
        experiments_left=left[0],
        seconds_left=left[1],
    )


def read_notes(study: Study, state: StudyState) -> str:
    """notes.md as it stands; what the history says when a user removed it."""
    try:
        return study.paths.notes.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return state.notes
