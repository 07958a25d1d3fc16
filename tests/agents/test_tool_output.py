"""What the four tools print, re-created from the forms that their versions of November 2026 have."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from autoresearch_kernel.agents.causes import ServerCause
from autoresearch_kernel.agents.reset_time import seconds_until_reset
from autoresearch_kernel.agents.tool_causes import cause_of_success, cause_of_tool
from autoresearch_kernel.agents.tool_output import LONGEST_MESSAGE, Said, cleaned, may_be_message, read_output
from autoresearch_kernel.agents.tools import read_tools
from tests.conftest import PROJECT

TOOLS = read_tools(PROJECT)
REPLY = "HYPOTHESIS: Less smoothing helps.\nThe rest."


def said(name: str, out: Any = "", err: str = "") -> Said:
    """What is read of an output: text, one object, or a list of events."""
    text = out if isinstance(out, str) else json.dumps(out)
    if isinstance(out, list):
        text = "".join(json.dumps(event) + "\n" for event in out)
    return read_output(TOOLS[name], text.encode(), err.encode())


CLAUDE = {
    "type": "result", "subtype": "success", "is_error": False, "api_error_status": None, "result": REPLY,
    "total_cost_usd": 0.0421, "usage": {"input_tokens": 12, "cache_read_input_tokens": 8_000,
    "cache_creation_input_tokens": 300, "output_tokens": 55, "server_tool_use": {"web_search_requests": 0}},
}  # fmt: skip
CODEX = [
    {"type": "thread.started", "thread_id": "0199"},
    {"type": "item.completed", "item": {"id": "item_0", "type": "reasoning", "text": "**Thinking**"}},
    {"type": "item.completed", "item": {"id": "item_1", "type": "agent_message", "text": "A draft."}},
    {"type": "item.completed", "item": {"id": "item_2", "type": "agent_message", "text": REPLY}},
    {"type": "turn.completed", "usage": {"input_tokens": 9_000, "cached_input_tokens": 8_000, "output_tokens": 70,
                                         "reasoning_output_tokens": 30}},
]  # fmt: skip
GEMINI = {
    "session_id": "x", "response": REPLY,
    "stats": {"models": {
        "gemini-2.5-pro": {"tokens": {"prompt": 7_000, "candidates": 40, "thoughts": 20, "cached": 0, "total": 7_060}},
        "gemini-2.5-flash": {"tokens": {"prompt": 1_000, "candidates": 4, "thoughts": 0, "cached": 0, "total": 1_004}},
    }},
}  # fmt: skip
OPENCODE = [
    {"type": "step_start", "part": {"type": "step-start"}},
    {"type": "text", "part": {"type": "text", "text": REPLY[:20]}},
    {"type": "text", "part": {"type": "text", "text": REPLY[20:]}},
    {"type": "step_finish", "part": {"cost": 0.003, "tokens": {"input": 6_000, "output": 50, "reasoning": 9,
                                                               "cache": {"read": 500, "write": 10}}}},
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "out", "counts"),
    [
        ("claude", CLAUDE, (8_312, 55, 0.0421)),
        ("codex", CODEX, (9_000, 70, None)),
        ("gemini", GEMINI, (8_000, 64, None)),
        ("opencode", OPENCODE, (6_510, 59, 0.003)),
    ],
)
def test_the_reply_and_its_usage_are_found(name: str, out: Any, counts: tuple[int, int, float | None]) -> None:
    read = said(name, out)
    assert read.reply == REPLY and read.error is None
    assert (read.tokens_in, read.tokens_out, read.cost) == counts
    text = json.dumps(out, indent=2) if isinstance(out, dict) else "".join(json.dumps(event) + "\n" for event in out)
    banner = "Update available: 9.9.9\n\x1b[33mnpm install -g it\x1b[0m\n"
    assert said(name, banner + text, "a warning on standard error").reply == REPLY


LOG = json.dumps({"level": "warn", "msg": "a new version is there", "usage": {"input_tokens": 5}})


@pytest.mark.parametrize("indent", [None, 2])
def test_a_list_of_events_is_read_as_its_last_result(indent: int | None) -> None:
    """Claude Code prints one with `verbose` among the settings of its user."""
    events = [{"type": "system", "subtype": "init"}, {"type": "assistant", "message": {"usage": {"input_tokens": 7}}}]
    read = said("claude", "A warning\n" + json.dumps([*events, CLAUDE, {"type": "system"}], indent=indent))
    assert (read.reply, read.tokens_in, read.tokens_out, read.cost) == (REPLY, 8_312, 55, 0.0421)
    failed = said("claude", json.dumps([*events, claude_error(401, "Invalid API key")], indent=indent))
    assert failed.error is not None and failed.error.status == 401 and failed.tokens_in == 8_312
    assert said("claude", json.dumps([*events, CLAUDE])[:-20]) == Said(is_unreadable=True)
    assert said("claude", "[" * 10**6 + "]" * 10**6).is_unreadable


@pytest.mark.parametrize("around", [(LOG, ""), ("", LOG), (LOG, LOG), ("[warn] slow", "{} done"), ("[1, 2]", "[]")])
def test_lines_of_a_log_around_the_result_hide_nothing(around: tuple[str, str]) -> None:
    for name, result, tokens in (("claude", CLAUDE, 8_312), ("gemini", GEMINI, 8_000)):
        read = said(name, f"{around[0]}\n{json.dumps(result, indent=2)}\n{around[1]}\n")
        assert (read.reply, read.tokens_in, read.error) == (REPLY, tokens, None)
    failed = said("gemini", "", f"{around[0]}\n{gemini_error(400, 'too large')}{around[1]}\n")
    assert failed.error is not None and failed.error.status == 400
    again = said("claude", json.dumps(claude_error(529, "Overloaded")) + "\n" + json.dumps(CLAUDE))
    assert again.reply == REPLY and again.error is None


def gemini_error(status: int, message: str) -> str:
    body = {"session_id": "x", "error": {"type": "Error", "message": message, "code": status}}
    return f"Attempt 1 failed with status {status}.\n    at file:///x.js:1\n{json.dumps(body, indent=2)}\n"


def claude_error(status: int | None, words: str) -> dict[str, Any]:
    return CLAUDE | {"is_error": True, "api_error_status": status, "result": words}


@pytest.mark.parametrize(
    ("name", "out", "err", "cause"),
    [
        ("claude", claude_error(None, "Not logged in · Please run /login"), "", ServerCause.KEY),
        ("claude", claude_error(401, "Invalid API key · Fix external API key"), "", ServerCause.KEY),
        ("claude", claude_error(429, "API Error: Request rejected (429) · Rate limit reached"), "", ServerCause.RATE),
        ("claude", claude_error(None, "You've hit your session limit · resets 3pm"), "", ServerCause.RATE),
        ("claude", claude_error(400, "Prompt is too long · the request is ~250000 tokens (limit 200000)"), "",
         ServerCause.CONTEXT),
        ("codex", [{"type": "turn.failed", "error": {"message": "unexpected status 401 Unauthorized: no, url: x"}}], "",
         ServerCause.KEY),
        ("codex", [{"type": "turn.failed", "error": {"message": "exceeded retry limit, last status: 429 Too Many "
                                                                "Requests"}}], "", ServerCause.RATE),
        ("codex", [{"type": "error", "message": "Reconnecting... 1/5"}, {"type": "turn.failed", "error": {"message":
          "You've hit your usage limit. Visit https://example.org to get more, or try again in 2 hours."}}], "",
         ServerCause.RATE),
        ("gemini", "", gemini_error(41, "When using Gemini API, you must specify the GEMINI_API_KEY environment "
                                        "variable."), ServerCause.KEY),
        ("gemini", "", gemini_error(429, '{"error":{"code":429,"message":"Resource has been exhausted (e.g. check '
                                         'quota).","status":"RESOURCE_EXHAUSTED"}}'), ServerCause.RATE),
        ("gemini", "", gemini_error(400, '{"error":{"code":400,"message":"The input token count (1200000) exceeds the '
                                         'maximum number of tokens allowed (1048576)."}}'), ServerCause.CONTEXT),
        ("opencode", [{"type": "error", "error": {"name": "APIError", "data": {"message": "Invalid API key",
                       "statusCode": 401, "isRetryable": False}}}], "", ServerCause.KEY),
        ("opencode", [{"type": "error", "error": {"name": "ContextOverflowError", "data": {"message":
                       "prompt is too long: 250000 tokens > 200000 maximum"}}}], "", ServerCause.CONTEXT),
    ],
)  # fmt: skip
def test_trouble_is_understood(name: str, out: Any, err: str, cause: ServerCause) -> None:
    error = said(name, out, err).error
    assert error is not None and error.message
    assert cause_of_tool(TOOLS[name], error.words or error.message, error.status) is cause


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        ("A critical error occurred. Please open an issue at https://example.org/x and attach the log", None),
        ("Please open an issue at https://example.org/x and include the log in your report", None),
        ("API Error 529 Overloaded. Visit https://status.example.org for details. Error code: overloaded_error",
         ServerCause.OVERLOADED),
        ("Please visit https://example.org/device and enter the code AB-12", ServerCause.KEY),
        ("Open this URL to sign in: https://example.org/sign-in", ServerCause.KEY),
    ],
)  # fmt: skip
def test_a_page_to_visit_is_a_sign_in_only_where_the_words_say_so(words: str, cause: ServerCause | None) -> None:
    assert cause_of_tool(TOOLS["claude"], words) is cause


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        ("I don't have access to your files, so I cannot edit train.py. Please paste it.", None),
        ("Throttling the learning rate in this region of the loss would help. May I see train.py?", None),
        ("A rate of 3 requests per second is not allowed here; the token budget was exceeded.", None),
        ("An invalid token would be masked, an unknown key ignored.", None),
        ("Usage limit reached, resets in 2h", ServerCause.RATE),
        ("Error 429: Too Many Requests", ServerCause.RATE),
        ("Not logged in · Please run /login", ServerCause.KEY),
        ("Error: 401 Unauthorized", ServerCause.KEY),
        ("Invalid API key · Fix external API key", ServerCause.KEY),
        ("Your credit balance is too low", ServerCause.QUOTA),
        ("Allow this command? [y/N]", ServerCause.PERMISSION),
        ("Do you want to proceed? (yes/no)", ServerCause.PERMISSION),
        ("I would lower the learning rate. Do you want to proceed with this change?", None),
        ("A wider model needs your approval, as it requires permission to use more memory.", None),
        ("Pool empty, come back later", ServerCause.RATE),  # the preset's own words
        ("Who are you?", ServerCause.KEY),
    ],
)
def test_beside_an_exit_status_of_0_a_cause_needs_the_words_of_a_tool(words: str, cause: ServerCause | None) -> None:
    tool = replace(TOOLS["copilot"], limit_words=("pool empty",), sign_in_words=("who are you",))
    assert cause_of_success(tool, words) is cause


@pytest.mark.parametrize(
    ("text", "may_be"),
    [
        ("Not logged in", True),
        ("I would widen the model.", True),
        ("x" * (LONGEST_MESSAGE + 1), False),
        ("Hypothesis: a region of the loss", False),
        ("**HYPOTHESIS**: it", False),
        ("------- SEARCH\nA = 1", False),
        ("<<<<<< SEARCH\nA = 1", False),
        ("&lt;&lt;&lt;&lt;&lt;&lt;&lt; SEARCH\nA = 1", False),
    ],
)
def test_what_begins_as_a_reply_is_no_message_of_the_tool(text: str, may_be: bool) -> None:
    assert may_be_message(text) is may_be


def test_a_size_among_the_counts_of_a_failure_says_nothing_of_its_cause() -> None:
    failed = {"type": "result", "subtype": "error_during_execution", "is_error": True, "errors": ["socket hang up"]}
    error = said("claude", failed | {"modelUsage": {"m": {"contextWindow": 200_000}}, "usage": {"tokens": 5}}).error
    assert error is not None and "socket hang up" in error.words
    assert cause_of_tool(TOOLS["claude"], error.words, error.status) is not ServerCause.CONTEXT


def test_an_output_that_is_cut_off_is_no_reply() -> None:
    whole = json.dumps(CLAUDE)
    assert said("claude", whole[:-20]) == Said(is_unreadable=True)
    assert said("codex", "").is_unreadable
    assert said("codex", json.dumps(CODEX[3])[:-9]).reply == ""


def test_text_is_left_as_a_terminal_would_show_it() -> None:
    assert cleaned("\x1b]0;title\x07a\x1b[31mb\x1b[0m\r\n10 %\r20 %\rdone\n") == "ab\ndone"
    assert cleaned("⠋ Thinking...\n| a table |\n- a list\n-\n") == "| a table |\n- a list"


NOW = datetime(2026, 11, 30, 14, 0, tzinfo=UTC)
IN_UTC_5 = NOW.astimezone(timezone(timedelta(hours=-5)))


@pytest.mark.parametrize(
    ("words", "hours"),
    [
        ("Claude AI usage limit reached|1796054400", 2.0),
        ("5-hour limit reached ∙ resets 3pm", 1.0),
        ("You've hit your limit · resets 3:30pm (Europe/Berlin)", 0.5),
        ("try again in 3 hours 42 minutes.", 3.7),
        ("Your quota will reset after 2h13m5s.", 2.2181),
        ("try again at 1:00 PM.", 23.0),
        ("Weekly limit: resets Dec 5 at 3pm", 121.0),
        ("resets 2026-12-02T10:00:00Z", 44.0),
        ("limit reached, resets at 15:30 UTC", 1.5),
        ("Rate limit reached", None),
        ("resets in 3 hr 20 min", 3 + 1 / 3),
        ("try again in 2 hrs", 2.0),
        ("Retry after 30 mins", 0.5),
        ("try again in 3 hours, 42 minutes", 3.7),
        ("try again in 1 day and 2 hours", 26.0),
        ("resets in 1 week", 168.0),
        ("resets in 2 weeks", None),  # no limit is so long
        ("retry after 90", 0.025),
        ("Try again after 6:30 PM", 4.5),
        ("Your limit resets 11/30/2026, 6:00 PM", None),  # which of both is the month is not said
        ("resets 2026-11-30 at 18:00", 4.0),
        ("resets at 2026-11-30 18:00:00 UTC", 4.0),
        ("resets at 5:23 PM GMT+2", 1 + 23 / 60),
        ("resets at 5:23 PM UTC-5", 8 + 23 / 60),
        ("resets at 5:30 PM GMT+02:00", 1.5),
        ("resets 7pm (Etc/GMT+3)", 8.0),
        ("resets 3pm PST", 9.0),
        ("resets 3pm WST", 1.0),  # of Western Samoa, or of Western Australia: the clock of this machine counts
        ("resets at 2026-11-30 18:00:00 UTC+2", 2.0),
        ("5-hour limit reached ∙ resets 1:59pm", 1 / 12),  # it has just passed
        ("resets Mar 5 at 3pm", None),  # three months are no limit
        ("resets 25:99", None),
    ],
)
def test_the_end_of_a_limit_is_read_from_its_words(words: str, hours: float | None) -> None:
    seconds = seconds_until_reset(words, NOW)
    assert seconds is None if hours is None else seconds == pytest.approx(3600 * hours + 30, abs=2)


def test_a_zone_that_is_named_counts_and_not_that_of_this_machine() -> None:
    for words, hours in (("resets at 2026-11-30 18:00:00 UTC", 4.0), ("resets 6pm GMT", 4.0), ("resets at 10am", 1.0)):
        assert seconds_until_reset(words, IN_UTC_5) == pytest.approx(3600 * hours + 30)


def test_an_abbreviation_that_is_this_machine_s_zone_is_meant_so() -> None:
    in_china = NOW.astimezone(timezone(timedelta(hours=8), "CST"))
    assert seconds_until_reset("resets 11pm CST", in_china) == pytest.approx(3600 + 30)
