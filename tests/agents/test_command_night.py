"""A night with the agent `command`: a program that misbehaves in every way, with training pretended."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from autoresearch_kernel.agents.command import CommandChat
from autoresearch_kernel.agents.llm import LLMAgent
from autoresearch_kernel.agents.options import chat_of, make_agent
from autoresearch_kernel.agents.tools import find_tool, read_tools
from autoresearch_kernel.cli import main
from autoresearch_kernel.core.agent import AgentUnavailable
from autoresearch_kernel.core.state import Event, replay
from autoresearch_kernel.core.types import Call, Evaluation, Experiment, Limits, RunOutcome, Status
from autoresearch_kernel.record.history import read_events, read_state
from autoresearch_kernel.record.study import Study, StudyError
from autoresearch_kernel.run.training import Listener, Training
from autoresearch_kernel.scoring.job import ScoringJob
from autoresearch_kernel.source.compare import fingerprint
from autoresearch_kernel.study.loop import research
from autoresearch_kernel.study.options import OptionRefused, StudyOptions, agent_of, agent_options
from autoresearch_kernel.study.server_start import ASKED, require_server
from autoresearch_kernel.system.processes import descendants
from tests.agents.test_prompt import full_night
from tests.conftest import PROJECT, counting_study, forget_views, make_project
from tests.fake_tool import FakeTool, step
from tests.pretended import Machine

SECRET = "canary-8d01a7f2c4"
NUM_EXPERIMENTS = 20
OPTIONS = {"prompt_tokens": 20_000, "reply_tokens": 4_000}
WHOLE = 'batches = make_dataloader(tokenizer, 16, MAX_SEQ_LEN, "train", seed=SEED)'


def edit(search: str, new: str, hypothesis: str = "This changes the score") -> str:
    return (
        f"HYPOTHESIS: {hypothesis}.\nEXPECTED: val_bpb falls by 0.01.\nREFUTED BY: a val_bpb that rises.\n\n"
        f"<<<<<<< SEARCH\n{search}\n=======\n{new}\n>>>>>>> REPLACE\n"
    )


def line(code: str) -> str:
    """A reply that puts one line of code before the batches."""
    return edit(WHOLE, f"{code}\n{WHOLE}", f"A line: {code}")


def alpha(new: str) -> str:
    comment = "  # added to every count; 0.001..10.0 log"
    return edit(f"ALPHA = 1.0{comment}", f"ALPHA = {new}{comment}", f"ALPHA of {new} is better")


def reset(seconds: float) -> str:
    return (datetime.now().astimezone() + timedelta(seconds=seconds)).isoformat(timespec="seconds")


def script() -> list[str | dict[str, Any]]:
    """What the tool does, start by start: more than 40 behaviours; every comment is one experiment."""
    banner = "╭────╮\n│ Update available! │\n╰────╯\n"
    draft = line("DRAFT = 1")
    return [
        alpha("0.01"),  # 1
        step("slow", line("LINE = 2")),  # 2
        step("hang"), "⠋ Thinking...\r⠙ Thinking...\r\x1b[K" + line("LINE = 3").replace("\n", "\r\n"),  # 3: progress
        line("LINE = 4")[:-40], line("LINE = 4"),  # 4: half a reply
        "", step("error", "connect ECONNREFUSED 127.0.0.1:443", 1), step("echo", line("LINE = 5")),  # 5: an echo
        step("say", line("LINE = 6"), status=1),  # 6: a whole reply and a bad end
        f"Usage limit reached|{int(time.time()) + 20}", f"```\n{line('LINE = 7')}```\n",  # 7: a pause until then
        f"You've hit your limit · resets {reset(20)}", "5-hour limit reached, resets in 15 s",
        step("error", "You have exhausted your capacity on this model. Your quota will reset after 0h0m12s.", 1),
        "You've hit your usage limit. Upgrade, or try again in 20 seconds.",
        step("error", "429 Too Many Requests, try again in 10 s", 1),
        f"<think>Is it {draft}?</think>\n{line('LINE = 8')}",  # 8: five wordings of a limit, and a draft
        "Not logged in · Please run /login", step("error", "Error: 401 Unauthorized", 1),
        "To sign in, open this link in a browser: https://example.org/device and enter the code AB-12",
        "\ufeff" + line("LINE = 9"),  # 9: pauses that double
        banner + line("LINE = 10"),  # 10
        step("flood"), "\x1b[32m" + line("LINE = 11").replace("\n", "\x1b[0m\r\n"),  # 11
        step("error", "529 Overloaded: try again later", 1), step("error", line("LINE = 12")),  # 12: on standard error
        step("daemon", line("LINE = 13")),  # 13
        step("killed", line("LINE = 14")), step("does not read", line("LINE = 14")),  # 14
        step("question"), step("terminal"), line("LINE = 15") + banner,  # 15: it asks for a permission, twice
        step("error", "Your session has expired", 1), step("writes", line("LINE = 16")),  # 16
        step("environment", line("LINE = 17")),  # 17
        *[step("error", "out of cheese", 3)] * 5, "I read the history.\n\n" + line("LINE = 18"),  # 18: a pause
        line("LINE = 2  # once more"), edit(WHOLE, WHOLE), line("LINE = 19"),  # 19: a repeat, the incumbent
        step("garbage"), "I would try a larger model.", line("raise RuntimeError('a typing error')"),
        line("LINE = 20"),  # 20
    ]  # fmt: skip


@dataclass
class Night:
    study: Study
    experiments: list[Experiment]
    events: list[Event]
    tool: FakeTool
    num_steps: int

    def of(self, kind: str) -> list[Event]:
        return [event for event in self.events if event["event"] == kind]


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory, small_corpus: Path) -> Night:
    machine, folder = Machine(), tmp_path_factory.mktemp("night")

    def dry_run(training: Training, listener: Listener) -> RunOutcome:
        is_wrong = "a typing error" in training.source
        crash = RunOutcome(Status.CRASH, "RuntimeError: a typing error", None, None)
        return crash if is_wrong else machine.pretend_dry_run(training, listener)

    def score(job: ScoringJob) -> Evaluation:
        """ALPHA alone counts; what comes after the first experiment is worse."""
        number, source = int(job.artefact.parents[1].name), (job.artefact.parents[1] / "train.py").read_text()
        smoothing = float(source.split("ALPHA = ")[1].split()[0])
        noise = 3e-4 * int(job.artefact.parent.name.removeprefix("handover").removeprefix("-") or 0)
        return Evaluation(1.5 + smoothing / 5 + 0.02 * (number > 1) + noise, 0.001, 1000, 3000, 0.1)

    machine.dry_run, machine.score = dry_run, score
    before = set(descendants(os.getpid()))
    with pytest.MonkeyPatch.context() as monkeypatch:
        project = make_project(folder, small_corpus, monkeypatch)
        forget_views(monkeypatch)
        monkeypatch.setenv("OPENAI_API_KEY", SECRET)
        monkeypatch.setenv("SOME_TOKEN", SECRET)
        tool = FakeTool(folder / "bin", steps := script())
        study = counting_study(project, small_corpus, agent="command", agent_options=OPTIONS | {"with": tool.line})
        agent = make_agent(study)
        chat = chat_of(agent)
        assert isinstance(agent, LLMAgent) and isinstance(chat, CommandChat)
        chat.limit_seconds, chat.waits_seconds = 6.0, (0.0, 0.0, 0.0, 0.0)
        experiments = list(research(study, agent, experiments=NUM_EXPERIMENTS, backend=machine.backend))
    assert set(descendants(os.getpid())) <= before, "a process is left"
    return Night(study, experiments, read_events(study.paths.history), tool, len(steps))


def test_no_proposal_is_lost_and_the_incumbent_is_never_repeated(night: Night) -> None:
    assert [e.number for e in night.experiments] == list(range(NUM_EXPERIMENTS + 1))
    for number in range(2, NUM_EXPERIMENTS + 1):
        assert f"LINE = {number}\n" in night.study.train_source(number)
        assert "DRAFT" not in night.study.train_source(number)
    prints = [fingerprint(night.study.train_source(number)) for number in range(NUM_EXPERIMENTS + 1)]
    assert len(set(prints)) == len(prints)
    assert night.tool.num_starts == night.num_steps


def test_the_record_names_the_tool_and_every_refusal(night: Night) -> None:
    for experiment in night.experiments[1:]:
        assert experiment.agent == "command" and experiment.hypothesis and experiment.details["tool"] == "fake-agent"
    refused = [(e["experiment"], e["objection"]) for e in night.of("refused")]
    assert refused == [(19, "repeat"), (20, "dry run")]
    transcript = json.loads(night.study.experiment(4).proposal.read_text())["transcript"]
    assert len(transcript) == 4  # half a reply was asked for again
    asked_again = [prompt for prompt in night.tool.prompts if "# The answer to your reply" in prompt]
    assert len(asked_again) >= 3 and "LINE = 4"[:4] in asked_again[0]


def test_limits_sign_in_and_failures_pause_the_study_with_their_reason(night: Night) -> None:
    # What fails while an experiment trains is a note; the study pauses when nothing trains.
    reasons = " | ".join([*(e["reason"] for e in night.of("paused")), *(e["text"] for e in night.of("note"))])
    assert reasons.count("usage limit of your account with fake-agent is reached") >= 3
    assert reasons.count("after 5 attempts: exit status 3: out of cheese") <= 1
    failed = " | ".join(call["failed"] for call in night.of("called"))
    assert "Not logged in · Please run /login" in failed and "Allow this command? [y/N]" in failed
    assert failed.count("out of cheese") == 5
    assert night.of("paused") and len(night.of("paused")) == len(night.of("resumed"))


def test_the_accounts_count_every_start(night: Night) -> None:
    state, calls = replay(night.events), night.of("called")
    assert state.spent.calls == len(calls) == night.num_steps
    assert all(call["estimated"] for call in calls if not call["failed"])
    assert sum(bool(call["failed"]) for call in calls) == 23


def test_no_secret_is_anywhere(night: Night) -> None:
    for path in night.study.paths.folder.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path
    assert all(SECRET not in str(environment) for environment in night.tool.environments)


# --- a few experiments


@pytest.fixture
def tool(tmp_path: Path) -> FakeTool:
    return FakeTool(tmp_path / "bin")


@pytest.fixture
def study(project: Path, small_corpus: Path, tool: FakeTool) -> Study:
    return counting_study(project, small_corpus, agent="command", agent_options=OPTIONS | {"with": tool.line})


def test_max_calls_ends_a_study_cleanly(study: Study, tool: FakeTool, machine: Machine) -> None:
    tool.play([alpha("0.01"), "Prose.", line("LINE = 2"), line("LINE = 3")])
    done = list(research(study, make_agent(study), experiments=9, limits=Limits(max_calls=3)))
    assert len(done) == 3 and tool.num_starts == 3
    state = read_state(study.paths.history)
    assert state.spent.calls == 3 and state.limits == Limits(max_calls=3)
    [finished] = [e for e in read_events(study.paths.history) if e["event"] == "finished"]
    assert finished["reason"] == "the limit of 3 calls is reached"


def test_starts_without_a_sign_in_do_not_use_up_the_calls(study: Study, tool: FakeTool, machine: Machine) -> None:
    tool.play([*[step("error", "Not logged in. Please run /login.", 1)] * 4, alpha("0.01"), line("LINE = 2")])
    done = list(research(study, make_agent(study), experiments=9, limits=Limits(max_calls=2)))
    assert len(done) == 3 and tool.num_starts == 6
    assert read_state(study.paths.history).spent.counted_calls == 2


def test_a_study_goes_on_with_another_tool(
    project: Path, small_corpus: Path, tool: FakeTool, machine: Machine, tmp_path: Path
) -> None:
    options = OPTIONS | {"with": f"{tool.line} --model {{model}}", "model": "small"}
    study = counting_study(project, small_corpus, agent="command", agent_options=options)
    tool.play([alpha("0.01")])
    list(research(study, make_agent(study, model="big"), experiments=1))
    assert tool.kept("argv") == [["--model", "big"]]
    other = FakeTool(tmp_path / "other", [line("LINE = 2")])
    asked = StudyOptions(with_=f"{other.line} --fast")
    agent = agent_of(study, asked, Limits())
    chat = chat_of(agent)
    assert isinstance(chat, CommandChat) and chat.asked_model is None
    list(research(study, agent, experiments=1))
    assert other.kept("argv") == [["--fast"]] and tool.num_starts == 1
    assert [e.agent for e in read_state(study.paths.history).experiments[1:]] == ["command", "command"]


def test_a_study_asks_its_tool_before_anything_trains(
    study: Study, tool: FakeTool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ASKED, "{}")  # what the question leaves there is gone after the test
    said: list[str] = []
    chat = CommandChat(find_tool(tool.line, PROJECT))
    tool.play([step("say", "Not logged in", 1)])
    with pytest.raises(StudyError, match=r"not signed in to fake-agent.*Nothing was started"):
        require_server(study.name, chat, study.project, said.append)
    tool.play(["OK"])
    require_server(study.name, chat, study.project, said.append)
    assert "fake-agent answers" in said[0]


def reported(words: str, dollars: float) -> str:
    """What a tool prints that reports what a call costs."""
    usage = {"input_tokens": 9_000, "output_tokens": 80}
    return json.dumps({"type": "result", "result": words, "usage": usage, "total_cost_usd": dollars})


def test_a_limit_of_cost_is_kept_by_what_the_calls_before_have_cost(
    study: Study, tool: FakeTool, machine: Machine
) -> None:
    """Five calls of $0.04 each fit $0.23 and a sixth does not; one is killed before it tells its cost."""
    tool.play([
        reported(alpha("0.01"), 0.04), step("killed", "{"), reported(line("LINE = 2"), 0.04),
        reported("Prose.", 0.04), reported(line("LINE = 3"), 0.04), reported(line("LINE = 4"), 0.04),
    ])  # fmt: skip
    preset = replace(read_tools(PROJECT)["claude"], command=tool.line, arguments=(), environment={}, version=())
    agent = LLMAgent(CommandChat(preset, waits_seconds=(0.0,)), name="command")
    done = list(research(study, agent, experiments=9, limits=Limits(max_cost=0.23)))
    assert len(done) == 4 and tool.num_starts == 5
    calls = [e for e in read_events(study.paths.history) if e["event"] == "called"]
    assert [call["cost"] for call in calls] == [pytest.approx(0.04)] * 5 and "killed" in calls[1]["failed"]
    state = read_state(study.paths.history)
    assert state.spent.cost == pytest.approx(0.2) and state.spent.unpriced_calls == 0
    [finished] = [e for e in read_events(study.paths.history) if e["event"] == "finished"]
    assert finished["reason"] == "the limit of $0.23 is reached"


def test_a_call_that_is_given_up_is_booked_by_what_the_others_have_cost(study: Study, tool: FakeTool) -> None:
    tool.play([reported("Prose.", 0.04), reported("More prose.", 0.02), step("hang")])
    preset = replace(read_tools(PROJECT)["claude"], command=tool.line, arguments=(), environment={}, version=())
    sent, context = list[Call](), replace(full_night(3), on_send=lambda call: sent.append(call))
    with pytest.raises(AgentUnavailable):
        LLMAgent(CommandChat(replace(preset, limit_seconds=1.0), waits_seconds=())).propose(context)
    assert [call.cost for call in sent[:3]] == [None, pytest.approx(0.04), pytest.approx(0.03)]


def test_a_limit_of_cost_needs_a_tool_that_reports_costs(study: Study) -> None:
    with pytest.raises(StudyError, match=r"does not report what a call costs.*--max-calls or --max-tokens"):
        make_agent(study, max_cost=1.0)
    make_agent(study, with_="claude", max_cost=1.0)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--agent", "command"], "--agent command needs --with TOOL"),
        (["--agent", "llm", "--model", "m", "--with", "claude"], "--with is for --agent command, not for llm"),
        (["--agent", "command", "--with", "no-such-tool"], "There is no program 'no-such-tool' on PATH"),
        (["--agent", "command", "--with", "python my_agent.py", "--model", "gpt-9"], "no place for --model gpt-9"),
    ],
)
def test_the_command_line_says_what_is_missing(
    project: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--name", "new", *words]) != 0
    assert said in capsys.readouterr().err
    assert not (project / "studies" / "new").exists()


def test_options_of_the_command_agent_do_not_ask_for_a_server_s_model() -> None:
    kept = agent_options("command", StudyOptions(with_="claude"), {"OPENAI_MODEL": "gpt-5"})
    assert kept == {"with": "claude", "model": None, "prompt_tokens": 32_000, "reply_tokens": 16_000}
    with pytest.raises(OptionRefused, match="--share is for --agent hybrid"):
        agent_options("command", StudyOptions(with_="claude", share=0.5), {})
