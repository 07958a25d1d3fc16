"""Which agent a study has, made from its study.json: the words of the command line become objects here."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.agent import Agent
from ..core.types import Proposal
from ..record.history import read_state
from ..record.study import Study, StudyError, open_study

if TYPE_CHECKING:
    from .chat import Chat
    from .llm import LLMAgent

AGENTS = ("search", "llm", "hybrid", "replay", "human")
WITH_MODEL = ("llm", "hybrid")
NO_READERS = {  # agents to which a hint says nothing, and why
    "search": "The embedded optimiser does not read hints; a language model does (agent llm or hybrid).",
    "replay": "A replay repeats recorded proposals and does not read hints.",
    "human": "You are the agent of this study: no other agent could read a hint.",
}
OF_MODELS = ("model", "share", "prompt_tokens", "max_tokens", "max_cost")  # options that mean nothing without one
PRICES = "presets/prices.yaml"  # of models, for people to edit
DEFAULT_SERVER = "api.openai.com"  # when OPENAI_BASE_URL names no other
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
    max_tokens: int | None = None
    max_cost: float | None = None


def agent_options(name: str, asked: AgentOptions, environment: dict[str, str] | Any) -> dict[str, Any]:
    """What study.json keeps of an agent. Raises StudyError for what does not go together, before anything is built."""
    refuse_unused(name, asked)
    if name in WITH_MODEL:
        model = asked.model or environment.get("OPENAI_MODEL")
        if not model:
            raise StudyError(f"--agent {name} needs --model NAME: the name by which its server knows it.")
        options: dict[str, Any] = {"model": model, "prompt_tokens": asked.prompt_tokens or DEFAULT_PROMPT_TOKENS}
        return options | ({"share": asked.share or DEFAULT_SHARE} if name == "hybrid" else {})
    if name == "replay" and asked.recording is None:
        raise StudyError("--agent replay needs --from STUDY: the study whose proposals are made once more.")
    return {"from": asked.recording} if asked.recording else {}


def refuse_unused(name: str, asked: AgentOptions) -> None:
    """Raises StudyError for an option that the agent `name` would ignore."""
    given = [f"--{option.replace('_', '-')}" for option in OF_MODELS if getattr(asked, option) is not None]
    if given and name not in WITH_MODEL:
        verb, them = ("is", "it") if len(given) == 1 else ("are", "them")
        raise StudyError(
            f"{' and '.join(given)} {verb} for --agent llm or hybrid, not for {name}. Leave {them} out, or choose "
            "another agent for a new study."
        )
    if asked.share is not None and name != "hybrid":
        raise StudyError(f"--share is for --agent hybrid, not for {name}. Leave it out.")
    if asked.recording is not None and name != "replay":
        raise StudyError(f"--from STUDY is for --agent replay, not for {name}. Leave it out.")


def make_agent(study: Study, asked: AgentOptions | None = None) -> Agent:
    """The agent of a study; `asked` may name another model or another size of prompt than the study began with.

    Raises StudyError as `model_chat` does, and when what it replays is gone.
    """
    asked = asked or AgentOptions()
    name, facts = study.agent, dict(study.facts.get("agent_options") or {})
    facts |= {k: v for k, v in (("model", asked.model), ("prompt_tokens", asked.prompt_tokens)) if v is not None}
    if name == "replay":
        from .replay import ReplayAgent

        return ReplayAgent(read_recording(str(facts["from"]), study.project), str(facts["from"]))
    if name == "human":
        from .replay import HumanAgent

        return HumanAgent()
    from .search import SearchAgent

    search = SearchAgent(seed=study.seed)
    if name not in WITH_MODEL:
        return search
    llm = _llm(study.project, facts, asked.max_cost)
    if name == "llm":
        return llm
    from .llm import HybridAgent

    return HybridAgent(llm, search, float(facts["share"]))


def _llm(project: Path, facts: dict[str, Any], max_cost: float | None) -> LLMAgent:
    from .llm import LLMAgent

    chat = model_chat(project, facts, max_cost)
    return LLMAgent(
        chat,
        prices_file=project / PRICES,
        prompt_tokens=int(facts["prompt_tokens"]),
        reply_tokens=DEFAULT_REPLY_TOKENS,
    )


def model_chat(project: Path, options: dict[str, Any], max_cost: float | None) -> Chat:
    """The chat with the model that `options`, of `agent_options`, names.

    Raises StudyError when it has no key, no address or no price that a limit of cost needs, and when the study's
    prompts went to a server of one's own that nobody names any more.
    """
    from .chat import make_chat
    from .prices import read_prices

    server = options.get("server") or DEFAULT_SERVER
    if server != DEFAULT_SERVER and not os.environ.get("OPENAI_BASE_URL", "").strip():
        raise StudyError(
            f"The model of this study is at {server}, but OPENAI_BASE_URL is not set, so its prompts would go to "
            f"{DEFAULT_SERVER}. Set OPENAI_BASE_URL to the address there, or to https://{DEFAULT_SERVER}/v1 to move."
        )
    try:
        prices_file = project / PRICES
        chat = make_chat(options["model"], prices=read_prices(prices_file))
    except ValueError as error:
        raise StudyError(str(error)) from error
    if max_cost is not None and chat.prices.cost(chat.model, 1, 1) is None:
        raise StudyError(
            f"{prices_file} does not state the price of {chat.model!r}, so the limit of ${max_cost:.2f} cannot be "
            "kept. Add it."
        )
    return chat


def chat_of(agent: Agent) -> Chat | None:
    """The chat of an agent that asks a model, at least now and then."""
    chat: Chat | None = getattr(getattr(agent, "llm", agent), "chat", None)
    return chat


def read_recording(name: str, project: Path) -> list[Proposal]:
    """The proposals of another study, in their order, the baseline left out. Raises StudyError when one is gone."""
    recorded = open_study(name, project)
    proposals = []
    for experiment in read_state(recorded.paths.history).experiments[1:]:
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
