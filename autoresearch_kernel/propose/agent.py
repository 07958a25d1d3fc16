"""What an agent is: anything with a name that turns a context into a proposal.

An agent keeps no record of its own. What happened so far, its own proposals included, arrives
as `context.experiments` on every call, so a study continues where it stopped and an agent may
be replaced in the middle of a night. It reads values and returns a value: it never writes
files, trains or scores.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from autoresearch_kernel.record.experiment import Context, Proposal


class NothingToPropose(RuntimeError):
    """An agent has no idea left. The study is concluded; the message says why and what would give it more."""


@runtime_checkable
class Agent(Protocol):
    """Proposes the next experiment. Implementations: `propose/search.py`, and any object of this shape."""

    @property
    def name(self) -> str:
        """A short word for the record: "search"."""
        ...

    def propose(self, context: Context) -> Proposal:
        """The next idea, derived from `context.train_source`. Raises NothingToPropose when there is none."""
        ...
