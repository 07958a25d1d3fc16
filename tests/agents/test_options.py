"""What study.json names becomes an agent, or one plain error before anything is asked of a model."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from autoresearch_kernel.agents.llm import HybridAgent, LLMAgent
from autoresearch_kernel.agents.options import chat_of, make_agent, read_recording
from autoresearch_kernel.agents.replay import HumanAgent, ReplayAgent
from autoresearch_kernel.agents.search import SearchAgent
from autoresearch_kernel.control import supervisor
from autoresearch_kernel.record.study import Study, StudyError
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
    assert make_agent(study, max_cost=1.0).name == "llm"
    with pytest.raises(StudyError, match=r"prices\.yaml does not state the price of 'mine'"):
        make_agent(study, model="mine", max_cost=1.0)


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
