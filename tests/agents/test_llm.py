"""A night with a language model: real notebooks, real HTTP, and a scripted server that does all that servers do."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import pytest

from autoresearch_kernel.agents.chat import Chat, Timeouts
from autoresearch_kernel.agents.llm import HybridAgent, LLMAgent
from autoresearch_kernel.agents.options import read_recording
from autoresearch_kernel.agents.prices import Prices
from autoresearch_kernel.agents.replay import ReplayAgent
from autoresearch_kernel.agents.search import SearchAgent
from autoresearch_kernel.core.state import Event, replay
from autoresearch_kernel.core.types import Evaluation, Experiment, Limits, RunOutcome, Status
from autoresearch_kernel.record.commands import send
from autoresearch_kernel.record.history import read_events
from autoresearch_kernel.record.study import Study
from autoresearch_kernel.run.training import Listener, Training
from autoresearch_kernel.scoring.job import ScoringJob
from autoresearch_kernel.show.cost import cost_table
from autoresearch_kernel.source.parameters import set_parameters
from autoresearch_kernel.study.loop import research
from benchmarks.idle import idle_seconds
from tests.conftest import COUNTING_TRAIN, PROJECT, counting_study, forget_views, make_project
from tests.llm_server import (
    CUT_OFF,
    EMPTY,
    GARBAGE,
    HANG,
    SERVER_ERROR,
    Behaviour,
    ScriptedServer,
    down,
    failing,
    rate_limited,
    reply,
    say,
    too_long,
)
from tests.pretended import Machine

KEY = "sk-canary-0123456789abcdef"
NUM_EXPERIMENTS = 20


def edit(search: str, new: str, hypothesis: str = "This changes the score") -> str:
    return (
        f"HYPOTHESIS: {hypothesis}.\nEXPECTED: val_bpb falls by 0.01.\nREFUTED BY: a val_bpb that rises.\n\n"
        f"<<<<<<< SEARCH\n{search}\n=======\n{new}\n>>>>>>> REPLACE\n"
    )


def line(code: str, **how: object) -> Behaviour:
    """A reply that puts one line of code before the batches."""
    whole = 'batches = make_dataloader(tokenizer, 16, MAX_SEQ_LEN, "train", seed=SEED)'
    return reply(edit(whole, f"{code}\n{whole}", f"A line: {code}"), **how)


def alpha(old: str, new: str) -> str:
    comment = "  # added to every count; 0.001..10.0 log"
    return edit(f"ALPHA = {old}{comment}", f"ALPHA = {new}{comment}", f"ALPHA of {new} is better")


# What the server does, request by request; every comment is one experiment.
NIGHT = [
    say("good_edit"),  # 1: ALPHA 1.0 -> 0.01
    rate_limited("0.1"), line("LINE = 2"),  # 2
    say("prose"), say("no_match"), line("LINE = 3"),  # 3: two repairs
    EMPTY, CUT_OFF, line("LINE = 4"),  # 4
    replace(line("LINE = 4"), text="", reasoning=line("LINE = 4").text), line("LINE = 5"),  # 5: reasoning is no answer
    SERVER_ERROR, SERVER_ERROR, line("LINE = 6"),  # 6
    HANG, line("LINE = 7"),  # 7
    GARBAGE, line("LINE = 8"),  # 8
    too_long(), line("LINE = 9"),  # 9
    down(4.0), line("LINE = 10"),  # 10: longer than the client is patient, so the study pauses
    say("fence_inside"),  # 11
    say("prepare_edit"), line("LINE = 12"),  # 12
    say("fake_score"),  # 13
    line("LINE = 2  # once more"), line("LINE = 14"),  # 14: a repeat
    line("raise RuntimeError('a typing error')"), line("LINE = 15"),  # 15: a crash in its first steps
    say("whole_file"),  # 16
    reply(f"<think>Is it {edit('a', 'b')}?</think>\n" + line("LINE = 17").text),  # 17
    say("prose"), say("prose"), say("prose"), line("LINE = 18"),  # 18: nothing usable, asked anew
    line("def ("), line("LINE = 19"),  # 19: not Python
    line("import os; print('printed', dict(os.environ))"),  # 20
]  # fmt: skip


@dataclass
class Night:
    study: Study
    experiments: list[Experiment]
    events: list[Event]
    server: ScriptedServer

    def of(self, kind: str) -> list[Event]:
        return [event for event in self.events if event["event"] == kind]


def chat(server: ScriptedServer, **how: object) -> Chat:
    settings: dict[str, object] = {
        "api_key": KEY,
        "prices": Prices({"local/*": (1.0, 10.0)}),
        "timeouts": Timeouts(1.0, 4.0, 4.0, 20.0),
        "waits_seconds": (0.1, 0.2, 0.3),
    }
    return Chat("local/scripted", base_url=server.base_url, **(settings | how))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory, small_corpus: Path) -> Night:
    """Twenty experiments against a server that misbehaves in every way. Training is pretended: ALPHA alone counts."""

    machine = Machine()

    def dry_run(training: Training, listener: Listener) -> RunOutcome:
        is_wrong = "a typing error" in training.source
        crash = RunOutcome(Status.CRASH, "RuntimeError: a typing error", None, None)
        return crash if is_wrong else machine.pretend_dry_run(training, listener)

    def score(job: ScoringJob) -> Evaluation:
        artefact = job.artefact
        number, source = int(artefact.parents[1].name), (artefact.parents[1] / "train.py").read_text()
        smoothing = float(source.split("ALPHA = ")[1].split()[0])
        noise = 3e-4 * int(artefact.parent.name.removeprefix("handover").removeprefix("-") or 0)
        return Evaluation(1.5 + smoothing / 5 + 0.02 * (number > 1) + noise, 0.001, 1000, 3000, 0.1)

    with pytest.MonkeyPatch.context() as monkeypatch:
        project = make_project(tmp_path_factory.mktemp("night"), small_corpus, monkeypatch)
        forget_views(monkeypatch)
        machine.dry_run, machine.score = dry_run, score
        study = counting_study(project, small_corpus, agent="llm")
        with ScriptedServer(NIGHT) as server:
            agent = LLMAgent(chat(server, timeouts=Timeouts(1.0, 1.0, 1.0, 20.0)), prompt_tokens=20_000)
            experiments = list(research(study, agent, experiments=NUM_EXPERIMENTS, backend=machine.backend))
    return Night(study, experiments, read_events(study.paths.history), server)


def test_every_behaviour_ends_in_the_right_record(night: Night) -> None:
    assert [e.number for e in night.experiments] == list(range(NUM_EXPERIMENTS + 1))
    assert not night.server.script
    refused = [(e["experiment"], e["objection"]) for e in night.of("refused")]
    assert refused == [(14, "repeat"), (15, "dry run"), (18, "unusable"), (19, "gate")]
    statuses = [e.status for e in night.experiments]
    assert statuses[0] is Status.KEEP and statuses[1] is Status.KEEP
    assert set(statuses) <= {Status.KEEP, Status.DISCARD}
    paused = [e["reason"] for e in night.of("paused")]
    assert paused and "asked again in 30 s" in paused[0] and all("127.0.0.1" in reason for reason in paused)
    assert "LINE = 10" in night.study.train_source(10)
    assert night.of("finished")[-1]["difference_bpb"] < -0.1
    for experiment in night.experiments[1:]:
        assert experiment.hypothesis and experiment.expected and experiment.refutation
        assert experiment.agent == "llm" and experiment.details["subjects"]


def test_the_accounts_add_up(night: Night) -> None:
    state, calls = replay(night.events), night.of("called")
    tokens = [(call["tokens_in"], call["tokens_out"]) for call in calls]
    assert (
        state.spent.calls == len(calls) == len(night.server.requests) - sum(r.path == "" for r in night.server.requests)
    )
    assert state.spent.tokens_in == sum(t for t, _ in tokens) and state.spent.tokens_out == sum(t for _, t in tokens)
    assert state.spent.cost == pytest.approx(sum(t * 1e-6 + u * 10e-6 for t, u in tokens))
    assert sum(e.spent.cost for e in state.experiments) == pytest.approx(state.spent.cost)
    rows = cost_table(state).splitlines()
    columns = [re.sub(r"(?<=\d)[\u202f\u2009 ,](?=\d{3}\b)", "", row).split() for row in rows[1:-1]]
    assert sum(int(row[1]) for row in columns[:-1]) == int(columns[-1][1]) == len(calls)
    assert sum(int(row[2]) for row in columns[:-1]) == int(columns[-1][2])
    recorded = json.loads(night.study.experiment(3).proposal.read_text())
    assert recorded["spent"]["calls"] == 3 and len(recorded["transcript"]) == 6
    assert recorded["transcript"][1]["content"].startswith("I looked at the history")


def test_two_replays_of_a_recording_make_the_same_proposals(
    night: Night,
    small_corpus: Path,
    machine: Machine,
    no_pictures: None,
) -> None:
    made = []
    for name in ("again", "oncemore"):
        recording = read_recording(night.study.name, night.study.project)
        study = counting_study(night.study.project, small_corpus, name, agent="replay")
        done = list(research(study, ReplayAgent(recording, night.study.name)))
        made.append([(e.hypothesis, study.train_source(e.number)) for e in done[1:]])
        assert replay(read_events(study.paths.history)).finished == "nothing left to propose"
    assert made[0] == made[1] and len(made[0]) == NUM_EXPERIMENTS
    assert [source for _, source in made[0]] == [night.study.train_source(n) for n in range(1, NUM_EXPERIMENTS + 1)]


# --- the same with real notebooks and the real train.py, in small

TINY = {
    "MODEL_DIM": 64,
    "NUM_HEADS": 1,
    "NGRAM_ROWS": 2**12,
    "SEQUENCE_LENGTH": 64,
    "EMBEDDING_LR": 0.01,  # these three are far too low: there is something to find
    "NGRAM_LR": 0.05,
    "HEAD_LR": 0.0005,
}
CLOCK = "clock = TrainingClock()"


@pytest.fixture(scope="module")
def small_night(tmp_path_factory: pytest.TempPathFactory, small_corpus: Path) -> Night:
    """Two experiments, each reply takes two seconds."""
    real = (PROJECT / "train.py").read_text()
    source = set_parameters(real, TINY)
    rates = {"EMBEDDING_LR = 0.01": "EMBEDDING_LR = 0.4", "NGRAM_LR = 0.05": "NGRAM_LR = 0.8"}
    rates["HEAD_LR = 0.0005"] = "HEAD_LR = 0.01"
    lines = {old: next(line for line in source.splitlines() if line.startswith(old)) for old in rates}
    three = [
        edit(line, line.replace(old, rates[old]), "The tables learn far too slowly") for old, line in lines.items()
    ]
    score = "val_bpb = evaluate_bpb(model, tokenizer, DEVICE_BATCH_SIZE)"
    script = [
        reply("\n".join(three)),
        reply(edit(CLOCK, f"unknown_name\n{CLOCK}")),
        reply(edit(CLOCK, f"print('printed', dict(os.environ))\n{CLOCK}")),
        reply(
            edit(CLOCK, f"import os\n\nprint('printed', dict(os.environ))\n{CLOCK}")
            + edit(score, f"{score}\nprint('val_bpb: 0.100000')\nval_bpb = 0.1")
        ),
    ]
    with pytest.MonkeyPatch.context() as monkeypatch:
        project = make_project(tmp_path_factory.mktemp("night"), small_corpus, monkeypatch, real)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        study = counting_study(
            project, small_corpus, source=source, agent="llm", time_budget_seconds=1.5, startup_allowance_seconds=60.0
        )
        with ScriptedServer([replace(b, hang_seconds=2.0) for b in script]) as server:
            experiments = list(islice(research(study, LLMAgent(chat(server)), experiments=2), 3))  # not concluded
    return Night(study, experiments, read_events(study.paths.history), server)


def test_the_study_improves_on_its_baseline_and_a_printed_score_is_not_believed(small_night: Night) -> None:
    baseline, better = small_night.experiments[:2]
    assert better.status is Status.KEEP and better.delta_bpb is not None and better.delta_bpb < -0.1
    assert max(better.scores) < min(baseline.scores)
    liar = small_night.experiments[2]
    assert liar.val_bpb is not None and liar.val_bpb > 1.0
    assert "val_bpb: 0.1" in small_night.study.experiment(2).notebook(0).read_text()


def test_a_crash_in_the_first_steps_costs_seconds_and_goes_back_with_its_traceback(small_night: Night) -> None:
    assert [(e["experiment"], e["objection"]) for e in small_night.of("refused")] == [(2, "dry run")] * 2
    refused = json.loads(small_night.study.experiment(2).refused(1).read_text())
    assert "Traceback" in refused["why"] and "NameError" in refused["why"] and "unknown_name" in refused["why"]
    said = small_night.server.requests[2].body["messages"]
    assert [m["role"] for m in said] == ["user", "assistant", "user"] and "unknown_name" in said[2]["content"]
    assert small_night.experiments[2].status in (Status.KEEP, Status.DISCARD)
    took = [e["seconds"] for e in small_night.of("dry_run") if e["ended"] is not None]
    assert len(took) == 3 and small_night.study.experiment(2).dry_run.notebook(0).exists()


def test_the_next_proposal_is_made_while_the_experiment_before_trains(small_night: Night) -> None:
    trained = {e["experiment"]: e["seq"] for e in small_night.of("trained")[::-1]}
    first = {e["experiment"]: e["seq"] for e in small_night.of("called")[::-1]}
    assert first[2] < trained[1] and idle_seconds(small_night.events)[0] < 2.0


def test_the_key_is_nowhere(small_night: Night) -> None:
    assert "printed" in small_night.study.experiment(2).notebook(0).read_text()
    files = [path for path in small_night.study.project.rglob("*") if path.is_file()]
    assert len(files) > 40 and not [path for path in files if KEY.encode() in path.read_bytes()]
    assert {r.headers["authorization"] for r in small_night.server.requests} == {f"Bearer {KEY}"}


def test_the_notebook_shows_the_argument(small_night: Night) -> None:
    words = "".join(json.loads(small_night.study.experiment(1).notebook(0).read_text())["cells"][0]["source"])
    assert "Expected: val_bpb falls by 0.01." in words and "Refuted by: a val_bpb that rises." in words


# --- limits and turns


@pytest.fixture
def study(project: Path, small_corpus: Path) -> Study:
    return counting_study(project, small_corpus, agent="llm")


@pytest.fixture
def no_dry_runs(no_pictures: None) -> None:
    """Dry runs, which the pretended machine makes, and no views."""


def test_limits_end_a_study_cleanly_and_are_never_passed(
    study: Study,
    machine: Machine,
    no_dry_runs: None,
) -> None:
    answers = iter(range(1000))
    with ScriptedServer(respond=lambda body: line(f"LINE = {next(answers)}", usage=None)) as server:
        agent = LLMAgent(chat(server), prompt_tokens=12_000)
        done = list(research(study, agent, experiments=50, limits=Limits(max_tokens=40_000)))
        state = replay(read_events(study.paths.history))
        assert state.finished == "the limit of 40,000 tokens is reached" and 2 < len(done) < 20
        assert state.spent.tokens <= 40_000
        more_tokens = Limits(max_tokens=10**6, max_cost=state.spent.cost + 0.02)
        more = list(research(study, agent, experiments=50, limits=more_tokens))
        state = replay(read_events(study.paths.history))
        assert more and state.finished is not None and state.finished.startswith("the limit of $")
        assert state.limits.max_cost is not None and state.spent.cost <= state.limits.max_cost


def test_requests_that_fail_count_and_retries_do_not_pass_a_limit(
    study: Study,
    machine: Machine,
    no_dry_runs: None,
) -> None:
    with ScriptedServer(respond=lambda body: replace(CUT_OFF, num_chunks=40)) as server:
        agent = LLMAgent(chat(server), prompt_tokens=12_000, reply_tokens=2_000)
        list(research(study, agent, experiments=5, limits=Limits(max_tokens=12_000)))
        state = replay(read_events(study.paths.history))
        assert state.finished == "the limit of 12,000 tokens is reached"
        assert 0 < state.spent.tokens <= 12_000 and state.spent.calls == len(server.requests) < 5


def test_one_limit_leaves_the_other_as_it_was(study: Study, machine: Machine) -> None:
    list(islice(research(study, SearchAgent(), experiments=1, limits=Limits(max_tokens=500)), 1))
    list(research(study, SearchAgent(), experiments=1, limits=Limits(max_cost=1.0)))
    assert replay(read_events(study.paths.history)).limits == Limits(500, 1.0)


def test_what_is_asked_when_a_study_stops_is_on_the_bill(
    study: Study,
    machine: Machine,
) -> None:
    def respond(body: dict) -> Behaviour:
        send(study.paths.commands, "stop")
        return replace(say("good_edit"), hang_seconds=5.0)

    with ScriptedServer(respond=respond) as server:
        list(research(study, LLMAgent(chat(server)), experiments=1))
    (call,) = [e for e in read_events(study.paths.history) if e["event"] == "called"]
    assert call["failed"] == "given up when the study stopped" and call["tokens_in"] > 1000 and call["estimated"]


def test_a_server_that_names_no_numbers_is_asked_for_a_shorter_reply_first(
    study: Study,
    machine: Machine,
    no_dry_runs: None,
) -> None:
    sizes = []

    def respond(body: dict) -> Behaviour:
        sizes.append(body["max_tokens"])
        return failing(400, "the prompt is too long") if body["max_tokens"] > 4_000 else say("good_edit")

    with ScriptedServer(respond=respond) as server:
        done = list(research(study, LLMAgent(chat(server), reply_tokens=8_000), experiments=1))
    assert sizes == [8_000, 2_000] and len(done) == 2


def test_the_model_stands_in_when_the_optimiser_has_nothing(
    study: Study,
    machine: Machine,
    no_dry_runs: None,
) -> None:
    fixed = COUNTING_TRAIN.replace("  # added to every count; 0.001..10.0 log", "  # fixed").replace(
        "  # batches to count; 5..40", "  # fixed"
    )
    replies = iter([reply(f"HYPOTHESIS: No ranges.\n```python\n{fixed.replace('1.0', '0.01')}```"), line("LINE = 1")])
    with ScriptedServer(respond=lambda body: next(replies)) as server:
        done = list(research(study, HybridAgent(LLMAgent(chat(server)), SearchAgent(), 0.3), experiments=2))
    assert [e.agent for e in done] == ["baseline", "llm", "llm"] and done[1].status is Status.KEEP
    notes = [e["text"] for e in read_events(study.paths.history) if e["event"] == "note"]
    assert any("The optimiser has nothing to propose, so the model is asked" in text for text in notes)


def test_a_limit_of_cost_without_a_price_is_said_before_anything_is_spent(
    study: Study,
    machine: Machine,
    no_dry_runs: None,
) -> None:
    with ScriptedServer() as server:
        agent = LLMAgent(chat(server, prices=Prices()))
        list(research(study, agent, hours=4 / 3600, limits=Limits(max_cost=1.0)))
        paused = [e["reason"] for e in read_events(study.paths.history) if e["event"] == "paused"]
        assert "prices.yaml" in paused[0] and not server.requests


def test_a_hybrid_gives_the_model_its_share_and_the_optimiser_starts_from_the_new_structure(
    study: Study,
    machine: Machine,
    no_dry_runs: None,
) -> None:
    answers = iter(range(1000))
    structure = "        return self.logits[idx]  # (B, T, vocab_size)"
    with ScriptedServer(
        respond=lambda body: reply(edit(structure, f"        line = {next(answers)}\n{structure}"))
    ) as server:
        agent = HybridAgent(LLMAgent(chat(server)), SearchAgent(), 0.3)
        done = list(research(study, agent, experiments=10))
    agents = [e.agent for e in done[1:]]
    assert [n for n, name in enumerate(agents, 1) if name == "llm"] == [1, 4, 7]
    assert agents.count("search") == 7
    kept = [e for e in done[1:] if e.status is Status.KEEP and e.agent == "search"]
    assert kept and {e.changes["ALPHA"] for e in kept if "ALPHA" in e.changes}


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 1.0])
def test_the_share_holds_for_any_first_experiments(share: float) -> None:
    agent = HybridAgent(SearchAgent(), SearchAgent(), share)
    turns = [agent.is_for_llm(n) for n in range(1, 101)]
    for n in range(1, 101):
        assert share * n <= sum(turns[:n]) + 1e-9 and sum(turns[:n]) < share * n + 1
