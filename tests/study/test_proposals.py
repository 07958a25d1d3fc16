"""From an agent's reply to a proposal worth its budget: given back, merged, tried, approved; training is pretended."""

from __future__ import annotations

import errno
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from autoresearch_kernel.agents.llm import HybridAgent
from autoresearch_kernel.agents.replay import HumanAgent, ReplayAgent
from autoresearch_kernel.agents.search import SearchAgent
from autoresearch_kernel.control import actions
from autoresearch_kernel.core.agent import AgentUnavailable, UnusableReply
from autoresearch_kernel.core.types import (
    Call,
    Context,
    Evaluation,
    Objection,
    Progress,
    Proposal,
    Refusal,
    RunOutcome,
    Status,
)
from autoresearch_kernel.lab.panel.pages import notes
from autoresearch_kernel.record.commands import send
from autoresearch_kernel.record.history import History, read_events
from autoresearch_kernel.record.study import Study, StudyError
from autoresearch_kernel.run.training import Listener as TrainingListener
from autoresearch_kernel.run.training import Training
from autoresearch_kernel.scoring.job import ScoringJob
from autoresearch_kernel.show.follow import look, news
from autoresearch_kernel.source.parameters import set_parameters
from autoresearch_kernel.study.dry_run import limit_seconds
from autoresearch_kernel.study.loop import research
from autoresearch_kernel.study.proposals import MOST_QUESTIONS
from tests.conftest import COUNTING_TRAIN
from tests.pretended import Machine
from tests.study.test_night import events_of, state_of, study  # noqa: F401

pytestmark = pytest.mark.usefixtures("no_pictures")

Answer = dict[str, float] | str | Exception


class Listener:
    """Answers with what it was given, hears what is given back, and may be asked while something trains."""

    name = "listener"

    def __init__(self, *answers: Answer, ahead: bool = False, seconds: float = 0.0) -> None:
        self.answers, self.ahead, self.seconds = list(answers), ahead, seconds
        self.contexts: list[Context] = []

    def listens(self, context: Context) -> bool:
        return True

    def thinks_ahead(self, context: Context) -> bool:
        return self.ahead

    def propose(self, context: Context) -> Proposal:
        self.contexts.append(context)
        context.on_call(Call("a model", 100, 10, 0.001, 0.1))
        time.sleep(self.seconds)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        source = answer if isinstance(answer, str) else set_parameters(context.train_source, answer)
        return Proposal(f"Idea {answer}"[:40], source, self.name, transcript=({"role": "user", "content": "?"},))


@pytest.fixture
def tried(machine: Machine) -> list[int]:
    """Numbers of the experiments of which a dry run was made; what contains `boom` fails in it."""

    def pretended(training: Training, listener: TrainingListener) -> RunOutcome:
        outcome = machine.pretend_dry_run(training, listener)
        return RunOutcome(Status.CRASH, "RuntimeError: boom", None, None) if "boom" in training.source else outcome

    machine.dry_run = pretended
    return machine.dry_runs


def refusals(study: Study) -> list[tuple[int, str]]:  # noqa: F811
    return [(event["experiment"], event["objection"]) for event in events_of(study, "refused")]


def with_line(line: str) -> str:
    return COUNTING_TRAIN.replace("clock = TrainingClock(3600)", f"{line}\nclock = TrainingClock(3600)")


# --- given back


def test_what_would_waste_the_budget_is_given_back_and_mended(study: Study, tried: list[int]) -> None:  # noqa: F811
    again = COUNTING_TRAIN.replace("ALPHA = 1.0", "ALPHA = 10e-1  # spelled otherwise")
    agent = Listener("def (", again, {"ALPHA": 0.5}, with_line("raise RuntimeError('boom')"), {"ALPHA": 0.3})
    done = list(research(study, agent, experiments=2))
    assert [e.status for e in done[1:]] == [Status.KEEP, Status.KEEP]
    assert refusals(study) == [(1, "gate"), (1, "repeat"), (2, "dry run")]
    assert tried == [1, 2, 2]
    said = [context.refused[-1].why for context in agent.contexts if context.refused]
    assert "line 1" in said[0] and "incumbent, 0000" in said[1] and "boom" in said[2]
    kept = json.loads(study.experiment(1).refused(1).read_text())
    assert kept["objection"] == "gate" and kept["proposal"]["train_source"] == "def ("
    assert len(events_of(study, "called")) == 5 and state_of(study).spent.tokens == 550


