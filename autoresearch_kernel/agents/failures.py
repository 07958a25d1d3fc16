"""Why a request to a language model gave no reply, as servers say it in many ways, and what to do about it."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from ..core.types import Call
from .server import redact
from .stream import ServerError, Unreadable, mended, message_of

PASSING = {408, 409, 425, 429}  # and 5xx: the same request may succeed later
LOST_BY_A_PROXY = {504, 524}  # the model may have answered, and be paid for it, behind a proxy that gave up

_LONGER = "context_length_exceeded|exceed_context_size"
_TOO_LONG = re.compile(
    rf"{_LONGER}|context[ -](length|size|window)|maximum model length|prompt (is|contains) .*too (long|large)"
    r"|prompt is too long|input token count|input length exceeds|request too large|inputs?`? tokens"
    r"|(keep|number of tokens).* initial prompt|reduce the length of (the|your) (messages|prompt|input)",
    re.IGNORECASE,
)
# How servers word their limit, in tokens: OpenAI, vLLM, llama.cpp, LM Studio, Anthropic, Mistral, Gemini, SGLang, TGI.
_LIMIT = re.compile(
    r"(?:context (?:length|size|window) (?:is |of |only )*\(?|model length (?:is |of )*|n_ctx\D{0,6}|limit (?:of )?"
    r"|tokens allowed \(|> |<= )(\d{3,})|(\d{3,}) (?:tokens )?maximum",
    re.IGNORECASE,
)


class ModelUnavailable(RuntimeError):
    """No reply, after all retries or because retrying cannot mend it. The message says what, where and what to do."""

    def __init__(self, message: str, *, passes: bool):
        super().__init__(message)
        self.passes = passes  # waiting may mend it; False when a person has to change something


class PromptTooLong(ValueError):
    """Prompt and reply do not fit the server's context. `limit` is its length in tokens, None if it does not say."""

    def __init__(self, message: str, *, limit: int | None = None):
        super().__init__(message)
        self.limit = limit


@dataclass
class Failure:
    """Why a request gave no reply, and what to do about it. `why` holds no secret."""

    why: str
    status: int | None = None  # of HTTP
    words: str = ""  # of the server, as they came
    parameter: str | None = None  # that the server refused, if it names one
    was_sent: bool = True
    may_cost: bool = True  # the model may have begun to answer
    passes: bool = True  # the same request may succeed later
    asks_otherwise: bool = False  # other parameters are tried, at once
    too_long: bool = False
    limit: int | None = None  # of the context, tokens
    retry_after: float | None = None  # seconds
    call: Call | None = None


class TooLate(Exception):
    """A limit of time passed."""


def failure_of(error: Exception, connect_seconds: float) -> Failure:
    """What an exception of a request or its reply means. Raises it again when it is none that a server causes."""
    import openai

    if isinstance(error, openai.APIStatusError):
        return _refused(error.status_code, message_of(error.body), error)
    if isinstance(error, ServerError):  # said in the midst of a reply
        if says_too_long(str(error)):
            return Failure(_quoted(str(error)), too_long=True, limit=_limit(str(error)), may_cost=False)
        return Failure(f"an error within the reply: {_quoted(str(error))}")
    if isinstance(error, (TooLate, Unreadable)):
        return Failure(_quoted(str(error)))
    if isinstance(error, openai.APITimeoutError):
        is_connected = type(error.__cause__).__name__ not in ("ConnectTimeout", "PoolTimeout")
        why = "silent for too long" if is_connected else f"no connection in {connect_seconds:g} s"
        return Failure(why, was_sent=is_connected)
    if isinstance(error, openai.APIConnectionError):
        cause = error.__cause__ or error
        is_connected = type(cause).__name__ not in ("ConnectError", "ProxyError")
        what = "connection lost" if is_connected else "no connection"
        return Failure(f"{what} ({_quoted(str(cause)) or type(cause).__name__})", was_sent=is_connected)
    if isinstance(error, OSError) or type(error).__module__.split(".")[0] in ("httpx", "httpx2", "anyio"):
        return Failure(f"connection lost ({_quoted(str(error)) or type(error).__name__})")
    raise error


def _refused(status: int, words: str, error: Any) -> Failure:
    """An answer with an HTTP status of 4xx or 5xx."""
    too_long = status == 413 or _is_too_long(status, f"{error.code} {words}")
    return Failure(
        f"HTTP {status}" + (f": {_quoted(words)}" if words and status not in (401, 403) else ""),
        status=status,
        words=words,
        parameter=error.param,
        may_cost=status in LOST_BY_A_PROXY,
        passes=(status in PASSING or status >= 500) and error.code != "insufficient_quota",
        too_long=too_long,
        limit=_limit(words) if too_long else None,
        retry_after=_retry_after(error.response.headers, time.time()),
    )


def explained(failure: Failure, who: str, attempts: int) -> str:
    """What failed, where, and the next step; `who` is the model and its host."""
    tried = f" after {attempts} attempts" if attempts > 1 else ""
    step = _STEPS.get(failure.status or 0, "Look whether the server is up and OPENAI_BASE_URL is right.")
    if failure.status not in _STEPS and not failure.passes:
        step = "Choose another --model or server."
    return f"No reply from {who}{tried}: {failure.why}. {step}"


_STEPS = {
    401: "It does not accept the key: set OPENAI_API_KEY to one that is valid there.",
    402: "The account there has no credit: add some, or choose another --model.",
    403: "The key may not use this model: choose another --model or another key.",
    404: "Either it has no such model, or the path of OPENAI_BASE_URL is wrong: most end in /v1. "
    "Choose a --model that its /models lists.",
    429: "Its limit for this account is reached: wait, raise it there, or choose another --model.",
}


def _retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that the server asks us to wait, from a number or a date; `now` is the time of the day in seconds."""
    value = headers.get("retry-after", "").strip()
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - now
        except ValueError:
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def says_too_long(words: str) -> bool:
    """Whether a server says that prompt and reply do not fit its context."""
    return bool(_TOO_LONG.search(words))


def _is_too_long(status: int, words: str) -> bool:
    """Whether prompt and reply do not fit; a rate limit says so of a request that it will never let pass."""
    if status == 429:
        return "request too large" in words.lower()
    return status not in (401, 403, 404) and says_too_long(words)


def _limit(words: str) -> int | None:
    found = _LIMIT.search(words.replace(",", ""))
    return int(found[1] or found[2]) if found else None


def _quoted(text: str) -> str:
    """Words of a server in one short line, without secrets."""
    line = " ".join(redact(mended(text)).split()).rstrip(".")
    return line if len(line) <= 300 else f"{line[:300]} …"
