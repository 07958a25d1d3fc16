"""A chat with a language model: one question, one reply, in the chat-completions protocol that most servers speak.

The chat owns the client, the retries and the limits of time. What a request cost goes to the caller, whether a reply
came of it or not. A thread of its own reads the bytes of a reply, so that a request ends at its deadline whatever the
server does. `stream.py` makes a reply of them and not the client's parser, to which a body without events is an empty
reply.
"""

from __future__ import annotations

import logging
import queue
import random
import re
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from ..core.types import Call, ignore
from .causes import ServerAction, ServerCause
from .failures import Failure, ModelUnavailable, PromptTooLong, TooLate, failure_of, failure_words
from .model import Reply
from .prices import Prices, count_tokens
from .server import NO_KEY, OPENAI_URL, address, base_url, is_local, read_key, redact, redacted, usable_key
from .stream import StreamedReply, mended
from .writing import Telling

WAITS_SECONDS = (1.0, 4.0, 15.0, 60.0)
MOST_RETRY_AFTER_SECONDS = 600.0
CLIENT_GRACE_SECONDS = 1.0  # that the client waits longer than we do: its timeout only ends a reader that was left

LOOK_SECONDS = 5.0  # for a page of a server that costs nothing, such as its list of models
# How servers name the length of a model's context where they list it: vLLM, SGLang, OpenRouter, Together, Groq, LM
# Studio, Mistral, llama.cpp, Ollama, TGI.
_CONTEXT_NAMES = (
    "loaded_context_length", "max_model_len", "context_length", "context_window", "n_ctx", "max_context_length",
    "max_total_tokens",
)  # fmt: skip
_PAGES = ("/props", "/api/v0/models", "/api/ps", "/info")  # of servers that do not say it at /models

_UNKNOWN = re.compile(r"unsupported|not support|unrecogni[sz]ed|unknown|unexpected|not permitted|extra")


@dataclass(frozen=True)
class Timeouts:
    """Limits of one request."""

    connect_seconds: float = 10.0
    first_byte_seconds: float = 600.0  # a local server says nothing while it reads a long prompt
    silence_seconds: float = 300.0  # between two pieces of the reply
    whole_seconds: float = 3600.0  # kept even while bytes arrive: 16,000 tokens at 5 a second