def test_after_two_fixes_what_still_crashes_is_run_and_counts_as_a_crash(study: Study, tried: list[int]) -> None:  # noqa: F811
    agent = Listener(*(with_line(f"raise RuntimeError('boom {i}')") for i in range(3)))
    done = list(research(study, agent, experiments=1))
    assert refusals(study) == [(1, "dry run")] * 2 and tried == [1, 1]
    assert done[1].number == 1 and done[1].train_sha256


def test_a_repeat_is_never_run_and_repeats_end_the_study(
    study: Study,  # noqa: F811
    tried: list[int],
) -> None:
    agent = Listener(*[COUNTING_TRAIN] * 3 * MOST_QUESTIONS)
    done = list(research(study, agent, experiments=1))
    assert [e.number for e in done] == [0] and not agent.answers
    assert refusals(study) == [(1, "repeat")] * 3 * MOST_QUESTIONS
    assert state_of(study).finished == "no usable proposal in 6 questions"


def test_a_reply_without_a_proposal_is_recorded_and_asked_for_anew(study: Study, tried: list[int]) -> None:  # noqa: F811
    unusable = UnusableReply(Refusal(1, Objection.UNUSABLE, "There is no edit in it. Send one.", "Let us think"))
    said: list[Progress] = []
    done = list(research(study, Listener(unusable, {"ALPHA": 0.5}), experiments=1, watch=said.append))
    assert len(done) == 2 and refusals(study) == [(1, "unusable")]
    [event] = events_of(study, "refused")
    assert event["hypothesis"] == "Let us think"
    words = "Given back (unusable): There is no edit in it"
    in_terminal = [progress.text for progress in said if progress.text.startswith("Given back")]
    attached = [told.text for told in news(event, state_of(study)) if isinstance(told, Progress)]
    assert in_terminal == attached == [words] and f">{words}<" in notes(look(study))


def test_an_agent_that_cannot_answer_pauses_the_study_until_it_can(
    study: Study,  # noqa: F811
    tried: list[int],
) -> None:
    agent = Listener(*[AgentUnavailable("example.org does not answer.")] * 7, {"ALPHA": 0.5})
    done = list(research(study, agent, experiments=1))
    assert [e.status for e in done] == [Status.KEEP, Status.KEEP]
    paused = events_of(study, "paused")
    assert len(paused) == 7 and paused[0]["reason"] == "example.org does not answer. It is asked again in 30 s"


def test_a_person_may_send_a_pause_for_the_agent_on(study: Study, tried: list[int]) -> None:  # noqa: F811
    def watch(progress: Progress) -> None:
        if progress.phase == "paused":
            send(study.paths.commands, "resume")

    begun = time.monotonic()
    done = list(research(study, Listener(AgentUnavailable("down"), {"ALPHA": 0.5}), experiments=1, watch=watch))
    assert len(done) == 2 and time.monotonic() - begun < 20


