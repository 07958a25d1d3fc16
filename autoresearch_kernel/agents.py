"""Which agent a study has, made from its study.json: the words of the command line become objects here."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .propose.agent import Agent
from .record.experiment import Proposal
from .record.history import read_events
from .record.state import replay
from .record.study import Study, StudyError, open_study

AGENTS = ("search", "llm", "hybrid", "replay", "human")
WITH_MODEL = ("llm", "hybrid")
WORDS = ("hypothesis", "expected", "refutation", "notes")  # of a proposal, in the agent's language
DEFAULT_SHARE = 0.3  # of a hybrid's experiments that its model proposes
DEFAULT_PROMPT_TOKENS, DEFAULT_REPLY_TOKENS = 32_000, 16_000


@dataclass(frozen=True)
class AgentOptions:
    """What a person said about the agent; None for what the study has."""

    model: str | None = None
    share: float | None = None
    prompt_tokens: int | None = None
    recording: str | None = None  # name of the study to replay
    max_cost: float | None = None


def agent_options(name: str, asked: AgentOptions, environment: dict[str, str] | Any) -> dict[str, Any]:
    """What study.json keeps of an agent. Raises StudyError for what does not go together, before anything is built."""
    if asked.share and name != "hybrid" and name in WITH_MODEL:
        raise StudyError(f"--share is for --agent hybrid, not for {name}.")
    if name in WITH_MODEL:
        model = asked.model or environment.get("OPENAI_MODEL")
        if not model:
            raise StudyError(f"--agent {name} needs --model NAME: the name by which its server knows it.")
        options: dict[str, Any] = {"model": model, "prompt_tokens": asked.prompt_tokens or DEFAULT_PROMPT_TOKENS}
        return options | ({"share": asked.share or DEFAULT_SHARE} if name == "hybrid" else {})
    if asked.model or asked.share or asked.prompt_tokens:
        raise StudyError(f"--model, --share and --prompt-tokens are for --agent llm and hybrid, not for {name}.")
    if (name == "replay") != (asked.recording is not None):
        raise StudyError("--agent replay and --from STUDY go together: the study whose proposals are made once more.")
    return {"from": asked.recording} if asked.recording else {}


def make_agent(study: Study, asked: AgentOptions | None = None) -> Agent:
    """The agent of a study; `asked` may name another model or another size of prompt than the study began with.

    Raises StudyError when its model has no key, no address or no price that a limit of cost needs.
    """
    asked = asked or AgentOptions()
    name, facts = study.agent, dict(study.facts.get("agent_options") or {})
    facts |= {k: v for k, v in (("model", asked.model), ("prompt_tokens", asked.prompt_tokens)) if v is not None}
    if name == "replay":
        from .propose.replay import ReplayAgent

        return ReplayAgent(read_recording(str(facts["from"]), study.project), str(facts["from"]))
    if name == "human":
        from .propose.replay import HumanAgent

        return HumanAgent()
    from .propose.search import SearchAgent

    search = SearchAgent(seed=study.seed)
    if name not in WITH_MODEL:
        return search
    llm = _llm(study.project, facts, asked.max_cost)
    if name == "llm":
        return llm
    from .propose.researcher import HybridAgent

    return HybridAgent(llm, search, float(facts["share"]))


def _llm(project: Path, facts: dict[str, Any], max_cost: float | None) -> Any:
    from .propose.llm import make_chat, read_prices
    from .propose.researcher import LLMAgent

    try:
        prices_file = project / "presets" / "prices.yaml"
        chat = make_chat(facts["model"], prices=read_prices(prices_file))
    except ValueError as error:
        raise StudyError(str(error)) from error
    if max_cost is not None and chat.prices.cost(chat.model, 1, 1) is None:
        raise StudyError(
            f"{prices_file} does not state the price of {chat.model!r}, so --max-cost cannot be kept. Add it."
        )
    return LLMAgent(chat, prompt_tokens=int(facts["prompt_tokens"]), reply_tokens=DEFAULT_REPLY_TOKENS)


def read_recording(name: str, project: Path) -> list[Proposal]:
    """The proposals of another study, in their order, the baseline left out. Raises StudyError when one is gone."""
    recorded = open_study(name, project)
    events = read_events(recorded.paths.history) if recorded.paths.history.exists() else []
    proposals = []
    for experiment in replay(events).experiments[1:]:
        path = recorded.experiment(experiment.number).proposal
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
            words: dict[str, Any] = {
                key: facts.get(key) or "" for key in ("hypothesis", "expected", "refutation", "notes")
            }
            proposal = Proposal(train_source=facts["train_source"], agent=facts["agent"], **words)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StudyError(f"{path} cannot be replayed ({error}). Restore it, or replay another study.") from error
        proposals.append(replace(proposal, details={"number": experiment.number}))
    return proposals
