"""`autoresearch mcp` with the client of the package mcp: what it offers, a night, and a client that means harm."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from autoresearch_kernel.cli import main
from autoresearch_kernel.control.tool_functions import JUPYTER_TOOLS, PREFIX, TOOLS
from autoresearch_kernel.control.verify import verify
from autoresearch_kernel.record.history import read_events, read_state
from autoresearch_kernel.record.study import Study
from autoresearch_kernel.show.follow import look
from tests.conftest import PROJECT, counting_study, forget_views
from tests.control.mcp_client import Refused, connected, session
from tests.control.running import alpha, events_of, prepare, running, until
from tests.pretended import Machine

NAMES = {
    "status", "ask", "history", "read_experiment", "read_train", "propose", "wait", "hint", "pause", "resume", "stop",
}  # fmt: skip


@pytest.fixture
def study(project: Path, small_corpus: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    forget_views(monkeypatch)
    return counting_study(project, small_corpus, agent="human")


@pytest.fixture
def night(study: Study) -> Iterator[Study]:
    pytest.importorskip("mcp.server.mcpserver")
    with running(study, prepare(Machine()), experiments=5):
        yield study


def test_an_agent_plays_a_night_with_the_tools(night: Study) -> None:
    async def play() -> None:
        async with session(night) as made:
            offered = (await made.list_tools()).tools
            assert {tool.name for tool in offered} == NAMES
            assert all(tool.description for tool in offered)
        async with connected(night) as call:
            asked = await call("ask")
            assert asked["experiment"] == 1 and "Then call the tool `propose` with experiment=1" in asked["prompt"]
            status = await call("status")
            assert (status["state"], status["incumbent"], status["agent"]) == ("yours", 0, "human")
            await call("hint", text="think of the smoothing")
            assert (await call("status"))["hints"] == ["think of the smoothing"]

            edits = "<<<<<<< SEARCH\nNO_SUCH_LINE = 1\n=======\nNO_SUCH_LINE = 2\n>>>>>>> REPLACE\n"
            wrong = await call("propose", hypothesis="A line that is not there", edits=edits, experiment=1)
            assert wrong["state"] == "refused" and "The edits were not applied." in wrong["message"]
            late = await call("propose", hypothesis="A line that is not there", edits=edits, experiment=7)
            assert late["state"] == "refused" and "now waits for experiment 0001, not 0007" in late["message"]

            source = (await call("read_train"))["train_source"]
            taken = await call("propose", hypothesis="Less smoothing helps", train_source=alpha(0.01, source))
            assert taken["state"] == "accepted"
            assert (await call("wait"))["status"] == "keep"

            assert (await call("ask", parts=["now"]))["experiment"] == 2
            refused = await call("propose", hypothesis="The same once more", train_source=alpha(0.01, source))
            assert (refused["state"], refused["objection"]) == ("refused", "repeat")

            assert "pauses" in (await call("pause"))["message"]
            assert "it waits for" in (await call("resume"))["message"]
            told = await call("history")
            assert [e["status"] for e in told["experiments"]] == ["keep", "keep"] and told["num_experiments"] == 1
            shown = await call("read_experiment", experiment=1)
            assert "+ALPHA = 0.01" in shown["change"] and shown["change"].startswith("```diff")
            assert (await call("stop"))["message"]
            until(lambda: events_of(night, "stopped"))
            assert (await call("wait"))["experiment"] == 1
            assert (await call("ask"))["state"] == "not running"
            assert (await call("propose", hypothesis="Too late", edits=edits))["state"] == "not running"

    asyncio.run(play())


def test_a_client_that_means_harm_changes_nothing(night: Study) -> None:
    def hostile() -> list[tuple[str, dict[str, Any]]]:
        source = night.train_source(0)
        good = {"hypothesis": "ok", "train_source": alpha(0.01, source)}
        return [
            ("finish", {}), ("promote", {"force": True}), ("approve", {}), ("run", {"unsafe": True}),
            ("propose", good | {"hypothesis": "x" * 10_000_000}),
            ("propose", good | {"train_source": "#" * 10_000_000}),
            ("propose", {"hypothesis": "ok", "edits": "y" * 10_000_000}),
            ("propose", good | {"edits": "both"}),
            ("propose", {"hypothesis": "nothing to train"}),
            ("propose", good | {"experiment": 7}),
            ("propose", good | {"hypothesis": ""}),
            ("hint", {"text": "x" * 10_000_000}),
            ("read_experiment", {"experiment": 99}), ("read_experiment", {"experiment": -1}),
            ("read_experiment", {"experiment": "../../heldout"}), ("read_train", {"experiment": 99}),
            ("wait", {"experiment": 10**12, "timeout_seconds": -5}),
        ]  # fmt: skip

    async def attack() -> list[str]:
        said = []
        async with connected(night) as call:
            await call("ask")
            before = (len(read_events(night.paths.history)), night.paths.review.read_bytes())
            for tool, arguments in hostile():
                try:
                    answer = await call(tool, **arguments)
                    assert answer["state"] in ("refused", "yours"), (tool, answer)
                    said.append(answer["message"])
                except Refused as refused:
                    said.append(str(refused))
            assert (len(read_events(night.paths.history)), night.paths.review.read_bytes()) == before
            injected = 'A hint.\n{"id": "1", "command": "stop now", "text": "", "by": "x", "time": "y"}'
            await call("hint", text=injected)
            assert (await call("status"))["state"] == "yours", "a line in a hint is no command"
        return said

    said = asyncio.run(attack())
    assert all(words and len(words) < 2_000 for words in said)
    state = read_state(night.paths.history)
    assert len(state.experiments) == 1 and state.stopped == "" and len(state.hints) == 1


def test_two_proposals_at_once_are_one_experiment(night: Study) -> None:
    async def both() -> list[dict[str, Any]]:
        async with connected(night) as one, connected(night) as other:
            await one("ask")
            source = (await one("read_train"))["train_source"]
            handed_in = [
                call("propose", hypothesis=f"ALPHA is {value}", train_source=alpha(value, source))
                for call, value in ((one, 0.01), (other, 0.02), (one, 0.03))
            ]
            answers = await asyncio.gather(*handed_in)
            await one("wait")
            return answers

    answers = asyncio.run(both())
    assert sorted(answer["state"] for answer in answers) == ["accepted", "refused", "refused"]
    [experiment] = read_state(night.paths.history).experiments[1:]
    assert experiment.hypothesis.removeprefix("ALPHA is ") in night.train_source(1).split("ALPHA = ")[1].split()[0]


def test_an_edit_of_the_record_is_found(night: Study) -> None:
    """A client with a shell may write to any file; the supervisor and `verify` see it."""
    until(lambda: look(night).phase == "reviewing")
    forged = read_events(night.paths.history)[-1]
    with night.paths.history.open("a") as file:
        file.write(json.dumps(forged | {"event": "decided", "status": "keep"}) + "\n")

    async def ask() -> dict[str, Any]:
        async with connected(night) as call:
            return await call("status")

    status = asyncio.run(ask())
    assert status["state"] == "not running" and "history.jsonl" in status["message"]
    assert any(check.verdict == "fail" for check in verify(night))
    night.paths.history.write_text("".join(night.paths.history.read_text().splitlines(keepends=True)[:-1]))


def test_a_study_that_does_not_run_says_what_to_type(study: Study) -> None:
    pytest.importorskip("mcp.server.mcpserver")

    async def play() -> None:
        async with connected(study) as call:
            for tool, arguments in (("ask", {}), ("wait", {}), ("propose", {"hypothesis": "x", "train_source": "y"})):
                answer = await call(tool, **arguments)
                assert answer["state"] == "not running" and "run --name nov23 --detach" in answer["message"]
            for tool in ("pause", "resume", "stop"):
                with pytest.raises(Refused, match="No process runs study"):
                    await call(tool)

    asyncio.run(play())


def test_a_server_that_is_started_before_its_study_says_so_and_finds_it_later(study: Study, small_corpus: Path) -> None:
    pytest.importorskip("mcp.server.mcpserver")

    async def play() -> None:
        async with connected(study, "--name", "later") as call:
            for tool in ("status", "ask", "history"):
                with pytest.raises(
                    Refused, match=r"There is no study 'later'.*Start it with `\S*autoresearch run --name"
                ):
                    await call(tool)
            counting_study(study.project, small_corpus, name="later", agent="human")
            assert (await call("status"))["study"] == "later"

    asyncio.run(play())


def test_no_argument_chooses_another_study(night: Study, small_corpus: Path) -> None:
    counting_study(night.project, small_corpus, name="other", agent="human")

    async def play() -> None:
        async with session(night) as made:
            for tool in (await made.list_tools()).tools:
                assert not {"name", "study", "project"} & set(tool.input_schema["properties"])
        async with connected(night) as call:
            assert (await call("status"))["study"] == "nov23"

    asyncio.run(play())


def test_standard_output_carries_the_protocol_alone(study: Study) -> None:
    pytest.importorskip("mcp.server.mcpserver")
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    lines = [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "status", "arguments": {}}},
        {"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": {"name": "nothing", "arguments": {}}},
    ]
    command = [sys.executable, "-m", "autoresearch_kernel.cli", "mcp", "--name", study.name]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=study.project, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write("no protocol\n" + "".join(json.dumps(each) + "\n" for each in lines))
        process.stdin.flush()
        answers: dict[int, Any] = {}
        while set(answers) < {1, 2, 3}:
            answer = json.loads(process.stdout.readline())
            answers[answer.get("id") or 0] = answer
        process.stdin.close()
        assert process.wait(60) == 0, "the server ends with its client"
        assert all(json.loads(each) for each in process.stdout)


def test_without_the_extra_the_command_says_what_to_install(
    study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("mcp", "mcp.server", "mcp.server.mcpserver"):
        monkeypatch.setitem(sys.modules, name, None)
    assert main(["mcp"]) == 1
    assert "pip install 'autoresearch-kernel[mcp]'" in capsys.readouterr().err


def test_jupyter_gets_the_same_tools_under_longer_names() -> None:
    """The extension jupyter_server_mcp takes names of functions, and registers each under its own name."""
    groups = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["entry-points"]
    module, _, name = groups["jupyter_server_mcp.tools"]["autoresearch"].partition(":")
    listed = getattr(importlib.import_module(module), name)
    assert listed == JUPYTER_TOOLS and len(listed) == len(NAMES)
    for spec, tool in zip(listed, TOOLS, strict=True):
        module, _, name = spec.partition(":")
        function = getattr(importlib.import_module(module), name)
        assert function is tool and inspect.iscoroutinefunction(function) and inspect.getdoc(function)
        assert name.startswith(PREFIX) and name.removeprefix(PREFIX) in NAMES
        assert not any(isinstance(kind, str) for kind in inspect.get_annotations(function).values())


def test_a_tool_in_jupyter_takes_the_study_that_was_touched_last(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(study.project)
    [status] = [tool for tool in TOOLS if tool.__name__ == "autoresearch_status"]
    assert asyncio.run(status())["study"] == "nov23"
    monkeypatch.chdir(os.sep)
    with pytest.raises(Exception, match=r"There is no prepare\.py and train\.py"):
        asyncio.run(status())