@pytest.mark.parametrize("event", ["paused", "resumed"])
def test_a_pause_whose_record_finds_the_disk_full_does_not_stand_there_for_good(
    study: Study,  # noqa: F811
    tried: list[int],
    monkeypatch: pytest.MonkeyPatch,
    event: str,
) -> None:
    append, failures = History.append, []

    def full_once(self: History, kind: str, /, **fields: Any) -> Any:
        if kind == event and not failures:
            failures.append(kind)
            raise OSError(errno.ENOSPC, "No space left on device")
        return append(self, kind, **fields)

    monkeypatch.setattr(History, "append", full_once)
    seen: list[str] = []
    agent = Listener(AgentUnavailable("down"), AgentUnavailable("down"), {"ALPHA": 0.5})
    for _ in research(study, agent, experiments=1, watch=lambda progress: seen.append(state_of(study).paused)):
        assert not state_of(study).paused
    kinds = [e["event"] for e in read_events(study.paths.history) if e["event"] in ("paused", "resumed")]
    assert failures == [event] and kinds == ["paused", "resumed"] * (1 if event == "paused" else 2)
    assert [e["experiment"] for e in events_of(study, "decided")] == [0, 1] and any(seen)


def test_hours_end_also_while_an_agent_cannot_answer(
    study: Study,  # noqa: F811
    tried: list[int],
) -> None:
    agent = Listener(*[AgentUnavailable("down")] * 1000)
    done = list(research(study, agent, hours=3 / 3600))
    assert [e.number for e in done] == [0]
    assert events_of(study, "finished")[0]["reason"].endswith("hours")


def test_when_results_tie_the_simpler_code_is_kept(
    study: Study,  # noqa: F811
    tried: list[int],
    machine: Machine,
) -> None:
    def score(job: ScoringJob) -> Evaluation:
        seed = int(job.artefact.read_text().split()[1])
        return Evaluation(1.5 + (seed if seed < 3 else 1.2) * 1e-4, 0.001, 1000, 3000, 0.1)

    machine.score = score  # a fifth of sigma above the baseline
    shorter = COUNTING_TRAIN.replace("    clock.report(train_loss=5.0 / (clock.step + 1))\n", "    clock.report()\n")
    longer = with_line("unused = [i * i for i in range(3)]")
    done = list(research(study, Listener(longer, shorter), experiments=2))
    assert [e.status for e in done[1:]] == [Status.DISCARD, Status.KEEP]
    assert "is simpler: kept" in done[2].reason and len(done[2].runs) == 2


# --- a model that never keeps to the format


class Unreadable(Listener):
    """Never sends a proposal; replies to every question with the same words."""

    def propose(self, context: Context) -> Proposal:
        self.contexts.append(context)
        why = "The reply holds no edit of train.py. A description is not read. Send it in this form:\n\nHYPOTHESIS: ..."
        raise UnusableReply(Refusal(context.number, Objection.UNUSABLE, why, "I would try a wider model"))


def test_a_model_that_never_keeps_the_format_ends_the_study_with_what_happened_and_its_own_words(
    study: Study,  # noqa: F811
    tried: list[int],
) -> None:
    agent = Unreadable()
    done = list(research(study, agent, experiments=5))
    assert [e.number for e in done] == [0] and len(agent.contexts) == MOST_QUESTIONS
    assert not events_of(study, "paused")
    [note] = [e["text"] for e in events_of(study, "note") if "no usable proposal" in e["text"]]
    assert "the last: The reply holds no edit of train.py. The last reply begins:" in note
    assert '"I would try a wider model"' in note and "refused-*.json" in note and "--model" in note
    assert "in this form" not in note and "HYPOTHESIS" not in note
    assert state_of(study).finished == "no usable proposal in 6 questions"


def test_a_hybrid_goes_on_with_the_optimiser_and_says_so(study: Study, tried: list[int]) -> None:  # noqa: F811
    model = Unreadable()
    done = list(research(study, HybridAgent(model, SearchAgent(), share=1.0), experiments=2))
    assert [e.agent for e in done[1:]] == ["search", "search"] and len(model.contexts) == MOST_QUESTIONS
    [note] = [e["text"] for e in events_of(study, "note") if "no usable proposal" in e["text"]]
    assert "The optimiser makes the proposals from here on" in note


# --- ahead


def waits_for(condition: Callable[[], bool]) -> Callable[[int], None]:
    def during(experiment: int) -> None:
        deadline = time.monotonic() + 5
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.01)

    return during


