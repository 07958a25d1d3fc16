"""The words of the command line become an agent, or one plain error before anything is built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from autoresearch_kernel.agents import AgentOptions, agent_options, make_agent, read_recording
from autoresearch_kernel.propose import llm
from autoresearch_kernel.propose.replay import HumanAgent, ReplayAgent
from autoresearch_kernel.propose.researcher import HybridAgent, LLMAgent
from autoresearch_kernel.propose.search import SearchAgent
from autoresearch_kernel.record.study import Study, StudyError
from autoresearch_kernel.start import Settings, refuse_other_settings

from .conftest import PROJECT, counting_study

LLM = {"model": "gpt-5-mini", "prompt_tokens": 20_000}


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llm, "_key", None)
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
    import os

    assert "OPENAI_API_KEY" not in os.environ  # no child inherits it


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
