"""One question to an agent, asked in a thread of its own, and why a proposal need not be run.

The thread reads values and returns a value; the supervisor, which holds the study, writes the record.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ..core.agent import Agent, AgentUnavailable, UnusableReply, listens
from ..core.types import Call, Context, Objection, Proposal, Refusal, Status
from ..run.notebook import check_source
from ..source.cell import SourceError
from ..source.compare import fingerprint
from ..source.gate import check_clock
from ..source.parameters import read_parameters

MOST_FIXES = 2  # of a proposal, before it is run as it is


class AgentFailed(RuntimeError):
    """An agent raised what no agent should; the message says what."""


@dataclass
class Question:
    """One question to an agent, in a thread: what it says on the way, and its answer."""

    agent: Agent
    context: Context
    is_ahead: bool = False  # it is asked before a slot is free for its answer
    said: deque[Call | Refusal | str] = field(default_factory=deque)  # for the record, oldest first
    proposal: Proposal | None = None
    failure: Exception | None = None
    is_saved: bool = False
    sent: Call | None = None  # what the call that is out may cost
    writes: str = ""  # the last lines of what the agent writes now
    is_given_up: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._think, name=f"agent {self.agent.name}", daemon=True)
        self.thread.start()

    @property
    def is_done(self) -> bool:
        return not self.thread.is_alive()

    def _think(self) -> None:
        try:
            self.proposal = self._ask()
        except Exception as error:  # raised where the answer is wanted
            self.failure = error
        except BaseException as error:  # SystemExit, say
            self.failure = RuntimeError(f"{type(error).__name__}: {error}")
        finally:
            self.writes = ""

    def _ask(self) -> Proposal:
        """The agent's answer, given back while it can be seen, without running it, to be of no use."""
        context = self._heard()
        while True:
            proposal = self.agent.propose(context)
            if not listens(self.agent, context):
                return proposal
            refusal = objection(proposal, context)
            if refusal is None:
                return proposal
            if num_fixes(context.refused) >= MOST_FIXES:
                if refusal.objection is Objection.GATE:
                    return proposal  # the record says `invalid`, and the agent reads why
                raise UnusableReply(refusal)
            self.said.append(refusal)
            context = replace(self._heard(), refused=(*context.refused, refusal))

    def _heard(self) -> Context:
        return replace(self.context, on_call=self._hear, on_wait=self._wait, on_send=self._send, on_words=self._watch)

    def give_up(self) -> Call | None:
        """Let the agent send no further call; what the call that is out may cost, None while none is out."""
        with self.lock:
            self.is_given_up = True
            return self.sent

    def _send(self, call: Call) -> None:
        with self.lock:
            self._go_on()
            self.sent = call

    def _wait(self, why: str) -> None:
        self._go_on()
        self.said.append(why)

    def _watch(self, words: str) -> None:
        self._go_on()  # also while a call is out: its program then ends
        self.writes = words

    def _go_on(self) -> None:
        if self.is_given_up:
            raise AgentUnavailable("the supervisor no longer waits for it")

    def _hear(self, call: Call) -> None:
        self.said.append(call)
        self.sent = None
        self.context = replace(self.context, spent=self.context.spent.plus(call))


def num_fixes(refused: Sequence[Refusal]) -> int:
    """How often an agent was asked to mend something; a user's rejection is none."""
    return sum(r.objection is not Objection.PERSON for r in refused)


def objection(proposal: Proposal, context: Context) -> Refusal | None:
    """Why a proposal need not be run: no notebook, or the code of an experiment that was tried. A pure function."""
    try:
        check_source(proposal.train_source)
        check_clock(proposal.train_source)
        read_parameters(proposal.train_source)  # the ranges in the comments, which the optimiser reads
    except SourceError as error:
        return Refusal(context.number, Objection.GATE, str(error), proposal.hypothesis, proposal)
    mine, merged = fingerprint(proposal.train_source), proposal.details.get("merged") or ()
    tried = [e for e in context.experiments if e.fingerprint == mine and e.status is not Status.INTERRUPTED]
    # What was tried on another kind of machine, and is promising there, is tried once more by itself.
    tried += [e for e in context.in_work if e.fingerprint == mine and e.number not in merged]
    if fingerprint(context.train_source) == mine:
        why = f"it is the code of the incumbent, {context.incumbent.number:04d}"
    elif tried:
        first = tried[0]
        became = f": {first.status}, {first.reason}" if first.status is not None else ", which trains now"
        why = f"it is the code of experiment {first.number:04d}{became}"
    else:
        return None
    return Refusal(context.number, Objection.REPEAT, why, proposal.hypothesis, proposal)