def test_the_next_proposal_is_made_while_one_trains_and_merged_when_that_one_is_kept(
    study: Study,  # noqa: F811
    tried: list[int],
    machine: Machine,
) -> None:
    agent = Listener({"ALPHA": 0.5}, {"NUM_BATCHES": 30}, {"ALPHA": 0.4}, ahead=True)
    until_asked = waits_for(lambda: len(agent.contexts) > machine.trained[-1][0])
    machine.during = lambda number: until_asked(number) if number in (1, 2) else None
    done = list(research(study, agent, experiments=3))
    assert [[e.number for e in c.in_work] for c in agent.contexts] == [[], [1], [2]]
    assert [e.status for e in done] == [Status.KEEP, Status.KEEP, Status.DISCARD, Status.KEEP]
    assert agent.contexts[1].incumbent.number == 0  # it knew nothing of 1, and yet:
    assert "ALPHA = 0.5" in study.train_source(2) and "NUM_BATCHES = 30" in study.train_source(2)
    assert done[2].parent == 1 and done[2].changes == {"NUM_BATCHES": 30} and done[2].details["made_for"] == 0
    asked = [e["seq"] for e in events_of(study, "called")]
    trained = {e["experiment"]: e["seq"] for e in events_of(study, "trained")}
    assert asked[1] < trained[1] and asked[2] < trained[2]


def test_a_proposal_that_conflicts_with_what_was_kept_meanwhile_is_asked_for_anew(
    study: Study,  # noqa: F811
    tried: list[int],
    machine: Machine,
) -> None:
    agent = Listener({"ALPHA": 0.5}, {"ALPHA": 0.7}, {"ALPHA": 0.2}, ahead=True)
    machine.during = lambda number: waits_for(lambda: len(agent.contexts) > number)(number) if number == 1 else None
    done = list(research(study, agent, experiments=2))
    assert refusals(study) == [(2, "conflict")]
    assert agent.contexts[2].refused[0].objection is Objection.CONFLICT and agent.contexts[2].incumbent.number == 1
    assert done[2].changes == {} and "ALPHA = 0.2" in study.train_source(2)


def test_what_was_answered_ahead_survives_the_harness(
    study: Study,  # noqa: F811
    tried: list[int],
    machine: Machine,
) -> None:
    agent = Listener({"ALPHA": 0.5}, {"NUM_BATCHES": 30}, ahead=True)

    def during(number: int) -> None:
        if number == 1:
            waits_for(lambda: len(agent.contexts) > 1)(number)
            time.sleep(0.1)
            send(study.paths.commands, "stop now")

    machine.during = during
    list(research(study, agent, experiments=2))
    assert json.loads(study.experiment(2).proposal.read_text())["parent"] == 0
    machine.during = lambda number: None
    done = list(research(study, Listener(), experiments=2))
    assert [(e.number, e.parent) for e in done] == [(1, 0), (2, 1)] and "NUM_BATCHES = 30" in study.train_source(2)
    assert len(events_of(study, "called")) == 2


def test_what_failed_ahead_is_asked_again_while_the_experiment_trains(
    study: Study,  # noqa: F811
    tried: list[int],
    machine: Machine,
) -> None:
    agent = Listener(
        {"ALPHA": 0.5}, AgentUnavailable("down"), AgentUnavailable("down"), {"NUM_BATCHES": 30}, ahead=True
    )

    def during(number: int) -> None:
        deadline = time.monotonic() + 5
        while number == 1 and len(agent.contexts) < 4 and time.monotonic() < deadline:
            machine.time.sleep(1.0)
            assert machine.listener.on_tick is not None
            machine.listener.on_tick(0.1)

    machine.during = during
    done = list(research(study, agent, experiments=2))
    assert len(done) == 3 and not events_of(study, "paused")
    assert [[e.number for e in c.in_work] for c in agent.contexts] == [[], [1], [1], [1]]


