"""The client of a language model against a real server on loopback: what servers do, well and badly."""

from __future__ import annotations

import email.utils
import logging
import os
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autoresearch_kernel.agents.chat import Chat, Timeouts, make_chat
from autoresearch_kernel.agents.failures import ModelUnavailable, PromptTooLong
from autoresearch_kernel.agents.model import Reply
from autoresearch_kernel.agents.prices import Prices, count_tokens
from autoresearch_kernel.core.types import Call
from tests import llm_server
from tests.llm_server import (
    CUT_OFF,
    EMPTY,
    GARBAGE,
    HANG,
    HANG_UP,
    REPLIES,
    SERVER_ERROR,
    Behaviour,
    ScriptedServer,
    down,
    failing,
    rate_limited,
    reply,
    say,
    too_long,
)

PROJECT = Path(__file__).parents[2]
KEY = "sk-test-4f6d9a2b7c1e8d3f"
QUESTION = [{"role": "user", "content": "What next?"}]
QUICK = Timeouts(connect_seconds=2.0, first_byte_seconds=0.3, silence_seconds=0.3, whole_seconds=5.0)
GOOD = (REPLIES / "good_edit.md").read_text(encoding="utf-8").strip()


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """No key and no server."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


def chat_with(server: ScriptedServer, **others: Any) -> Chat:
    settings = {"base_url": server.base_url, "api_key": KEY, "timeouts": QUICK, "waits_seconds": (0.02, 0.02)}
    return Chat("tiny", **(settings | others))


def ask(server: ScriptedServer, **others: Any) -> tuple[Reply, list[Call]]:
    """The reply of a new chat, and the calls that failed before it."""
    failed: list[Call] = []
    return chat_with(server, **others).ask(QUESTION, 500, failed.append), failed


def refusal(server: ScriptedServer, kind: type[Exception], **others: Any) -> tuple[Any, list[Call]]:
    failed: list[Call] = []
    with pytest.raises(kind) as caught:
        chat_with(server, **others).ask(QUESTION, 500, failed.append)
    return caught.value, failed


# --- replies ---


def test_a_streamed_reply_is_put_together_and_counted_by_the_server() -> None:
    with ScriptedServer([say("good_edit")]) as server:
        answer, failed = ask(server, prices=Prices({"tiny": (2.0, 10.0)}))
        assert answer.text == GOOD
        assert (answer.call.tokens_in, answer.call.tokens_out, answer.call.estimated, answer.is_cut) == (
            1000,
            50,
            False,
            False,
        )
        assert answer.call.cost == pytest.approx(1000 * 2e-6 + 50 * 10e-6)
        assert answer.call == Call("tiny", 1000, 50, answer.call.cost, answer.call.seconds)
        assert failed == []
        [request] = server.requests
        assert request.path == "/v1/chat/completions"
        assert request.headers["authorization"] == f"Bearer {KEY}"
        assert request.body == {
            "model": "tiny",
            "messages": QUESTION,
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": 500,
        }


@pytest.mark.parametrize("path", sorted(REPLIES.glob("*.md")), ids=lambda p: p.stem)
@pytest.mark.parametrize("num_chunks", [1, 37])
def test_recorded_replies_arrive_as_they_are(path: Path, num_chunks: int) -> None:
    with ScriptedServer([say(path.stem, num_chunks=num_chunks)]) as server:
        assert ask(server)[0].text == path.read_text(encoding="utf-8").strip()


def test_a_plain_body_to_a_streaming_request_is_a_reply() -> None:
    with ScriptedServer([say("good_edit", streams=False)]) as server:
        answer, failed = ask(server)
    assert (answer.text, answer.call.tokens_in, answer.call.estimated, failed) == (GOOD, 1000, False, [])


def test_a_plain_body_is_known_by_its_bytes_not_by_its_header() -> None:
    body = b'\n{"choices": [{"message": {"content": "Yes."}}]}'
    with ScriptedServer([Behaviour(raw=body, content_type="text/event-stream")]) as server:
        assert ask(server)[0].text == "Yes."


def test_without_usage_tokens_are_estimated_from_the_texts() -> None:
    with ScriptedServer([say("good_edit", usage=None)]) as server:
        answer, _ = ask(server)
    assert answer.call.estimated and answer.call.estimated
    assert answer.call.tokens_in == count_tokens("What next?") + 4
    assert answer.call.tokens_out == count_tokens(GOOD + "\n")


def test_a_usage_that_is_no_count_is_no_usage() -> None:
    for usage in ({"prompt_tokens": 0, "completion_tokens": 0}, {"prompt_tokens": None}, {"total_tokens": 9}):
        with ScriptedServer([say("good_edit", usage=usage)]) as server:
            assert ask(server)[0].call.estimated


def test_reasoning_that_only_the_total_counts_is_counted() -> None:
    usage = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 420}
    with ScriptedServer([say("good_edit", usage=usage)]) as server:
        answer, _ = ask(server)
    assert (answer.call.tokens_in, answer.call.tokens_out) == (100, 320)


@pytest.mark.parametrize("where", ["reasoning_content", "reasoning"])
@pytest.mark.parametrize("streams", [True, False])
def test_reasoning_beside_a_reply_is_left_out(where: str, streams: bool) -> None:
    with ScriptedServer([say("good_edit", reasoning="Hm. Let me see.", reasoning_field=where, streams=streams)]) as s:
        assert ask(s)[0].text == GOOD


@pytest.mark.parametrize("where", ["reasoning_content", "reasoning"])
@pytest.mark.parametrize("streams", [True, False])
@pytest.mark.parametrize("finish", ["stop", "length"])
def test_reasoning_is_never_the_reply(where: str, streams: bool, finish: str) -> None:
    thoughts = reply("", reasoning=GOOD, reasoning_field=where, streams=streams, finish=finish)
    with ScriptedServer([thoughts]) as server:
        answer, failed = ask(server)
    assert (answer.text, answer.has_thought, answer.finish, failed) == ("", True, finish, [])


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("<think>\nHm.\n</think>\n\nYes.", "Yes."),
        ("Hm.\n</think>\nYes.", "Yes."),
        ("<think>\nYes.\n</think>\n", ""),
        ("<think>\nYes, and", "Yes, and"),  # it did not end by the limit, so the reader judges it
        ("A tag `<think>` in a reply stays.", "A tag `<think>` in a reply stays."),
    ],
)
def test_thoughts_within_a_reply_are_taken_out_of_it(said: str, text: str) -> None:
    with ScriptedServer([reply(said)]) as server:
        assert ask(server)[0].answer == text


@pytest.mark.parametrize(
    "mark", ["<think>", "<thinking>", "[THINK]", "◁think▷", "<|begin_of_thought|>", "<seed:think>", "<reasoning>"]
)
def test_a_thought_that_the_limit_cut_is_no_reply(mark: str) -> None:
    with ScriptedServer([reply(f"{mark}\n{GOOD}", finish="length")]) as server:
        answer, _ = ask(server)
    assert (answer.answer, answer.is_cut, answer.has_thought) == ("", True, True)


def test_content_in_typed_parts_is_read() -> None:
    parts = (
        b'data: {"choices": [{"delta": {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]},'
        b' {"type": "text", "text": "Yes."}]}, "finish_reason": "stop"}]}\r\n\r\n'
    )
    with ScriptedServer([Behaviour(raw=parts, content_type="text/event-stream")]) as server:
        assert ask(server)[0].text == "Yes."


def test_a_refusal_of_the_model_is_a_reply() -> None:
    body = b'data: {"choices": [{"delta": {"refusal": "I may not."}, "finish_reason": "stop"}]}\n\n'
    with ScriptedServer([Behaviour(raw=body)]) as server:
        assert ask(server)[0].text == "I may not."


def test_a_reply_that_the_limit_cut_says_so() -> None:
    with ScriptedServer([say("good_edit", finish="length")]) as server:
        assert ask(server)[0].is_cut


def test_the_mark_of_the_end_is_enough_without_a_finish_reason() -> None:
    with ScriptedServer([say("good_edit", finish=None)]) as server:
        answer, failed = ask(server)
    assert (answer.text, answer.is_cut, failed) == (GOOD, False, [])


def test_halves_of_surrogate_pairs_are_joined_or_replaced_both_ways() -> None:
    body = (
        b'data: {"choices": [{"delta": {"content": "\\ud83d"}}]}\n\n'
        b'data: {"choices": [{"delta": {"content": "\\ude00 \\ud83d."}, "finish_reason": "stop"}]}\n\n'
    )
    with ScriptedServer([Behaviour(raw=body)]) as server:
        answer = chat_with(server).ask([{"role": "user", "content": "half \ud83d"}], 500)
        assert answer.text == "\N{GRINNING FACE} \N{REPLACEMENT CHARACTER}."
        assert server.requests[0].body["messages"][0]["content"] == "half \N{REPLACEMENT CHARACTER}"


# --- what servers do not understand ---

WORDS = {
    "stream_options": "Extra inputs are not permitted",
    "max_tokens": "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens'.",
    "max_completion_tokens": "Unknown parameter",
    "stream": "Unsupported value: 'stream' does not support true with this model.",
}


@pytest.mark.parametrize(
    ("unknown", "sent"),
    [
        (["stream_options"], {"stream", "max_tokens"}),
        (["max_tokens"], {"stream", "stream_options", "max_completion_tokens"}),
        (["max_tokens", "max_completion_tokens"], {"stream", "stream_options"}),
        (["stream"], {"max_tokens"}),
        (["stream", "stream_options", "max_tokens"], {"max_completion_tokens"}),
    ],
)
def test_a_parameter_that_the_server_does_not_know_is_left_out_from_then_on(unknown: list[str], sent: set[str]) -> None:
    words = {name: WORDS[name] for name in unknown}
    failed: list[Call] = []
    with ScriptedServer([say("good_edit"), say("prose")], unknown=words) as server:
        chat = chat_with(server, waits_seconds=())
        assert chat.ask(QUESTION, 500, failed.append).text == GOOD
        asked = len(server.requests)
        chat.ask(QUESTION, 500, failed.append)
        assert len(server.requests) == asked + 1
        assert set(server.requests[-1].body) == {"model", "messages"} | sent
    assert asked == len(failed) + 1 and {(call.tokens_in, call.tokens_out, call.cost) for call in failed} == {(0, 0, 0)}


def test_a_parameter_is_found_in_the_words_of_a_server_that_names_none() -> None:
    detail = b'{"detail": [{"loc": ["body", "stream_options"], "msg": "Extra inputs are not permitted"}]}'
    with ScriptedServer([Behaviour(status=422, raw=detail), say("good_edit")]) as server:
        assert ask(server)[0].text == GOOD
        assert "stream_options" not in server.requests[1].body


@pytest.mark.parametrize(
    "words",
    [
        "max_tokens is too large: 500. This model supports at most 300 completion tokens, whereas you provided 500.",
        "Invalid max_tokens value, the valid range of max_tokens is [1, 300]",
        "`max_tokens` must be less than or equal to `300`, the maximum value is less than the `context_window`",
    ],
)
def test_a_reply_longer_than_the_server_makes_is_asked_for_shorter(words: str) -> None:
    with ScriptedServer([failing(400, words), say("good_edit"), say("prose")]) as server:
        chat = chat_with(server)
        chat.ask(QUESTION, 500)
        chat.ask(QUESTION, 400)
        assert [request.body["max_tokens"] for request in server.requests] == [500, 300, 300]


# --- what passes ---


@pytest.mark.parametrize(
    ("behaviour", "why"),
    [
        (SERVER_ERROR, "HTTP 500"),
        (failing(503), "HTTP 503"),
        (failing(408), "HTTP 408"),
        (failing(409), "HTTP 409"),
        (rate_limited(), "HTTP 429: Rate limit reached"),
        (Behaviour(status=502, raw=b"<html>bad gateway</html>", content_type="text/html"), "HTTP 502"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_the_server_refuses_for_now_is_asked_again_and_cost_nothing(behaviour: Behaviour, why: str) -> None:
    with ScriptedServer([behaviour, say("good_edit")]) as server:
        answer, [call] = ask(server)
    assert answer.text == GOOD
    assert why in call.failed and (call.tokens_in, call.tokens_out, call.cost, call.estimated) == (0, 0, 0.0, False)


@pytest.mark.parametrize(
    ("behaviour", "why", "told"),
    [
        (GARBAGE, "no JSON", ""),
        (Behaviour(raw=b"[1, 2]"), "not the JSON of a reply", ""),
        (Behaviour(raw=b"{"), "no JSON", ""),
        (Behaviour(raw=b""), "no reply in it", ""),
        (CUT_OFF, "the stream ended before the reply did", GOOD + "\n"),
        (replace(CUT_OFF, breaks_after=2), "connection lost", GOOD[:110]),
        (HANG_UP, "connection lost", ""),
        (failing(504, "gateway timeout"), "HTTP 504", ""),
        (Behaviour(raw=b'data: {"error": {"message": "GPU fell off the bus"}}\n\n'), "GPU fell off the bus", ""),
        (Behaviour(raw=b'{"error": "a bit flipped"}'), "a bit flipped", ""),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_what_may_have_cost_tokens_is_asked_again_and_accounted(behaviour: Behaviour, why: str, told: str) -> None:
    with ScriptedServer([behaviour, say("good_edit")]) as server:
        answer, [call] = ask(server, prices=Prices({"tiny": (1.0, 1.0)}))
    assert answer.text == GOOD
    assert why in call.failed and call.estimated
    assert call.tokens_in == count_tokens("What next?") + 4
    assert call.tokens_out == pytest.approx(count_tokens(told), abs=30 if behaviour.breaks_after else 0)
    assert call.cost == pytest.approx((call.tokens_in + call.tokens_out) / 1e6)


@pytest.mark.parametrize("empty", [EMPTY, reply(" \n "), reply("", streams=False), reply("<think></think>")])
def test_an_empty_reply_is_handed_over_at_once_and_costs_what_the_server_counts(empty: Behaviour) -> None:
    with ScriptedServer([empty, say("good_edit")]) as server:
        answer, failed = ask(server)
        assert len(server.requests) == 1
    assert (answer.answer, failed) == ("", []) and (answer.call.tokens_in, answer.call.tokens_out) == (1000, 50)


def test_a_server_that_hangs_is_left_after_the_silence_and_asked_again() -> None:
    with ScriptedServer([HANG, say("good_edit")]) as server:
        began = time.monotonic()
        answer, [call] = ask(server)
        assert 0.3 <= time.monotonic() - began < 2
    assert answer.text == GOOD and call.failed == "silent for 0.3 s"
    assert call.tokens_in > 0 and 0.3 <= call.seconds < 2


def test_silence_in_the_midst_of_a_reply_ends_it() -> None:
    limits = replace(QUICK, first_byte_seconds=2.0, silence_seconds=0.2)
    stuck = say("good_edit", usage=None, chunk_wait_seconds=0.8)
    with ScriptedServer([stuck, say("good_edit")]) as server:
        answer, [call] = ask(server, timeouts=limits)
    assert (answer.text, call.failed) == (GOOD, "silent for 0.2 s")


def test_the_first_byte_may_take_longer_than_the_next() -> None:
    limits = replace(QUICK, first_byte_seconds=2.0, silence_seconds=0.2)
    with ScriptedServer([say("good_edit", hang_seconds=0.5)]) as server:
        assert ask(server, timeouts=limits)[1] == []


def test_comments_of_the_stream_are_signs_of_life() -> None:
    with ScriptedServer([say("good_edit", keep_alives=5, chunk_wait_seconds=0.1)]) as server:
        answer, failed = ask(server)
    assert (answer.text, failed) == (GOOD, []) and answer.call.seconds > 0.8


def test_bytes_that_trickle_do_not_outlast_the_deadline() -> None:
    limits = replace(QUICK, whole_seconds=0.5)
    with ScriptedServer(
        [say("good_edit", usage=None, num_chunks=500, chunk_wait_seconds=0.05), say("prose")]
    ) as server:
        answer, [call] = ask(server, timeouts=limits)
    assert call.failed == "not done after 0.5 s" and 0.5 <= call.seconds < 1
    assert 0 < call.tokens_out < count_tokens(GOOD) / 4  # what had come until then
    assert answer.text.startswith("I looked at the history.")


def test_the_reader_of_a_request_that_was_given_up_goes_away() -> None:
    limits = replace(QUICK, whole_seconds=0.2)
    with ScriptedServer([say("good_edit", num_chunks=100, chunk_wait_seconds=0.05)]) as server:
        with pytest.raises(ModelUnavailable):
            chat_with(server, timeouts=limits, waits_seconds=()).ask(QUESTION, 500)
        assert within(2, lambda: not any(thread.name == "language model" for thread in threading.enumerate()))


def test_a_server_that_goes_down_and_comes_back_is_waited_for() -> None:
    with ScriptedServer([down(0.5), say("good_edit")]) as server:
        answer, failed = ask(server, waits_seconds=(0.2,) * 20)
    assert answer.text == GOOD
    assert [call.failed.split(" (")[0] for call in failed] == ["connection lost"]  # a refused connection is no request


def test_a_server_that_stays_down_is_unavailable_and_nothing_was_spent() -> None:
    heard: list[str] = []
    with ScriptedServer() as server:
        server.stop()
        error, failed = refusal(server, ModelUnavailable, on_wait=heard.append)
    assert error.passes and failed == []
    assert f"No reply from tiny at 127.0.0.1:{server.port} after 3 attempts: no connection (" in str(error)
    assert "Look whether the server is up and OPENAI_BASE_URL is right." in str(error)
    assert [line.split(": ")[0] for line in heard] == [f"tiny at 127.0.0.1:{server.port}"] * 2
    assert "Attempt 2 of 3; the next in 0 s." in heard[1]


def test_a_host_that_never_answers_takes_the_time_to_connect() -> None:
    with socket.socket() as full:  # a queue of one connection, which no server takes out
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(3)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        time.sleep(0.1)
        url = f"http://127.0.0.1:{full.getsockname()[1]}/v1"
        limits = replace(QUICK, connect_seconds=0.3, first_byte_seconds=1.0)
        failed: list[Call] = []
        began = time.monotonic()
        with pytest.raises(ModelUnavailable, match=r"no connection in 0\.3 s"):
            Chat("tiny", base_url=url, timeouts=limits, waits_seconds=()).ask(QUESTION, 500, failed.append)
        assert time.monotonic() - began < 1 and failed == []
        for client in waiting:
            client.close()


def test_the_last_attempt_is_the_end_and_every_one_is_accounted() -> None:
    with ScriptedServer([SERVER_ERROR] * 5) as server:
        error, failed = refusal(server, ModelUnavailable)
        assert len(server.requests) == len(failed) == 3
    assert error.passes and "after 3 attempts: HTTP 500: The server had an error" in str(error)


# --- waiting ---


def waits_of(*behaviours: Behaviour, waits_seconds: tuple[float, ...] = (1.0, 4.0, 15.0, 60.0)) -> list[float]:
    """How long a chat would wait after each of them, on a clock that does not run."""
    waited: list[float] = []
    with ScriptedServer([*behaviours, say("good_edit")]) as server:
        ask(server, waits_seconds=waits_seconds, sleep=waited.append)
    return waited


def test_waits_grow_and_are_spread() -> None:
    waited = waits_of(*[SERVER_ERROR] * 4)
    for seconds, base in zip(waited, (1, 4, 15, 60), strict=True):
        assert 0.8 * base <= seconds <= 1.2 * base
    assert waits_of(SERVER_ERROR) != waits_of(SERVER_ERROR)


def test_retry_after_is_honoured_in_seconds_and_as_a_date() -> None:
    date = email.utils.formatdate(time.time() + 100, usegmt=True)
    by_seconds, by_date = waits_of(rate_limited("33"), failing(503, headers={"Retry-After": date}))
    assert by_seconds == 33 and 95 < by_date <= 100


def test_retry_after_is_capped_and_never_shortens_a_wait() -> None:
    assert waits_of(rate_limited("86400")) == [600]
    for header in ("0", "0.001", "-5", "nan", "inf", "soon", "", "Thu, 01 Jan 1970 00:00:00 GMT", "x, 99 y 9999"):
        [waited] = waits_of(rate_limited(header))
        assert 0.8 <= waited <= 1.2, header


def test_whoever_waits_may_give_up() -> None:
    def give_up(seconds: float) -> None:
        raise InterruptedError(f"the study was stopped within {seconds:.0f} s")

    with ScriptedServer([rate_limited("33"), say("good_edit")]) as server:
        error, failed = refusal(server, InterruptedError, sleep=give_up)
    assert "within 33 s" in str(error) and len(failed) == 1


def test_accounts_may_end_the_question() -> None:
    def no_more(call: Call) -> None:
        raise RuntimeError("the money is spent")

    with ScriptedServer([CUT_OFF, say("good_edit")]) as server:
        with pytest.raises(RuntimeError, match="the money is spent"):
            chat_with(server).ask(QUESTION, 500, no_more)
        assert len(server.requests) == 1


# --- what does not pass ---


@pytest.mark.parametrize(
    ("behaviour", "step"),
    [
        (failing(401, "Incorrect API key provided: " + KEY), "set OPENAI_API_KEY to a valid key of this server"),
        (failing(403, "Country not supported"), "choose another --model or another key"),
        (failing(404, "The model `tiny` does not exist"), "choose a --model that its /models lists"),
        (Behaviour(status=404, raw=b"404 page not found", content_type="text/plain"), "most end in /v1"),
        (failing(402, "Insufficient Balance"), "no credit"),
        (failing(429, "You exceeded your current quota", code="insufficient_quota"), "HTTP 429: You exceeded"),
        (failing(400, "messages: roles must alternate"), "HTTP 400: messages: roles must alternate"),
        (failing(405), "HTTP 405"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_what_no_retry_mends_is_said_at_once_with_the_next_step(behaviour: Behaviour, step: str) -> None:
    with ScriptedServer([behaviour, say("good_edit")]) as server:
        error, [call] = refusal(server, ModelUnavailable)
        assert len(server.requests) == 1
    assert not error.passes and step in str(error) and f"127.0.0.1:{server.port}" in str(error)
    assert call.cost == 0.0 and KEY not in str(error) + call.failed


@pytest.mark.parametrize(
    ("message", "limit"),
    [
        ("This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens.", 8192),
        ("This model's maximum context length is 4096 tokens. However, you requested 5000 tokens (1000 in the messages,"
         " 4000 in the completion). Please reduce the length of the messages or completion.", 4096),
        ("'max_tokens' or 'max_completion_tokens' is too large: 30000. This model's maximum context length is 8192 "
         "tokens and your request has 100 input tokens (30000 > 8192 - 100).", 8192),
        ("The decoder prompt (length 5000) is longer than the maximum model length of 4096.", 4096),
        ("the request exceeds the available context size. try increasing the context size", None),
        ("request (6000 tokens) exceeds the available context size (4096 tokens), try increasing it", 4096),
        ("The number of tokens to keep from the initial prompt is greater than the context length (n_keep: 5000>= "
         "n_ctx: 4096)", 4096),
        ("Trying to keep the first 5000 tokens when context the overflows. However, the model is loaded with context "
         "length of only 4096 tokens, which is not enough.", 4096),
        ("input length exceeds maximum context length", None),
        ("prompt is too long: 210000 tokens > 200000 maximum", 200000),
        ("Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length",
         32768),
        ("The input token count (1100000) exceeds the maximum number of tokens allowed (1048576).", 1048576),
        ("The input (5000 tokens) is longer than the model's context length (4096 tokens).", 4096),
        ("Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000", 4096),
        ("Input tokens exceed the configured limit of 272,000 tokens. Your messages resulted in 300000.", 272000),
    ],
)  # fmt: skip
def test_the_words_of_servers_for_a_prompt_that_does_not_fit_are_known(message: str, limit: int | None) -> None:
    with ScriptedServer([failing(400, message), say("good_edit")]) as server:
        error, [call] = refusal(server, PromptTooLong)
    assert error.sizes.limit == limit and message[:60] in str(error)
    assert (call.tokens_in, call.cost) == (0, 0.0)


def test_a_prompt_that_does_not_fit_is_known_wherever_a_server_says_so() -> None:
    words = "request (6000 tokens) exceeds the available context size (4096 tokens), try increasing it"
    for behaviour in (
        too_long(4096),
        failing(500, words),
        failing(400, "too many", code="context_length_exceeded"),
        failing(400, words, type="exceed_context_size_error"),
        failing(413, "Request too large for model on tokens per minute (TPM): Limit 4096, Requested 9000"),
        failing(429, "Request too large for model on tokens per min (TPM): Limit 4096, Requested 9000"),
        Behaviour(raw=b'event: error\ndata: {"error": {"message": "%s"}}\n\n' % words.encode()),
        Behaviour(raw=b'{"error": "%s"}' % words.encode()),
    ):
        with ScriptedServer([behaviour, say("good_edit")]) as server:
            error, [call] = refusal(server, PromptTooLong)
            assert error.sizes.limit in (4096, None) and call.cost == 0.0 and len(server.requests) == 1


# --- secrets and addresses ---


def test_no_secret_is_in_any_message_or_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    texts: list[str] = []
    echo = failing(500, f"upstream said no to {KEY} of 'pass%2Fword-123'")
    script = [echo, Behaviour(raw=f"nonsense {KEY}".encode()), failing(400, f"no such thing: Bearer {KEY}")]
    with ScriptedServer(script) as server:
        url = server.base_url.replace("http://", "http://admin:pass%2Fword-123@") + "?token=query-secret-0123456789"
        chat = chat_with(server, base_url=url, on_wait=texts.append)
        with pytest.raises(ModelUnavailable) as caught:
            chat.ask(QUESTION, 500, lambda call: texts.append(repr(call)))
        assert server.requests[0].path == "/v1/chat/completions?token=query-secret-0123456789"
    texts += ["".join(traceback.format_exception(caught.value)), repr(chat), caplog.text]
    assert len(texts) == 2 + 3 + 3 and "[key]" in texts[0]
    for secret in (KEY, "word-123", "query-secret"):
        assert not [text for text in texts if secret in text]


def test_an_address_may_name_the_endpoint_and_end_in_a_slash() -> None:
    for ending in ("/", "/chat/completions", "/chat/completions/"):
        with ScriptedServer([say("good_edit")]) as server:
            ask(server, base_url=server.base_url + ending)
            assert server.requests[0].path == "/v1/chat/completions"


def test_a_proxy_does_not_lead_to_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with ScriptedServer([say("good_edit")]) as server:
        assert ask(server)[0].text == GOOD


# --- make_chat ---


def test_make_chat_takes_key_and_server_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedServer([say("good_edit"), say("prose")]) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        assert make_chat("tiny").ask(QUESTION, 500).text == GOOD
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        make_chat("tiny").ask(QUESTION, 500)
        assert [r.headers["authorization"] for r in server.requests] == ["Bearer none", f"Bearer {KEY}"]
    assert os.environ["OPENAI_API_KEY"] == KEY, "a user's kernel keeps its environment"


def test_make_chat_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="neither OPENAI_API_KEY nor OPENAI_BASE_URL is set"):
        make_chat("tiny")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert make_chat("tiny").host == "api.openai.com"
    for model in (None, ""):
        with pytest.raises(ValueError, match=r"No model is named\. Add --model NAME"):
            make_chat(model)


def test_importing_the_module_loads_no_client() -> None:
    code = "import sys, autoresearch_kernel.agents.chat; print('openai' in sys.modules, 'httpx' in sys.modules)"
    child = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert child.stdout.split() == ["False", "False"]


# --- the server itself ---


def test_a_server_may_be_driven_by_what_it_is_asked() -> None:
    def respond(body: dict[str, Any]) -> Behaviour:
        return reply(f"You said {body['messages'][-1]['content']!r} to {body['model']}.")

    with ScriptedServer(respond=respond) as server:
        assert ask(server)[0].text == "You said 'What next?' to tiny."


def test_a_script_at_its_end_fails_at_once() -> None:
    with ScriptedServer() as server:
        error, _ = refusal(server, ModelUnavailable)
    assert "The script of this server is at its end" in str(error)


def test_every_recorded_reply_is_named_in_lower_case() -> None:
    names = {path.stem for path in llm_server.REPLIES.glob("*.md")}
    assert names == {"good_edit", "whole_file", "prose", "no_match", "prepare_edit", "fake_score", "fence_inside"}


def within(seconds: float, holds: Callable[[], bool]) -> bool:
    ends = time.monotonic() + seconds
    while not holds() and time.monotonic() < ends:
        time.sleep(0.02)
    return holds()
