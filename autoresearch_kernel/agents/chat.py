"""The language model: one question, one reply, in the chat-completions protocol that most servers speak.

It owns the client, the key, the retries, the estimate of tokens and the table of prices. It builds no prompt, reads
no edit and keeps no accounts: what a request cost goes to the caller, whether a reply came of it or not.

A thread of its own reads the bytes of a reply, so that a request ends at its deadline whatever the server does.
`answer.py` makes a reply of them and not the client's parser, to which a body without events is an empty reply.
"""

from __future__ import annotations

import logging
import math
import os
import queue
import random
import re
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

import yaml

from autoresearch_kernel.core.types import Call, silent, unheard

from .stream import Answer, ServerError, Unreadable, mended, message_of

OPENAI_URL = "https://api.openai.com/v1"
WAITS_SECONDS = (1.0, 4.0, 15.0, 60.0)
MOST_RETRY_AFTER_SECONDS = 600.0
PASSING = {408, 409, 425, 429}  # and 5xx: the same request may succeed later
LOST_BY_A_PROXY = {504, 524}  # the model may have answered, and be paid for it, behind a proxy that gave up
NO_KEY = "none"  # the client insists on a key; servers without one ignore it
# What people write where a server asks for no key: no secrets, and words that occur in any text.
PLACEHOLDERS = {"none", "empty", "dummy", "ollama", "lm-studio", "not-needed", "no-key", "sk-no-key-required"}

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
_UNKNOWN = re.compile(r"unsupported|not support|unrecogni[sz]ed|unknown|unexpected|not permitted|extra")


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


# --- key ---

_key: str | None = None
_secrets: set[str] = set()


def read_key() -> str | None:
    """OPENAI_API_KEY, taken out of the environment so that no child inherits it; later calls return the same."""
    global _key
    found = os.environ.pop("OPENAI_API_KEY", "").strip()
    if found:
        _key = found
        _keep_secret(found)
    return _key


