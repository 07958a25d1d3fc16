"""Agents that choose nothing themselves: one repeats the proposals of another study, the other asks a person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..core.agent import NothingToPropose
from ..core.types import Context, Proposal
from ..source.compare import literal_changes


@dataclass
class ReplayAgent:
    """Proposes the code that another study tried, experiment by experiment, whatever is kept this time.

    `recording` holds the proposals 1, 2, ... of the study `study`.
    """

    recording: Sequence[Proposal]
    study: str
    name: str = "replay"

    def propose(self, context: Context) -> Proposal:
        """Raises NothingToPropose at the end of the recording."""
        index = context.number - 1 + len(context.refusals)  # what a person refused is not proposed again
        if index >= len(self.recording):
            raise NothingToPropose(f"The recording of study {self.study!r} ends with {len(self.recording):04d}.")
        recorded = self.recording[index]
        return replace(
            recorded,
            agent=self.name,
            changes=literal_changes(context.train_source, recorded.train_source),
            details={"study": self.study, "experiment": index + 1, "agent": recorded.agent},
            transcript=(),
        )


class HumanAgent:
    """A person proposes: the agent hands over the incumbent as a draft, which the person edits during the review."""

    name = "human"
    asks_person = True

    def propose(self, context: Context) -> Proposal:
        return Proposal("", context.train_source, agent=self.name)
