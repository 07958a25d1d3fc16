"""The same night through a command-line tool, through the commands of the skill, and through the tools of MCP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autoresearch_kernel.agents.llm import LLMAgent
from autoresearch_kernel.agents.options import make_agent
from autoresearch_kernel.cli import main
from autoresearch_kernel.core.state import StudyState
from autoresearch_kernel.record.history import read_state
from autoresearch_kernel.record.study import Study
from tests.conftest import COUNTING_TRAIN, counting_study, forget_views
from tests.control.mcp_client import connected
from tests.control.running import TYPING_ERROR, WHOLE, alpha, line, prepare, running
from tests.fake_tool import FakeTool
from tests.pretended import Machine

OPTIONS = {"prompt_tokens": 20_000, "reply_tokens": 4_000}
EXPECTED, REFUTED_BY = "-0.2, because fewer counts are added", "a score that rises"
ALPHA_LINE = "ALPHA = {}  # added to every count; 0.001..10.0 log"
# Line of train.py, what replaces it, hypothesis. The second is the baseline again, the fourth does not run.
NIGHT = [
    (ALPHA_LINE.format(1.0), ALPHA_LINE.format(0.01), "Less smoothing helps."),
    (ALPHA_LINE.format(0.01), ALPHA_LINE.format(1.0), "More smoothing helps."),
    (WHOLE, f"LINE = 2\n{WHOLE}", "A second line helps."),
    (WHOLE, f"{TYPING_ERROR}\n{WHOLE}", "A typing error helps."),
    (WHOLE, f"LINE = 3\n{WHOLE}", "A third line helps."),
]
NUM_EXPERIMENTS = 3


def blocks(search: str, replace: str) -> str:
    return f"<<<<<<< SEARCH\n{search}\n=======\n{replace}\n>>>>>>> REPLACE\n"


def reply(search: str, replace: str, hypothesis: str) -> str:
    labels = f"HYPOTHESIS: {hypothesis}\nEXPECTED: {EXPECTED}\nREFUTED BY: {REFUTED_BY}\n\n"
    return labels + blocks(search, replace)


def by_command(study: Study, machine: Machine, folder: Path) -> None:
    tool = FakeTool(folder / "bin", [reply(*step) for step in NIGHT])
    study.facts["agent_options"]["with"] = tool.line
    agent = make_agent(study)
    assert isinstance(agent, LLMAgent)
    agent.thinks_ahead = lambda context: False  # type: ignore[method-assign]  # as a client that waits for its turn
    with running(study, machine, agent, experiments=NUM_EXPERIMENTS) as thread:
        thread.join(120)


def by_verbs(study: Study, machine: Machine, folder: Path) -> None:
    file, named = folder / "mine.py", ["--name", study.name]
    with running(study, machine, experiments=NUM_EXPERIMENTS) as thread:
        for search, replace, hypothesis in NIGHT:
            assert main(["ask", *named, "--part", "now"]) == 0
            incumbent = read_state(study.paths.history).incumbent
            assert incumbent is not None
            file.write_text(study.train_source(incumbent.number).replace(search, replace))
            words = ["--hypothesis", hypothesis, "--expected", EXPECTED, "--refuted-by", REFUTED_BY]
            if main(["propose", str(file), *named, *words]) == 0:
                assert main(["wait", *named, "--json"]) == 0
        thread.join(120)


def by_tools(study: Study, machine: Machine, folder: Path) -> None:
    async def play() -> None:
        async with connected(study) as call:
            for search, replace, hypothesis in NIGHT:
                asked = await call("ask", parts=["now"])
                handed_in = await call(
                    "propose", hypothesis=hypothesis, edits=blocks(search, replace), expected=EXPECTED,
                    refuted_by=REFUTED_BY, experiment=asked["experiment"],
                )  # fmt: skip
                if handed_in["state"] == "accepted":
                    verdict = await call("wait", experiment=handed_in["experiment"])
                    assert verdict["state"] == "decided"

    with running(study, machine, experiments=NUM_EXPERIMENTS) as thread:
        asyncio.run(play())
        thread.join(120)


DOORS: dict[str, tuple[str, Callable[[Study, Machine, Path], None]]] = {
    "command": ("command", by_command), "verbs": ("human", by_verbs), "tools": ("human", by_tools),
}  # fmt: skip


COMPARED = (  # of an experiment: all but times, and the names of who proposed and approved it
    "number", "hypothesis", "expected", "refutation", "parent", "changes", "train_sha256", "fingerprint", "code_size",
    "status", "val_bpb", "standard_error", "reason", "sigma", "incumbent_bpb", "delta_bpb", "delta_standard_error",
)  # fmt: skip


def without_times_and_names(state: StudyState) -> dict[str, Any]:
    experiments = [
        {name: getattr(e, name) for name in COMPARED}
        | {"runs": [(run.index, run.seed, run.status, run.val_bpb) for run in e.runs]}
        for e in state.experiments
    ]
    refusals = [(r.experiment, r.objection, r.why, r.hypothesis, r.train_sha256) for r in state.refusals]
    return {"experiments": experiments, "refusals": refusals, "finished": state.finished}


def test_the_same_night_through_three_doors_gives_the_same_history(
    project: Path, small_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mcp.server.mcpserver")
    forget_views(monkeypatch)
    histories = {}
    for door, (agent, play) in DOORS.items():
        study = counting_study(project, small_corpus, name=door, agent=agent, agent_options=dict(OPTIONS))
        play(study, prepare(Machine()), tmp_path)
        histories[door] = without_times_and_names(read_state(study.paths.history))
    assert [e["number"] for e in histories["command"]["experiments"]] == [0, 1, 2, 3]
    assert [r[:2] for r in histories["command"]["refusals"]] == [(2, "repeat"), (3, "dry run")]
    assert [e["status"] for e in histories["command"]["experiments"]] == ["keep", "keep", "discard", "discard"]
    for door in ("verbs", "tools"):
        assert json.dumps(histories[door], indent=1) == json.dumps(histories["command"], indent=1), door


def test_the_steps_of_the_night_fit_the_train_py() -> None:
    assert NIGHT[0][0] in COUNTING_TRAIN and NIGHT[1][0] in alpha(0.01) and TYPING_ERROR in line(TYPING_ERROR)
