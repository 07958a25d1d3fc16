"""Review of a proposal by a user, who approves its train.py as it is, edits it, or rejects it.

The file under review belongs to the user: the supervisor writes it once for each proposal and then only reads it.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from ..core.types import Experiment, Progress, Proposal
from ..record.commands import Command
from ..record.study import sha256
from ..show.status import wanted
from ..source.cell import SourceError
from ..source.compare import literal_changes
from ..source.encoding import decode_source
from ..system.files import write_atomic
from .session import Session
from .steering import Steering

EDITED = "edited"  # by a user; stands behind the name of the agent


class Rejected(Exception):
    """The user rejects the proposal; the message says why."""


class Unreadable(Exception):
    """The file under review is no text; the message says why."""


def await_verdict(
    session: Session, steering: Steering, proposal: Proposal, parent: Experiment, number: int, is_draft: bool
) -> Proposal:
    """Wait for `autoresearch approve` and return the proposal with the file as it is then.

    Raises Rejected, Unreadable when the file is no text any more, StopNow, and Enough.
    """
    digest, review, file = sha256(proposal.train_source), session.state.review, session.study.paths.review
    if review is None or review.train_sha256 != digest or not file.is_file():  # else perhaps with a user's edits
        write_atomic(file, proposal.train_source)
        facts = {"hypothesis": proposal.hypothesis, "train_sha256": digest, "is_draft": is_draft}
        session.history.append("review", experiment=number, **facts)
        review = session.state.review
    assert review is not None
    session.watch(Progress("reviewing", number, hypothesis=proposal.hypothesis, text=wanted(session.study, review)))
    waits = f"experiment {number:04d} waits for your {'train.py' if is_draft else 'approval'}"
    command, content = steering.wait_for_verdict(waits, partial(_content, file))
    if command.command == "reject":
        raise Rejected(command.text)
    if isinstance(content, OSError):
        raise Unreadable(str(content)) from content
    try:
        source = decode_source(content)
    except SourceError as error:
        raise Unreadable(str(error)) from error
    return _approved(proposal, source, session.source(parent), command)


def _content(file: Path) -> bytes | OSError:
    try:
        return file.read_bytes()
    except OSError as error:
        return error


def _approved(proposal: Proposal, source: str, parent_source: str, command: Command) -> Proposal:
    proposal = replace(proposal, details=proposal.details | {"approved_by": command.by})
    if source == proposal.train_source:
        return replace(proposal, hypothesis=command.text or proposal.hypothesis)
    words = command.text or (f"{proposal.hypothesis} (edited by {command.by})" if proposal.hypothesis else "")
    given = edited(proposal, source, parent_source, words or f"An edit by {command.by}")
    return replace(
        given, expected=command.expected or given.expected, refutation=command.refutation or given.refutation
    )


def edited(proposal: Proposal, source: str, parent_source: str, hypothesis: str) -> Proposal:
    """The proposal with a user's train.py; what its agent noted about its own train.py is left out."""
    own = ("parameters", "previous", "structure")
    return replace(
        proposal,
        hypothesis=hypothesis,
        train_source=source,
        agent=proposal.agent if proposal.agent.endswith(("human", EDITED)) else f"{proposal.agent}, {EDITED}",
        changes=literal_changes(parent_source, source),
        details={name: value for name, value in proposal.details.items() if name not in own},
    )
