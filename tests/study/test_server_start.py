"""The model's server is asked before anything trains: what refuses a start, what only delays it, and what it costs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoresearch_kernel.agents.causes import ServerCause
from autoresearch_kernel.agents.chat import Chat
from autoresearch_kernel.agents.server_check import ask_server
from autoresearch_kernel.cli import main
from autoresearch_kernel.control import actions, doctor, supervisor
from autoresearch_kernel.core.types import Call
from autoresearch_kernel.record.history import read_state
from autoresearch_kernel.record.study import Study, StudyError
from autoresearch_kernel.study.server_start import ASKED, require_server, take_asked
from autoresearch_kernel.study.steps import open_session
from tests.conftest import counting_study
from tests.llm_server import Behaviour, ScriptedServer, failing, rate_limited, reply, too_long

OPTIONS = {"model": "tiny", "prompt_tokens": 20_000}
OK = reply("OK", usage={"prompt_tokens": 9, "completion_tokens": 1}, finish="length")


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL", ASKED):
        monkeypatch.delenv(name, raising=False)
    yield
    os.environ.pop(ASKED, None)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedServer]:
    with ScriptedServer() as scripted:
        monkeypatch.setenv("OPENAI_BASE_URL", scripted.base_url)
        yield scripted


def chat(server: ScriptedServer) -> Chat:
    return Chat("tiny", base_url=server.base_url)


def check(server: ScriptedServer, *script: Behaviour, least: int = 0) -> tuple[str, ServerCause | None, bool]:
    server.script += script
    found = ask_server(chat(server), least, sleep=lambda seconds: None)
    return found.words, found.cause, found.refuses


def test_a_server_that_answers_costs_one_token_and_says_so(server: ScriptedServer) -> None:
    words, cause, refuses = check(server, OK)
    assert words == f"tiny at 127.0.0.1:{server.port} answers (9 + 1 tokens)." and (cause, refuses) == (None, False)
    [request] = server.requests
    assert request.body["max_tokens"] == 1 and len(json.dumps(request.body["messages"])) < 60


@pytest.mark.parametrize(
    ("answer", "cause", "words"),
    [
        (failing(401, "Incorrect API key provided"), ServerCause.KEY, "does not accept the key"),
        (failing(400, "API key not valid"), ServerCause.KEY, "does not accept the key"),
        (failing(402, "Insufficient Balance"), ServerCause.QUOTA, "no credit or quota"),
        (failing(404, "The model `tiny` does not exist"), ServerCause.MODEL, "It lists big-7b, small-1b."),
        (failing(404, "File Not Found"), ServerCause.NOT_CHAT, "most end in /v1"),
        (Behaviour(raw=b"<html><title>Sign in</title></html>"), ServerCause.NOT_CHAT, 'titled "Sign in"'),
        (failing(500, "model requires more system memory (21 GiB)"), ServerCause.MEMORY, "not enough memory"),
        (too_long(2048), ServerCause.CONTEXT, "2048"),
        (Behaviour(status=502, raw=b"<html><title>502 Bad Gateway</title></html>"), ServerCause.DOWN, "is up"),
    ],
)
def test_what_a_user_has_to_change_refuses_the_start(
    server: ScriptedServer, answer: Behaviour, cause: ServerCause, words: str
) -> None:
    server.pages["/v1/models"] = {"data": [{"id": "big-7b"}, {"id": "small-1b"}]}
    said, found, refuses = check(server, *[answer] * 3)
    assert (found, refuses) == (cause, True) and words in said and "tiny at 127.0.0.1" in said


def test_a_server_that_is_down_refuses_the_start() -> None:
    with ScriptedServer() as server:
        server.stop()
        found = ask_server(chat(server), sleep=lambda seconds: None)
    assert (
        found.cause is ServerCause.DOWN and found.refuses and "after 3 attempts" in found.words and found.call is None
    )


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (rate_limited("30"), ServerCause.RATE),
        (failing(529, "Overloaded"), ServerCause.OVERLOADED),
        (failing(503, "Loading model"), ServerCause.LOADING),
        (failing(500, "The server had an error"), ServerCause.SERVER),
    ],
)
def test_what_passes_does_not_refuse_the_start(server: ScriptedServer, answer: Behaviour, cause: ServerCause) -> None:
    assert check(server, *[answer] * 3)[1:] == (cause, False)


def test_a_server_that_makes_no_reply_of_one_token_is_asked_for_more(server: ScriptedServer) -> None:
    words = "Could not finish the message because max_tokens or model output limit was reached."
    assert check(server, failing(400, words), OK)[1:] == (None, False)
    assert [request.body["max_tokens"] for request in server.requests] == [1, 64]


@pytest.mark.parametrize(
    ("path", "page"),
    [
        ("/v1/models", {"data": [{"id": "other", "max_model_len": 99_999}, {"id": "tiny", "max_model_len": 4096}]}),
        ("/v1/models", {"data": [{"id": "tiny", "context_length": 4096}]}),
        ("/v1/models", [{"id": "tiny", "context_window": 4096}]),
        ("/props", {"default_generation_settings": {"n_ctx": 4096}}),
        ("/api/v0/models", {"data": [{"id": "tiny", "max_context_length": 99_999, "loaded_context_length": 4096}]}),
        ("/api/ps", {"models": [{"name": "tiny:latest", "model": "tiny:latest", "context_length": 4096}]}),
        ("/info", {"max_total_tokens": 4096}),
    ],
)
def test_a_context_that_is_too_short_is_said_where_a_server_states_it(
    server: ScriptedServer, path: str, page: object
) -> None:
    server.pages[path] = page
    words, cause, refuses = check(server, OK, least=9_000)
    assert (cause, refuses) == (ServerCause.CONTEXT, True)
    assert "has 4,096 tokens, and this study needs at least 9,000" in words and "OLLAMA_CONTEXT_LENGTH" in words
    words, cause, _ = check(server, OK, least=4_000)
    assert cause is None and words.endswith("its context has 4,096 tokens.")


# --- the start of a study


@pytest.fixture
def study(project: Path, small_corpus: Path) -> Study:
    return counting_study(project, small_corpus, agent="llm", agent_options=OPTIONS)


def test_a_study_that_continues_asks_first_and_starts_nothing_when_it_is_refused(
    server: ScriptedServer, study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    server.script += [failing(401, "Incorrect API key provided")] * 2
    for words in (["run"], ["run", "--detach"]):
        assert main([*words, "--name", "nov23"]) == 1
        said = capsys.readouterr()
        assert "does not accept the key" in said.err and "Nothing was started" in said.err
        assert "Traceback" not in said.err and "What runs" not in said.out
    assert not study.paths.history.exists() and len(server.requests) == 2


def test_the_panel_asks_before_it_continues_a_study(server: ScriptedServer, study: Study) -> None:
    server.script += [failing(404, "The model `tiny` does not exist")]
    with pytest.raises(StudyError, match="no such model"):
        actions.go_on(study, {})


def test_an_agent_without_a_server_is_not_asked(
    project: Path, small_corpus: Path, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting_study(project, small_corpus, agent="search")
    monkeypatch.setattr("autoresearch_kernel.control.foreground._detach", lambda *_: None)
    assert main(["run", "--name", "nov23", "--detach"]) == 0
    assert not server.requests


def test_the_question_is_on_the_bill_once_and_the_supervisor_does_not_ask_again(
    server: ScriptedServer, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    server.script += [OK, OK]
    require_server(study.name, chat(server), study.project, said.append)
    require_server(study.name, chat(server), study.project, said.append)  # as the supervisor does
    assert len(server.requests) == len(said) == 1
    monkeypatch.setattr("autoresearch_kernel.study.server_start.FRESH_SECONDS", 0.0)  # the corpus took long
    require_server(study.name, chat(server), study.project, said.append)
    with open_session(study) as session:
        assert (session.state.spent.calls, session.state.spent.tokens) == (2, 20)
    with open_session(study) as session:
        assert session.state.spent.calls == 2
    assert read_state(study.paths.history).spent.tokens == 20 and ASKED not in os.environ


def test_what_passes_is_said_and_the_study_starts(server: ScriptedServer, study: Study) -> None:
    said: list[str] = []
    server.script.append(rate_limited("30"))
    require_server(study.name, chat(server), study.project, said.append)
    assert "It asks to wait 30 s" in said[0] and said[0].endswith("The study starts all the same and asks again.")
    assert take_asked("another") == take_asked(study.name) == []


def test_the_supervisor_in_the_background_hears_that_the_server_was_asked(
    server: ScriptedServer, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[dict[str, str]] = []

    def popen(words: list[str], **how: dict[str, str]) -> object:
        heard.append(how["env"])
        raise OSError("enough was heard")

    server.script.append(OK)
    require_server(study.name, chat(server), study.project, lambda words: None)
    monkeypatch.setattr(supervisor.subprocess, "Popen", popen)
    with pytest.raises(OSError, match="enough"):
        supervisor.start_detached(study)
    [call] = json.loads(heard[0][ASKED])["calls"]
    assert Call(**call).tokens_in == 9


# --- the doctor


def test_the_doctor_asks_the_server(server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.pages["/v1/models"] = {"data": [{"id": "tiny"}]}
    project = tmp_path / "project"
    [unnamed] = doctor.model_server(project)
    assert unnamed.verdict == "warn" and "it lists tiny" in unnamed.found and "OPENAI_MODEL" in unnamed.remedy
    monkeypatch.setenv("OPENAI_MODEL", "tiny")
    server.script += [OK, failing(401, "Incorrect API key provided"), rate_limited("30")]
    checks = [check for _ in range(3) for check in doctor.model_server(project)]
    assert [check.verdict for check in checks] == ["ok", "fail", "warn"]
    assert "answers (9 + 1 tokens)" in checks[0].found and "does not accept the key" in checks[1].found


def test_the_doctor_refuses_a_context_that_run_refuses(server: ScriptedServer, project: Path) -> None:
    server.pages["/v1/models"] = {"data": [{"id": "other"}, {"id": "tiny", "max_model_len": 2048}]}
    server.script.append(OK)
    [check] = doctor.model_server(project, "tiny")
    assert check.verdict == "fail" and "has 2,048 tokens, and this study needs at least" in check.found


def test_the_doctor_asks_nothing_where_no_server_is_set(tmp_path: Path) -> None:
    assert list(doctor.model_server(tmp_path)) == []