def test_hours_end_while_an_agent_thinks(study: Study, tried: list[int]) -> None:  # noqa: F811
    done = list(research(study, Listener({"ALPHA": 0.5}, seconds=60.0), hours=2 / 3600))
    assert [e.number for e in done] == [0]
    assert events_of(study, "finished")[0]["reason"].endswith("hours")


def test_people_are_heard_while_an_agent_thinks(study: Study, tried: list[int]) -> None:  # noqa: F811
    def watch(progress: Progress) -> None:
        if progress.phase == "proposing":
            send(study.paths.commands, "stop")

    begun = time.monotonic()
    done = list(research(study, Listener({"ALPHA": 0.5}, seconds=30.0), experiments=1, watch=watch))
    assert [e.number for e in done] == [0] and time.monotonic() - begun < 20
    assert "asked by" in state_of(study).stopped


# --- people


def answers(study: Study, *words: tuple[str, str, str | None]) -> Callable[[Progress], None]:  # noqa: F811
    """Says these (command, text, new train.py or None), one each time something waits for a person."""
    left = list(words)

    def watch(progress: Progress) -> None:
        if progress.text.startswith("Paused: ") and "waits for your" in progress.text:
            command, text, source = left.pop(0)
            if source is not None:
                study.paths.review.write_text(source)
            send(study.paths.commands, command, text)

    return watch


def test_nothing_trains_that_was_not_approved_and_a_no_reaches_the_agent(study: Study, tried: list[int]) -> None:  # noqa: F811
    agent = Listener({"ALPHA": 0.5}, {"ALPHA": 0.4}, {"ALPHA": 0.3})
    edited = COUNTING_TRAIN.replace("ALPHA = 1.0", "ALPHA = 0.25")
    said = answers(study, ("reject", "too timid", None), ("approve", "", None), ("approve", "much less", edited))
    done = list(research(study, agent, experiments=2, approve=True, watch=said))
    assert [(e.hypothesis, e.agent) for e in done[1:]] == [
        ("Idea {'ALPHA': 0.4}", "listener"),
        ("much less", "listener, edited"),
    ]
    assert refusals(study) == [(1, "person")]
    assert agent.contexts[1].refused[0].why == "too timid" and agent.contexts[2].refusals[0].why == "too timid"
    assert study.train_source(2) == edited and done[2].changes == {"ALPHA": 0.25}


def test_the_optimiser_does_not_propose_again_what_a_person_refused(study: Study, tried: list[int]) -> None:  # noqa: F811
    said = answers(study, *[("reject", "no", None)] * 4, ("approve", "", None))
    list(research(study, SearchAgent(), experiments=1, approve=True, watch=said))
    refused = [json.dumps(e["parameters"], sort_keys=True) for e in events_of(study, "refused")]
    assert len(refused) == 4 == len(set(refused))


def test_a_persons_own_train_py_is_checked_before_it_trains(study: Study, tried: list[int]) -> None:  # noqa: F811
    said = answers(
        study,
        ("approve", "", None),  # nothing was edited
        ("reject", "", None),  # there is nothing to reject
        ("approve", "", with_line("raise RuntimeError('boom')")),
        ("approve", "Count fewer", COUNTING_TRAIN.replace("ALPHA = 1.0", "ALPHA = 0.5")),
    )
    done = list(research(study, HumanAgent(), experiments=1, watch=said))
    assert [(e.hypothesis, e.agent, e.status) for e in done[1:]] == [("Count fewer", "human", Status.KEEP)]
    notes = [e["text"] for e in events_of(study, "note") if "not taken" in e["text"] or "reject" in e["text"]]
    assert len(notes) == 3 and "incumbent" in notes[0] and "boom" in notes[2]
    assert tried == [1, 1]


