"""The words of the command line become an agent, or one plain error before anything is built."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autoresearch_kernel.agents.llm import HybridAgent, LLMAgent
from autoresearch_kernel.agents.options import AgentOptions, agent_options, chat_of, make_agent, read_recording
from autoresearch_kernel.agents.replay import HumanAgent, ReplayAgent
from autoresearch_kernel.agents.search import SearchAgent
from autoresearch_kernel.control import supervisor
from autoresearch_kernel.record.study import Study, StudyError
from autoresearch_kernel.study import create, presets
from autoresearch_kernel.study.create import Settings, refuse_other_settings, start_study
from tests.conftest import PROJECT, counting_study

LLM = {"model": "gpt-5-mini", "prompt_tokens": 20_000}


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL"):
        monkeypatch.delenv(name, raising=False)


def study_of(project: Path, corpus: Path, agent: str, **options: Any) -> Study:
    (project / "presets").mkdir(exist_ok=True)
    (project / "presets" / "prices.yaml").write_text((PROJECT / "presets" / "prices.yaml").read_text())
    return counting_study(project, corpus, agent=agent, agent_options=options)


@pytest.mark.parametrize(
    ("name", "asked", "words"),
    [
        ("llm", AgentOptions(), "needs --model"),
        ("hybrid", AgentOptions(), "needs --model"),
        ("search", AgentOptions(model="gpt-5"), "not for search"),
        ("human", AgentOptions(share=0.5), "not for human"),
        ("llm", AgentOptions(model="m", share=0.5), "--share is for"),
        (
            "search",
            AgentOptions(max_cost=5.0, max_tokens=9),
            "--max-tokens and --max-cost are for --agent llm or hybrid",
        ),
        ("replay", AgentOptions(recording="nov22", prompt_tokens=9), "--prompt-tokens is for .* not for replay"),
        ("llm", AgentOptions(model="m", recording="nov22"), "--from STUDY is for --agent replay, not for llm"),
        ("replay", AgentOptions(), "--from STUDY"),
        ("search", AgentOptions(recording="nov22"), "--from STUDY"),
    ],
)
def test_what_does_not_go_together_is_said(name: str, asked: AgentOptions, words: str) -> None:
    with pytest.raises(StudyError, match=words):
        agent_options(name, asked, {})


def test_what_study_json_keeps() -> None:
    assert agent_options("search", AgentOptions(), {}) == {}
    assert agent_options("llm", AgentOptions(model="m"), {}) == {"model": "m", "prompt_tokens": 32_000}
    assert agent_options("hybrid", AgentOptions(), {"OPENAI_MODEL": "m"})["share"] == 0.3
    assert agent_options("replay", AgentOptions(recording="nov22"), {}) == {"from": "nov22"}


def test_a_model_needs_a_key_or_an_address(project: Path, small_corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = study_of(project, small_corpus, "llm", **LLM)
    with pytest.raises(StudyError, match=r"OPENAI_API_KEY.*OPENAI_BASE_URL.*--agent search"):
        make_agent(study)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-0123456789")
    agent = make_agent(study)
    assert isinstance(agent, LLMAgent) and agent.chat.model == "gpt-5-mini" and agent.prompt_tokens == 20_000
    assert os.environ["OPENAI_API_KEY"] == "sk-canary-0123456789", "a user's kernel keeps its environment"


def test_a_limit_of_cost_needs_a_price(project: Path, small_corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = study_of(project, small_corpus, "llm", **LLM)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    assert make_agent(study, AgentOptions(max_cost=1.0)).name == "llm"
    with pytest.raises(StudyError, match=r"prices\.yaml does not state the price of 'mine'"):
        make_agent(study, AgentOptions(model="mine", max_cost=1.0))


@pytest.mark.parametrize(
    ("name", "options", "kind"),
    [("search", {}, SearchAgent), ("human", {}, HumanAgent), ("hybrid", LLM | {"share": 0.5}, HybridAgent)],
)
def test_each_name_has_its_agent(
    name: str, options: dict[str, Any], kind: type, project: Path, small_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    agent = make_agent(study_of(project, small_corpus, name, **options))
    assert isinstance(agent, kind) and agent.name == name


def test_a_recording_that_is_gone_is_named(project: Path, small_corpus: Path) -> None:
    study = study_of(project, small_corpus, "replay", **{"from": "nov22"})
    with pytest.raises(StudyError, match="no study 'nov22'"):
        make_agent(study)
    counting_study(project, small_corpus, "nov22")
    assert read_recording("nov22", project) == []
    assert isinstance(make_agent(study), ReplayAgent)


def test_a_study_keeps_its_share_and_its_recording(project: Path, small_corpus: Path) -> None:
    study = study_of(project, small_corpus, "hybrid", **LLM, share=0.3)
    refuse_other_settings(study, Settings(options=AgentOptions(share=0.3, model="another")))
    with pytest.raises(StudyError, match=r"--share 0\.3, not 0\.5"):
        refuse_other_settings(study, Settings(options=AgentOptions(share=0.5)))
    with pytest.raises(StudyError, match="--agent hybrid, not llm"):
        refuse_other_settings(study, Settings(agent="llm"))


def test_a_study_refuses_what_its_agent_would_ignore(project: Path, small_corpus: Path) -> None:
    study = study_of(project, small_corpus, "search")
    with pytest.raises(StudyError, match="--max-cost is for --agent llm or hybrid, not for search"):
        refuse_other_settings(study, Settings(options=AgentOptions(max_cost=5.0)))
    with pytest.raises(StudyError, match="--agent search, not llm"):
        refuse_other_settings(study, Settings(agent="llm", options=AgentOptions(model="m")))


@pytest.mark.parametrize(
    ("server", "address", "is_refused"),
    [
        ("localhost:11434", "", True),
        ("localhost:11434", "http://127.0.0.1:9/v1", False),
        ("api.openai.com", "", False),
        (None, "", False),
    ],
)
def test_the_prompts_of_a_local_study_do_not_go_to_a_service(
    server: str | None,
    address: str,
    is_refused: bool,
    project: Path,
    small_corpus: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-0123456789")
    monkeypatch.setenv("OPENAI_BASE_URL", address)
    study = study_of(project, small_corpus, "hybrid", **LLM, share=0.5, **({"server": server} if server else {}))
    if is_refused:
        with pytest.raises(StudyError, match=r"is at localhost:11434, but OPENAI_BASE_URL is not set"):
            make_agent(study)
    else:
        chat = chat_of(make_agent(study))
        assert chat is not None and chat.host == ("127.0.0.1:9" if address else "api.openai.com")


@pytest.fixture
def begin(project: Path, small_corpus: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Study]:
    """`start_study` on a machine that need not be measured, with a corpus that is there."""
    study_of(project, small_corpus, "search")  # for the table of prices
    heldout = small_corpus.parents[1] / "heldout" / small_corpus.name
    hardware = {"device": "cpu", "dtype": "float32", "device_name": "a test machine"}
    preset = presets.Preset("test", {}, "stdlib", 512, 64, "a test")
    monkeypatch.setattr(presets, "measure_machine", lambda *_: hardware)
    monkeypatch.setattr(presets, "choose_preset", lambda *_, **__: preset)
    monkeypatch.setattr(create, "_build_corpus", lambda *_: (small_corpus, heldout))
    return lambda name, **asked: start_study(name, project, Settings(**asked), say=lambda _: None)


def test_a_study_without_a_key_or_a_price_is_refused_before_anything_is_built(
    begin: Callable[..., Study], project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presets, "measure_machine", lambda *_: pytest.fail("the machine was measured"))
    with pytest.raises(StudyError, match="OPENAI_API_KEY"):
        begin("nov24", agent="llm", options=AgentOptions(model="gpt-5"))
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    with pytest.raises(StudyError, match=r"price of 'mine', so the limit of \$2\.00 cannot be kept"):
        begin("nov24", agent="hybrid", options=AgentOptions(model="mine", max_cost=2.0))
    with pytest.raises(StudyError, match="--preset is not for --agent replay"):
        begin("nov24", agent="replay", preset="laptop", options=AgentOptions(recording="nov23"))
    assert not (project / "studies" / "nov24").exists()


def test_a_study_with_a_model_keeps_its_server(begin: Callable[..., Study], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://someone:secret-word@127.0.0.1:9/v1")
    study = begin("nov24", agent="llm", options=AgentOptions(model="gpt-5", max_cost=2.0))
    assert study.facts["agent_options"]["server"] == "127.0.0.1:9"
    assert "secret-word" not in study.paths.study.read_text()


def test_a_replay_has_the_seed_of_its_recording(begin: Callable[..., Study], small_corpus: Path, project: Path) -> None:
    counting_study(project, small_corpus, "nov22", seed=7)
    recording = AgentOptions(recording="nov22")
    assert begin("nov24", agent="replay", options=recording).seed == 7
    assert begin("nov25", agent="replay", seed=0, options=recording).seed == 0
    assert begin("nov26").seed == 0


def test_the_study_in_the_background_gets_the_key_and_the_kernel_keeps_it(
    project: Path, small_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = study_of(project, small_corpus, "llm", **LLM)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-0123456789")
    said = "import os; print(os.environ['OPENAI_API_KEY'])"
    popen = subprocess.Popen
    monkeypatch.setattr(supervisor.subprocess, "Popen", lambda _, **how: popen([sys.executable, "-c", said], **how))
    supervisor.start_detached(study)
    assert study.paths.supervisor_log.read_text() == "sk-canary-0123456789\n"
    assert os.environ["OPENAI_API_KEY"] == "sk-canary-0123456789"
