"""Asks the server of a study's model whether it answers, before anything trains: one question of one token."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from ..core.types import Call
from .causes import ADVICE, ServerAction, ServerCause
from .chat import Chat
from .failures import Failure, failure_words
from .model import Reply

WAITS_SECONDS = (1.0, 3.0)  # before a server that does not answer is asked again
ANSWER_SECONDS = 60.0  # until it answers; a server that loads a large model takes longer
QUESTION = [{"role": "user", "content": "Say OK."}]
REPLY_TOKENS = (1, 64)  # of the question; some servers make no reply of one token
MOST_NAMES = 8  # of models, in a message
ASKED_AGAIN = {ServerCause.DOWN, ServerCause.ADDRESS, ServerCause.SERVER, ServerCause.OVERLOADED}
REFUSED = {ServerCause.DOWN, ServerCause.ADDRESS, ServerCause.CONTEXT}  # besides what a user has to change
LONGER = "Give the server a longer one (Ollama: OLLAMA_CONTEXT_LENGTH, llama.cpp: -c, vLLM: --max-model-len)."


@dataclass(frozen=True)
class ServerCheck:
    """What the server answered. `call` is what the question took, None when no model saw it."""

    words: str
    cause: ServerCause | None = None  # None: it answered
    call: Call | None = None

    @property
    def refuses(self) -> bool:
        """No study can go on with it before a user has changed something."""
        return self.cause in REFUSED or (self.cause is not None and ADVICE[self.cause].action is ServerAction.PAUSE)


def ask_server(chat: Chat, least_context: int = 0, sleep: Callable[[float], None] = time.sleep) -> ServerCheck:
    """Whether the model answers, and whether its context is long enough where the server states it.

    Args:
        least_context: tokens that the study needs at the very least.
        sleep: waits between attempts.
    """
    before = chat.timeouts
    chat.timeouts = replace(before, first_byte_seconds=ANSWER_SECONDS, whole_seconds=ANSWER_SECONDS)
    try:
        answer, attempts = _answer(chat, sleep)
    finally:
        chat.timeouts = before
    who = chat.who
    if isinstance(answer, Failure) and answer.cause is not ServerCause.REPLY_LIMIT:
        words = failure_words(answer, who, attempts)
        call = answer.call if answer.call is not None and answer.call.tokens_in else None
        return ServerCheck(words + _names(chat, answer.cause), answer.cause, call)
    call = answer.call
    context = chat.context_tokens()
    if context is not None and context < least_context:
        words = f"The context of {who} has {context:,} tokens, and this study needs at least {least_context:,}."
        return ServerCheck(f"{words} {LONGER}", ServerCause.CONTEXT, call)
    tokens = f" ({call.tokens_in} + {call.tokens_out} tokens)" if call is not None and call.tokens_in else ""
    stated = f"; its context has {context:,} tokens" if context is not None else ""
    return ServerCheck(f"{who} answers{tokens}{stated}.", call=call)


def _answer(chat: Chat, sleep: Callable[[float], None]) -> tuple[Reply | Failure, int]:
    """The answer, and how often the server was asked."""
    attempts, sizes = 1, list(REPLY_TOKENS)
    while True:
        answer = chat.ask_once(QUESTION, sizes[0])
        if isinstance(answer, Reply):
            return answer, attempts
        if answer.asks_otherwise:
            continue
        if len(sizes) > 1 and answer.cause in (ServerCause.REPLY_LIMIT, ServerCause.REQUEST):
            sizes.pop(0)
        elif answer.cause in ASKED_AGAIN and attempts <= len(WAITS_SECONDS):
            sleep(WAITS_SECONDS[attempts - 1])
            attempts += 1
        else:
            return answer, attempts


def _names(chat: Chat, cause: ServerCause) -> str:
    """Models that the server lists, when the name is what is wrong."""
    names = [model["id"] for model in chat.list_models()] if cause is ServerCause.MODEL else []
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f" It lists {', '.join(names[:MOST_NAMES])}{more}." if names else ""
