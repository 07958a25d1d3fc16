"""One question to a language model as a conversation: its accounts, and how it is made to fit the model's context.

A conversation keeps prompt and reply within the limits of the study and of the server. When a server says that both do
not fit, the model is asked for a shorter reply first and gets a smaller prompt only when that does not help.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ..core.agent import AgentUnavailable, NothingToPropose
from ..core.format import count
from ..core.types import Call, Context, Objection
from ..system.shell import shell_command
from .failures import ModelUnavailable, PromptTooLong
from .model import ModelClient, Reply
from .prices import count_tokens, read_prices
from .prompt import build_prompt, objection_text
from .server_numbers import Sizes

LEAST_REPLY_TOKENS = 500  # a reply shorter than this holds no edit
USEFUL_REPLY_TOKENS = 1_000  # the shortest reply for which a long prompt is kept
REPLY_MARGIN_TOKENS = 16  # of the context, for marks that servers add
SHORTER_REPLY = 4  # by which a reply is divided while a server names no numbers
CUTS = (0.4, 0.25, 0.1)  # of a prompt, after a server found it too long and named no numbers
MOST_RATIO = 1.5  # of a server's tokens to ours; a server that says more counts something else
MAX_REFUSALS = 8  # of one question, for its length
SUSPICIOUS_SHARE = 0.4  # of our count, which is 1.2 to 1.5 times the real one: a server that reads less cuts prompts
PROMPT_SHARES = (0.7, 0.8, 0.9)  # of a server's context, once a prompt has to be smaller; the rest is for the reply
QUOTED_SHARE = 8  # part of the prompt, at most, that is quoted of a reply which was given back


class _ReplyTooExpensive(Exception):
    """A request failed and may have cost so much that the next one must ask for a shorter reply."""


class LimitReached(NothingToPropose):
    """The study has spent what it may on its model."""

    def __init__(self, limit: str) -> None:
        see = shell_command("run --help")
        super().__init__(f"The study has spent its {limit}. A higher limit goes on: see `{see}`.")
        self.reason = f"the limit of {limit} is reached"


@dataclass
class LanguageModel:
    """A model behind its server, and what was learned of the server's limits.

    Args:
        prompt_tokens, reply_tokens: the most that one question and one reply may take, by our count.
        context_tokens: for both, by the server's count; None while it is not known.
        token_ratio: the server's tokens for one of ours, which are rather too many.
    """

    chat: ModelClient
    prices_file: Path | None = None  # read again when a price is missing: a user may have added it meanwhile
    prompt_tokens: int = 32_000
    reply_tokens: int = 16_000
    name: str = "llm"
    is_warned: bool = False  # of a server that seems to cut prompts
    context_tokens: int | None = None
    token_ratio: float = 1.0
    has_looked: bool = False  # at what the server states of its context
    is_bound: bool = False  # prompts are smaller than the user allows, because of the server

    def __post_init__(self) -> None:
        self._allowed = self.prompt_tokens, self.reply_tokens

    @property
    def who(self) -> str:
        return self.chat.who

    def forget_context(self) -> None:
        """Take nothing for known of the server's context, which its owner may have made longer since."""
        self.prompt_tokens, self.reply_tokens = self._allowed
        self.context_tokens, self.token_ratio, self.has_looked, self.is_bound = None, 1.0, False, False

    def look_at_context(self) -> None:
        """Ask the server once for the length of its context, where that costs nothing."""
        if not self.has_looked:
            self.has_looked = True
            self.context_tokens = self.context_tokens or self.chat.context_tokens()


def capped(text: str, most_tokens: int) -> str:
    """`text`, or its beginning and its end with the number of characters left out, in `most_tokens` at most."""
    tokens = count_tokens(text)
    if tokens <= most_tokens:
        return text
    kept, short = int(0.9 * len(text) * most_tokens / tokens), ""
    while kept > 30:
        head = kept * 2 // 3
        short = f"{text[:head]}\n[... {len(text) - kept:,} characters left out ...]\n{text[len(text) - kept + head :]}"
        if count_tokens(short) <= most_tokens:
            return short
        kept = int(0.8 * kept)
    return f"[... {len(text):,} characters left out ...]"


