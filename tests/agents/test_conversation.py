"""One question to a model: what is said to it when a reply cannot be read, and how prompt and reply are made to fit."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch_kernel.agents.chat import Chat, Timeouts
from autoresearch_kernel.agents.conversation import QUOTED_SHARE, capped
from autoresearch_kernel.agents.llm import LLMAgent
from autoresearch_kernel.agents.prices import count_tokens
from autoresearch_kernel.core.agent import AgentUnavailable, UnusableReply
from autoresearch_kernel.core.types import Call, Context, Proposal
from tests.agents.test_prompt import context as make_context
from tests.agents.test_prompt import full_night
from tests.llm_server import Behaviour, ScriptedServer, failing, reply

NIGHT = full_night(100)  # whose prompt can be made smaller by far
THINKING = reply("", reasoning="Let me see. <<<<<<< SEARCH", finish="length")


def tool_call(name: str, text: str = "") -> Behaviour:
    call = {"index": 0, "function": {"name": name, "arguments": "{}"}}
    chunk = {"choices": [{"delta": {"content": text, "tool_calls": [call]}, "finish_reason": "tool_calls"}]}
    return Behaviour(raw=f"data: {json.dumps(chunk)}\n\n".encode(), content_type="text/event-stream")


class Asked:
    """One question to a server, and all that was heard of it."""

    def __init__(self, context: Context, server: ScriptedServer, **agent: Any) -> None:
        self.calls: list[Call] = []
        self.waits: list[str] = []
        heard = replace(context, on_call=self.calls.append, on_wait=self.waits.append)
        chat = Chat("tiny", base_url=server.base_url, timeouts=Timeouts(2.0, 5.0, 5.0, 20.0), waits_seconds=())
        self.agent = LLMAgent(chat, **agent)
        self.proposal: Proposal | None = None
        self.error: Exception | None = None
        try:
            self.proposal = self.agent.propose(heard)
        except (AgentUnavailable, UnusableReply) as error:
            self.error = error
        bodies = [request.body for request in server.requests]
        self.replies = [body["max_tokens"] for body in bodies]
        self.prompts = [body["messages"][0]["content"] for body in bodies]
        self.messages = [body["messages"] for body in bodies]


@pytest.fixture
def question() -> Context:
    return make_context()


@pytest.fixture
def good(question: Context) -> Behaviour:
    """A reply that changes the first line of the incumbent's train.py."""
    lines = question.train_source.splitlines()  # NIGHT has the same file
    line = next(line for line in lines if " = " in line and lines.count(line) == 1)
    words = "HYPOTHESIS: A comment helps.\nEXPECTED: nothing.\nREFUTED BY: a change."
    return reply(f"{words}\n\n<<<<<<< SEARCH\n{line}\n=======\n{line}\n# more\n>>>>>>> REPLACE\n")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (tool_call("edit_file"), "The model called the tool edit_file; it has none."),
        (tool_call("edit_file", "I edit train.py now."), "The model called the tool edit_file; it has none."),
        (reply("Here", finish="tool_calls"), "The model called a tool; it has none."),
        (
            reply("I cannot", finish="content_filter"),
            "The content filter of the server stopped it: relax",
        ),
        (
            reply("HYPOTHESIS: Wider.", finish="length"),
            "The reply was cut off at its limit of 16,000 tokens (--reply-tokens) before it held an edit. Think less",
        ),
        (reply(""), "The reply was empty."),
        (reply("", reasoning="Let me see."), "All of the reply was thoughts, without an answer after them."),
    ],
)
def test_what_holds_no_answer_is_said_to_the_model_at_once(
    question: Context, good: Behaviour, answer: Behaviour, said: str
) -> None:
    with ScriptedServer([answer, good]) as server:
        asked = Asked(question, server)
    assert asked.proposal is not None and len(asked.calls) == 2
    assert said in asked.messages[1][-1]["content"] and asked.messages[1][1]["role"] == "assistant"


def test_a_draft_in_thoughts_that_the_limit_cut_is_no_proposal_and_is_asked_for_once_more(
    question: Context, good: Behaviour
) -> None:
    draft = replace(THINKING, reasoning=good.text)
    with ScriptedServer([draft, good]) as server:
        asked = Asked(question, server, reply_tokens=4_000)
    assert asked.proposal is not None and asked.replies == [4_000, 8_000] and asked.prompts[0] == asked.prompts[1]
    assert "the reply limit of 4,000 tokens was used up by thinking" in "".join(asked.waits)
    assert "--reply-tokens" in "".join(asked.waits)


@pytest.mark.parametrize("text", ["", "<think>HYPOTHESIS: Twelve blocks.\nNo. Instead "])
def test_thinking_that_uses_up_the_longer_reply_too_ends_the_question(question: Context, text: str) -> None:
    with ScriptedServer([replace(THINKING, text=text)] * 3) as server:
        asked = Asked(question, server, reply_tokens=4_000)
    assert asked.replies == [4_000, 8_000] and isinstance(asked.error, UnusableReply)
    assert "The reply limit of 8,000 tokens was used up by thinking" in str(asked.error)
    assert "--reply-tokens" in str(asked.error)


