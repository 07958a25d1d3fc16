"""proposal.json of an experiment: what was proposed for which incumbent, before it is recorded."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import Any

from ..core.sanitize import STEERING
from ..core.state import StudyState
from ..core.types import Proposal, Status
from ..record.paths import ExperimentPaths
from ..record.study import Study, sha256
from ..source.encoding import with_newlines
from ..system.files import write_atomic

TEXTS = ("hypothesis", "train_source", "expected", "refutation", "notes")


def open_proposal(study: Study, state: StudyState) -> tuple[Proposal, int] | None:
    """What is proposed for the next experiment, not recorded yet, and the incumbent it was made for; None without."""
    found = read_proposal(study.experiment(len(state.experiments)))
    if found is None:
        return None
    kept = {e.number for e in state.decided if e.status is Status.KEEP}
    refused = {r.train_sha256 for r in state.refusals if r.experiment == len(state.experiments)}
    return found if found[1] in kept and sha256(found[0].train_source) not in refused else None


def read_proposal(paths: ExperimentPaths) -> tuple[Proposal, int] | None:
    """What `save_proposal` wrote, and its parent; None when there is none that this version can use."""
    try:
        facts = json.loads(paths.proposal.read_text(encoding="utf-8"))
        parent = int(facts.pop("parent"))
        facts.pop("spent", None)
        proposal = Proposal(**facts | {"transcript": tuple(facts.get("transcript") or ())})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
    return (proposal, parent) if _is_whole(proposal) else None


def _is_whole(proposal: Proposal) -> bool:
    """Whether all fields are of their types, which JSON does not say."""
    texts = all(isinstance(getattr(proposal, name), str) for name in (*TEXTS, "agent"))
    messages = are_messages(proposal.transcript)
    return texts and messages and isinstance(proposal.changes, dict) and isinstance(proposal.details, dict)


def are_messages(messages: Iterable[Any]) -> bool:
    """Whether these are the messages of a conversation, each with its role and its content."""
    return all(
        isinstance(message, dict) and all(isinstance(message.get(key), str) for key in ("role", "content"))
        for message in messages
    )


def save_proposal(paths: ExperimentPaths, proposal: Proposal, parent: int | None, **facts: Any) -> None:
    """proposal.json: what was proposed for which incumbent, with the whole conversation."""
    write_atomic(paths.proposal, json_text({"parent": parent} | asdict(proposal) | facts))


def encodable(proposal: Proposal) -> Proposal:
    """The proposal with texts that can be written, and with the line ends of Unix in its code."""
    words: dict[str, Any] = {name: writable(getattr(proposal, name)) for name in TEXTS}
    return replace(proposal, **words | {"train_source": with_newlines(words["train_source"])})


def json_text(facts: dict[str, Any]) -> str:
    """The text of a file of JSON, in which characters that could steer a terminal are escaped."""
    text = writable(json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    return STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def writable(text: str) -> str:
    """Text that can be written: half of a surrogate pair, as a model's reply may hold, becomes a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")
