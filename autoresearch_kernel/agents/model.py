"""What a conversation needs of a language model, whoever answers: a server (`chat.py`) or a program (`command.py`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..core.types import Call, ignore
from .prices import Prices
from .thoughts import answer_of


@dataclass(frozen=True)
class Reply:
    """What the model said, and what it took."""

    text: str  # with the thoughts that the server did not part from it
    finish: str  # "stop", "length", "content_filter" or "tool_calls"
    call: Call
    tools: tuple[str, ...] = ()  # names of tools that it called, though it has none
    has_thought: bool = True  # it said something, be it no answer

    @property
    def is_cut(self) -> bool:
        """Ended by the limit of tokens."""
        return self.finish == "length"

    @property
    def answer(self) -> str:
        """`text` without its thoughts; "" when there is nothing else, or when the limit ended a thought."""
        answer = answer_of(self.text)
        return "" if self.is_cut and answer.ends_in_thought else answer.text.strip()


class ModelClient(Protocol):
    """Asks one language model one question at a time, from one thread."""

    model: str  # for the record and the table of prices
    prices: Prices
    on_wait: Callable[[str], None]  # hears why a question is asked again and when
    on_words: Callable[
        [str], None
    ]  # hears the last lines of what the model writes, where they come as they are written

    @property
    def who(self) -> str:
        """The model and where it is, for messages: "gpt-5 at api.openai.com", "Claude Code"."""
        ...

    @property
    def place(self) -> str:
        """What reads the prompt, for messages: a host, or the name of a program."""
        ...

    @property
    def reports_cost(self) -> bool:
        """Whether each call tells afterwards what it has cost, and no table tells it before."""
        ...

    @property
    def facts(self) -> Mapping[str, str]:
        """What the record of a proposal says of it besides the model."""
        ...

    def ask(
        self,
        messages: Sequence[Mapping[str, str]],
        max_reply_tokens: int,
        on_failed: Callable[[Call], None] = ignore,
    ) -> Reply:
        """The reply to `messages`, each with a role and a content.

        `on_failed` hears of every request that gave no reply and may have cost something; what it raises ends the
        question. Raises ModelUnavailable and PromptTooLong.
        """
        ...

    def context_tokens(self) -> int | None:
        """Tokens of prompt and reply together, where that is known without cost; else None."""
        ...