def message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _size(messages: list[dict[str, str]]) -> int:
    return sum(count_tokens(each["content"]) for each in messages)


class Conversation:
    """The messages of one question, and the accounts of what they cost."""

    def __init__(self, model: LanguageModel, context: Context) -> None:
        self.model, self.context, self.spent = model, context, context.spent
        self.num_replies = 0
        self.reply_asked = model.reply_tokens  # of the last request
        self.messages: list[dict[str, str]] = []  # in full; what is sent is capped
        last = context.refused[-1] if context.refused else None
        if last is not None and last.proposal is not None and last.objection is not Objection.CONFLICT:
            self.messages = [*last.proposal.transcript, message("user", objection_text(last))]
        self.words = ""  # behind the prompt
        if len(self.messages) < 3:  # a new question, or a proposal that was made without a conversation
            self.words = f"\n{objection_text(last)}\n" if last is not None else ""
            self.messages = [message("user", self._prompt(model.prompt_tokens))]
        model.look_at_context()

    def ask(self, reply_tokens: int | None = None) -> Reply:
        """The model's reply, of at most `reply_tokens`; of as many as the model's settings say when left out.

        Raises AgentUnavailable and LimitReached.
        """
        most, budget = reply_tokens or self.model.reply_tokens, self.model.prompt_tokens
        for _ in range(MAX_REFUSALS):
            most, budget = self._within_context(most, budget)
            sent = self._fitted(budget)
            try:
                return self._ask(sent, most)
            except PromptTooLong as error:
                most, budget = self._smaller(error.sizes, _size(sent), budget)
        raise AgentUnavailable(
            f"{self.model.who} finds a prompt of {budget:,} tokens with a reply of {most:,} too long. Give its server "
            "a longer context."
        )

    def ask_longer(self) -> Reply:
        """Ask the same once more with twice the room for the reply, at the cost of the prompt where it has to be."""
        model, most = self.model, 2 * self.reply_asked
        if model.context_tokens is not None:
            budget = int((model.context_tokens - most) / model.token_ratio)
            model.is_bound = model.is_bound or budget < model.prompt_tokens
            model.prompt_tokens = min(model.prompt_tokens, max(budget, model.prompt_tokens // 2))
        self.context.on_wait(
            f"{model.who}: the reply limit of {self.reply_asked:,} tokens was used up by thinking. The model is asked "
            f"once more, for up to {most:,} tokens. A larger --reply-tokens avoids that."
        )
        return self.ask(most)

    # --- the size

    def _prompt(self, budget_tokens: int, words: str = "") -> str:
        """The prompt with `words` behind it, in `budget_tokens` at most."""
        words = self.words + words
        try:
            return build_prompt(self.context, budget_tokens - count_tokens(words), count_tokens) + words
        except ValueError as error:
            step = "Continue the study with a larger --prompt-tokens."
            if self.model.is_bound:
                tokens = self.model.context_tokens
                has = f" has {tokens:,} tokens" if tokens is not None else " is too short"
                step = f"The context of {self.model.who}{has}: give its server a longer one."
            raise AgentUnavailable(f"{error} {step}") from error

    def _fitted(self, budget_tokens: int) -> list[dict[str, str]]:
        """The messages to send, in `budget_tokens` at most.

        Replies are capped, then old ones are left out, then the prompt is made smaller, then the last reply goes.
        """
        most = max(LEAST_REPLY_TOKENS, budget_tokens // QUOTED_SHARE)
        shown = [
            each if each["role"] == "user" else message("assistant", capped(each["content"], most))
            for each in self.messages
        ]
        if _size(shown) <= budget_tokens:
            return shown
        prompt, *rest = shown if len(shown) <= 3 else [shown[0], *shown[-2:]]
        if rest and _size([prompt, *rest]) <= budget_tokens:
            return [prompt, *rest]
        try:
            return [message("user", self._prompt(budget_tokens - _size(rest))), *rest]
        except AgentUnavailable:
            if not rest:
                raise
            return [message("user", self._prompt(budget_tokens, f"\n{rest[-1]['content']}"))]

    def _within_context(self, most: int, budget: int) -> tuple[int, int]:
        """Tokens of reply and prompt within what is known of the context: the reply gets shorter before the prompt."""
        model = self.model
        if model.context_tokens is None:
            return most, budget
        prompt = min(budget, _size(self._fitted(budget)))
        room = model.context_tokens - REPLY_MARGIN_TOKENS - int(prompt * model.token_ratio)
        if room < min(most, USEFUL_REPLY_TOKENS):
            model.is_bound = True
            whole = model.context_tokens / model.token_ratio
            least = whole - LEAST_REPLY_TOKENS / model.token_ratio
            sizes = [min(budget, int(size)) for size in (*(share * whole for share in PROMPT_SHARES), least)]
            budget = self._first_that_holds(sizes)
            room = model.context_tokens - REPLY_MARGIN_TOKENS - int(budget * model.token_ratio)
        return max(LEAST_REPLY_TOKENS, min(most, room)), budget

    def _first_that_holds(self, budgets: Iterable[int]) -> int:
        """The first of them in which the least prompt fits; the last when none does, which is said when it is sent."""
        last = 0
        for budget in budgets:
            last = budget
            with suppress(AgentUnavailable):
                self._fitted(budget)
                break
        return last

    def _smaller(self, sizes: Sizes, sent: int, budget: int) -> tuple[int, int]:
        """Tokens of reply and prompt for the next request, after the server found those of the last one too long."""
        model, asked = self.model, self.reply_asked
        numbers = [f"the context has {sizes.limit:,} tokens"] if sizes.limit else []
        numbers += [f"the prompt takes {sizes.prompt:,}"] if sizes.prompt else []
        said = f" ({', '.join(numbers)})" if numbers else ""
        if sizes.limit is not None:
            known = model.context_tokens in (None, sizes.limit)
            model.context_tokens = sizes.limit if known else min(sizes.limit, model.context_tokens or sizes.limit)
            ratio = sizes.prompt / sent if sizes.prompt else model.token_ratio
            model.token_ratio = min(MOST_RATIO, max(SUSPICIOUS_SHARE, ratio))
            most, budget = self._within_context(asked, budget)
            is_same = most >= asked and budget >= sent
        else:
            most, is_same = asked // SHORTER_REPLY, asked // SHORTER_REPLY < USEFUL_REPLY_TOKENS
        if is_same:  # or the numbers of the server do not add up
            most = min(asked, max(USEFUL_REPLY_TOKENS, asked // SHORTER_REPLY))
            over, sent = int(MOST_RATIO * (sizes.excess or 0)), min(budget, sent)
            cuts = (over + USEFUL_REPLY_TOKENS, over) if over else (int(share * sent) for share in CUTS)
            budget, model.is_bound = self._first_that_holds(sent - cut for cut in cuts), True
        self._fitted(budget)  # or the study pauses: nothing that fits can be asked
        if sizes.limit is None:  # else the context is known, and with it what fits
            model.reply_tokens, model.prompt_tokens = min(model.reply_tokens, most), min(model.prompt_tokens, budget)
        smaller = f"and a prompt of {budget:,} instead of {sent:,}" if budget < sent else "with the same prompt"
        self.context.on_wait(
            f"{model.who}: prompt and reply do not fit{said}. The model is asked for a reply of {most:,} instead of "
            f"{asked:,} tokens {smaller}."
        )
        return most, budget

    # --- the accounts

    def _ask(self, messages: list[dict[str, str]], reply_tokens: int) -> Reply:
        model = self.model
        tokens = _size(messages)
        while True:
            most = self.reply_asked = self._reply_limit(tokens, reply_tokens)
            try:
                on_failed = self._before_each_request(tokens, most, reply_tokens)
                reply = model.chat.ask(messages, most, on_failed=on_failed)
            except _ReplyTooExpensive:
                continue
            except ModelUnavailable as failure:
                raise AgentUnavailable(str(failure), failure.again_in_seconds) from failure
            self._record_call(reply.call)
            self.num_replies += 1
            self._learn(reply.call, tokens)
            return reply

    def _learn(self, call: Call, tokens: int) -> None:
        """How the server counts, and whether it seems to cut prompts."""
        model = self.model
        if call.estimated:
            return
        if call.tokens_in >= SUSPICIOUS_SHARE * tokens:
            model.token_ratio = call.tokens_in / tokens
        elif not model.is_warned:
            model.is_warned = True
            self.context.on_wait(
                f"{model.chat.place} read {call.tokens_in:,} tokens of a prompt of about {tokens:,}. Does it cut? "
                "Give it a longer context (Ollama: OLLAMA_CONTEXT_LENGTH) or use a smaller --prompt-tokens."
            )

    def _before_each_request(self, tokens: int, most: int, wanted: int) -> Callable[[Call], None]:
        """Keeps the accounts of requests, and ends the question when the next one might pass a limit of the study."""
        chat = self.model.chat

        def send() -> None:
            known = self.spent.mean_cost if chat.reports_cost else chat.prices.cost(chat.model, tokens, most)
            self.context.on_send(Call(chat.model, tokens, most, known, 0.0, estimated=True))

        def failed(call: Call) -> None:
            self._record_call(call)
            if self._reply_limit(tokens, wanted) < most:
                raise _ReplyTooExpensive
            send()

        send()
        return failed

    def _reply_limit(self, prompt_tokens: int, wanted: int) -> int:
        """Tokens that the reply may take before a limit of the study is passed. Raises LimitReached."""
        limits, limit = self.context.limits, wanted
        if limits.max_calls is not None and self.spent.counted_calls >= limits.max_calls:
            raise LimitReached(count(limits.max_calls, "call"))
        if limits.max_tokens is not None:
            limit = min(limit, limits.max_tokens - self.spent.tokens - prompt_tokens)
            if limit < LEAST_REPLY_TOKENS:
                raise LimitReached(f"{limits.max_tokens:,} tokens")
        if limits.max_cost is not None and self.model.chat.reports_cost:
            if limits.max_cost - self.spent.cost <= (self.spent.mean_cost or 0.0):  # which the next one may cost
                raise LimitReached(f"${limits.max_cost:g}")
        elif limits.max_cost is not None:
            prompt_cost, token_cost = self._price(prompt_tokens, 0), self._price(0, 1_000_000) / 1_000_000
            left = limits.max_cost - self.spent.cost - prompt_cost
            if token_cost > 0:
                limit = min(limit, int(left / token_cost))
            if limit < LEAST_REPLY_TOKENS or left < 0:
                raise LimitReached(f"${limits.max_cost:g}")
        return limit

    def _price(self, tokens_in: int, tokens_out: int) -> float:
        """US dollars. Raises AgentUnavailable while the table does not state the price."""
        chat, prices_file = self.model.chat, self.model.prices_file
        cost = chat.prices.cost(chat.model, tokens_in, tokens_out)
        if cost is None and prices_file is not None:
            chat.prices = read_prices(prices_file)
            cost = chat.prices.cost(chat.model, tokens_in, tokens_out)
        if cost is None:
            raise AgentUnavailable(
                f"presets/prices.yaml does not state the price of {chat.model}, so a limit of cost cannot be "
                "kept. Add it."
            )
        return cost

    def _record_call(self, call: Call) -> None:
        if call.cost is None and self.model.chat.reports_cost:  # it was ended before it told its cost
            call = replace(call, cost=self.spent.mean_cost)
        self.spent = self.spent.plus(call)
        self.context.on_call(call)
