"""What waits for a person: a train.py on the study's desk, to be approved as it is, edited, or rejected.

The file is a person's from the moment it lies there: it is written once for each proposal and then only read.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..core.types import Experiment, Progress, Proposal
from ..record.commands import Command
from ..record.study import sha256
from ..show.status import wanted
from ..source.compare import literal_changes
from ..system.files import ensure_folder, write_atomic

if TYPE_CHECKING:
    from .session import Session


EDITED = "edited"  # by a person, behind the name of an agent


class Rejected(Exception):
    """A person says no; the message says why."""


class Unreadable(Exception):
    """What lies on the desk is no text; the message says why."""


def put_on_desk(session: Session, proposal: Proposal, number: int, is_draft: bool) -> None:
    """Lay a proposal on the desk, unless it lies there already, with what a person has made of it."""
    digest, review = sha256(proposal.train_source), session.state.review
    desk = session.study.paths.desk
    if review is None or review.train_sha256 != digest or not desk.is_file():
        ensure_folder(desk.parent)
        write_atomic(desk, proposal.train_source)
        session.history.append(
            "review", experiment=number, hypothesis=proposal.hypothesis, train_sha256=digest, is_draft=is_draft
        )


def await_person(session: Session, proposal: Proposal, parent: Experiment, number: int, is_draft: bool) -> Proposal:
    """Wait for `autoresearch approve` and return what the desk holds then.

    Raises Rejected, Unreadable when the desk holds no text any more, StopNow, and Enough.
    """
    put_on_desk(session, proposal, number, is_draft)
    review = session.state.review
    assert review is not None
    session.watch(Progress("reviewing", number, hypothesis=proposal.hypothesis, text=wanted(session.study, review)))
    command = session.people.wait_for_verdict(
        f"experiment {number:04d} waits for your {'train.py' if is_draft else 'approval'}"
    )
    if command.command == "reject":
        raise Rejected(command.text)
    try:
        source = session.study.paths.desk.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise Unreadable(f"it is not UTF-8 text, from byte {error.start} on") from error
    except OSError as error:
        raise Unreadable(str(error)) from error
    return _approved(proposal, source, session.source(parent), command)


def _approved(proposal: Proposal, source: str, parent_source: str, command: Command) -> Proposal:
    proposal = replace(proposal, details=proposal.details | {"approved_by": command.by})
    if source == proposal.train_source:
        return replace(proposal, hypothesis=command.text or proposal.hypothesis)
    words = command.text or (f"{proposal.hypothesis} (edited by {command.by})" if proposal.hypothesis else "")
    return edited(proposal, source, parent_source, words or f"An edit by {command.by}")


def edited(proposal: Proposal, source: str, parent_source: str, hypothesis: str) -> Proposal:
    """The proposal with a person's train.py: what its agent noted for itself does not hold for that one."""
    own = ("parameters", "previous", "structure")
    return replace(
        proposal,
        hypothesis=hypothesis,
        train_source=source,
        agent=proposal.agent if proposal.agent.endswith(("human", EDITED)) else f"{proposal.agent}, {EDITED}",
        changes=literal_changes(parent_source, source),
        details={name: value for name, value in proposal.details.items() if name not in own},
    )
