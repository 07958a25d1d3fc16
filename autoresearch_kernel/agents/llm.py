"""The agent that asks a language model: it shows the study, reads the model's edits and lets it correct them.

The agent keeps nothing between calls but the sizes of prompts that its server takes. All that the model can do is to
write the text of train.py: it has no tools.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..core.agent import Agent, AgentUnavailable, NothingToPropose, UnusableReply
from ..core.types import Call, Context, Objection, Proposal, Refusal
from ..source.cell import SourceError
from ..source.compare import literal_changes, subjects
from ..system.shell import shell_command
from .chat import Chat, Reply
from .edits import EditError, Submission, apply_edits
from .failures import ModelUnavailable, PromptTooLong
from .prices import count_tokens, read_prices
from .prompt import build_prompt, objection_text
from .reply import read_submission

MAX_CORRECTIONS = 2  # of one reply whose edits do not apply
LEAST_REPLY_TOKENS = 500  # a reply shorter than this holds no edit
SHRINK_FACTOR = 0.6  # of the prompt, after a server found it too long
MAX_SHRINKS = 3
SUSPICIOUS_SHARE = 0.4  # of our count, which is 1.2 to 1.5 times the real one: a server that reads less cuts prompts
PROMPT_SHARE = 0.7  # of a server's context; the rest is for the reply


class _ReplyTooExpensive(Exception):
    """A request failed and may have cost so much that the next one must ask for a shorter reply."""


class LimitReached(NothingToPropose):
    """The study has spent what it may on its model."""

    def __init__(self, limit: str) -> None:
        see = shell_command("run --help")
        super().__init__(f"The study has spent its {limit}. A higher limit goes on: see `{see}`.")
        self.reason = f"the limit of {limit} is reached"


@dataclass
class LLMAgent:
    """Asks a language model for the next edit of train.py.

    Args:
        prompt_tokens, reply_tokens: the most that one question and one reply may take.
    """

    chat: Chat
    prices_file: Path | None = None  # read again when a price is missing: a person may have added it meanwhile
    prompt_tokens: int = 32_000
    reply_tokens: int = 16_000
    name: str = "llm"
    is_warned: bool = False  # of a server that seems to cut prompts

    def listens(self, context: Context) -> bool:
        return True

    def thinks_ahead(self, context: Context) -> bool:
        return True

    def fit(self, context_tokens: int | None) -> None:
        """Make prompts shorter after a server found one too long; it may have said how much prompt and reply may be."""
        self.prompt_tokens = int(SHRINK_FACTOR * self.prompt_tokens)
        self.reply_tokens = max(LEAST_REPLY_TOKENS, int(SHRINK_FACTOR * self.reply_tokens))
        if context_tokens is not None:
            self.prompt_tokens = min(self.prompt_tokens, int(PROMPT_SHARE * context_tokens))
            self.reply_tokens = min(self.reply_tokens, context_tokens - self.prompt_tokens)

    def propose(self, context: Context) -> Proposal:
        """One edit of the incumbent, as the model words it.

        Raises AgentUnavailable, LimitReached, and UnusableReply when the model's replies hold no edit that applies.
        """
        self.chat.on_wait = context.on_wait
        asked = _Conversation(self, context)
        why = ""
        for _ in range(MAX_CORRECTIONS + 1):
            reply = asked.ask()
            try:
                return self._proposal(context, reply, asked)
            except EditError as error:
                why = (
                    f"{error} (The reply was cut off at {reply.call.tokens_out} tokens.)"
                    if reply.is_cut
                    else str(error)
                )
                refusal = Refusal(context.number, Objection.UNUSABLE, why, "")
                asked.messages += [_message("assistant", reply.text), _message("user", objection_text(refusal))]
        said = reply.text.strip().splitlines()
        hypothesis = said[0][:200] if said else ""
        refusal = Refusal(context.number, Objection.UNUSABLE, why, hypothesis, transcript=tuple(asked.messages))
        raise UnusableReply(refusal)

    def _proposal(self, context: Context, reply: Reply, asked: _Conversation) -> Proposal:
        submission = read_submission(reply.text)
        source = _applied(context, submission)
        return Proposal(
            hypothesis=submission.hypothesis,
            train_source=source,
            agent="llm",
            changes=literal_changes(context.train_source, source),
            details={
                "model": self.chat.model,
                "subjects": list(subjects(context.train_source, source)),
                "replies": asked.num_replies,
            },
            expected=submission.expected,
            refutation=submission.refutation,
            notes=submission.notes,
            transcript=(*asked.messages, _message("assistant", reply.text)),
        )


def _applied(context: Context, submission: Submission) -> str:
    """The edits on the incumbent; those of a fix may also be meant for the proposal that was given back."""
    last = context.refused[-1] if context.refused else None
    try:
        return apply_edits(context.train_source, submission)
    except EditError:
        if last is None or last.proposal is None or last.objection is Objection.CONFLICT:
            raise
        return apply_edits(last.proposal.train_source, submission)


class _Conversation:
    """The messages of one question, and the accounts of what they cost."""

    def __init__(self, agent: LLMAgent, context: Context) -> None:
        self.agent, self.context, self.spent = agent, context, context.spent
        last = context.refused[-1] if context.refused else None
        self.num_replies = 0
        self.messages: list[dict[str, str]] = []
        if last is not None and last.proposal is not None and last.objection is not Objection.CONFLICT:
            self.messages = [*last.proposal.transcript, _message("user", objection_text(last))]
        if len(self.messages) < 3:  # a new question, or a proposal that was made without a conversation
            self.messages = [_message("user", self._prompt(agent.prompt_tokens))]

    def _prompt(self, budget_tokens: int) -> str:
        last = self.context.refused[-1] if self.context.refused else None
        try:
            words = f"\n{objection_text(last)}\n" if last is not None else ""
            return build_prompt(self.context, budget_tokens - count_tokens(words), count_tokens) + words
        except ValueError as error:
            raise AgentUnavailable(f"{error} Continue the study with a larger --prompt-tokens.") from error

    def ask(self) -> Reply:
        """The model's reply. What the server finds too long is made again, shorter: first without the earlier turns."""
        for _ in range(MAX_SHRINKS):
            try:
                return self._ask()
            except PromptTooLong as error:
                if len(self.messages) == 1 or error.limit is not None:
                    self.agent.fit(error.limit)
                last = f"\n{self.messages[-1]['content']}" if len(self.messages) > 1 else ""
                prompt = self._prompt(self.agent.prompt_tokens - count_tokens(last))
                self.messages = [_message("user", prompt + last)]
        raise AgentUnavailable(
            f"{self.agent.chat.model} finds a prompt of {self.agent.prompt_tokens} tokens too long. "
            "Give its server a longer context."
        )

    def _ask(self) -> Reply:
        agent = self.agent
        tokens = sum(count_tokens(message["content"]) for message in self.messages)
        while True:
            most = min(agent.reply_tokens, self._reply_limit(tokens))
            try:
                reply = agent.chat.ask(self.messages, most, on_failed=self._before_each_request(tokens, most))
            except _ReplyTooExpensive:
                continue
            except ModelUnavailable as failure:
                raise AgentUnavailable(str(failure)) from failure
            self._record_call(reply.call)
            self.num_replies += 1
            call = reply.call
            if not (call.estimated or agent.is_warned) and call.tokens_in < SUSPICIOUS_SHARE * tokens:
                agent.is_warned = True
                self.context.on_wait(
                    f"{agent.chat.host} read {call.tokens_in:,} tokens of a prompt of about {tokens:,}. Does it cut? "
                    "Give it a longer context (Ollama: OLLAMA_CONTEXT_LENGTH) or use a smaller --prompt-tokens."
                )
            return reply

    def _before_each_request(self, tokens: int, most: int) -> Callable[[Call], None]:
        """Keeps the accounts of requests, and ends the question when the next one might pass a limit of the study."""

        def send() -> None:
            cost = self.agent.chat.prices.cost(self.agent.chat.model, tokens, most)
            self.context.on_send(Call(self.agent.chat.model, tokens, most, cost, 0.0, estimated=True))

        def failed(call: Call) -> None:
            self._record_call(call)
            if self._reply_limit(tokens) < most:
                raise _ReplyTooExpensive
            send()

        send()
        return failed

    def _reply_limit(self, prompt_tokens: int) -> int:
        """Tokens that the reply may take before a limit of the study is passed. Raises LimitReached."""
        limits, agent = self.context.limits, self.agent
        limit = agent.reply_tokens
        if limits.max_tokens is not None:
            limit = min(limit, limits.max_tokens - self.spent.tokens - prompt_tokens)
            if limit < LEAST_REPLY_TOKENS:
                raise LimitReached(f"{limits.max_tokens:,} tokens")
        if limits.max_cost is not None:
            prompt_cost, token_cost = self._price(prompt_tokens, 0), self._price(0, 1_000_000) / 1_000_000
            left = limits.max_cost - self.spent.cost - prompt_cost
            if token_cost > 0:
                limit = min(limit, int(left / token_cost))
            if limit < LEAST_REPLY_TOKENS or left < 0:
                raise LimitReached(f"${limits.max_cost:g}")
        return limit

    def _price(self, tokens_in: int, tokens_out: int) -> float:
        """US dollars. Raises AgentUnavailable while the table does not state the price."""
        chat = self.agent.chat
        cost = chat.prices.cost(chat.model, tokens_in, tokens_out)
        if cost is None and self.agent.prices_file is not None:
            chat.prices = read_prices(self.agent.prices_file)
            cost = chat.prices.cost(chat.model, tokens_in, tokens_out)
        if cost is None:
            raise AgentUnavailable(
                f"presets/prices.yaml does not state the price of {chat.model}, so a limit of cost cannot be "
                "kept. Add it."
            )
        return cost

    def _record_call(self, call: Call) -> None:
        self.spent = self.spent.plus(call)
        self.context.on_call(call)


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


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
    _llm_instead_for: int = -1  # number of the experiment for which the model stands in

    def is_for_llm(self, number: int) -> bool:
        """Whose turn experiment `number` is: `share` of any first n experiments, rounded up, are the model's."""
        due, due_before = (math.ceil(round(n * self.share, 9)) for n in (number, number - 1))
        return due > due_before

    def listens(self, context: Context) -> bool:
        return self.is_for_llm(context.number) or self._llm_instead_for == context.number

    def thinks_ahead(self, context: Context) -> bool:
        return self.is_for_llm(context.number)

    def propose(self, context: Context) -> Proposal:
        """The answer of the one whose turn it is; the model's, and it says so, when the optimiser has nothing left."""
        if self.is_for_llm(context.number) or self._llm_instead_for == context.number:
            return self.llm.propose(context)
        try:
            return self.search.propose(context)
        except (NothingToPropose, SourceError) as error:
            context.on_wait(f"The optimiser has nothing to propose, so the model is asked: {error}")
            self._llm_instead_for = context.number
            return self.llm.propose(context)
