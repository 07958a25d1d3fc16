"""The agent that asks a language model: it shows the study, reads the model's edits and lets it correct them.

The agent keeps nothing between calls but what it learned of its server's limits. All that the model can do is to
write the text of train.py: it has no tools.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..core.agent import Agent, AgentUnavailable, NothingToPropose, UnusableReply
from ..core.types import Context, Objection, Proposal, Refusal
from ..source.cell import SourceError
from ..source.compare import literal_changes, subjects
from .causes import ADVICE, ServerCause
from .conversation import Conversation, LanguageModel, message
from .edits import EditError, Submission, apply_edits
from .model import Reply
from .prompt import objection_text
from .reply import CUT_OFF, read_submission

MAX_CORRECTIONS = 2  # of one reply whose edits do not apply
HYPOTHESIS_CHARS = 200  # of the model's words, in the record of a reply without a proposal
NOTHING_SAID = "(The reply had no text.)"  # in a conversation, where servers refuse an empty message


@dataclass
class LLMAgent(LanguageModel):
    """Asks a language model for the next edit of train.py."""

    def listens(self, context: Context) -> bool:
        return True

    def thinks_ahead(self, context: Context) -> bool:
        return True

    def propose(self, context: Context) -> Proposal:
        """One edit of the incumbent, as the model words it.

        Raises AgentUnavailable, LimitReached, and UnusableReply when the model's replies hold no edit that applies.
        """
        try:
            return self._propose(context)
        except AgentUnavailable:
            self.forget_context()
            raise

    def _propose(self, context: Context) -> Proposal:
        self.chat.on_wait, self.chat.on_words = context.on_wait, context.on_words
        asked = Conversation(self, context)
        may_ask_longer = True
        for _ in range(MAX_CORRECTIONS + 1):
            reply = asked.ask()
            if _is_used_up(reply) and may_ask_longer:
                may_ask_longer = False
                reply = asked.ask_longer()
            try:
                return self._proposal(context, reply, asked)
            except EditError as error:
                refusal = Refusal(context.number, Objection.UNUSABLE, _why(error, reply, asked.reply_asked), "")
            asked.messages += [
                message("assistant", reply.answer or NOTHING_SAID),
                message("user", objection_text(refusal)),
            ]
            if _is_used_up(reply):  # twice: a third time would cost as much and say as little
                break
        said = reply.answer.splitlines()
        hypothesis = said[0][:HYPOTHESIS_CHARS] if said else ""
        raise UnusableReply(
            Refusal(context.number, Objection.UNUSABLE, refusal.why, hypothesis, transcript=tuple(asked.messages))
        )

    def _proposal(self, context: Context, reply: Reply, asked: Conversation) -> Proposal:
        refuse_unreadable(reply, asked.reply_asked)
        submission = read_submission(reply.text, is_cut=reply.is_cut)
        source = _applied(context, submission)
        return Proposal(
            hypothesis=submission.hypothesis,
            train_source=source,
            agent=self.name,
            changes=literal_changes(context.train_source, source),
            details={
                "model": self.chat.model,
                **self.chat.facts,
                "subjects": list(subjects(context.train_source, source)),
                "replies": asked.num_replies,
            },
            expected=submission.expected,
            refutation=submission.refutation,
            notes=submission.notes,
            transcript=(*asked.messages, message("assistant", reply.answer)),
        )


def _is_used_up(reply: Reply) -> bool:
    """Whether the limit of the reply was reached before there was an answer."""
    return reply.is_cut and not reply.answer


def refuse_unreadable(reply: Reply, reply_tokens: int) -> None:
    """Raise EditError for a reply that ended in a way in which it holds no answer; `reply_tokens` were its limit.

    The first sentence says to users what happened, the rest tells the model what to do.
    """
    if _is_used_up(reply):
        raise EditError(
            f"The reply limit of {reply_tokens:,} tokens was used up by thinking: continue with a larger "
            "--reply-tokens, or with a model that thinks less. Think shortly, then answer."
        )
    if reply.finish == "tool_calls":
        tool = f"the tool {reply.tools[0][:80]}" if reply.tools else "a tool"
        raise EditError(f"The model called {tool}; it has none. Write the edits into the text of the reply.")
    if reply.finish == "content_filter":
        raise EditError(f"{ADVICE[ServerCause.FILTER].step} Propose something else.")
    if not reply.answer and reply.has_thought:
        raise EditError("All of the reply was thoughts, without an answer after them. Write the answer after them.")
    if not reply.answer:
        raise EditError("The reply was empty. Write the answer as text.")


def _why(error: EditError, reply: Reply, reply_tokens: int) -> str:
    """What is wrong with a reply; of one that was cut off, with the limit that did it."""
    if not reply.is_cut or not reply.answer:
        return str(error)
    cut = f"{CUT_OFF} at its limit of {reply_tokens:,} tokens (--reply-tokens)"
    words = str(error)
    return words.replace(CUT_OFF, cut, 1) if words.startswith(CUT_OFF) else f"{cut}. {words}"


def _applied(context: Context, submission: Submission) -> str:
    """The edits on the incumbent; those of a fix may also be meant for the proposal that was given back."""
    last = context.refused[-1] if context.refused else None
    try:
        return apply_edits(context.train_source, submission)
    except EditError:
        if last is None or last.proposal is None or last.objection is Objection.CONFLICT:
            raise
        return apply_edits(last.proposal.train_source, submission)


@dataclass
class HybridAgent:
    """A language model for structure and an optimiser for the literals, on one record.

    Args:
        share: of the experiments that the model proposes, 0 to 1; the first one is the model's.
    """

    llm: Agent
    search: Agent
    share: float = 0.3
    name: str = "hybrid"
    is_without_model: bool = False  # the optimiser makes all proposals from now on
    _llm_instead_for: int = -1  # number of the experiment for which the model stands in

    def go_on_without_model(self) -> None:
        """Leave the rest of this session to the optimiser."""
        self.is_without_model = True

    def is_for_llm(self, number: int) -> bool:
        """Whose turn experiment `number` is: `share` of any first n experiments, rounded up, are the model's."""
        if self.is_without_model:
            return False
        due, due_before = (math.ceil(round(n * self.share, 9)) for n in (number, number - 1))
        return due > due_before

    def listens(self, context: Context) -> bool:
        return self.is_for_llm(context.number) or self._is_instead(context)

    def _is_instead(self, context: Context) -> bool:
        return self._llm_instead_for == context.number and not self.is_without_model

    def thinks_ahead(self, context: Context) -> bool:
        return self.is_for_llm(context.number)

    def propose(self, context: Context) -> Proposal:
        """The answer of the one whose turn it is; the model's, and it says so, when the optimiser has nothing left."""
        if self.is_for_llm(context.number) or self._is_instead(context):
            return self.llm.propose(context)
        try:
            return self.search.propose(context)
        except (NothingToPropose, SourceError) as error:
            if self.is_without_model:
                raise NothingToPropose(str(error)) from error
            context.on_wait(f"The optimiser has nothing to propose, so the model is asked: {error}")
            self._llm_instead_for = context.number
            return self.llm.propose(context)