def test_an_edit_of_the_file_under_review_survives_the_harness(study: Study, tried: list[int]) -> None:  # noqa: F811
    def gives_up(progress: Progress) -> None:
        if progress.text.startswith("Paused: "):
            study.paths.review.write_text(COUNTING_TRAIN.replace("ALPHA = 1.0", "ALPHA = 0.5"))
            send(study.paths.commands, "stop now")

    list(research(study, HumanAgent(), experiments=1, watch=gives_up))
    assert state_of(study).review is not None
    done = list(research(study, HumanAgent(), experiments=1, watch=answers(study, ("approve", "mine", None))))
    assert "ALPHA = 0.5" in study.train_source(1) and done[-1].hypothesis == "mine"


def test_approval_is_needed_until_somebody_says_otherwise(study: Study, tried: list[int]) -> None:  # noqa: F811
    def stops(progress: Progress) -> None:
        if progress.text.startswith("Paused: "):
            send(study.paths.commands, "stop now")

    list(research(study, Listener({"ALPHA": 0.5}), experiments=1, approve=True, watch=stops))
    list(research(study, Listener(), experiments=1, watch=stops))
    assert len(events_of(study, "review")) == 1 and len(state_of(study).decided) == 1
    done = list(research(study, Listener(), experiments=1, approve=False))
    assert [e.number for e in done] == [1] and not state_of(study).approve


def test_a_file_under_review_without_a_text_is_told_and_waited_for(study: Study, tried: list[int]) -> None:  # noqa: F811
    steps = ["latin", "gone", "good"]

    def watch(progress: Progress) -> None:
        if progress.text.startswith("Paused: ") and steps:
            step = steps.pop(0)
            study.paths.review.unlink()
            if step == "latin":
                study.paths.review.write_bytes(COUNTING_TRAIN.encode() + b"# \xe9\n")
            elif step == "good":
                study.paths.review.write_text(COUNTING_TRAIN.replace("ALPHA = 1.0", "ALPHA = 0.5"))
            send(study.paths.commands, "approve")

    done = list(research(study, Listener({"ALPHA": 0.4}), experiments=1, approve=True, watch=watch))
    assert "ALPHA = 0.5" in study.train_source(1) and done[1].status is Status.KEEP
    notes = [e["text"] for e in events_of(study, "note") if "was not taken" in e["text"]]
    assert "train.py is not UTF-8 text: byte" in notes[0] and "No such file" in notes[1]
    assert "Error" not in notes[0] + notes[1]


def test_a_refused_recording_is_skipped(study: Study, tried: list[int]) -> None:  # noqa: F811
    recording = [Proposal(f"Idea {a}", COUNTING_TRAIN.replace("ALPHA = 1.0", f"ALPHA = {a}"), "x") for a in (0.5, 0.4)]
    said = answers(study, ("reject", "not that one", None), ("approve", "", None))
    done = list(research(study, ReplayAgent(recording, "nov22"), experiments=2, approve=True, watch=said))
    assert [e.hypothesis for e in done[1:]] == ["Idea 0.4"]
    assert state_of(study).finished == "nothing left to propose"


def test_a_dry_run_that_was_cut_off_is_made_again(
    study: Study,  # noqa: F811
    machine: Machine,
) -> None:
    calls = []

    def cut_off_once(training: Training, listener: TrainingListener) -> RunOutcome:
        calls.append(training.source)
        if len(calls) == 1:
            send(study.paths.commands, "stop now")
            assert listener.on_tick is not None
            listener.on_tick(0.1)
        outcome = machine.pretend_dry_run(training, listener)
        return RunOutcome(Status.CRASH, "RuntimeError: boom", None, None) if len(calls) == 2 else outcome

    machine.dry_run = cut_off_once
    list(research(study, Listener({"ALPHA": 0.5}), experiments=1))
    done = list(research(study, Listener({"ALPHA": 0.4}), experiments=1))
    assert (
        len(calls) == 3 and refusals(study) == [(1, "dry run")] and "ALPHA = 0.4" in study.train_source(done[0].number)
    )


