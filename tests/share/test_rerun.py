"""An experiment of a bundle trains again beside its parent, and its claim holds, or does not, or stays open."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autoresearch_kernel.cli import main
from autoresearch_kernel.core.rerun import Claim, Difference, Rerun, rerun_says
from autoresearch_kernel.core.state import replay
from autoresearch_kernel.core.types import Audit, RunOutcome, Status
from autoresearch_kernel.record.history import read_events, read_state
from autoresearch_kernel.record.study import Study
from autoresearch_kernel.run.training import Listener, Training
from autoresearch_kernel.share import rerun as rerun_module
from autoresearch_kernel.share.bundle import Bundle, read_bundle
from autoresearch_kernel.share.check import events_of
from autoresearch_kernel.share.rerun import CannotRerun, Question, open_or_start, question_of, rerun, scores_here
from autoresearch_kernel.study.loop import research
from tests.bundles import CRASHES, REFUSAL, files_of, share
from tests.conftest import DTYPE, counting_study
from tests.pretended import Machine
from tests.study.test_loop import Scripted

HARDWARE = {"device": "cpu", "device_name": "another machine", "dtype": DTYPE, "num_cores": 2, "num_threads": 2}


@pytest.fixture(scope="module")
def kept(night: Path) -> int:
    """The kept experiment whose gain is the clearest."""
    found = [e for e in read_bundle_state(night).experiments[1:] if e.status is Status.KEEP]
    return int(min(found, key=lambda e: e.delta_bpb / e.delta_standard_error).number)


def read_bundle_state(path: Path) -> Any:
    return replay(events_of(read_bundle(path)))


@pytest.fixture
def home(small_corpus: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A cache of its own for the folders of reruns."""
    monkeypatch.setenv("AUTORESEARCH_HOME", str(tmp_path / "home"))
    yield tmp_path / "home"


def build(corpus: Path) -> Any:
    return lambda project, wanted, say: (corpus, corpus.parents[1] / "heldout" / corpus.name)


def start(question: Question, corpus: Path, **others: Any) -> Study:
    said: list[str] = []
    settings = {"seed": 17, "say": said.append, "measure": lambda project, python: HARDWARE, "build": build(corpus)}
    return open_or_start(question, **(settings | others))


def test_both_codes_train_in_turns_and_an_honest_gain_agrees(
    night: Path, kept: int, small_corpus: Path, home: Path, machine: Machine
) -> None:
    honest = question_of(read_bundle(night), kept)
    claimed = honest.claim.difference
    assert claimed.bpb < 0 and honest.parent != kept
    sharp = Claim(Difference(claimed.bpb, 0.0001, 60), 0.0004)  # as if it rested on many runs
    question = replace(honest, claim=sharp)
    study = start(question, small_corpus)
    pairs: list[int] = []
    answer = rerun(question, study, on_pair=lambda pair, mine, theirs: pairs.append(pair), backend=machine.backend)
    assert answer is not None and answer.answer == "agrees"
    assert machine.trained == [(number, run) for run in range(answer.num_seeds) for number in (0, 1)]
    assert pairs == list(range(1, answer.num_seeds + 1))
    state = read_state(study.paths.history)
    assert all(run.audit is not None for experiment in state.experiments for run in experiment.runs)
    reran = next(event for event in read_events(study.paths.history) if event["event"] == "reran")
    assert reran["answer"] == "agrees" and reran["here"]["bpb"] == answer.here.bpb
    assert not {run.seed for e in state.experiments for run in e.runs} & {
        run.seed for e in read_bundle_state(night).experiments for run in e.runs
    }


def test_an_inflated_gain_is_contradicted_and_the_same_call_trains_nothing_again(
    night: Path, kept: int, small_corpus: Path, home: Path, machine: Machine
) -> None:
    honest = question_of(read_bundle(night), kept)
    claimed = honest.claim.difference
    more = Difference(claimed.bpb - 20 * honest.claim.sigma, claimed.error, claimed.degrees_of_freedom)
    question = replace(honest, claim=replace(honest.claim, difference=more))
    study = start(question, small_corpus)
    for _ in range(2):
        answer = rerun(question, study, backend=machine.backend)
        assert answer is not None and answer.answer == "contradicts"
    assert len(machine.trained) == 2 * answer.num_seeds
    assert start(question, small_corpus).facts == study.facts, "the folder is found again"


