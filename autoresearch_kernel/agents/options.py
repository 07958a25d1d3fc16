"""Makes the agent that a study.json names, and checks that its model can be reached and paid for."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.agent import Agent
from ..core.types import Proposal
from ..record.history import read_state
from ..record.study import Study, StudyError, open_study
from .replay import HumanAgent, ReplayAgent
from .search import SearchAgent

if TYPE_CHECKING:
    from .chat import Chat
    from .command import CommandChat
    from .model import ModelClient

WITH_SERVER = ("llm", "hybrid")
WITH_MODEL = (*WITH_SERVER, "command")
NO_READERS = {  # agents to which a hint says nothing, and why
    "search": "The embedded optimiser does not read hints; a language model does (agent llm or hybrid).",
    "replay": "A replay repeats recorded proposals and does not read hints.",
}
PRICES = "presets/prices.yaml"  # of models, for people to edit
DEFAULT_SERVER = "api.openai.com"  # when OPENAI_BASE_URL names no other
WORDS = ("hypothesis", "expected", "refutation", "notes")  # of a proposal, in the agent's language


def make_agent(
    study: Study,
    *,
    model: str | None = None,
    with_: str | None = None,
    prompt_tokens: int | None = None,
    reply_tokens: int | None = None,
    max_cost: float | None = None,
) -> Agent:
    """The agent of a study.

    Args:
        model, with_, prompt_tokens, reply_tokens: instead of those that the study began with; `with_` is the tool of
            the agent "command", and another tool does not get the model that the first one was asked for.
        max_cost: limit in US dollars, for which the model's price has to be known.

    Raises StudyError as `model_chat` does, and when what it replays is gone.
    """
    name, facts = study.agent, dict(study.facts.get("agent_options") or {})
    if with_ is not None and with_ != facts.get("with"):
        facts |= {"with": with_, "model": None}
    asked = {"model": model, "prompt_tokens": prompt_tokens, "reply_tokens": reply_tokens}
    facts |= {name: value for name, value in asked.items() if value is not None}
    if name == "replay":
        return ReplayAgent(read_recording(str(facts["from"]), study.project), str(facts["from"]))
    if name == "human":
        return HumanAgent()
    search = SearchAgent(seed=study.seed)
    if name not in WITH_MODEL:
        return search
    from .llm import HybridAgent, LLMAgent

    is_command = name == "command"
    if is_command:
        chat: ModelClient = tool_chat(study.project, facts, max_cost, is_recorded=model is None)
    else:
        chat = model_chat(study.project, facts, max_cost)
    llm = LLMAgent(chat, prices_file=study.project / PRICES, prompt_tokens=int(facts["prompt_tokens"]))
    llm.reply_tokens = int(facts.get("reply_tokens") or llm.reply_tokens)  # earlier studies do not name it
    llm.name = "command" if is_command else llm.name
    return HybridAgent(llm, search, float(facts["share"])) if name == "hybrid" else llm


def model_chat(project: Path, options: dict[str, Any], max_cost: float | None) -> Chat:
    """The chat with the model that `options`, of `agent_options`, names.

    Raises StudyError when it has no key, no address or no price that a limit of cost needs, and when the study's
    prompts went to a server of one's own that no variable names any more.
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


def tool_chat(
    project: Path, options: dict[str, Any], max_cost: float | None, *, is_recorded: bool = False
) -> CommandChat:
    """The chat with the command-line tool that `options`, of `agent_options`, names.

    Args:
        is_recorded: the model is that of a study which began with it, perhaps in a version that took any name.

    Raises StudyError for a tool that cannot be understood, for a model that the tool cannot be told, and for a limit of
    cost that cannot be kept.
    """
    from .command import CommandChat
    from .prices import read_prices
    from .tools import ToolError, find_tool, no_place_for

    try:
        tool = find_tool(str(options["with"]), project)
        if (model := options.get("model")) and not (tool.takes_model or is_recorded):
            raise ToolError(no_place_for(model, tool))
        chat = CommandChat(tool, options.get("model"), project=project, prices=read_prices(project / PRICES))
    except ValueError as error:
        raise StudyError(str(error)) from error
    if max_cost is not None and chat.prices.cost(chat.model, 1, 1) is None:
        raise StudyError(
            f"{tool.called} does not report what a call costs, and {PRICES} does not state the price of "
            f"{chat.model!r}, so the limit of ${max_cost:.2f} cannot be kept. Use --max-calls or --max-tokens."
        )
    return chat


def chat_of(agent: Agent) -> ModelClient | None:
    """The chat of an agent that asks a model, at least now and then."""
    chat: ModelClient | None = getattr(getattr(agent, "llm", agent), "chat", None)
    return chat


def read_recording(name: str, project: Path) -> list[Proposal]:
    """The proposals of another study, in their order, the baseline left out. Raises StudyError when one is gone."""
    recorded = open_study(name, project)
    proposals = []
    for experiment in read_state(recorded.paths.history).experiments[1:]:
        path = recorded.experiment(experiment.number).proposal
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
            words: dict[str, Any] = {key: facts.get(key) or "" for key in WORDS}
            proposal = Proposal(train_source=facts["train_source"], agent=facts["agent"], **words)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StudyError(f"{path} cannot be replayed ({error}). Restore it, or replay another study.") from error
        proposals.append(replace(proposal, details={"number": experiment.number}))
    return proposals