def test_program_md_may_be_saved_in_any_way_in_the_middle_of_a_night(study: Study, tried: list[int]) -> None:  # noqa: F811
    agent = Listener({"ALPHA": 0.5}, {"ALPHA": 0.4}, {"ALPHA": 0.3})
    program = study.project / "program.md"
    for experiment in research(study, agent, experiments=3):
        if experiment.number == 1:
            program.write_bytes(b"# caf\xe9")
        elif experiment.number == 2:
            program.unlink()
    assert agent.contexts[1].program == "# caf\ufffd" == agent.contexts[2].program


def test_approval_of_nothing_is_answered(study: Study, tried: list[int]) -> None:  # noqa: F811
    def watch(progress: Progress) -> None:
        if progress.phase == "starting" and progress.experiment == 1:
            send(study.paths.commands, "approve")

    list(research(study, Listener({"ALPHA": 0.5}), experiments=1, watch=watch))
    assert [e["answer"] for e in events_of(study, "command")][:1] == ["nothing waits for that"]


def test_notes_are_kept_and_a_persons_edit_of_them_is_read(study: Study, tried: list[int]) -> None:  # noqa: F811
    class Writer(Listener):
        def propose(self, context: Context) -> Proposal:
            from dataclasses import replace

            return replace(super().propose(context), notes=f"Learned by {context.number}")

    agent = Writer({"ALPHA": 0.5}, {"ALPHA": 0.4})
    for experiment in research(study, agent, experiments=2):
        if experiment.number == 1:
            assert study.paths.notes.read_text() == "Learned by 1\n"
            study.paths.notes.write_text("A person knows better")
    assert agent.contexts[1].notes == "A person knows better" and agent.contexts[1].notes_at == 0
    assert [e["decided"] for e in events_of(study, "notes")] == [0, 1]


def test_an_agent_hears_how_many_experiments_and_hours_are_left(
    study: Study,  # noqa: F811
    tried: list[int],
) -> None:
    agent = Listener(*({"ALPHA": 0.5 + 0.01 * i} for i in range(20)), ahead=True)
    list(research(study, agent, experiments=3, hours=2.0))
    contexts = {context.number: context for context in agent.contexts}
    assert [contexts[number].experiments_left for number in (1, 2, 3)] == [3, 2, 1]
    left = [contexts[number].seconds_left for number in (1, 2, 3)]
    assert all(seconds is not None and 0 < seconds <= 7200 for seconds in left)
    assert "def make_dataloader(" in contexts[1].prepare_source
    later = Listener({"ALPHA": 0.2})
    list(research(study, later, experiments=1))
    assert (later.contexts[0].experiments_left, later.contexts[0].seconds_left) == (1, None)