def make_chat(model: str | None, prices: Prices | None = None) -> Chat:
    """A chat with the server that OPENAI_API_KEY and OPENAI_BASE_URL name. Raises ValueError when they name none."""
    key, url = read_key(), base_url()
    if not key and not url:
        raise ValueError(
            "No language model is known: neither OPENAI_API_KEY nor OPENAI_BASE_URL is set. Set the key of a service, "
            "or the address of a server of your own, such as OPENAI_BASE_URL=http://localhost:11434/v1 for Ollama; "
            "or use --agent search, which needs neither."
        )
    if not model:
        raise ValueError("No model is named. Add --model NAME, one of those that the server lists at /v1/models.")
    return Chat(model, base_url=url or None, api_key=key, prices=prices)


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
        on_wait: Callable[[str], None] = ignore,
        sleep: Callable[[float], None] = time.sleep,
    ):
        """`on_wait` hears why a question is asked again and when; `sleep` waits until then and may raise to give up.

        Raises ValueError for a base URL or a key that cannot be used.
        """
        import openai

        for name in ("httpx", "httpx2"):  # which log the address of every request
            logging.getLogger(name).addFilter(redacted)
        self.model = model
        self.prices = prices or Prices()
        self.timeouts = timeouts or Timeouts()
        self.waits_seconds = tuple(waits_seconds)
        self.on_wait, self.sleep = on_wait, sleep
        self.on_words: Callable[[str], None] = ignore
        self._unknown: set[str] = set()  # parameters that the server refused
        self._most_reply_tokens: int | None = None
        url, query, self.host = address(base_url or OPENAI_URL)
        self._client = openai.OpenAI(
            api_key=usable_key(api_key) or NO_KEY,
            base_url=url,
            default_query=query,
            max_retries=0,
            # No proxy leads to this machine itself, whatever HTTP_PROXY says.
            http_client=openai.DefaultHttpxClient(trust_env=False) if is_local(url) else None,
        )

    @property
    def who(self) -> str:
        return f"{self.model} at {self.host}"

    @property
    def place(self) -> str:
        return self.host

    @property
    def reports_cost(self) -> bool:
        return False  # the table of prices has it

    @property
    def facts(self) -> Mapping[str, str]:
        return {}

    def ask(
        self,
        messages: Sequence[Mapping[str, str]],
        max_reply_tokens: int,
        on_failed: Callable[[Call], None] = ignore,
    ) -> Reply:
        """The reply to `messages`, each with a role and a content.

        `on_failed` hears of every request that reached the server and gave no reply, so that with `Reply.call` there
        is one Call for each; one that the server refused cost nothing. What it raises ends the question.
        Raises ModelUnavailable and PromptTooLong.
        """
        said = [{name: mended(value) for name, value in message.items()} for message in messages]
        failures = 0
        while True:
            reply = self.ask_once(said, max_reply_tokens)
            if isinstance(reply, Reply):
                return reply
            if reply.call is not None:
                on_failed(reply.call)
            if reply.asks_otherwise:
                continue
            if reply.action is ServerAction.SHORTER:
                raise PromptTooLong(f"{self.host}: {reply.why}", sizes=reply.sizes)
            if reply.action is ServerAction.PAUSE or failures == len(self.waits_seconds):
                raise ModelUnavailable(failure_words(reply, self.who, failures + 1), cause=reply.cause)
            self._wait(reply, failures)
            failures += 1

    def ask_once(self, messages: list[dict[str, str]], max_reply_tokens: int) -> Reply | Failure:
        """One request, without a retry."""
        began, answer, telling = time.monotonic(), StreamedReply(), Telling(self.on_words)
        parameters = self._parameters(messages, max_reply_tokens)
        try:
            with closing(self._pieces(parameters)) as pieces:
                for piece in pieces:
                    answer.feed(piece)
                    telling.tell(answer.so_far)
            answer.close()
            words = "the server ended the reply with an error"
            failure = (
                Failure(words, ServerCause.SERVER, may_cost=answer.has_thought) if answer.finish == "error" else None
            )
        except Exception as error:
            failure = failure_of(error, self.timeouts.connect_seconds, max_reply_tokens)
            failure.asks_otherwise = failure.status is not None and self._adapt(failure, parameters)
        call = self._call(messages, answer, time.monotonic() - began, failure is None or failure.may_cost)
        if failure is not None:
            failure.call = replace(call, failed=failure.why) if failure.was_sent else None
            return failure
        said = redact(answer.text)  # a server may say what it was sent
        finish = "tool_calls" if answer.tools else answer.finish or "stop"
        return Reply(said, finish, call, tuple(answer.tools), answer.has_thought)

    def _call(self, messages: list[dict[str, str]], answer: StreamedReply, seconds: float, may_cost: bool) -> Call:
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
        """The body as it arrives, as (part of) events or as one. Raises the client's exceptions and TooLate."""
        import openai

        limits = self.timeouts
        silence = limits.first_byte_seconds if "stream" in parameters else limits.whole_seconds
        wait = max(silence, limits.silence_seconds) + CLIENT_GRACE_SECONDS
        timeout = openai.Timeout(wait, connect=limits.connect_seconds)
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
                        raise TooLate(f"silent for {silence:g} s") from None
                    break
                if piece is None:
                    return
                if isinstance(piece, Exception):
                    raise piece
                silence = limits.silence_seconds
                yield piece
            raise TooLate(f"not done after {limits.whole_seconds:g} s")
        finally:
            is_given_up.set()

    def list_models(self) -> list[dict[str, Any]]:
        """What the server lists at /models, each with an `id`; empty where it lists nothing."""
        body = self._look("models")
        listed = body.get("data", body.get("models")) if isinstance(body, dict) else body
        models = [model for model in listed if isinstance(model, dict)] if isinstance(listed, list) else []
        return [model | {"id": str(model.get("id") or model.get("name") or model.get("model"))} for model in models]

    def context_tokens(self) -> int | None:
        """The length of the model's context where the server states it; asking costs nothing. None where it does not.

        A server at https:// is asked for its list of models alone.
        """
        pages: list[Any] = [self.list_models()]
        root = str(self._client.base_url).rstrip("/").removesuffix("/v1")
        if root.startswith("http://"):
            pages += (self._look(f"{root}{page}") for page in _PAGES)
        return next(filter(None, (_context_in(page, self.model) for page in pages)), None)

    def _look(self, path: str) -> Any:
        """The JSON at a path or address of the server; None for whatever else comes."""
        try:
            return self._client.get(path, cast_to=object, options={"timeout": LOOK_SECONDS})
        except Exception as error:
            failure_of(error, LOOK_SECONDS, 0)  # raises again what no server causes
            return None

    def _adapt(self, failure: Failure, parameters: dict[str, Any]) -> bool:
        """Learn from a refusal what the server does not understand; True when there is something else to try."""
        if failure.cause not in (
            ServerCause.REQUEST,
            ServerCause.REPLY_LIMIT,
            ServerCause.CONTEXT,
            ServerCause.SERVER,
            ServerCause.PERMISSION,
        ):
            return False
        words, named = failure.words, failure.parameter
        said = [named] if named in parameters else re.findall(r"\b[a-z_]+\b", words)
        for name in ("stream_options", "max_tokens", "max_completion_tokens", "stream"):
            if name not in said or name not in parameters:
                continue
            if name.startswith("max_") and not _UNKNOWN.search(words.lower()):
                smaller = [n for n in map(int, re.findall(r"\d+", words)) if 256 <= n < parameters[name]]
                if not smaller or failure.cause is not ServerCause.REPLY_LIMIT:
                    continue
                self._most_reply_tokens = max(smaller)
            else:
                self._unknown.add(name)
            return True
        return False

    def _wait(self, failure: Failure, failures: int) -> None:
        seconds = self.waits_seconds[failures] * random.uniform(0.8, 1.2)
        seconds = max(seconds, min(failure.retry_after or 0.0, MOST_RETRY_AFTER_SECONDS))
        asked = f"{failures + 1} of {len(self.waits_seconds) + 1}"
        self.on_wait(f"{self.who}: {failure.why}. Attempt {asked}; the next in {seconds:.0f} s.")
        self.sleep(seconds)


def _context_in(page: Any, model: str) -> int | None:
    """The length of the context of `model` in a list of models, or in what a server says of its only one."""
    if isinstance(page, dict):
        page = page.get("data") or page.get("models") or page
    if isinstance(page, list):
        mine = {model, f"{model}:latest"}
        own = [m for m in page if isinstance(m, dict) and mine & {m.get("id"), m.get("name"), m.get("model")}]
        page = own[0] if own else {}
    settings = page.get("default_generation_settings") if isinstance(page, dict) else None
    for facts in (settings, page):
        known = facts if isinstance(facts, dict) else {}
        for name in _CONTEXT_NAMES:
            if isinstance(known.get(name), int) and known[name] > 0:
                return int(known[name])
    return None


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
    except Exception as error:  # raised again by `_pieces`
        arrived.put(error)