def test_an_answer_stays_when_more_pairs_are_allowed_later(
    night: Path, kept: int, small_corpus: Path, home: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was the last look's, which asks for less than one that others may follow."""
    question, lasts = question_of(read_bundle(night), kept), list[bool]()
    study = start(question, small_corpus)

    def says(claim: Claim, mine: list[float], theirs: list[float], is_last: bool) -> Rerun:
        lasts.append(is_last)
        return replace(rerun_says(claim, mine, theirs), answer="contradicts" if is_last else "cannot tell")

    monkeypatch.setattr(rerun_module, "rerun_says", says)
    first = rerun(question, study, most_seeds=4, backend=machine.backend)
    assert first is not None and first.answer == "contradicts" and lasts == [False, True]
    again = rerun(question, study, most_seeds=6, backend=machine.backend)
    assert again == first and len(machine.trained) == 8


def test_an_open_answer_does_not_stay(
    night: Path, kept: int, small_corpus: Path, home: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    question = question_of(read_bundle(night), kept)
    study = start(question, small_corpus)
    monkeypatch.setattr(rerun_module, "rerun_says", lambda *of: replace(rerun_says(*of), answer="cannot tell"))
    for most in (3, 4):
        answer = rerun(question, study, most_seeds=most, backend=machine.backend)
        assert answer is not None and (answer.answer, answer.num_seeds) == ("cannot tell", most)


def test_a_rerun_that_was_cut_off_goes_on_and_counts_what_it_has(
    night: Path, kept: int, small_corpus: Path, home: Path, machine: Machine
) -> None:
    question = question_of(read_bundle(night), kept)
    study = start(question, small_corpus)

    class Cut(BaseException):
        pass

    def cut(pair: int, mine: float, theirs: float) -> None:
        raise Cut

    with pytest.raises(Cut):
        rerun(question, study, on_pair=cut, backend=machine.backend)
    assert [len(scores) for scores in scores_here(read_state(study.paths.history))] == [1, 1]
    answer = rerun(question, study, backend=machine.backend)
    assert answer is not None and len(machine.trained) == 2 * answer.num_seeds


def test_a_code_that_fails_here_is_named(
    night: Path, kept: int, small_corpus: Path, home: Path, machine: Machine
) -> None:
    question = question_of(read_bundle(night), kept)

    def fails(training: Training, listener: Listener) -> RunOutcome:
        if training.paths.folder.name == failing:
            return RunOutcome(Status.CRASH, "RuntimeError: no memory", None, None)
        return machine.pretend_training(training, listener)

    machine.train = fails
    for failing, who in (("0001", kept), ("0000", question.parent)):
        study = start(replace(question, key=failing), small_corpus)
        with pytest.raises(
            CannotRerun, match=rf"The code of experiment {who:04d} has no score here: 2 trainings .* no memory"
        ):
            rerun(question, study, backend=machine.backend)


def test_a_score_that_the_audit_refuses_here_is_none(
    night: Path, kept: int, small_corpus: Path, home: Path, machine: Machine
) -> None:
    question = question_of(read_bundle(night), kept)
    refused: Audit = REFUSAL
    accept = machine.audit
    machine.audit = lambda job, **facts: refused if job.artefact.parents[1].name == "0001" else accept(job, **facts)
    with pytest.raises(CannotRerun, match="ended as rejected, the last with 100 of 256 answers differ"):
        rerun(question, start(question, small_corpus), backend=machine.backend)


def test_another_corpus_is_refused(night: Path, kept: int, small_corpus: Path, home: Path) -> None:
    question = question_of(read_bundle(night), kept)
    other = question.facts | {"corpus": question.facts["corpus"] | {"content_sha256": "0" * 64}}
    with pytest.raises(CannotRerun, match="has another text than the bundle's"):
        start(replace(question, facts=other), small_corpus)
    assert not list(home.glob("reruns/*/studies")), "no study was begun"


def test_what_cannot_be_compared_is_refused_in_a_sentence(night: Path, kept: int) -> None:
    bundle = read_bundle(night)
    with pytest.raises(CannotRerun, match=r"has no experiment 99\. Choose one from 1 to 26"):
        question_of(bundle, 99)
    with pytest.raises(CannotRerun, match="ended as crash, without a difference"):
        question_of(bundle, CRASHES)
    damaged = files_of(night) | {f"experiments/{kept:04d}/train.py": b"import os\n"}
    with pytest.raises(CannotRerun, match=r"does not verify, so nothing of it is trained\. experiments/"):
        question_of(Bundle(damaged), kept)


def test_the_command_says_that_code_will_run_and_does_not_run_it_unasked(
    night: Path, kept: int, small_corpus: Path, home: Path, machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rerun", str(night), "--experiment", str(kept)]) == 1  # no terminal to ask at
    said = capsys.readouterr()
    assert "Code from this bundle will run here, in the sandbox of a study." in said.out and "--yes" in said.err
    assert machine.trained == [] and not home.exists()


def test_a_real_pair_trains_in_the_sandbox_and_is_answered(
    project: Path, small_corpus: Path, monkeypatch: pytest.MonkeyPatch, no_pictures: None,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Real kernels, scorers and audits of a model that counts, through the command."""
    # It has time for all its batches on a busy machine, and its seeds are fixed: so are the scores and the answer.
    monkeypatch.setattr("secrets.randbelow", lambda most: 23)
    study = counting_study(
        project, small_corpus, time_budget_seconds=20.0, startup_allowance_seconds=60.0, handover_allowance_seconds=30.0
    )
    *_, experiment = research(study, Scripted({"ALPHA": 0.05}), experiments=1)
    assert experiment.status is Status.KEEP
    path = share(study, project / "nov23.zip")
    status = main(["rerun", str(path), "--experiment", "1", "--seeds", "2", "--most-seeds", "3", "--yes"])
    said = capsys.readouterr().out
    words = {0: "This machine agrees", 3: "annot tell"}[status]  # so few seeds may not tell a large gain from luck
    assert words in said and said.count("95 % interval") == 2
    rerun_folder = next((small_corpus.parents[1] / "reruns").iterdir())
    state = read_state(rerun_folder / "studies" / "rerun" / "history.jsonl")
    assert {run.sandbox for e in state.experiments for run in e.runs} != {"none"}
    assert all(run.audit is not None and run.audit.accepted for e in state.experiments for run in e.runs)
