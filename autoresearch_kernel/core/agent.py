"""What an agent is: anything with a name that turns a context into a proposal.

An agent keeps no record of its own. What happened so far, its own proposals included, arrives
as `context.experiments` on every call, so a study continues where it stopped and an agent may
be replaced in the middle of a night. It reads values and returns a value: it never writes
files, trains or scores.

What an agent may declare besides, as attributes; without them it is asked between two trainings
and whatever it says is run:

    listens(context)          True: a proposal that would waste the budget (a repeat, a crash in the first steps) comes
                              back in `context.refused`, and `propose` is asked for another
    thinks_ahead(context)     True: it may be asked while an experiment trains, `context.running`
    asks_person = True        its proposal is a draft that a person must edit first
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from autoresearch_kernel.core.types import Context, Proposal, Refusal


class NothingToPropose(RuntimeError):
    """An agent has no idea left. The study is concluded; the message says why and what would give it more."""

    reason = "nothing left to propose"  # for the record of how the study ended


class AgentUnavailable(RuntimeError):
    """An agent cannot answer now, such as a model whose server is down. The study pauses and asks it again."""


class UnusableReply(RuntimeError):
    """What an agent replied is no proposal, and it could not mend it. `refusal` is for the record."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.why)
        self.refusal = refusal


@runtime_checkable
class Agent(Protocol):
    """Proposes the next experiment. Implementations: the modules beside this one, and any object of this shape."""

    @property
    def name(self) -> str:
        """A short word for the record: "search"."""
        ...

    def propose(self, context: Context) -> Proposal:
        """The next idea, derived from `context.train_source`.

        Raises NothingToPropose when there is none, AgentUnavailable when it is to be asked later, UnusableReply.
        """
        ...


def listens(agent: Agent, context: Context) -> bool:
    """Whether its answer to `context` may be given back to it."""
    return _says(agent, "listens", context)


def thinks_ahead(agent: Agent, context: Context) -> bool:
    """Whether it may be asked while something else trains."""
    return _says(agent, "thinks_ahead", context)


def asks_person(agent: Agent) -> bool:
    """Whether what it proposes is a draft for a person."""
    return bool(getattr(agent, "asks_person", False))


def _says(agent: Agent, what: str, context: Context) -> bool:
    method = getattr(agent, what, None)
    return callable(method) and bool(method(context))
