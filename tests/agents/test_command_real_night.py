"""A night with the agent `command` and nothing pretended but the tool: the command line, trainings, scores, audits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest

from autoresearch_kernel.core.state import Event, StudyState, replay
from autoresearch_kernel.core.types import Status
from autoresearch_kernel.record.history import read_events
from autoresearch_kernel.record.study import Study
from tests.agents.test_command_night import OPTIONS, alpha, line
from tests.conftest import PROJECT, QUIET, counting_study, make_project
from tests.fake_tool import FakeTool, step

SECRET = "canary-5b1e9c07aa"
NUM_EXPERIMENTS = 3
SCRIPT = [
    "OK",  # to the short question before anything trains
    step("daemon", alpha("0.01")),  # 1
    step("environment", line("LINE = 2")),  # 2
    line("raise RuntimeError('a typing error')"), line("LINE = 3"),  # 3, mended after its dry run
]  # fmt: skip
# The supervisor, below a process that becomes the parent of what it leaves, and then says how many processes that is.
WATCHED = """
import os, subprocess, sys, time
from contextlib import suppress
from autoresearch_kernel.system.processes import adopt_orphans, descendants, kill_descendants
adopt_orphans()
status = subprocess.run([sys.executable, "-m", "autoresearch_kernel.cli", *sys.argv[1:]]).returncode
deadline = time.monotonic() + 5
while (left := len(descendants(os.getpid()))) and time.monotonic() < deadline:
    with suppress(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    time.sleep(0.05)
kill_descendants()
print("left behind:", left)
sys.exit(status)
"""


@dataclass
class Night:
    study: Study
    events: list[Event]
    state: StudyState
    said: str
    tool: FakeTool

    def of(self, kind: str) -> list[Event]:
        return [event for event in self.events if event["event"] == kind]


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory, small_corpus: Path) -> Night:
    folder = tmp_path_factory.mktemp("night")
    tool = FakeTool(folder / "bin", SCRIPT)
    with pytest.MonkeyPatch.context() as monkeypatch:
        project = make_project(folder, small_corpus, monkeypatch)
        study = counting_study(project, small_corpus, agent="command", agent_options=OPTIONS | {"with": "fake-agent"})
        words = ["run", "--name", study.name, "--experiments", str(NUM_EXPERIMENTS)]
        words += ["--agent", "command", "--with", "fake-agent --no-tools"]
        done = subprocess.run(
            [sys.executable, "-c", WATCHED, *words],
            cwd=project, env=os.environ | environment(tool), capture_output=True, text=True, timeout=300,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    events = read_events(study.paths.history)
    return Night(study, events, replay(events), done.stdout, tool)


def environment(tool: FakeTool) -> dict[str, str]:
    """The tool is on PATH, the machine counts as quiet, and there are secrets of three kinds."""
    return {
        "PATH": os.pathsep.join((str(tool.folder), os.environ["PATH"])),
        "PYTHONPATH": os.pathsep.join((QUIET, str(PROJECT))),
        "OPENAI_API_KEY": SECRET,
        "SOME_TOKEN": SECRET,
        "DATA_ADDRESS": f"postgres://me:{SECRET}@host/data",
    }


def test_each_proposal_of_the_tool_is_trained_scored_and_decided_once(night: Night) -> None:
    assert [e["experiment"] for e in night.of("decided")] == list(range(NUM_EXPERIMENTS + 1))
    assert [e["experiment"] for e in night.of("proposed")] == list(range(NUM_EXPERIMENTS + 1))
    for experiment in night.state.experiments[1:]:
        assert experiment.agent == "command" and experiment.details["tool"] == "fake-agent"
        assert experiment.status in (Status.KEEP, Status.DISCARD) and experiment.val_bpb is not None, experiment.reason
    first = night.state.experiments[1]
    assert first.status is Status.KEEP and first.delta_bpb is not None and first.delta_bpb < 0
    [finished] = night.of("finished")
    assert finished["reason"] == "3 experiments" and finished["difference_bpb"] < 0


def test_hypotheses_and_code_are_in_the_record(night: Night) -> None:
    assert [e.hypothesis for e in night.state.experiments[1:]] == [
        "ALPHA of 0.01 is better.", "A line: LINE = 2.", "A line: LINE = 3.",
    ]  # fmt: skip
    codes = ["ALPHA = 0.01 ", "LINE = 2\n", "LINE = 3\n"]
    for number, code in enumerate(codes, 1):
        assert code in night.study.train_source(number)
        proposal = json.loads(night.study.experiment(number).proposal.read_text())
        assert proposal["train_source"] == night.study.train_source(number) and proposal["transcript"]
    [refused] = night.of("refused")
    assert (refused["experiment"], refused["objection"]) == (3, "dry run") and "a typing error" in refused["why"]


def test_every_run_left_an_executed_notebook_with_the_verdict(night: Night) -> None:
    for experiment in night.state.experiments:
        for run in experiment.runs:
            notebook = nbformat.read(night.study.experiment(experiment.number).notebook(run.index), as_version=4)
            cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
            assert cells and all(cell.execution_count for cell in cells[:-1])
            assert f"**{experiment.status}**" in notebook.cells[-1].source


def test_what_was_kept_had_passed_its_audit(night: Night) -> None:
    accepted = {e["experiment"] for e in night.of("audited") if e["accepted"]}
    assert {e.number for e in night.state.experiments if e.status is Status.KEEP} <= accepted
    assert all(e["accepted"] for e in night.of("audited"))


def test_each_start_of_the_tool_is_recorded_and_none_leaves_a_process(night: Night) -> None:
    assert len(night.of("called")) == night.tool.num_starts == night.state.spent.calls == len(SCRIPT)
    assert night.tool.kept("argv") == [["--no-tools"]] * len(SCRIPT)
    assert night.said.endswith("left behind: 0\n"), night.said


def test_no_secret_of_the_environment_is_in_any_file(night: Night) -> None:
    for path in night.study.project.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path
    assert SECRET not in night.said and all(SECRET not in str(seen) for seen in night.tool.environments)
