"""Why a request to a language model gave no reply, read from an exception, and what is said of it.

`causes.py` has the table of causes; this module knows the client's exceptions.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import Any

from ..core.format import duration
from ..core.types import Call
from .causes import ADVICE, ServerAction, ServerCause, cause_of
from .error_body import ErrorBody, read_body
from .server import redact
from .server_numbers import Sizes, seconds_to_wait, sizes_of
from .stream import NotChat, ServerError, Unreadable, mended

LOST_BY_A_PROXY = {504, 524}  # the model may have answered, and be paid for it, behind a proxy that gave up
WAIT_TO_SAY_SECONDS = 5.0  # shorter waits are not worth a word

# What looks like a key in a server's words, which may be a key that is not the one we sent.
_KEY_LIKE = re.compile(
    r"\b(?:(?:sk|gsk|xai|hf|r8|pk|key|nvapi|ghp)[-_]|AIza|Bearer )"
    r"(?=[A-Za-z._-]*[0-9*])[A-Za-z0-9*._-]*[A-Za-z0-9*]{8,}"  # with a digit, or hidden in part
)


class ModelUnavailable(RuntimeError):
    """No reply, after all retries or because retrying cannot mend it. The message says what, where and what to do."""

    def __init__(self, message: str, *, cause: ServerCause, again_in_seconds: float | None = None):
        """`again_in_seconds`: when it is worth asking again, where that is known."""
        super().__init__(message)
        self.cause, self.again_in_seconds = cause, again_in_seconds

    @property
    def passes(self) -> bool:
        """Waiting may mend it; False when a user has to change something."""
        return ADVICE[self.cause].action is ServerAction.RETRY


class PromptTooLong(ValueError):
    """Prompt and reply do not fit the server's context. `sizes` are the numbers that it names."""

    def __init__(self, message: str, *, sizes: Sizes):
        super().__init__(message)
        self.sizes = sizes


@dataclass
class Failure:
    """Why a request gave no reply, and what to do about it. `why` holds no secret."""

    why: str
    cause: ServerCause
    status: int | None = None  # of HTTP
    words: str = ""  # of the server, as they came
    parameter: str | None = None  # that the server refused, if it names one
    was_sent: bool = True
    may_cost: bool = True  # the model may have begun to answer
    asks_otherwise: bool = False  # other parameters are tried, at once
    sizes: Sizes = field(default_factory=Sizes)  # of a cause CONTEXT
    retry_after: float | None = None  # seconds
    call: Call | None = None

    @property
    def action(self) -> ServerAction:
        return ADVICE[self.cause].action


class TooLate(Exception):
    """A limit of time passed."""


def failure_of(error: Exception, connect_seconds: float, reply_tokens: int) -> Failure:
    """What an exception of a request or its reply means. Raises it again when it is none that a server causes.

    Args:
        reply_tokens: the most that was asked for.
    """
    import openai

    if isinstance(error, openai.APIStatusError):
        return _refused(error, reply_tokens)
    if isinstance(error, ServerError):  # said in the midst of a reply
        return _within_reply(read_body(error.body), reply_tokens, error.has_begun)
    if isinstance(error, NotChat):
        return Failure(quoted(str(error)), ServerCause.NOT_CHAT, may_cost=False)
    if isinstance(error, (TooLate, Unreadable)):
        return Failure(quoted(str(error)), ServerCause.SLOW if isinstance(error, TooLate) else ServerCause.DOWN)
    if isinstance(error, openai.APITimeoutError):
        is_connected = type(error.__cause__).__name__ not in ("ConnectTimeout", "PoolTimeout")
        why = "silent for too long" if is_connected else f"no connection in {connect_seconds:g} s"
        return Failure(why, ServerCause.SLOW if is_connected else ServerCause.DOWN, was_sent=is_connected)
    if isinstance(error, openai.APIConnectionError):
        return _not_connected(error.__cause__ or error)
    if isinstance(error, OSError) or type(error).__module__.split(".")[0] in ("httpx", "httpx2", "anyio"):
        return Failure(f"connection lost ({quoted(str(error)) or type(error).__name__})", ServerCause.DOWN)
    raise error


def _not_connected(cause: BaseException) -> Failure:
    """A connection that was refused or lost."""
    name, words = type(cause).__name__, quoted(str(cause))
    is_connected = name not in ("ConnectError", "ProxyError", "UnsupportedProtocol", "InvalidURL", "LocalProtocolError")
    what = "connection lost" if is_connected else "no connection"
    why = f"{what} ({words or name})"
    if "CERTIFICATE" in words.upper() or "self-signed" in words:
        return Failure(why, ServerCause.CERTIFICATE, was_sent=False)
    wrong = r"wrong[_ ]version|record layer|unknown protocol|name or service|nodename|getaddrinfo|resol|no address"
    is_address = not is_connected and re.search(wrong, words, re.IGNORECASE)
    return Failure(why, ServerCause.ADDRESS if is_address else ServerCause.DOWN, was_sent=is_connected)


def _within_reply(body: ErrorBody, reply_tokens: int, has_begun: bool) -> Failure:
    """An error under status 200. No model saw the prompt when the words explain it and no text came."""
    cause = cause_of(body)
    sizes = sizes_of(body.words, reply_tokens) if cause is ServerCause.CONTEXT else Sizes()
    return Failure(
        quoted(body.message) if cause is ServerCause.CONTEXT else f"an error within the reply: {quoted(body.message)}",
        cause or ServerCause.SERVER,
        words=body.words,
        may_cost=has_begun or cause in (None, ServerCause.SERVER),
        sizes=sizes,
        retry_after=seconds_to_wait({}, body.words, time.time()),
    )


def _refused(error: Any, reply_tokens: int) -> Failure:
    """An answer with an HTTP status of 3xx, 4xx or 5xx."""
    status, body = error.status_code, read_body(error.body)
    if code := error.code if isinstance(error.code, str) else "":
        body = ErrorBody(body.message, f"{code} | {body.words}", body.status, body.is_page)
    cause = cause_of(body, status) or ServerCause.REQUEST
    says = body.message and cause is not ServerCause.KEY
    return Failure(
        f"HTTP {status}" + (f": {quoted(body.message)}" if says else ""),
        cause,
        status=status,
        words=body.words,
        parameter=error.param if isinstance(error.param, str) else None,
        may_cost=status in LOST_BY_A_PROXY,
        sizes=sizes_of(body.words, reply_tokens) if cause is ServerCause.CONTEXT else Sizes(),
        retry_after=seconds_to_wait(error.response.headers, body.words, time.time()),
    )


def failure_words(failure: Failure, who: str, attempts: int) -> str:
    """What failed, where, and the next step; `who` is the model and its host."""
    tried = f" after {attempts} attempts" if attempts > 1 else ""
    seconds = failure.retry_after or 0.0
    wait = f" It asks to wait {duration(seconds)}." if seconds >= WAIT_TO_SAY_SECONDS else ""
    return f"No reply from {who}{tried}: {failure.why}.{wait} {ADVICE[failure.cause].step}"


def quoted(text: str) -> str:
    """Words of a server in one short line, without secrets."""
    line = " ".join(_KEY_LIKE.sub("[key]", redact(mended(text))).split()).rstrip(".")
    return line if len(line) <= 300 else f"{line[:300]} …"