def test_an_approval_in_the_middle_of_a_check_is_refused_and_loses_nothing(
    study: Study,  # noqa: F811
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = (COUNTING_TRAIN.replace("ALPHA = 1.0", f"ALPHA = {alpha}") for alpha in (0.5, 0.3))
    refused: list[str] = []

    def watch(progress: Progress) -> None:
        if progress.text.startswith("Paused: ") and not refused:
            study.paths.review.write_text(first)
            send(study.paths.commands, "approve")

    def check(training: Training, listener: TrainingListener) -> RunOutcome:
        if "ALPHA = 0.5" in training.source and listener.on_tick is not None:
            with ThreadPoolExecutor() as pool:
                answers = [pool.submit(approve_second), pool.submit(reject)]
                while not all(answer.done() for answer in answers):
                    listener.on_tick(0.1)
                    time.sleep(0.01)
            refused.extend(answer.result() for answer in answers)
        return machine.pretend_dry_run(training, listener)

    def approve_second() -> str:
        with pytest.raises(StudyError) as error:
            actions.approve(study, second)
        return str(error.value)

    def reject() -> str:
        with pytest.raises(StudyError) as error:
            actions.say_to(study, "reject", "no")
        return str(error.value)

    machine.dry_run = check
    list(research(study, Listener({"ALPHA": 0.4}), experiments=1, approve=True, watch=watch))
    assert study.train_source(1) == first == study.paths.review.read_text()
    assert all(words.startswith("Experiment 0001 is being checked already, so this ") for words in refused)
    assert len(refused) == 2 and all("status --name nov23" in words for words in refused)


def test_a_file_that_is_written_after_the_answer_to_an_approval_does_not_train(study: Study, tried: list[int]) -> None:  # noqa: F811
    first, second = (COUNTING_TRAIN.replace("ALPHA = 1.0", f"ALPHA = {alpha}") for alpha in (0.5, 0.3))

    def watch(progress: Progress) -> None:
        if progress.text.startswith("Paused: "):
            study.paths.review.write_text(first)
            send(study.paths.commands, "approve")
        elif progress.text.startswith("Approve, "):
            study.paths.review.write_text(second)

    list(research(study, Listener({"ALPHA": 0.4}), experiments=1, approve=True, watch=watch))
    assert study.train_source(1) == first


NO_CLOCK = COUNTING_TRAIN.replace("clock.running() and ", "")


def test_a_training_that_no_budget_ends_never_trains(study: Study, tried: list[int], machine: Machine) -> None:  # noqa: F811
    done = list(research(study, Listener(*[NO_CLOCK] * 9), experiments=1))
    assert set(refusals(study)) == {(1, "gate")} and tried == []
    assert done[1].status is Status.INVALID and "does not ask prepare's clock" in done[1].reason
    assert machine.trained == [(0, 0), (0, 1), (0, 2)]


def test_a_dry_run_has_one_limit_that_short_runs_can_afford(study: Study, machine: Machine) -> None:  # noqa: F811
    limits: list[float] = []

    def too_slow(training: Training, listener: TrainingListener) -> RunOutcome:
        limits.append(training.limit_seconds)
        if "ALPHA = 0.5" in training.source:
            return RunOutcome(Status.TIMEOUT, "passed its hard limit of 10 s in cell 4", None, None)
        return machine.pretend_dry_run(training, listener)

    machine.dry_run = too_slow
    agent = Listener({"ALPHA": 0.5}, {"ALPHA": 0.4})
    list(research(study, agent, experiments=1))
    assert limits == [10.0, 10.0]  # allowances of 12 s and 6 s, a budget of 2 s, and 10 s kept for the scorer
    why = agent.contexts[1].refused[-1].why
    assert "limit of 10 s in cell 4: within this limit a dry run sets up, compiles, makes 3 steps and evaluates" in why


@pytest.mark.parametrize(
    ("budget", "beside", "seconds"),
    [(5.0, 6.0, 40.0), (5.0, 25.0, 100.0), (60.0, 6.0, 120.0), (300.0, 6.0, 240.0), (5.0, 500.0, 185.0)],
)
def test_the_limit_of_a_dry_run_follows_the_budget_and_the_baseline(
    budget: float, beside: float, seconds: float
) -> None:
    facts = {"startup_allowance_seconds": 120.0, "handover_allowance_seconds": 60.0}
    of_study = SimpleNamespace(facts=facts, time_budget_seconds=budget)
    baseline = SimpleNamespace(runs=[SimpleNamespace(measured={"overhead_seconds": beside})])
    session = SimpleNamespace(study=of_study, state=SimpleNamespace(experiments=[baseline]))
    assert limit_seconds(session) == seconds  # type: ignore[arg-type]


def test_an_experiment_that_seeds_itself_is_noted_and_not_refused(study: Study, tried: list[int]) -> None:  # noqa: F811
    seeded = COUNTING_TRAIN.replace("ALPHA = 1.0", "ALPHA = 0.5")
    seeded = seeded.replace("import torch\n", "import torch\ntorch.manual_seed(137)\n", 1)
    done = list(research(study, Listener(seeded), experiments=1))
    assert done[1].status is Status.KEEP
    assert done[1].details["seeds"].startswith("it seeds itself in line 13 (torch.manual_seed(137)), so its conf")
    notes = [event["text"] for event in events_of(study, "note")]
    assert f"Experiment 0001: {done[1].details['seeds']}." in notes
