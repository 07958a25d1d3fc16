"""The real Claude Code, Codex, Gemini CLI and opencode, each in a fresh home, against its own server on loopback.

A tool that is not on PATH is skipped by name. `.ci/agent-tools/install` installs all four where there is npm and prints
the folder to add to PATH; they need about a gigabyte and no account.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from autoresearch_kernel.agents.causes import ServerCause
from autoresearch_kernel.agents.command import CommandChat
from autoresearch_kernel.agents.command_check import missing_flags
from autoresearch_kernel.agents.failures import Failure
from autoresearch_kernel.agents.model import Reply
from autoresearch_kernel.agents.tools import Tool, read_tools
from tests.conftest import PROJECT
from tests.nights import PROGRAM
from tests.tool_server import ToolServer

REPLY = (
    "HYPOTHESIS: Less smoothing helps.\nEXPECTED: 0.01 lower.\nREFUTED BY: a rise.\n\n"
    "<<<<<<< SEARCH\nALPHA = 1.0\n=======\nALPHA = 0.1\n>>>>>>> REPLACE\n"
)
MODELS = {"claude": "claude-sonnet-4-5", "codex": "gpt-5", "gemini": "gemini-2.5-pro", "opencode": "stub/stub"}
NO_TOOLS = {"claude": set(), "codex": {"request_user_input"}, "gemini": set(), "opencode": set()}
KEY = "canary-5be20c8871aa"
LIMIT_SECONDS = 90.0
HANGS_AT_A_LIMIT = ("opencode",)  # its retries have no end, so it is ended at its deadline


def test_the_documented_versions_are_those_that_are_installed_for_the_tests() -> None:
    pinned = json.loads((PROJECT / ".ci" / "agent-tools" / "package.json").read_text())["dependencies"]
    documented = (PROJECT / "docs" / "agents.md").read_text(encoding="utf-8")
    assert all(version in documented for version in pinned.values()) and len(pinned) == len(MODELS)


@pytest.fixture
def server() -> Iterator[ToolServer]:
    with ToolServer(REPLY) as running:
        yield running


def tool_at(name: str, server: ToolServer, home: Path, monkeypatch: pytest.MonkeyPatch) -> Tool:
    """The preset, with its server at the given address and a sign-in by a key."""
    tool = read_tools(PROJECT)[name]
    if shutil.which(tool.command) is None:
        pytest.skip(f"{tool.title} is not installed: there is no {tool.command} on PATH")
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for variable in ("ANTHROPIC_API_KEY", "GEMINI_API_KEY", "CODEX_STUB_KEY"):
        monkeypatch.setenv(variable, KEY)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", server.url)
    (home / ".gemini").mkdir()
    (home / ".gemini" / "settings.json").write_text('{"security": {"auth": {"selectedType": "gemini-api-key"}}}')
    if name == "codex":
        facts = {"name": '"stub"', "base_url": f'"{server.url}/v1"', "env_key": '"CODEX_STUB_KEY"', "wire_api":
                 '"responses"', "request_max_retries": "0", "stream_max_retries": "0"}  # fmt: skip
        given = [word for key, value in facts.items() for word in ("-c", f"model_providers.stub.{key}={value}")]
        return replace(tool, arguments=(*tool.arguments[:-1], "-c", 'model_provider="stub"', *given, "-"))
    if name == "opencode":
        config = json.loads(tool.environment["OPENCODE_CONFIG_CONTENT"])
        options = {"baseURL": f"{server.url}/v1", "apiKey": KEY}
        provider = {"npm": "@ai-sdk/openai-compatible", "name": "stub", "options": options, "models": {"stub": {}}}
        config["provider"] = {"stub": provider}
        return replace(tool, environment={**tool.environment, "OPENCODE_CONFIG_CONTENT": json.dumps(config)})
    return tool


def chat(tool: Tool) -> CommandChat:
    asked = CommandChat(tool, MODELS[tool.name], project=PROJECT)
    asked.limit_seconds = LIMIT_SECONDS
    return asked


def tools_offered(server: ToolServer) -> set[str]:
    """Names of the tools that the model may call, over all requests."""
    found = set()
    for _, body in server.posts:
        for tool in body.get("tools") or []:
            for each in tool.get("functionDeclarations", [tool]):
                found.add(each.get("name") or (each.get("function") or {}).get("name") or str(sorted(each)))
    return found


@pytest.mark.parametrize("name", MODELS)
def test_a_real_tool_proposes_with_its_tools_switched_off(
    name: str, server: ToolServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = chat(tool_at(name, server, tmp_path / "home", monkeypatch))
    assert missing_flags(asked) == [] and asked.version
    reply = asked.ask([{"role": "user", "content": PROGRAM + "\nWhat next?"}], 1000)
    assert reply.answer == REPLY.strip()
    assert not reply.call.estimated and (reply.call.tokens_in, reply.call.tokens_out) == (1234, 55)
    assert tools_offered(server) <= NO_TOOLS[name]
    sent = [json.dumps(body) for _, body in server.posts]
    assert sum(json.dumps(PROGRAM)[1:-1][:2000] in body for body in sent) == 1  # the prompt is sent once


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("trouble", "cause"), [("401", ServerCause.KEY), ("429", ServerCause.RATE), ("too long", ServerCause.CONTEXT)]
)
def test_trouble_of_a_real_tool_is_understood(
    name: str, trouble: str, cause: ServerCause, server: ToolServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = chat(tool_at(name, server, tmp_path / "home", monkeypatch))
    server.trouble = trouble
    if trouble == "429" and name in HANGS_AT_A_LIMIT:
        asked.limit_seconds = 30.0
    failure = asked.ask_once("What next?")
    assert isinstance(failure, Failure), failure
    assert failure.cause is cause and KEY not in failure.why
    if cause is ServerCause.RATE:
        assert failure.retry_after is not None and failure.retry_after >= 1800


def test_a_tool_that_is_not_signed_in_says_how(
    server: ToolServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = chat(tool_at("claude", server, tmp_path / "home", monkeypatch))
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    failure = asked.ask_once("What next?")
    assert isinstance(failure, Failure) and failure.cause is ServerCause.KEY and not server.posts
    assert "Run `claude` in a terminal and type /login." in asked.failure_words(failure)


@pytest.mark.parametrize("is_switched_off", [True, False], ids=["preset", "without the preset's --settings"])
def test_a_user_s_verbose_setting_loses_no_reply(
    is_switched_off: bool, server: ToolServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tool_at("claude", server, tmp_path / "home", monkeypatch)
    (tmp_path / "home" / ".claude.json").write_text('{"verbose": true}')
    if not is_switched_off:
        at = tool.arguments.index("--settings")
        tool = replace(tool, arguments=(*tool.arguments[:at], *tool.arguments[at + 2 :]))
    reply = chat(tool).ask_once("What next?")
    assert isinstance(reply, Reply) and reply.answer == REPLY.strip()
    assert (reply.call.tokens_in, reply.call.tokens_out, reply.call.estimated) == (1234, 55, False)
