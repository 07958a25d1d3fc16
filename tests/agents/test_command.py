"""The agent `command` against a program that does all that command-line tools do."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autoresearch_kernel.agents import command_check, server
from autoresearch_kernel.agents.causes import ServerCause
from autoresearch_kernel.agents.command import CommandChat, as_text, version_in
from autoresearch_kernel.agents.command_check import check_tool, missing_flags
from autoresearch_kernel.agents.failures import Failure, ModelUnavailable, PromptTooLong
from autoresearch_kernel.agents.model import Reply
from autoresearch_kernel.agents.options import tool_chat
from autoresearch_kernel.agents.server import PLACEHOLDERS, redact
from autoresearch_kernel.agents.tools import ToolError, find_tool, no_place_for, read_tools
from autoresearch_kernel.core.agent import AgentUnavailable
from autoresearch_kernel.core.types import Call, Spent
from autoresearch_kernel.record.study import StudyError
from autoresearch_kernel.system import contained, temporary
from autoresearch_kernel.system.processes import descendants
from tests.conftest import PROJECT
from tests.fake_tool import FakeTool, step

GOOD = (
    "HYPOTHESIS: Less smoothing helps.\nEXPECTED: 0.01 lower.\nREFUTED BY: a rise.\n\n"
    "<<<<<<< SEARCH\nALPHA = 1.0\n=======\nALPHA = 0.1\n>>>>>>> REPLACE\n"
)
ASKED = [{"role": "user", "content": "What next?"}]
SECRET = "canary-4f1c2b9d7e6a"


@pytest.fixture
def tool(tmp_path: Path) -> FakeTool:
    return FakeTool(tmp_path / "bin")


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    before = set(descendants(os.getpid()))
    yield
    deadline = time.monotonic() + 2.0
    while (left := set(descendants(os.getpid())) - before) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left


def chat(tool: FakeTool, *script: str | dict[str, Any], limit_seconds: float = 30.0) -> CommandChat:
    tool.play(script)
    asked = CommandChat(find_tool(tool.line, PROJECT), project=PROJECT, waits_seconds=(0.0, 0.0, 0.0, 0.0))
    asked.limit_seconds = limit_seconds
    return asked


BANNER = "╭──────────────╮\n│ Update available 1.2.3 → 1.3.0 │\n╰──────────────╯\n"
ANSI = "\x1b]0;agent\x07\x1b[2J\x1b[1;32m" + GOOD.replace("\n", "\x1b[0m\n\x1b[33m") + "\x1b[0m"
PROGRESS = "⠋ Thinking...\r⠙ Thinking...\r\x1b[K" + GOOD.replace("\n", "\r\n")


@pytest.mark.parametrize(
    "behaviour",
    [
        GOOD,
        step("slow", GOOD),
        step("say", GOOD, status=1),
        step("error", GOOD),
        step("daemon", GOOD),
        step("writes", GOOD),
        step("does not read", GOOD),
        step("echo", GOOD),
        BANNER + GOOD,
        GOOD + BANNER,
        ANSI,
        PROGRESS,
        "⠋\n⠙ Working…\n" + GOOD,
        "I read the history.\n\n" + GOOD,
        f"<think>Is it {GOOD}?</think>\n{GOOD}",
    ],
    ids=lambda behaviour: behaviour["kind"] if isinstance(behaviour, dict) else repr(behaviour[:12]),
)
def test_a_reply_is_read_whatever_stands_around_it(tool: FakeTool, behaviour: str | dict[str, Any]) -> None:
    reply = chat(tool, behaviour).ask(ASKED, 1000)
    assert reply.answer.rstrip().endswith(GOOD.strip()[-60:]) and "\x1b" not in reply.text and "─" not in reply.text
    assert reply.call.estimated and reply.call.tokens_in > 0 and reply.call.tokens_out > 0
    assert tool.num_starts == 1


@pytest.mark.parametrize(
    ("behaviour", "why"),
    [
        ("", "it printed no reply"),
        (step("say", "", status=1), "exit status 1"),
        (step("say", GOOD[:-30], status=1), "exit status 1"),
        (step("error", "Error: connect ECONNREFUSED 127.0.0.1:443", status=1), "ECONNREFUSED"),
        (step("killed", GOOD), "killed by signal 9"),
        (step("flood"), "more than 4 MB"),
        (step("error", "529 Overloaded: try again later", status=1), "Overloaded"),
    ],
)
def test_what_may_pass_is_tried_again(tool: FakeTool, behaviour: str | dict[str, Any], why: str) -> None:
    asked, said, failed = chat(tool, behaviour, behaviour, GOOD), [], list[Call]()
    asked.on_wait = said.append
    assert asked.ask(ASKED, 1000, failed.append).answer == GOOD.strip()
    assert len(said) == len(failed) == 2 and all(why in words for words in said)
    assert "Attempt 1 of 5" in said[0] and all(call.failed for call in failed)


def test_five_failures_in_a_row_end_the_question_with_the_reason(tool: FakeTool) -> None:
    with pytest.raises(ModelUnavailable, match=r"after 5 attempts: exit status 3: out of cheese. Start fake-agent"):
        chat(tool, step("error", "out of cheese", status=3)).ask(ASKED, 1000)
    assert tool.num_starts == 5


@pytest.mark.parametrize("kind", ["hang", "deaf"])
def test_a_tool_that_hangs_is_ended_at_its_deadline_and_tried_once_more(tool: FakeTool, kind: str) -> None:
    asked = chat(tool, step(kind, "Working"), GOOD, limit_seconds=3.0)
    assert asked.ask(ASKED, 1000).answer == GOOD.strip()
    asked = chat(tool, step(kind, "Working"), limit_seconds=1.5)
    with pytest.raises(ModelUnavailable, match="after 2 attempts: it did not end in time") as caught:
        asked.ask(ASKED, 1000)
    assert caught.value.cause is ServerCause.SLOW and tool.num_starts == 2


def test_a_tool_that_waits_without_end_and_says_why_is_understood(tool: FakeTool) -> None:
    asked = chat(tool, step("deaf", "429 Too Many Requests. Retrying with backoff ..."), limit_seconds=2.0)
    with pytest.raises(ModelUnavailable, match="did not end in time: 429 Too Many") as caught:
        asked.ask(ASKED, 1000)
    assert caught.value.cause is ServerCause.RATE and tool.num_starts == 1


LIMITS = [
    ("Claude AI usage limit reached|{epoch}", 3600),
    ("5-hour limit reached ∙ resets in 2h", 7200),
    ("You've hit your usage limit. Upgrade to Pro or try again in 1 hour 12 minutes.", 4320),
    ("You have exhausted your capacity on this model. Your quota will reset after 0h40m10s.", 2410),
    ("Error 429: Too Many Requests", 1800),  # without a time: the default of the preset
]


@pytest.mark.parametrize(("words", "seconds"), LIMITS)
@pytest.mark.parametrize("status", [0, 1])
def test_a_usage_limit_names_the_moment_to_ask_again(tool: FakeTool, words: str, seconds: float, status: int) -> None:
    said = words.format(epoch=int(time.time()) + 3600)
    with pytest.raises(ModelUnavailable, match="The usage limit of your account with fake-agent is reached") as caught:
        chat(tool, step("say", said, status)).ask(ASKED, 1000)
    assert caught.value.cause is ServerCause.RATE and tool.num_starts == 1
    assert caught.value.again_in_seconds == pytest.approx(seconds, abs=40)


@pytest.mark.parametrize(
    ("behaviour", "cause"),
    [
        (step("say", "Not logged in · Please run /login"), ServerCause.KEY),
        (step("say", "To sign in, open this link in a browser: https://example.org/device and enter the code AB-12"),
         ServerCause.KEY),
        (step("error", "Error: 401 Unauthorized", 1), ServerCause.KEY),
        (step("say", "API Error: 401 Invalid bearer token"), ServerCause.KEY),
        (step("say", "Incorrect API key provided"), ServerCause.KEY),
        (step("say", "API key not valid. Please pass a valid API key."), ServerCause.KEY),
        (step("say", "Unauthorized"), ServerCause.KEY),
        (step("error", "Your session has expired", 1), ServerCause.KEY),
        (step("question"), ServerCause.PERMISSION),
        (step("terminal"), ServerCause.PERMISSION),
        (step("error", "Your credit balance is too low", 1), ServerCause.QUOTA),
        (step("error", "model not found: gpt-99", 1), ServerCause.MODEL),
    ],
)  # fmt: skip
def test_what_a_user_has_to_change_ends_the_question_at_once(
    tool: FakeTool, behaviour: dict[str, Any], cause: ServerCause
) -> None:
    with pytest.raises(ModelUnavailable) as caught:
        chat(tool, behaviour).ask(ASKED, 1000)
    assert caught.value.cause is cause and not caught.value.passes and tool.num_starts == 1


def test_a_model_that_writes_about_limits_is_no_limit(tool: FakeTool) -> None:
    reply = chat(tool, GOOD.replace("Less smoothing", "A rate limit reached by less smoothing")).ask(ASKED, 1000)
    assert reply.answer.startswith("HYPOTHESIS")
    prose = "I would look at the learning rate first, and then at the width of the model."
    assert chat(tool, prose).ask(ASKED, 1000).answer == prose  # the conversation asks for the form


OTHER_SPELLINGS = [
    GOOD.replace("HYPOTHESIS", "Hypothesis")
    .replace("<<<<<<< SEARCH", "------- SEARCH")
    .replace("> REPLACE", "+ REPLACE"),
    GOOD.replace("HYPOTHESIS", "**Hypothesis**").replace("<<<<<<<", "<<<<<<"),
    GOOD.replace("HYPOTHESIS", "Hypothesis").replace("<", "&lt;").replace(">", "&gt;"),
]


@pytest.mark.parametrize("reply", OTHER_SPELLINGS)
def test_a_proposal_in_another_spelling_is_no_message_of_the_tool(tool: FakeTool, reply: str) -> None:
    reply = reply.replace("Less smoothing", "Throttling in this region")
    assert chat(tool, reply).ask(ASKED, 1000).answer == reply.strip() and tool.num_starts == 1


def test_prose_about_files_that_a_model_does_not_see_is_a_reply(tool: FakeTool) -> None:
    prose = "I don't have access to your files, so I cannot edit train.py. Please paste it."
    assert chat(tool, prose).ask(ASKED, 1000).answer == prose  # the conversation asks for the form


def test_a_model_that_asks_whether_to_go_on_is_no_tool_that_asks_for_a_permission(tool: FakeTool) -> None:
    prose = "I would lower ALPHA to 0.1, which needs your approval.\n\nDo you want to proceed with this change?"
    assert chat(tool, prose).ask(ASKED, 1000).answer == prose  # the conversation asks for the form


IN_THOUGHTS = f"Thinking...\n{GOOD}\n...done thinking.\n"


@pytest.mark.parametrize(
    "half", [f"{GOOD}\nThe second change", IN_THOUGHTS, f"<think>\n{GOOD}</think>\n", f"<think>\n{GOOD}"]
)
@pytest.mark.parametrize("kind", ["say", "deaf"])
def test_half_a_reply_of_a_tool_that_failed_is_asked_for_again(tool: FakeTool, half: str, kind: str) -> None:
    asked, said = chat(tool, step(kind, half, status=1), GOOD, limit_seconds=3.0), list[str]()
    asked.on_wait = said.append
    assert asked.ask(ASKED, 1000).answer == GOOD.strip() and tool.num_starts == 2
    why = "the end of its reply may be missing" if kind == "say" else "did not end in time"
    assert why in said[0] and "is used" not in said[0]


@pytest.mark.parametrize("kind", ["say", "deaf"])
@pytest.mark.parametrize(
    "words",
    ["Hypothesis: A context length of 512 helps", "Hypothesis: less in this region", "The region matters. " * 200],
)
def test_words_of_a_model_are_no_cause_of_a_failure(tool: FakeTool, words: str, kind: str) -> None:
    failure = chat(tool, step(kind, words, status=1), limit_seconds=1.5).ask_once("?")
    assert isinstance(failure, Failure)
    assert failure.cause is (ServerCause.SERVER if kind == "say" else ServerCause.SLOW)
    assert failure.sizes.limit is None


def test_a_long_log_that_ends_with_a_limit_is_understood(tool: FakeTool) -> None:
    failure = chat(tool, step("say", "A line of a log.\n" * 200 + "You've hit your usage limit.", 1)).ask_once("?")
    assert isinstance(failure, Failure) and failure.cause is ServerCause.RATE


def reporting_chat(tool: FakeTool, *script: str | dict[str, Any], preset: str = "claude") -> CommandChat:
    """Of the fake program, read as the preset says."""
    asked = chat(tool, *script)
    read = replace(read_tools(PROJECT)[preset], command=tool.line, arguments=(), environment={}, help=(), version=())
    return CommandChat(read, waits_seconds=asked.waits_seconds)


def result(words: str, tokens_in: int = 0, tokens_out: int = 0, cost: float = 0.0, **others: Any) -> str:
    """What Claude Code prints."""
    usage = {"input_tokens": tokens_in, "output_tokens": tokens_out}
    return json.dumps({"type": "result", "result": words, "usage": usage, "total_cost_usd": cost} | others)


@pytest.mark.parametrize(
    ("tokens_in", "tokens_out", "cost", "is_counted"), [(0, 0, 0.0, False), (8_000, 90, 0.04, True)]
)
def test_a_failure_with_a_known_cause_is_booked_as_the_tool_reports_it(
    tool: FakeTool, tokens_in: int, tokens_out: int, cost: float, is_counted: bool
) -> None:
    said = result("You've hit your usage limit", tokens_in, tokens_out, cost, is_error=True)
    failure = reporting_chat(tool, step("say", said, 1)).ask_once("What next?")
    assert isinstance(failure, Failure) and failure.cause is ServerCause.RATE and failure.call is not None
    call = failure.call
    assert (call.tokens_in, call.tokens_out, call.cost) == (tokens_in, tokens_out, cost)
    assert Spent().plus(call).counted_calls == is_counted


def test_half_a_reply_before_a_usage_limit_is_booked(tool: FakeTool) -> None:
    message, limit = {"type": "agent_message", "text": GOOD[:-30]}, {"message": "You've hit your usage limit."}
    events = [{"type": "item.completed", "item": message}, {"type": "turn.failed", "error": limit}]
    said = "".join(json.dumps(event) + "\n" for event in events)
    failure = reporting_chat(tool, step("say", said, 1), preset="codex").ask_once("What next?")
    assert isinstance(failure, Failure) and failure.cause is ServerCause.RATE and failure.call is not None
    assert failure.call.tokens_in > 0 and failure.call.tokens_out > 0 and failure.call.estimated


def test_a_whole_proposal_counts_although_an_error_follows(tool: FakeTool) -> None:
    message, error = {"type": "agent_message", "text": GOOD}, {"message": "stream disconnected before completion"}
    events = [{"type": "item.completed", "item": message}, {"type": "turn.failed", "error": error}]
    said, heard = "".join(json.dumps(event) + "\n" for event in events), list[str]()
    asked = reporting_chat(tool, step("say", said, 1), preset="codex")
    asked.on_wait = heard.append
    assert asked.ask(ASKED, 1000).answer == GOOD.strip() and tool.num_starts == 1
    assert "reported 'stream disconnected before completion' after a whole reply, which is used." in heard[0]
    in_place_of_a_reply = reporting_chat(tool, step("say", result(GOOD, is_error=True), 1)).ask_once("What next?")
    assert isinstance(in_place_of_a_reply, Failure)


def test_a_prompt_that_is_too_long_is_said_with_its_numbers(tool: FakeTool) -> None:
    words = "Prompt is too long · the request is ~250000 tokens (limit 200000)"
    with pytest.raises(PromptTooLong) as caught:
        chat(tool, step("say", words, 1)).ask(ASKED, 1000)
    assert caught.value.sizes.limit == 200_000


def test_a_long_prompt_arrives_whole_and_not_among_the_arguments(tool: FakeTool) -> None:
    prompt = "Zeile – ≤ 0.002\n" * 15_000
    reply = chat(tool, GOOD).ask([{"role": "user", "content": prompt}], 1000)
    assert tool.prompts == [prompt] and len(prompt.encode()) > 200_000 and reply.answer
    assert tool.kept("argv") == [[]]


def test_the_tool_works_in_an_empty_folder_that_is_removed(tool: FakeTool) -> None:
    asked, said = chat(tool, step("writes", GOOD)), []
    asked.on_wait = said.append
    asked.ask(ASKED, 1000)
    [(folder, files)] = tool.kept("folder")
    assert files == [] and not Path(folder).exists() and not Path(folder).parent.exists()
    assert said == ["fake-agent wrote prepare.py, train.py; the file is removed, only the reply counts."]


def test_a_reply_counts_whatever_becomes_of_the_folder(tool: FakeTool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, said = chat(tool, step("removes", GOOD)), list[str]()
    asked.on_wait = said.append
    assert asked.ask(ASKED, 1000).answer == GOOD.strip() and said == []

    def remove_tree(folder: Path) -> None:
        shutil.rmtree(folder)
        raise PermissionError(errno.EPERM, "Operation not permitted", "train.py")

    monkeypatch.setattr(temporary, "remove_tree", remove_tree)
    assert asked.ask(ASKED, 1000).answer == GOOD.strip() and tool.num_starts == 2
    assert said == [
        "The temporary folder of fake-agent cannot be removed (Operation not permitted: train.py); its reply counts."
    ]


@pytest.mark.parametrize("trouble", ["no room", "no process"])
def test_a_machine_that_cannot_start_a_tool_now_is_asked_again(
    tool: FakeTool, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, failed = chat(tool, GOOD), list[Call]()

    def refuse(*_: Any, **__: Any) -> Any:
        code = errno.ENOSPC if trouble == "no room" else errno.EAGAIN
        raise OSError(code, os.strerror(code))

    module, name = (tempfile, "mkdtemp") if trouble == "no room" else (contained.subprocess, "Popen")
    with monkeypatch.context() as refusing:
        refusing.setattr(module, name, refuse)
        with pytest.raises(ModelUnavailable, match="after 5 attempts: this machine cannot start it") as caught:
            asked.ask(ASKED, 1000, failed.append)
        assert asked.told(["--help"]) == ""
    assert caught.value.cause is ServerCause.SERVER and caught.value.passes
    assert len(failed) == 5 and not any(call.tokens_in or call.cost for call in failed)
    assert asked.ask(ASKED, 1000).answer == GOOD.strip() and tool.num_starts == 1


def test_the_tool_gets_no_secret_of_ours(tool: FakeTool, monkeypatch: pytest.MonkeyPatch) -> None:
    assert SECRET not in PLACEHOLDERS
    dropped = (
        "OPENAI_API_KEY",
        "OPENAI_BASE_URL",
        "AUTORESEARCH_HOME",
        "GITHUB_TOKEN",
        "MY_PASSWORD",
        "AWS_SECRET_KEY",
    )
    for name in dropped:
        monkeypatch.setenv(name, SECRET)
    monkeypatch.setenv("HARMLESS", "yes")
    asked = chat(tool, step("environment", GOOD))
    reply = asked.ask(ASKED, 1000)
    [environment] = tool.environments
    assert not set(dropped) & set(environment) and SECRET not in reply.text
    assert environment["HARMLESS"] == "yes" and environment["PATH"] and environment["HOME"]


def test_a_secret_that_a_preset_keeps_is_taken_out_of_the_reply(
    tool: FakeTool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", SECRET + "-kept")
    asked = chat(tool, step("environment", GOOD))
    asked.tool = asked.tool.__class__(**vars(asked.tool) | {"keep": ("ANTHROPIC_*",)})
    reply = asked.ask(ASKED, 1000)
    [environment] = tool.environments
    assert environment["ANTHROPIC_API_KEY"] == SECRET + "-kept" and "ANTHROPIC_API_KEY=[key]" in reply.text
    assert redact(SECRET + "-kept") == "[key]"


def test_a_number_in_a_variable_about_tokens_is_no_secret(tool: FakeTool, monkeypatch: pytest.MonkeyPatch) -> None:
    """`N = 16384` in a reply must not become `N = [key]`."""
    monkeypatch.setenv("CLAUDE_CODE_MAX_OUTPUT_TOKENS", "16384")
    monkeypatch.setenv("MAX_THINKING_TOKENS", "8192")
    monkeypatch.setenv("PGPASSWORD", SECRET)
    monkeypatch.setenv("MYSQL_PWD", SECRET)
    edit = GOOD.replace("0.1", "16384")
    asked = chat(tool, edit)
    asked.tool = asked.tool.__class__(**vars(asked.tool) | {"keep": ("CLAUDE_*",)})
    assert "ALPHA = 16384" in asked.ask(ASKED, 1000).text
    [environment] = tool.environments
    assert environment["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] == "16384" and environment["MAX_THINKING_TOKENS"] == "8192"
    assert not {"PGPASSWORD", "MYSQL_PWD"} & set(environment) and "PWD" in environment


def test_a_number_is_no_secret_whatever_its_variable_is_called(tool: FakeTool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAUDE_CODE_API_KEY_HELPER_TTL_MS", "300000")
    asked = chat(tool, GOOD.replace("0.1", "300000"))
    asked.tool = replace(asked.tool, keep=("CLAUDE_*",))
    assert "ALPHA = 300000" in asked.ask(ASKED, 1000).text
    assert tool.environments[0]["CLAUDE_CODE_API_KEY_HELPER_TTL_MS"] == "300000"


SECRET_NAMES = (
    "DB_PASS", "SMTP_PASS", "MAIL_PASS", "DBPASS", "GOOGLE_CREDS", "CI_JOB_JWT", "CI_JOB_JWT_V2", "GITHUBTOKEN",
    "BW_SESSION", "OP_SESSION_me", "AZURE_STORAGE_CONNECTION_STRING", "GITHUB_TOKEN", "PGPASSWORD", "MYSQL_PWD",
    "OPENAI_ORG", "MY_PAT", "SLACK_WEBHOOK_URL", "DEPLOYWEBHOOK", "CLIENTSECRET", "CLAUDECODE",
    "CLAUDE_CODE_ENTRYPOINT",
)  # fmt: skip
HARMLESS_NAMES = (
    "DESKTOP_SESSION", "GNOME_DESKTOP_SESSION_ID", "KDE_FULL_SESSION", "XDG_SESSION_TYPE", "XDG_SESSION_ID",
    "SESSION_MANAGER", "DBUS_SESSION_BUS_ADDRESS", "SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY", "SSH_ASKPASS", "COMPASS",
    "BYPASS_CACHE", "NO_BYPASS", "OLDPWD", "KEYBOARD", "PASSES", "TOKENIZERS_PARALLELISM", "CLAUDE_CONFIG_DIR",
)  # fmt: skip
URLS = {
    "DATABASE_URL": "postgres://me:pw@db.example.org/data",
    "CACHE": "redis://:a-password@cache.example.org",
    "GIT_REMOTE": "https://ghp_0123456789abcdefghij@github.com/me/data.git",
    "SENTRY": "https://0123456789abcdef0123456789abcdef@errors.example.org/7",
    "INDEX": "https://one.example.org https://me:pw@two.example.org/simple",
}


def test_secrets_are_known_by_their_names_and_addresses_by_their_passwords(
    tool: FakeTool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*SECRET_NAMES, *HARMLESS_NAMES):
        monkeypatch.setenv(name, f"value of {name}")
    proxy, plain = "http://me:pw-of-proxy@proxy.example.org:8080", "https://example.org:443/a@b"
    remote = "ssh://git@github.com/me/data.git git+ssh://git@example.org/data https://example.org?mail=me@example.org"
    monkeypatch.setenv("SSH_REMOTE", remote)
    monkeypatch.setenv("OWN_URL", "https://model@example.org/data")
    for name, value in (URLS | {"https_proxy": proxy, "HTTP_PROXY": proxy, "PLAIN_URL": plain}).items():
        monkeypatch.setenv(name, value)
    asked = chat(tool)
    for keep in ((), ("CLAUDE*",)):
        asked.tool = replace(asked.tool, keep=keep)
        environment = asked.environment(tmp_path)
        assert not {*SECRET_NAMES, *URLS} & environment.keys() and not {*HARMLESS_NAMES} - environment.keys()
        assert environment["SSH_REMOTE"] == remote and "OWN_URL" not in environment
        assert (environment["https_proxy"], environment["HTTP_PROXY"], environment["PLAIN_URL"]) == (
            proxy,
            proxy,
            plain,
        )
    assert redact(f"{proxy}; me:pw-of-proxy; {plain}") == f"[key]; [key]; {plain}"
    assert redact("the model; ghp_0123456789abcdefghij") == "the model; [key]"
    assert all(redact(f"({value})") == "([key])" for value in URLS.values())


def test_a_tool_gets_the_key_that_its_preset_keeps_although_the_supervisor_took_it(
    tool: FakeTool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_taken", None)
    monkeypatch.setenv("OPENAI_API_KEY", SECRET + "-openai")
    server.take_key()
    for keep, expected in (((), None), (("OPENAI_API_KEY",), SECRET + "-openai")):
        asked = chat(tool, GOOD)
        asked.tool = asked.tool.__class__(**vars(asked.tool) | {"keep": keep})
        asked.ask(ASKED, 1000)
        assert tool.environments[-1].get("OPENAI_API_KEY") == expected


def test_a_whole_reply_of_a_tool_that_does_not_end_is_used(tool: FakeTool) -> None:
    asked = chat(tool, step("deaf", GOOD), limit_seconds=3.0)
    said: list[str] = []
    asked.on_wait = said.append
    assert asked.ask(ASKED, 1000).text == GOOD.strip() and tool.num_starts == 1
    assert said == ["fake-agent did not end after a whole reply, which is used."]


def test_a_question_that_is_given_up_ends_its_tool(tool: FakeTool) -> None:
    asked, begun = chat(tool, step("hang"), limit_seconds=60.0), time.monotonic()

    def give_up(words: str) -> None:
        raise AgentUnavailable("the supervisor no longer waits for it")

    asked.tool = asked.tool.__class__(**vars(asked.tool) | {"output": "json"})
    asked.on_words = give_up
    with pytest.raises(AgentUnavailable):
        asked.ask(ASKED, 1000)
    assert time.monotonic() - begun < 30


def test_a_repair_is_one_text_with_all_that_was_said() -> None:
    text = as_text([
        {"role": "user", "content": "The prompt."},
        {"role": "assistant", "content": "My edit."},
        {"role": "user", "content": "It does not apply."},
    ])  # fmt: skip
    places = [text.index(words) for words in ("The prompt.", "# Your reply", "My edit.", "# The answer", "not apply.")]
    assert places == sorted(places) and text.endswith("in the form above.\n")
    assert as_text(ASKED) == "What next?"


# --- before anything trains


def test_the_check_asks_one_short_question(tool: FakeTool) -> None:
    found = check_tool(chat(tool, "OK"))
    assert found.cause is None and "fake-agent answers (about " in found.words and "your usage limits" in found.words
    assert tool.num_starts == 1 and len(tool.prompts[0]) < 60


@pytest.mark.parametrize(
    ("behaviour", "refuses", "words"),
    [
        (step("say", "Not logged in", 1), True, "You are not signed in to fake-agent"),
        (step("error", "no such option: --x", 2), True, "exit status 2"),
        (step("say", "Usage limit reached, resets in 2h"), False, "usage limit of your account"),
    ],
)
def test_the_check_refuses_what_a_user_has_to_change(
    tool: FakeTool, behaviour: dict[str, Any], refuses: bool, words: str
) -> None:
    found = check_tool(chat(tool, behaviour))
    assert found.refuses is refuses and words in found.words


def test_the_check_does_not_advise_a_limit_that_it_does_not_read(
    tool: FakeTool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_check, "ANSWER_SECONDS", 1.0)
    asked = chat(tool, step("hang"))
    found = check_tool(asked)
    assert found.cause is ServerCause.SLOW and asked.limit_seconds == 30.0
    assert "to one short question in 1 s" in found.words and "limit_seconds" not in found.words


def test_a_tool_that_is_not_there_is_said_with_the_presets(tmp_path: Path) -> None:
    found = check_tool(CommandChat(find_tool("no-such-agent --quiet", PROJECT), project=PROJECT))
    assert found.refuses and "no program 'no-such-agent'" in found.words and "claude, codex" in found.words


def test_a_flag_that_the_tool_does_not_know_is_said_with_the_line_to_change(tool: FakeTool, tmp_path: Path) -> None:
    project = tmp_path / "project"
    (project / "presets").mkdir(parents=True)
    described = project / "presets" / "agents.yaml"
    described.write_text(
        f"# Mine\nmine:\n  command: {tool.line}\n  help: [--help]\n  arguments: [--json,\n    --no-tools]\n"
    )
    asked = CommandChat(find_tool("mine", project), project=project)
    tool.play(["Options:\n  --json  one object\n  --no-tools-at-all\n"])
    assert missing_flags(asked) == ["--no-tools"]
    found = check_tool(asked)
    assert found.refuses and f"the flag --no-tools, says its `{tool.line} --help`" in found.words
    assert f"Change {described}, line 6" in found.words
    tool.play(["  --json, --no-tools\n"])
    assert not missing_flags(asked)


# --- which tool


def test_a_name_is_a_preset_and_all_else_a_command_line() -> None:
    assert find_tool("claude", PROJECT).title == "Claude Code"
    own = find_tool("my-agent --say 'a b'", PROJECT)
    assert (own.name, own.command, own.arguments, own.output) == ("my-agent", "my-agent", ("--say", "a b"), "text")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "a command line"),
        ("agent 'open", "Close its quotes"),
        ("agent | tail -1", "only a shell"),
        ("agent --key sk-abcdef0123456789", "looks like a key"),
    ],
)
def test_a_command_line_that_cannot_work_is_refused(line: str, words: str) -> None:
    with pytest.raises(ToolError, match=words):
        find_tool(line, PROJECT)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("mine: {}", "mine needs a field `command`"),
        ("mine: {command: x, argument: []}", "a field 'argument'"),
        ("mine: {command: x, arguments: -p}", "has to be a list"),
        ("mine: {command: x, arguments: [-n, no]}", "False is no text; put it in quotes"),
        ("mine: {command: x, arguments: [--system, {instructions}]}", "{'instructions': None} is no text"),
        ("mine: {command: x, reply: {at: 5}}", "`at` and `status` have to be text"),
        ("mine: {command: x, output: xml}", "output is 'xml'"),
        ("mine: {command: x, limit_seconds: 0}", "a number above 0"),
        ("mine: {command: x, limit_words: ['(']}", "no regular expression"),
        ("mine: {command: x, files: {../x: y}}", "lies outside of the working folder"),
        ("- mine", "It needs entries"),
        ("mine: [", "cannot be read"),
    ],
)
def test_a_wrong_entry_is_said_with_the_file_and_the_field(tmp_path: Path, entry: str, words: str) -> None:
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets" / "agents.yaml").write_text(entry)
    with pytest.raises(ToolError) as caught:
        find_tool("mine", tmp_path)
    assert words in str(caught.value) and "agents.yaml" in str(caught.value)


def test_a_project_without_the_file_knows_the_tools_of_this_program(tmp_path: Path) -> None:
    tools = read_tools(tmp_path)
    assert list(tools)[:4] == ["claude", "codex", "gemini", "opencode"]
    forbidden = ("--bare", "--yolo", "dangerous", "bypass", "--allow-all", "--auto", "api-key")
    for tool in tools.values():
        assert not [word for word in tool.arguments if any(each in word for each in forbidden)]
        assert tool.sign_in and not any(key.startswith(("OPENAI", "AUTORESEARCH")) for key in tool.keep)


def test_files_of_the_project_are_named_by_their_whole_path(tmp_path: Path) -> None:
    (tmp_path / "agent.py").write_text("")
    asked = CommandChat(find_tool("python agent.py --fast", tmp_path), project=tmp_path)
    assert asked.arguments(tmp_path) == [str(tmp_path / "agent.py"), "--fast"]
    long = "You are patient. " * 40
    asked = CommandChat(find_tool(f"python agent.py --system '{long}'", tmp_path), project=tmp_path)
    assert asked.arguments(tmp_path)[-1] == long


def test_a_model_takes_its_place_in_a_command_line_or_is_refused(tool: FakeTool, tmp_path: Path) -> None:
    asked = CommandChat(find_tool("python agent.py --model {model} -v", tmp_path), "gpt-9")
    assert asked.arguments(tmp_path) == ["agent.py", "--model", "gpt-9", "-v"]
    options = {"with": "python agent.py", "model": "gpt-9"}
    with pytest.raises(
        StudyError, match=r"no place for --model gpt-9: .* `--with \"python agent.py --model {model}\"`"
    ):
        tool_chat(tmp_path, options, None)
    recorded = tool_chat(tmp_path, options, None, is_recorded=True)  # of a study of an earlier version
    assert (recorded.model, recorded.asked_model, recorded.who) == ("gpt-9", None, "python")
    preset = replace(find_tool("claude", tmp_path), model=())
    assert "Claude Code is told no model: leave --model gpt-9 out" in no_place_for("gpt-9", preset)
    assert CommandChat(preset).asked_model is None
    unnamed = check_tool(CommandChat(find_tool(f"{tool.line} {{model}}", tmp_path)))
    assert unnamed.refuses and "needs --model NAME, which takes the place of {model}" in unnamed.words


def test_versions_are_found_in_what_tools_print() -> None:
    printed = (
        "2.1.197 (Claude Code)",
        "WARNING: x\ncodex-cli-exec 0.171.0",
        "0.61.0",
        "GitHub Copilot CLI 1.0.102.\nRun",
    )
    assert [version_in(text) for text in printed] == ["2.1.197", "0.171.0", "0.61.0", "1.0.102"]
    assert version_in("no number") == ""


def test_the_reply_is_a_reply_of_the_protocol(tool: FakeTool) -> None:
    answer = chat(tool, GOOD).ask_once("?")
    assert isinstance(answer, Reply) and answer.finish == "stop" and not answer.is_cut
