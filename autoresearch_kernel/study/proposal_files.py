"""proposal.json of an experiment: what was proposed for which incumbent, before it is recorded."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ..core.state import StudyState
from ..core.types import Proposal, Status
from ..record.paths import ExperimentPaths
from ..record.study import Study, sha256
from ..system.files import write_atomic


def open_proposal(study: Study, state: StudyState) -> tuple[Proposal, int] | None:
    """What is proposed for the next experiment, not recorded yet, and the incumbent it was made for; None without."""
    found = read_proposal(study.experiment(len(state.experiments)))
    if found is None:
        return None
    kept = {e.number for e in state.decided if e.status is Status.KEEP}
    refused = {r.train_sha256 for r in state.refusals if r.experiment == len(state.experiments)}
    return found if found[1] in kept and sha256(found[0].train_source) not in refused else None


def read_proposal(paths: ExperimentPaths) -> tuple[Proposal, int] | None:
    """What `save_proposal` wrote, and its parent; None when there is none, or another version wrote it."""
    try:
        facts = json.loads(paths.proposal.read_text(encoding="utf-8"))
        parent = int(facts.pop("parent"))
        facts.pop("spent", None)
        return Proposal(**facts | {"transcript": tuple(facts.get("transcript") or ())}), parent
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def save_proposal(paths: ExperimentPaths, proposal: Proposal, parent: int | None, **facts: Any) -> None:
    """proposal.json: what was proposed for which incumbent, with the whole conversation."""
    save_json(paths.proposal, {"parent": parent} | asdict(proposal) | facts)


def encodable(proposal: Proposal) -> Proposal:
    """The proposal with texts that can be written."""
    names = ("hypothesis", "train_source", "expected", "refutation", "notes")
    words: dict[str, Any] = {name: writable(getattr(proposal, name)) for name in names}
    return replace(proposal, **words)


def save_json(path: Path, facts: dict[str, Any]) -> None:
    write_atomic(path, writable(json.dumps(facts, indent=1, ensure_ascii=False) + "\n"))


def writable(text: str) -> str:
    """Text that can be written: half of a surrogate pair, as a model's reply may hold, becomes a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")
