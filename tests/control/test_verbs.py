"""An agent in its own conversation: it asks, proposes and waits; the study waits for it. Training is pretended."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from autoresearch_kernel.cli import main
from autoresearch_kernel.control import verbs
from autoresearch_kernel.control.asking import chosen, sections_of
from autoresearch_kernel.core.format import count
from autoresearch_kernel.record.commands import send
from autoresearch_kernel.record.history import read_state
from autoresearch_kernel.record.study import Study, StudyError, sha256
from autoresearch_kernel.show.follow import look
from tests.agents.test_prompt import parts as parts_of_prompt
from tests.conftest import COUNTING_TRAIN, counting_study, forget_views
from tests.control.running import TYPING_ERROR, alpha, events_of, line, prepare, running, until
from tests.pretended import Machine


@pytest.fixture
def study(project: Path, small_corpus: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    forget_views(monkeypatch)
    return counting_study(project, small_corpus, agent="human")


@pytest.fixture
def pretended() -> Machine:
    return prepare(Machine())


class Client:
    """A coding agent that types commands."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys = folder, capsys

    def type(self, *words: str) -> tuple[int, dict[str, Any]]:
        """The exit status and the answer of a command with --json."""
        self.capsys.readouterr()
        status = main([*words, "--json"])
        return status, json.loads(self.capsys.readouterr().out)

    def propose(self, source: str, hypothesis: str, *words: str) -> tuple[int, dict[str, Any]]:
        file = self.folder / "mine.py"
        file.write_text(source)
        return self.type("propose", str(file), "--hypothesis", hypothesis, *words)


