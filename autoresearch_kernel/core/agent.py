"""What an agent is: an object with a name that makes a proposal from a context.

An agent keeps no record of its own. Every call gives it the whole history as `context.experiments`, its own proposals
included, so a study continues where it stopped, and one agent may replace another in the middle of a study. It reads
values and returns a value: it never writes files, trains or scores.

An agent may declare more, as attributes. Without them it is asked between two trainings, and its proposal is run as it
is:

    listens(context)          True: a proposal that would waste the budget (a repeat, a crash in the first steps) comes
                              back in `context.refused`, and `propose` is called again
    thinks_ahead(context)     True: `propose` may be called while experiments train, `context.in_work`
    asks_person = True        its proposal is a draft that a person must edit first
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from autoresearch_kernel.core.types import Context, Proposal, Refusal


class NothingToPropose(RuntimeError):
    """An agent has nothing left to propose. The study ends; the message says why, and what would give it more."""

    reason = "nothing left to propose"  # for the record of how the study ended


class AgentUnavailable(RuntimeError):
    """An agent cannot answer now, such as a model whose server is down. The study pauses and asks again later.

    `again_in_seconds`: when it is worth asking again, as the reset of a usage limit; None where that is not known.
    """

    def __init__(self, message: str, again_in_seconds: float | None = None) -> None:
        super().__init__(message)
        self.again_in_seconds = again_in_seconds


class UnusableReply(RuntimeError):
    """The replies of an agent held no proposal, even after corrections. `refusal` goes into the history."""

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
    """Whether a proposal made for `context` may be given back to the agent."""
    return _declares(agent, "listens", context)


def thinks_ahead(agent: Agent, context: Context) -> bool:
    """Whether the agent may be asked while an experiment trains."""
    return _declares(agent, "thinks_ahead", context)


def asks_person(agent: Agent) -> bool:
    """Whether what it proposes is a draft for a person."""
    return bool(getattr(agent, "asks_person", False))


def _declares(agent: Agent, what: str, context: Context) -> bool:
    method = getattr(agent, what, None)
    return callable(method) and bool(method(context))
