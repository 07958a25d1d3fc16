"""Why a server gives no reply: what about twenty servers answer, and what the program makes of each answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch_kernel.agents.causes import ADVICE, ServerAction, ServerCause, cause_of
from autoresearch_kernel.agents.chat import Chat, Timeouts
from autoresearch_kernel.agents.error_body import read_body
from autoresearch_kernel.agents.failures import ModelUnavailable, PromptTooLong, failure_of
from autoresearch_kernel.agents.server_numbers import Sizes, seconds_to_wait, sizes_of
from autoresearch_kernel.agents.stream import Unreadable
from autoresearch_kernel.core.types import Call
from tests.llm_server import Behaviour, ScriptedServer, failing, reply

LINES = (Path(__file__).parents[1] / "data" / "server_answers.txt").read_text(encoding="utf-8").splitlines()
ANSWERS = [tuple(line.split(" | ", 3)) for line in LINES if not line.startswith("#")]
QUESTION = [{"role": "user", "content": "What next?"}]
LOST = ("504", "524")  # of a proxy: the model may have answered behind it


def asked(behaviour: Behaviour) -> tuple[ModelUnavailable | PromptTooLong, list[Call], int]:
    """What asking a server that always answers so raises, the failed calls, and the number of requests."""
    failed: list[Call] = []
    with ScriptedServer(respond=lambda body: behaviour) as server:
        limits = Timeouts(2.0, 2.0, 2.0, 5.0)
        chat = Chat("tiny", base_url=server.base_url, timeouts=limits, waits_seconds=(0.0,), sleep=lambda seconds: None)
        with pytest.raises((ModelUnavailable, PromptTooLong)) as caught:
            chat.ask(QUESTION, 16_000, failed.append)
        return caught.value, failed, len(server.requests)


def test_the_table_has_many_servers() -> None:
    assert len(ANSWERS) >= 100 and len({server for server, *_ in ANSWERS}) >= 20
    assert {ServerCause[name] for _, _, name, _ in ANSWERS} >= set(ServerCause) - {
        ServerCause.ADDRESS,
        ServerCause.CERTIFICATE,
        ServerCause.SLOW,
    }


@pytest.mark.parametrize(("server", "status", "name", "body"), ANSWERS, ids=lambda text: text[:20])
def test_the_cause_is_read_from_words_and_status(server: str, status: str, name: str, body: str) -> None:
    kind = {"<": "text/html", "d": "text/event-stream"}.get(body[0], "application/json")
    error, failed, requests = asked(Behaviour(status=int(status), raw=f"{body}\n\n".encode(), content_type=kind))
    cause = ServerCause[name]
    advice = ADVICE[cause]
    if advice.action is ServerAction.SHORTER:
        assert isinstance(error, PromptTooLong)
    else:
        assert isinstance(error, ModelUnavailable) and (error.cause, error.passes) == (
            cause,
            advice.action is ServerAction.RETRY,
        )
        assert str(error).endswith(advice.step) and "tiny at 127.0.0.1" in str(error)
        others = (
            cause in (ServerCause.REQUEST, ServerCause.PERMISSION) and requests - 1
        )  # with parameters that it may know
        assert requests - others == (2 if advice.action is ServerAction.RETRY else 1)
    assert "sk-other-" not in str(error) and "Traceback" not in str(error)
    booked = sum(call.tokens_in + call.tokens_out for call in failed)
    assert (booked > 0) == (status in LOST or ((name, status) == ("SERVER", "200") and "finish_reason" not in body))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("Unknown key: sk-proj-a1B2c3D4e5", "Unknown key: [key]"),
        ("Unknown key: sk-****wxyz", "Unknown key: [key]"),
        ("Bearer a1b2c3d4e5f6 is not valid", "[key] is not valid"),
        *((words, words) for words in (
            "Your API key authentication expired", "key provisioning is not enabled",
            "Unsupported keyframe_count_parameter", "Bearer authentication is required, error 4012345678",
        )),
    ],
)  # fmt: skip
def test_keys_are_left_out_and_words_are_not(words: str, said: str) -> None:
    assert failure_of(Unreadable(words), 1.0, 1).why == said


@pytest.mark.parametrize(
    ("words", "sizes"),
    [
        ("maximum context length is 16384 tokens. However, you requested 22158 tokens (6158 in the messages, 16000 in "
         "the completion).", Sizes(16384, 6158)),
        ("Requested tokens (22158) exceed context window of 8192", Sizes(8192, 6158)),
        ("prompt is too long: 28466 tokens > 16384 maximum", Sizes(16384, 28466)),
        ("`max_tokens` exceed context limit: 199000 + 16000 > 200000", Sizes(200000, 199000)),
        ("too large | n_prompt_tokens=18213 | n_ctx=8192", Sizes(8192, 18213)),
        ("max_tokens must be at least 1, got -186.", Sizes(excess=186)),
        ("This model's maximum prompt length is 131072 but the request contains 140000 tokens.", Sizes(131072, 140000)),
        ("(TPM): Limit 6,000, Requested 22,158, please reduce your message size", Sizes(6000, 6158)),
        ("Range of input length should be [1, 30720]", Sizes(30720)),
        ("the request is too long", Sizes()),
    ],
)  # fmt: skip
def test_the_numbers_of_servers_are_read(words: str, sizes: Sizes) -> None:
    assert sizes_of(words, 16_000) == sizes


@pytest.mark.parametrize(
    ("headers", "words", "seconds"),
    [
        ({"retry-after": "7"}, "try again in 99s", 7),
        ({"retry-after-ms": "1500"}, "", 1.5),
        ({}, "Please try again in 7m12.5s. Need more?", 432.5),
        ({}, "Please retry in 34.07s.", 34.07),
        ({}, "try again in 1h2m", 3720),
        ({}, "Please retry after 6 seconds", 6),
        ({}, "Try again in 5 minutes", 300),
        ({}, "retryDelay: 34s", 34),
        ({}, "estimated_time=20.0", 20),
        ({}, "try again in 250ms", 0.25),
        ({"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "6m0s"}, "", 360),
        ({"x-ratelimit-reset-requests": "9s", "x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-tokens": "6m0s",
          "x-ratelimit-remaining-tokens": "800"}, "", 9),
        ({"x-ratelimit-reset": "1000000090"}, "", 90),
        ({"X-RateLimit-Reset": "1000000090000"}, "", 90),
        ({"anthropic-ratelimit-tokens-reset": "2001-09-09T01:47:10Z"}, "", 30),
        ({}, "slow down", None),
    ],
)  # fmt: skip
def test_how_long_a_server_asks_to_wait(headers: dict[str, str], words: str, seconds: float | None) -> None:
    assert seconds_to_wait(headers, words, now=1_000_000_000.0) == seconds


def test_the_wait_is_said() -> None:
    error, _, _ = asked(failing(429, "Rate limit reached. Please try again in 0.1s", headers={"Retry-After": "0"}))
    assert "It asks to wait" not in str(error)
    with ScriptedServer(respond=lambda body: failing(429, "Rate limit reached. Try again in 7m12s")) as server:
        chat = Chat("tiny", base_url=server.base_url, waits_seconds=())
        with pytest.raises(ModelUnavailable, match=r"It asks to wait 7 min\. The limit of this account is reached"):
            chat.ask(QUESTION, 500)


def test_what_a_client_sent_is_no_word_of_the_server() -> None:
    echo = {"detail": [{"loc": ["body", "seed"], "msg": "Field required", "input": {"messages": "out of memory"}}]}
    assert cause_of(read_body(echo), 422) is ServerCause.REQUEST


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["error", "message", "detail", "code", "metadata", "raw", "loc", "msg"]), inner
        )
    ),
    max_leaves=20,
)


@given(json_values, st.sampled_from([None, 400, 401, 404, 429, 500, 503]))
def test_any_body_has_a_message_and_a_cause(body: object, status: int | None) -> None:
    for shape in (body, json.dumps(body), {"error": {"message": json.dumps(body)}}):
        read = read_body(shape)
        assert isinstance(read.message, str) and len(read.words) <= 32_000
        assert status is None or isinstance(cause_of(read, status), ServerCause)
        assert isinstance(sizes_of(read.words, 100), Sizes)
        assert seconds_to_wait({}, read.words, 0.0) is None or seconds_to_wait({}, read.words, 0.0) >= 0.0


def test_a_deep_or_long_body_is_read_soon() -> None:
    for body in ("[" * 100_000, '{"error": ' * 5_000, "{" * 50_000 + "}" * 50_000, "a " * 500_000, "model " * 100_000):
        assert isinstance(cause_of(read_body(body), 500), ServerCause)


@pytest.mark.parametrize(
    ("sse", "finish", "tools"),
    [
        ('{"delta": {"content": null, "tool_calls": [{"function": {"name": "run_shell", "arguments": ""}}]}}',
         "tool_calls", ("run_shell",)),
        ('{"delta": {"function_call": {"name": "apply_patch"}}, "finish_reason": "function_call"}', "tool_calls",
         ("apply_patch",)),
        ('{"delta": {"content": "I look."}, "finish_reason": "tool_use"}', "tool_calls", ()),
        ('{"delta": {"content": "No"}, "finish_reason": "SAFETY"}', "content_filter", ()),
        ('{"delta": {"content": "No"}, "finish_reason": "MAX_TOKENS"}', "length", ()),
        ('{"delta": {"content": "No"}, "finish_reason": "eos_token"}', "stop", ()),
    ],
)  # fmt: skip
def test_why_a_reply_ended_has_one_name(sse: str, finish: str, tools: tuple[str, ...]) -> None:
    body = f'data: {{"choices": [{sse}]}}\n\ndata: [DONE]\n\n'.encode()
    with ScriptedServer([Behaviour(raw=body, content_type="text/event-stream")]) as server:
        answer = Chat("tiny", base_url=server.base_url).ask(QUESTION, 500)
    assert (answer.finish, answer.tools) == (finish, tools)


def test_an_error_in_the_midst_of_a_reply_is_asked_again_and_booked() -> None:
    body = (
        b'data: {"choices": [{"delta": {"content": "HYPOTHESIS: Wid"}}]}\n\n'
        b'data: {"choices": [{"delta": {}, "finish_reason": "error"}]}\n\n'
    )
    failed: list[Call] = []
    with ScriptedServer([Behaviour(raw=body), reply("Yes.")]) as server:
        chat = Chat("tiny", base_url=server.base_url, waits_seconds=(0.0,))
        assert chat.ask(QUESTION, 500, failed.append).text == "Yes."
    assert [call.failed for call in failed] == ["the server ended the reply with an error"]
    assert failed[0].tokens_in > 0


@pytest.mark.parametrize(
    ("url", "cause"),
    [
        ("http://127.0.0.1:9/v1", ServerCause.DOWN),
        ("http://no-such-host.invalid/v1", ServerCause.ADDRESS),
    ],
)
def test_a_server_that_cannot_be_reached_is_down_or_has_another_address(url: str, cause: ServerCause) -> None:
    with pytest.raises(ModelUnavailable) as caught:
        Chat("tiny", base_url=url, waits_seconds=()).ask(QUESTION, 500)
    assert caught.value.cause is cause and "OPENAI_BASE_URL" in str(caught.value)


def test_https_to_a_server_without_it_names_the_address() -> None:
    with ScriptedServer() as server:
        url = server.base_url.replace("http://", "https://")
        with pytest.raises(ModelUnavailable) as caught:
            Chat("tiny", base_url=url, waits_seconds=()).ask(QUESTION, 500)
    assert caught.value.cause is ServerCause.ADDRESS