MESSAGES = (
    "This model's maximum context length is {limit} tokens. However, you requested {total} tokens ({prompt} in the "
    "messages, {reply} in the completion).",
    "`inputs` tokens + `max_new_tokens` must be <= {limit}. Given: {prompt} `inputs` tokens and {reply} of the other",
    "Requested tokens ({total}) exceed context window of {limit}",
    "maximum context length is {limit} tokens",
    "the request is too long: context_length_exceeded",
    "max_tokens must be at least 1, got -{over}.",
)


@pytest.mark.parametrize("words", MESSAGES, ids=lambda words: words[:30])
@pytest.mark.parametrize("share", [0.7, 1.2])
def test_a_shorter_reply_is_asked_for_before_a_smaller_prompt(good: Behaviour, words: str, share: float) -> None:
    """The prompt takes `share` of the context: it fits with a shorter reply, or it does not fit."""
    first: list[int] = []

    def respond(body: dict[str, Any]) -> Behaviour:
        size = int(count_tokens(body["messages"][0]["content"]) / 1.3)
        first.append(size)
        limit, total = int(first[0] / share), size + body["max_tokens"]
        over = max(186, size - limit)
        if total <= limit:
            return good
        return failing(400, words.format(limit=limit, prompt=size, total=total, reply=body["max_tokens"], over=over))

    with ScriptedServer(respond=respond) as server:
        asked = Asked(NIGHT, server)
    assert asked.proposal is not None, asked.error
    assert asked.replies[0] == 16_000 and asked.replies[1] < 16_000
    if share < 1:
        assert len(set(asked.prompts)) == 1, "the prompt is unchanged"
    else:
        assert len(asked.prompts[-1]) < len(asked.prompts[0])
    assert {call.tokens_in for call in asked.calls[:-1]} == {0}, "nothing is booked that no model saw"
    if "{limit}" in words:
        assert f"the context has {int(first[0] / share):,} tokens" in asked.waits[0]


def test_the_context_that_a_server_states_is_kept_from_the_first_request_on(
    good: Behaviour,
) -> None:
    with ScriptedServer([good]) as server:
        server.pages["/v1/models"] = {"data": [{"id": "tiny", "max_model_len": 20_000}]}
        asked = Asked(NIGHT, server)
    assert asked.proposal is not None and len(asked.replies) == 1
    assert count_tokens(asked.prompts[0]) + asked.replies[0] <= 20_000


def test_a_context_too_short_for_the_least_prompt_is_said_with_its_number(question: Context) -> None:
    with ScriptedServer() as server:
        server.pages["/props"] = {"default_generation_settings": {"n_ctx": 1_024}}
        asked = Asked(question, server)
        assert not server.requests
    assert isinstance(asked.error, AgentUnavailable)
    assert "has 1,024 tokens: give its server a longer one" in str(asked.error)


def test_a_context_that_was_too_short_is_looked_at_again(good: Behaviour, question: Context) -> None:
    """The study pauses meanwhile, and the user starts the server anew with a longer context."""
    with ScriptedServer() as server:
        server.pages["/props"] = {"default_generation_settings": {"n_ctx": 1_024}}
        asked = Asked(question, server)
        assert isinstance(asked.error, AgentUnavailable) and not server.requests
        server.pages["/props"] = {"default_generation_settings": {"n_ctx": 65_536}}
        server.script.append(good)
        assert asked.agent.propose(replace(question, on_wait=asked.waits.append)).hypothesis == "A comment helps."
        assert server.requests[0].body["max_tokens"] == 16_000


def test_repairs_stay_within_the_prompt_tokens_and_quote_the_refused_reply_in_part() -> None:
    looping = "I add a block, then I add a block again.\n" * 1_500
    with ScriptedServer([reply(looping)] * 3) as server:
        asked = Asked(NIGHT, server, prompt_tokens=16_000)
    assert isinstance(asked.error, UnusableReply) and len(asked.messages) == 3
    for messages in asked.messages:
        assert sum(count_tokens(m["content"]) for m in messages) <= 16_000
    quoted = asked.messages[2][-2]
    assert quoted["role"] == "assistant" and "characters left out" in quoted["content"]
    assert asked.error.refusal.transcript[1]["content"] == looping.strip(), "the record has the reply in full"


@given(st.text(max_size=3_000) | st.text("0123456789.-", min_size=500, max_size=3_000), st.integers(50, 600))
def test_a_quoted_text_is_never_longer_than_its_cap(text: str, most: int) -> None:
    short = capped(text, most)
    assert count_tokens(short) <= most
    assert short == text or "left out" in short


def test_the_cap_is_a_share_of_the_prompt() -> None:
    assert 32_000 // QUOTED_SHARE == 4_000