@pytest.fixture
def client(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Client:
    return Client(tmp_path, capsys)


def test_an_agent_outside_asks_proposes_and_gets_a_verdict(study: Study, pretended: Machine, client: Client) -> None:
    with running(study, pretended, experiments=1):
        status, asked = client.type("ask")
        assert (status, asked["state"], asked["experiment"]) == (0, "yours", 1)
        assert "--experiment 1 --hypothesis" in asked["prompt"] and "ALPHA = 1.0" in asked["prompt"]
        assert "Left in this study: 1 experiment, this one included" in asked["prompt"]
        assert "SEARCH" not in asked["prompt"], "the client hands in a file"

        reasons = ("--expected", "-0.2, because fewer counts are added", "--refuted-by", "a score that rises")
        status, taken = client.propose(alpha(0.01), "Less smoothing helps", *reasons, "--experiment", "1")
        assert (status, taken["state"], taken["experiment"]) == (0, "accepted", 1)

        status, verdict = client.type("wait")
        assert (status, verdict["state"], verdict["status"], verdict["is_kept"]) == (0, "decided", "keep", True)
        assert verdict["delta_bpb"] < -0.1 and verdict["incumbent"] == 1
    [experiment] = read_state(study.paths.history).experiments[1:]
    assert (experiment.hypothesis, experiment.agent) == ("Less smoothing helps", "human")
    assert experiment.expected == reasons[1] and experiment.refutation == reasons[3]
    assert study.train_source(1) == alpha(0.01)
    assert client.type("wait", "--experiment", "1")[1]["val_bpb"] == experiment.val_bpb, "the study has ended"


def test_a_refused_proposal_comes_back_with_the_reason(study: Study, pretended: Machine, client: Client) -> None:
    with running(study, pretended, experiments=1):
        client.type("ask")
        status, refused = client.propose(COUNTING_TRAIN + "# a comment\n", "Nothing changes")
        assert (status, refused["state"], refused["objection"]) == (5, "refused", "repeat")
        assert "the code of the incumbent, 0000" in refused["why"]
        status, refused = client.propose(line(TYPING_ERROR), "It crashes")
        assert (status, refused["objection"]) == (5, "dry run") and "a typing error" in refused["why"]

        assert client.type("wait")[0] == 5, "nothing has become an experiment"
        status, asked = client.type("ask", "--part", "came back", "--part", "now")
        assert status == 0 and 'Your proposal came back: "It crashes"' in asked["prompt"]
        assert "# Now" in asked["prompt"] and "# The record" not in asked["prompt"]
        assert study.paths.review.read_text() == line(TYPING_ERROR), "a person may mend it there"
        assert client.propose(line("LINE = 1"), "It runs")[0] == 0
        assert client.type("wait")[1]["state"] == "decided"
    state = read_state(study.paths.history)
    assert [(r.experiment, r.objection, r.hypothesis) for r in state.refusals] == [
        (1, "repeat", "Nothing changes"), (1, "dry run", "It crashes")
    ]  # fmt: skip
    assert len(events_of(study, "review")) == 1, "the file under review was put there once"
    assert json.loads(study.experiment(1).refused(2).read_text())["proposal"]["train_source"] == line(TYPING_ERROR)


def test_a_session_that_is_closed_in_the_middle_loses_nothing(study: Study, pretended: Machine, client: Client) -> None:
    with running(study, pretended, experiments=2):
        assert client.type("ask")[1]["experiment"] == 1
    status, answer = client.type("ask")
    assert (status, answer["state"]) == (6, "not running") and "run --name nov23 --detach" in answer["message"]
    status, answer = client.propose(alpha(0.01), "Less smoothing helps")
    assert (status, answer["state"]) == (6, "not running")
    assert len(read_state(study.paths.history).experiments) == 1

    with running(study, pretended, experiments=2):
        status, asked = client.type("ask")
        assert (status, asked["experiment"]) == (0, 1), asked["message"]
        assert client.propose(alpha(0.01), "Less smoothing helps")[0] == 0  # and the conversation ends here
        until(lambda: look(study).phase == "reviewing")
        status, verdict = client.type("wait")  # in another one
        assert (status, verdict["experiment"], verdict["status"]) == (0, 1, "keep")
        assert client.type("ask")[1]["experiment"] == 2


def test_each_state_has_its_exit_status(study: Study, pretended: Machine, client: Client) -> None:
    may_end, trains = threading.Event(), threading.Event()

    def during(experiment: int) -> None:
        if experiment == 1:
            trains.set()
            assert may_end.wait(60)

    pretended.during = during
    with running(study, pretended, experiments=1) as thread:
        client.type("ask")
        assert client.propose(alpha(0.01), "Less smoothing helps")[0] == 0
        assert trains.wait(60)
        for words in (("wait", "--timeout", "0"), ("ask", "--timeout", "0.3")):
            status, answer = client.type(*words)
            assert (status, answer["state"]) == (7, "working") and "training 0001" in answer["message"]
        status, answer = client.propose(alpha(0.02), "Too early")
        assert (status, answer["state"]) == (5, "refused") and "It is not your turn." in answer["message"]
        may_end.set()
        thread.join(60)
    status, answer = client.type("ask")
    assert (status, answer["state"]) == (4, "ended") and "1 experiment" in answer["message"]
    with running(study, pretended, experiments=2):
        client.type("ask")
        send(study.paths.commands, "pause")
        until(lambda: [e for e in events_of(study, "command") if e["command"] == "pause"])
        assert client.propose(line("LINE = 2"), "It waits")[0] == 0
        assert client.type("wait")[1]["experiment"] == 2, "what was begun is decided before the pause"
        status, answer = client.type("ask")
        assert (status, answer["state"]) == (3, "paused") and "resume --name nov23" in answer["message"]
        assert client.propose(line("LINE = 3"), "It waits")[0] == 3
        assert client.type("wait", "--experiment", "3")[0] == 3
        send(study.paths.commands, "resume")
        until(lambda: verbs.ask(study).state == "yours")


def test_of_two_proposals_at_once_one_trains_with_its_own_words(study: Study, pretended: Machine) -> None:
    values = [0.01, 0.02, 0.03, 0.04]
    with running(study, pretended, experiments=1):
        verbs.ask(study)
        together = threading.Barrier(len(values))

        def hand_in(value: float) -> verbs.Answer:
            together.wait(60)
            return verbs.propose(study, alpha(value), f"ALPHA is {value}")

        with ThreadPoolExecutor(len(values)) as pool:
            answers = list(pool.map(hand_in, values))
        assert sorted(answer.state for answer in answers) == ["accepted", "refused", "refused", "refused"]
        verbs.wait(study)
    [experiment] = read_state(study.paths.history).experiments[1:]
    won = values[[answer.state for answer in answers].index("accepted")]
    assert experiment.hypothesis == f"ALPHA is {won}" and study.train_source(1) == alpha(won)
    assert [answer.message for answer in answers if answer.state == "refused" and not answer.message] == []


def test_a_proposal_for_an_experiment_that_is_past_is_refused(study: Study, pretended: Machine, client: Client) -> None:
    with running(study, pretended, experiments=2):
        client.type("ask")
        client.propose(alpha(0.01), "Less smoothing helps")
        client.type("wait")
        client.type("ask")
        status, answer = client.propose(alpha(0.02), "Made for an older train.py", "--experiment", "1")
        assert status == 5 and "now waits for experiment 0002, not 0001" in answer["message"]


@pytest.mark.parametrize(
    ("hypothesis", "source", "why"),
    [
        (" ", alpha(0.01), "There is no hypothesis"),
        ("x" * 10_000_000, alpha(0.01), f"The hypothesis has {count(10_000_000, 'character')}"),
        ("Too long", "#" * 10_000_000, f"The train.py has {count(10_000_000, 'character')}"),
        ("No text", "x = '\ud800'", "is no text that Python reads"),
    ],
)
def test_what_cannot_be_a_proposal_is_refused_before_it_is_written(
    study: Study, pretended: Machine, hypothesis: str, source: str, why: str
) -> None:
    with running(study, pretended, experiments=1):
        verbs.ask(study)
        before = study.paths.review.read_bytes()
        answer = verbs.propose(study, source, hypothesis)
        assert (answer.state, answer.exit_status) == ("refused", 5) and why in answer.message
        assert len(answer.message) < 500 and study.paths.review.read_bytes() == before
    assert not study.paths.commands.exists() or "approve" not in study.paths.commands.read_text()


def test_a_file_that_another_user_put_there_is_not_approved_unseen(study: Study, pretended: Machine) -> None:
    with running(study, pretended, experiments=1):
        verbs.ask(study)
        study.paths.review.write_text(alpha(0.5))
        send(study.paths.commands, "approve", "Not this file", train_sha256=sha256(alpha(0.4)))
        [answered] = until(lambda: events_of(study, "command"))
        assert answered["answer"].endswith("another file was put there meanwhile")
        assert verbs.wait(study, timeout_seconds=0).state == "yours"
    assert len(read_state(study.paths.history).experiments) == 1


def test_an_edit_that_is_approved_by_hand_is_a_proposal_as_well(
    study: Study, pretended: Machine, client: Client, tmp_path: Path
) -> None:
    with running(study, pretended, experiments=1):
        client.type("ask")
        mine = tmp_path / "by-hand.py"
        mine.write_text(alpha(0.01))
        assert main(["approve", str(mine), "--why", "By hand"]) == 0
        status, verdict = client.type("wait")
        assert (status, verdict["hypothesis"], verdict["status"]) == (0, "By hand", "keep")


def test_a_study_whose_agent_proposes_itself_is_not_open(
    project: Path, small_corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counting_study(project, small_corpus, agent="search")
    for words in (["ask"], ["propose", "train.py", "--hypothesis", "Mine"]):
        assert main(words) == 1
        assert "The agent of study nov23 is search" in capsys.readouterr().err
    assert main(["wait", "--timeout", "0"]) == 6


def test_hints_and_notes_reach_the_next_question(study: Study, pretended: Machine, client: Client) -> None:
    with running(study, pretended, experiments=2):
        client.type("ask")
        assert main(["hint", "think of the vocabulary"]) == 0
        study.paths.notes.parent.mkdir(exist_ok=True)
        study.paths.notes.write_text("# Notes\n- ALPHA matters.\n")
        _, asked = client.type("ask", "--part", "hints", "--part", "your notes")
        assert "> think of the vocabulary" in asked["prompt"] and "- ALPHA matters." in asked["prompt"]
        client.propose(alpha(0.01), "Less smoothing helps")
        client.type("wait")
    assert read_state(study.paths.history).notes == "# Notes\n- ALPHA matters.\n"


def test_the_parts_of_a_prompt_are_found_outside_of_fences() -> None:
    prompt = "The program\n\n# One\n\n```python\n# no heading\n```\n\n# Two\n\nwords\n"
    assert list(sections_of(prompt)) == ["", "One", "Two"]
    assert chosen(prompt, ["tw"]) == "# Two\n\nwords\n" and chosen(prompt, []) == prompt
    with pytest.raises(StudyError, match=r"no part 'three'\. Its parts are 'One', 'Two'"):
        chosen(prompt, ["three"])
    assert chosen(prompt, ["hints", "tw"]) == "# Two\n\nwords\n", "only some prompts have hints"
    assert "none of these parts" in chosen(prompt, ["hints"])


def test_the_prompt_of_a_client_is_that_of_a_model_but_for_how_to_hand_in(study: Study, pretended: Machine) -> None:
    with running(study, pretended, experiments=1):
        found = sections_of(str(verbs.ask(study).facts["prompt"]))
        assert {"How to hand in", "What is fixed", "What counts", "The record", "Now"} <= set(found)
        assert "How to reply" not in found
        assert set(parts_of_prompt(str(verbs.ask(study).facts["prompt"]))) >= set(found)


def test_a_prompt_that_cannot_fit_says_how_many_tokens_it_needs(study: Study, pretended: Machine) -> None:
    with running(study, pretended, experiments=1), pytest.raises(StudyError, match=r"Allow at least \d+ tokens"):
        verbs.ask(study, tokens=10)