def knows_server() -> bool:
    """Whether a key or an address names a server to ask; the environment stays as it is."""
    return bool(_key or any(os.environ.get(name, "").strip() for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL")))


def redact(text: str) -> str:
    """`text` with the key, and what else a base URL hides, as "[key]". Placeholders such as "ollama" stay."""
    for secret in sorted(_secrets, key=len, reverse=True):
        if len(secret) >= 8:
            text = text.replace(secret, "[key]")
        else:  # so short that it may be part of a word
            text = re.sub(rf"(?<![A-Za-z0-9]){re.escape(secret)}(?![A-Za-z0-9])", "[key]", text)
    return text


def _redacted(record: logging.LogRecord) -> bool:
    """A filter of a log that lets everything pass, without secrets."""
    record.msg, record.args = redact(record.getMessage()), ()
    return True


def _keep_secret(secret: str) -> None:
    if len(secret) >= 4 and secret.lower() not in PLACEHOLDERS:
        _secrets.update({secret, quote(secret, safe="")})


# --- tokens and prices ---


def count_tokens(text: str) -> int:
    """Tokens that `text` takes, rather too many: a character of a number each, else one for 3 bytes of UTF-8.

    Against cl100k_base and o200k_base this is 1.2 to 1.5 times the count in code and prose and 1.1 to 1.5 in tables
    of numbers, where bytes alone give half; vocabularies with a token for each digit count up to 8 % more there.
    """
    of_numbers = sum(map(text.count, "0123456789.+-|"))
    return of_numbers + math.ceil((len(text.encode("utf-8", "replace")) - of_numbers) / 3)


@dataclass(frozen=True)
class Prices:
    """US dollars for a million tokens in and out, by the model's name or a pattern such as "local/*"."""

    table: Mapping[str, tuple[float, float]] = field(default_factory=dict, hash=False)

    def cost(self, model: str, tokens_in: int, tokens_out: int) -> float | None:
        """US dollars; None when the table does not name the model. The name itself wins, then the longest pattern."""
        wanted = model.lower()
        undated = re.sub(r"-(20\d\d-\d\d-\d\d|20\d{6})$", "", wanted)  # a dated snapshot costs what its model costs
        names = {name.lower(): name for name in self.table}
        fitting = [n for n in names if fnmatchcase(wanted, n) or fnmatchcase(undated, n)]
        if not fitting:
            return None
        best = max(fitting, key=lambda n: (n == wanted, n == undated, len(n)))
        price_in, price_out = self.table[names[best]]
        return (tokens_in * price_in + tokens_out * price_out) / 1e6


def read_prices(path: Path) -> Prices:
    """The table in `path`; an empty one without the file. Raises ValueError naming what is wrong in it."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Prices()
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"The prices in {path} cannot be read: {error}. Mend or remove the file.") from error
    if values is None:
        return Prices()
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds {values!r:.80}. It needs lines `MODEL: {{in: 1.25, out: 10}}`.")
    return Prices({str(name): _price(path, str(name), value) for name, value in values.items()})


def _price(path: Path, name: str, value: Any) -> tuple[float, float]:
    try:
        price = float(value["in"]), float(value["out"])
        if set(value) == {"in", "out"} and all(math.isfinite(p) and p >= 0 for p in price):
            return price
    except (TypeError, KeyError, ValueError):
        pass  # said below, like a price below zero
    raise ValueError(
        f"{path}: the price of {name} is {value!r:.80}. Write `{name}: {{in: 1.25, out: 10}}`, US dollars for a "
        "million tokens."
    )


# --- the chat ---


@dataclass(frozen=True)
class Timeouts:
    """Limits of one request."""

    connect_seconds: float = 10.0
    first_byte_seconds: float = 600.0  # a local server says nothing while it reads a long prompt
    silence_seconds: float = 300.0  # between two pieces of the reply
    whole_seconds: float = 3600.0  # kept even while bytes arrive: 16,000 tokens at 5 a second


@dataclass(frozen=True)
class Reply:
    """What the model said, and what it took."""

    text: str  # never blank; its reasoning when it said nothing else
    tokens_in: int
    tokens_out: int  # reasoning included
    estimated: bool
    seconds: float
    is_cut: bool  # ended by the limit of tokens
    model: str
    cost: float | None  # US dollars

    @property
    def call(self) -> Call:
        """For the accounts."""
        return Call(self.model, self.tokens_in, self.tokens_out, self.cost, self.seconds, self.estimated)


def make_chat(
    model: str | None,
    *,
    prices: Prices | None = None,
    on_wait: Callable[[str], None] = silent,
    sleep: Callable[[float], None] = time.sleep,
) -> Chat:
    """A chat with the server that OPENAI_API_KEY and OPENAI_BASE_URL name. Raises ValueError when they name none."""
    key, base_url = read_key(), os.environ.get("OPENAI_BASE_URL", "").strip()
    if not key and not base_url:
        raise ValueError(
            "No language model is known: neither OPENAI_API_KEY nor OPENAI_BASE_URL is set. Set the key of a service, "
            "or the address of a server of your own, such as OPENAI_BASE_URL=http://localhost:11434/v1 for Ollama; "
            "or use --agent search, which needs neither."
        )
    if not model:
        raise ValueError("No model is named. Add --model NAME, one of those that the server lists at /v1/models.")
    return Chat(model, base_url=base_url or None, api_key=key, prices=prices, on_wait=on_wait, sleep=sleep)


class Chat:
    """Questions to one model of one server. It remembers what the server does not understand; ask from one thread."""

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        prices: Prices | None = None,
        timeouts: Timeouts | None = None,
        waits_seconds: Sequence[float] = WAITS_SECONDS,
        on_wait: Callable[[str], None] = silent,
        sleep: Callable[[float], None] = time.sleep,
    ):
        """`on_wait` hears why a question is asked again and when; `sleep` waits until then and may raise to give up.

        Raises ValueError for a base URL or a key that cannot be used.
        """
        import openai

        for name in ("httpx", "httpx2"):  # which log the address of every request
            logging.getLogger(name).addFilter(_redacted)
        self.model = model
        self.prices = prices or Prices()
        self.timeouts = timeouts or Timeouts()
        self.waits_seconds = tuple(waits_seconds)
        self.on_wait, self.sleep = on_wait, sleep
        self._unknown: set[str] = set()  # parameters that the server refused
        self._most_reply_tokens: int | None = None
        url, query, self.host = _address(base_url or OPENAI_URL)
        self._client = openai.OpenAI(
            api_key=_usable(api_key) or NO_KEY,
            base_url=url,
            default_query=query,
            max_retries=0,
            # No proxy leads to this machine itself, whatever HTTP_PROXY says.
            http_client=openai.DefaultHttpxClient(trust_env=False) if _is_local(url) else None,
        )

    def ask(
        self,
        messages: Sequence[Mapping[str, str]],
        max_reply_tokens: int,
        on_failed: Callable[[Call], None] = unheard,
    ) -> Reply:
        """The reply to `messages`, each with a role and a content.

        `on_failed` hears of every request that reached the server and gave no reply, so that with `Reply.call` there
        is one Call for each; one that the server refused cost nothing. What it raises ends the question.
        Raises ModelUnavailable and PromptTooLong.
        """
        said = [{name: mended(value) for name, value in message.items()} for message in messages]
        failures = 0
        while True:
            reply = self._once(said, max_reply_tokens)
            if isinstance(reply, Reply):
                return reply
            if reply.call is not None:
                on_failed(reply.call)
            if reply.asks_otherwise:
                continue
            if reply.too_long:
                raise PromptTooLong(f"{self.host}: {reply.why}", limit=reply.limit)
            if not reply.passes or failures == len(self.waits_seconds):
                raise ModelUnavailable(self._explained(reply, failures + 1), passes=reply.passes)
            self._wait(reply, failures)
            failures += 1

    def _once(self, messages: list[dict[str, str]], max_reply_tokens: int) -> Reply | _Failure:
        """One request."""
        began, answer = time.monotonic(), Answer()
        parameters = self._parameters(messages, max_reply_tokens)
        try:
            with closing(self._pieces(parameters)) as pieces:
                for piece in pieces:
                    answer.feed(piece)
            answer.close()
            failure = None if answer.text else _Failure(f"an empty reply (finish reason: {answer.finish})")
        except Exception as error:
            failure = self._failure(error, parameters)
        call = self._call(messages, answer, time.monotonic() - began, failure is None or failure.may_cost)
        if failure is not None:
            failure.call = replace(call, failed=failure.why) if failure.was_sent else None
            return failure
        return Reply(
            redact(answer.text),  # a server may say what it was sent
            call.tokens_in,
            call.tokens_out,
            call.estimated,
            call.seconds,
            answer.finish in ("length", "max_tokens"),
            call.model,
            call.cost,
        )

    def _call(self, messages: list[dict[str, str]], answer: Answer, seconds: float, may_cost: bool) -> Call:
        """What a request took, as the server counts or by our estimate; nothing when it was refused."""
        if answer.usage is None and not may_cost:
            return Call(self.model, 0, 0, 0.0, seconds)
        asked = sum(count_tokens(message["content"]) + 4 for message in messages)  # 4 for the role and its marks
        told = count_tokens("".join(answer.content) + "".join(answer.reasoning))
        counts = answer.usage or (asked, told)
        return Call(self.model, *counts, self.prices.cost(self.model, *counts), seconds, answer.usage is None)

    def _parameters(self, messages: list[dict[str, str]], max_reply_tokens: int) -> dict[str, Any]:
        """Of a request: what the server understands of what we want."""
        limit = min(max_reply_tokens, self._most_reply_tokens or max_reply_tokens)
        wanted = {"stream": True, "stream_options": {"include_usage": True}, "max_tokens": limit}
        if "max_tokens" in self._unknown:
            wanted["max_completion_tokens"] = limit
        if "stream" in self._unknown:
            del wanted["stream_options"]
        return {"model": self.model, "messages": messages} | {
            name: value for name, value in wanted.items() if name not in self._unknown
        }

    def _pieces(self, parameters: dict[str, Any]) -> Generator[bytes, None, None]:
        """The body as it arrives, as (part of) events or as one. Raises the client's exceptions and _TooLate."""
        import openai

        limits = self.timeouts
        silence = limits.first_byte_seconds if "stream" in parameters else limits.whole_seconds
        timeout = openai.Timeout(max(silence, limits.silence_seconds), connect=limits.connect_seconds)
        arrived: queue.SimpleQueue[bytes | Exception | None] = queue.SimpleQueue()
        is_given_up = threading.Event()
        arguments = (self._client, parameters | {"timeout": timeout}, arrived, is_given_up)
        ends = time.monotonic() + limits.whole_seconds
        threading.Thread(target=_read, args=arguments, name="language model", daemon=True).start()
        try:
            while (left := ends - time.monotonic()) > 0:
                try:
                    piece = arrived.get(timeout=min(left, silence))
                except queue.Empty:
                    if silence < left:
                        raise _TooLate(f"silent for {silence:g} s") from None
                    break
                if piece is None:
                    return
                if isinstance(piece, Exception):
                    raise piece
                silence = limits.silence_seconds
                yield piece
            raise _TooLate(f"not done after {limits.whole_seconds:g} s")
        finally:
            is_given_up.set()

    def _failure(self, error: Exception, parameters: dict[str, Any]) -> _Failure:
        """What an exception of `_pieces` or `Answer` means. Raises it again when it is none that a server causes."""
        import openai

        if isinstance(error, openai.APIStatusError):
            return self._refused(error.status_code, message_of(error.body), error, parameters)
        if isinstance(error, ServerError):  # said in the midst of a reply
            if _TOO_LONG.search(str(error)):
                return _Failure(_quoted(str(error)), too_long=True, limit=_limit(str(error)), may_cost=False)
            return _Failure(f"an error within the reply: {_quoted(str(error))}")
        if isinstance(error, (_TooLate, Unreadable)):
            return _Failure(_quoted(str(error)))
        if isinstance(error, openai.APITimeoutError):
            is_connected = type(error.__cause__).__name__ not in ("ConnectTimeout", "PoolTimeout")
            why = "silent for too long" if is_connected else f"no connection in {self.timeouts.connect_seconds:g} s"
            return _Failure(why, was_sent=is_connected)
        if isinstance(error, openai.APIConnectionError):
            cause = error.__cause__ or error
            is_connected = type(cause).__name__ not in ("ConnectError", "ProxyError")
            what = "connection lost" if is_connected else "no connection"
            return _Failure(f"{what} ({_quoted(str(cause)) or type(cause).__name__})", was_sent=is_connected)
        if isinstance(error, OSError) or type(error).__module__.split(".")[0] in ("httpx", "httpx2", "anyio"):
            return _Failure(f"connection lost ({_quoted(str(error)) or type(error).__name__})")
        raise error

    def _refused(self, status: int, words: str, error: Any, parameters: dict[str, Any]) -> _Failure:
        """An answer with an HTTP status of 4xx or 5xx."""
        why = f"HTTP {status}" + (f": {_quoted(words)}" if words and status not in (401, 403) else "")
        failure = _Failure(why, status=status, may_cost=status in LOST_BY_A_PROXY)
        if status in (400, 422) and self._adapt(words, error.param, parameters):
            failure.asks_otherwise = True
        elif status == 413 or _is_too_long(status, f"{error.code} {words}"):
            failure.too_long, failure.limit = True, _limit(words)
        failure.passes = (status in PASSING or status >= 500) and error.code != "insufficient_quota"
        failure.retry_after = _retry_after(error.response.headers, time.time())
        return failure

    def _adapt(self, words: str, named: str | None, parameters: dict[str, Any]) -> bool:
        """Learn from a refusal what the server does not understand; True when there is something else to try."""
        said = [named] if named in parameters else re.findall(r"\b[a-z_]+\b", words)
        for name in ("stream_options", "max_tokens", "max_completion_tokens", "stream"):
            if name not in said or name not in parameters:
                continue
            if name.startswith("max_") and not _UNKNOWN.search(words.lower()):
                smaller = [n for n in map(int, re.findall(r"\d+", words)) if 256 <= n < parameters[name]]
                if not smaller or _TOO_LONG.search(words):
                    continue
                self._most_reply_tokens = max(smaller)
            else:
                self._unknown.add(name)
            return True
        return False

    def _wait(self, failure: _Failure, failures: int) -> None:
        seconds = self.waits_seconds[failures] * random.uniform(0.8, 1.2)
        seconds = max(seconds, min(failure.retry_after or 0.0, MOST_RETRY_AFTER_SECONDS))
        asked = f"{failures + 1} of {len(self.waits_seconds) + 1}"
        self.on_wait(f"{self.model} at {self.host}: {failure.why}. Attempt {asked}; the next in {seconds:.0f} s.")
        self.sleep(seconds)

    def _explained(self, failure: _Failure, attempts: int) -> str:
        """What failed, where, and the next step."""
        tried = f" after {attempts} attempts" if attempts > 1 else ""
        steps = {
            401: "It does not accept the key: set OPENAI_API_KEY to one that is valid there.",
            402: "The account there has no credit: add some, or choose another --model.",
            403: "The key may not use this model: choose another --model or another key.",
            404: "Either it has no such model, or the path of OPENAI_BASE_URL is wrong: most end in /v1. "
            "Choose a --model that its /models lists.",
            429: "Its limit for this account is reached: wait, raise it there, or choose another --model.",
        }
        step = steps.get(failure.status or 0, "Look whether the server is up and OPENAI_BASE_URL is right.")
        if failure.status not in steps and not failure.passes:
            step = "Choose another --model or server."
        return f"No reply from {self.model} at {self.host}{tried}: {failure.why}. {step}"


@dataclass
class _Failure:
    """Why a request gave no reply, and what to do about it. `why` holds no secret."""

    why: str
    status: int | None = None
    was_sent: bool = True
    may_cost: bool = True  # the model may have begun to answer
    passes: bool = True  # the same request may succeed later
    asks_otherwise: bool = False  # other parameters are tried, at once
    too_long: bool = False
    limit: int | None = None  # of the context, tokens
    retry_after: float | None = None  # seconds
    call: Call | None = None


class _TooLate(Exception):
    """A limit of time passed."""


def _read(
    client: Any,
    parameters: dict[str, Any],
    arrived: queue.SimpleQueue[bytes | Exception | None],
    is_given_up: threading.Event,
) -> None:
    """Hand over the body of one request piece by piece, at last None or the exception that ended it."""
    try:
        with client.chat.completions.with_streaming_response.create(**parameters) as response:
            for piece in response.iter_bytes():
                if is_given_up.is_set():
                    return
                arrived.put(piece)
        arrived.put(None)
    except Exception as error:  # raised again where somebody waits for it
        arrived.put(error)


def _address(base_url: str) -> tuple[str, dict[str, str], str]:
    """URL without its query, the query, and the host to show. What may be a secret among them is kept out of texts."""
    try:
        url = urlsplit(base_url)
        shown = f"{url.hostname}:{url.port}" if url.port else str(url.hostname)
    except ValueError:
        url, shown = urlsplit(""), ""  # the message of the exception would show the address
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError("OPENAI_BASE_URL is no address of a server. Write it like http://localhost:11434/v1.")
    query = dict(parse_qsl(url.query, keep_blank_values=True))
    secrets = [url.password or url.username or "", *(value for value in query.values() if len(value) >= 16)]
    for secret in secrets:
        _keep_secret(secret)
    path = url.path.rstrip("/").removesuffix("/chat/completions")
    return urlunsplit((url.scheme, url.netloc, path, "", "")), query, shown


def _is_local(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def _usable(key: str | None) -> str:
    """The key, to be kept out of every text. Raises ValueError when no header can carry it, without showing it."""
    key = (key or "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ValueError("The key in OPENAI_API_KEY holds characters that no key has. Copy it again.")
    _keep_secret(key)
    return key


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


def _is_too_long(status: int, words: str) -> bool:
    """Whether prompt and reply do not fit; a rate limit says so of a request that it will never let pass."""
    if status == 429:
        return "request too large" in words.lower()
    return status not in (401, 403, 404) and bool(_TOO_LONG.search(words))


def _limit(words: str) -> int | None:
    found = _LIMIT.search(words.replace(",", ""))
    return int(found[1] or found[2]) if found else None


def _quoted(text: str) -> str:
    """Words of a server in one short line, without secrets."""
    line = " ".join(redact(mended(text)).split()).rstrip(".")
    return line if len(line) <= 300 else f"{line[:300]} …"
