"""The result of a study: fresh seeds, the sealed test split, and what a cut-off finish does when it is run again."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from autoresearch_kernel.cli import main
from autoresearch_kernel.control import actions
from autoresearch_kernel.control.verify import verify
from autoresearch_kernel.core.errors import MachineFailed
from autoresearch_kernel.core.state import StudyState
from autoresearch_kernel.core.types import Audit, Evaluation, Experiment, Run, RunOutcome, SealedScore, Status
from autoresearch_kernel.lab.opening import open_study
from autoresearch_kernel.record.commands import send
from autoresearch_kernel.record.study import Study, StudyError
from autoresearch_kernel.run import slurm
from autoresearch_kernel.run.connection import ClusterRefused
from autoresearch_kernel.run.slurm_jobs import SlurmJobs
from autoresearch_kernel.run.training import Listener, Training
from autoresearch_kernel.sandbox.kinds import SANDBOX
from autoresearch_kernel.scoring.job import HeldOut, ScoringJob
from autoresearch_kernel.scoring.scorer_process import ScoringFailed
from autoresearch_kernel.show.follow import look
from autoresearch_kernel.show.study_words import findings, is_worth_promoting, result_words
from autoresearch_kernel.study import across, final_test
from autoresearch_kernel.study import finish as finishing
from autoresearch_kernel.study.finish import NothingToMeasure, Outlook, finish, standard_error, training_due
from autoresearch_kernel.study.loop import research
from autoresearch_kernel.study.steps import open_session
from autoresearch_kernel.system.files import StudyInUse, take_lock
from tests.conftest import counting_study
from tests.pretended import SPEED, WORKER, Machine, on_a_worker
from tests.study.test_loop import Scripted
from tests.study.test_night import events_of, state_of


def void(value: object) -> None:
    """For a lambda that returns nothing."""


@pytest.fixture
def found(project: Path, small_corpus: Path, machine: Machine) -> Study:
    """A study whose experiment 1 is better than its baseline; a night of two experiments that came to its end."""
    study = counting_study(project, small_corpus)
    list(research(study, Scripted({"ALPHA": -1.0}, {"ALPHA": 3.0}), experiments=2))
    machine.trained.clear()
    return study


def test_a_night_leaves_the_test_split_sealed_and_says_what_opens_it(found: Study, machine: Machine) -> None:
    assert machine.tested == [] and not state_of(found).tested
    (finished,) = events_of(found, "finished")
    assert not [key for key in finished if "test" in key] and finished["champion"] == 1
    words = findings(state_of(found), finished)
    assert "No result yet: `autoresearch finish --name nov23` measures it" in words and "Result:" not in words


def test_the_difference_stands_beside_the_two_means_that_it_is_the_difference_of(found: Study) -> None:
    late = events_of(found, "finished")[-1] | {"champion_bpb": 1.4, "baseline_bpb": 1.45, "difference_bpb": -0.05}
    words = findings(state_of(found), late)  # of the last runs alone, as after the machine's speed has moved
    assert "val_bpb 1.4000, the baseline's 1.4500; difference −0.0500 ±" in words


def test_a_study_that_found_something_worse_says_so_and_does_not_offer_it(found: Study) -> None:
    finished = events_of(found, "finished")[-1] | {"difference_standard_error": 0.01}
    worse, better = (finished | {"champion_bpb": finished["baseline_bpb"] + d} for d in (0.0316, -0.0316))
    assert "This is worse than the baseline: do not promote it." in findings(state_of(found), worse)
    assert "worse" not in findings(state_of(found), better)
    assert [is_worth_promoting(state_of(found), event) for event in (worse, better)] == [False, True]


def test_champion_and_baseline_take_turns_on_fresh_seeds_and_the_gain_shrinks(found: Study, machine: Machine) -> None:
    state = state_of(found)
    fresh_before = [run.index for run in state.experiments[1].runs if run.num_decided == 3]
    assert len(fresh_before) == 2  # the night's end gave the champion as many runs as the baseline has
    assert Outlook.of(found).num_trainings == 4
    result = finish(found)
    assert result is not None
    assert machine.trained == [(0, 3), (0, 4), (0, 5), (1, 3)]
    assert [number for number, _ in machine.tested] == [0, 0, 0, 1, 1, 1]
    assert (result.num_baseline_runs, result.num_champion_runs, result.num_looks) == (3, 3, 1)
    assert result.val_difference == pytest.approx(-0.02, abs=0.001)
    assert result.test_difference == pytest.approx(-0.016, abs=0.001)
    tested = {(t.experiment, t.run): t.test_bpb for t in state_of(found).tested}
    assert result.baseline_test_bpb == pytest.approx(sum(tested[0, run] or 0 for run in (3, 4, 5)) / 3)
    assert result.champion_test_bpb == pytest.approx(sum(tested[1, run] or 0 for run in (1, 2, 3)) / 3)
    assert all(event["provenance"] and event["sandbox"] for event in events_of(found, "tested"))
    words = findings(state_of(found), events_of(found, "finished")[-1])
    assert f"Result: test bpb {result.baseline_test_bpb:.4f} → {result.champion_test_bpb:.4f}" in words
    assert "over 3 fresh seeds each" in words and "the differences of the decisions that led there add up to" in words
    assert look(found).phase == "finished"


def test_a_second_finish_says_what_the_first_one_found_and_touches_nothing(
    found: Study,
    machine: Machine,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["finish", "--name", "nov23"]) == 0
    said = capsys.readouterr().out
    assert "4 trainings of 2 s" in said and "Result: test bpb" in said and "Nothing" not in said
    before, tested = found.paths.history.read_bytes(), list(machine.tested)
    assert main(["finish"]) == 0
    assert "is finished: its test split was opened for this champion" in capsys.readouterr().out
    assert found.paths.history.read_bytes() == before and machine.tested == tested


def test_runs_after_the_decision_are_fresh_where_experiments_before_it_are_undecided() -> None:
    """As on several slots, where a stack has a higher number than proposals that are not tried yet."""
    baseline = Experiment(0, "", "", None, status=Status.KEEP, runs=(Run(0, 0, val_bpb=1.5),))
    runs = (Run(0, 1, val_bpb=1.4, num_decided=1), Run(1, 2, val_bpb=1.4, num_decided=4))
    stack = Experiment(3, "", "", 0, status=Status.KEEP, runs=runs)
    waiting = (Experiment(1, "", "", 0), Experiment(2, "", "", 0))
    state = StudyState(experiments=(baseline, *waiting, stack), incumbent=stack)
    assert len(state.decided) == 2 and [run.index for run in finishing.fresh_runs(stack, state)] == [1]


def test_a_worker_of_a_cluster_measures_it_where_users_name_one(
    found: Study, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Machine()
    monkeypatch.setattr(across, "cluster_backend", on_a_worker(worker))
    assert main(["finish", "--cluster", "tcp://10.0.0.1:8786"]) == 0
    assert worker.trained == [(0, 3), (0, 4), (0, 5), (1, 3)] and len(worker.tested) == 6
    assert machine.trained == machine.tested == []
    notes = [event["text"] for event in events_of(found, "note")]
    assert any("1 slot of a cluster: alpha. It is a test machine with 8.0 GB" in text for text in notes)
    assert [event["workers"] for event in events_of(found, "note") if "workers" in event] == [["alpha"]]
    monkeypatch.setattr(across, "cluster_backend", lambda *_, **__: pytest.fail("a result that is there needs none"))
    assert main(["finish", "--cluster", "tcp://10.0.0.1:8786"]) == 0


def test_a_cluster_without_a_worker_of_the_study_s_kind_measures_nothing(
    found: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(across, "cluster_backend", on_a_worker(Machine()))
    monkeypatch.setitem(WORKER, "device_name", "another machine")
    before = found.paths.history.read_bytes()
    with pytest.raises(ClusterRefused, match="began on a test machine, and the worker alpha has another machine"):
        finish(found, cluster="tcp://10.0.0.1:8786")
    assert found.paths.history.read_bytes() == before


def test_a_worker_without_a_sandbox_measures_nothing_unless_the_user_renounces_it(
    found: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(across, "cluster_backend", on_a_worker(Machine()))
    monkeypatch.setitem(WORKER, "sandbox", "none")
    with pytest.raises(ClusterRefused, match="The worker alpha has no sandbox"):
        finish(found, cluster="tcp://10.0.0.1:8786")
    monkeypatch.setenv(SANDBOX, "none")  # as --unsafe does
    assert finish(found, cluster="tcp://10.0.0.1:8786") is not None
    assert {event["sandbox"] for event in events_of(found, "tested")} == {"none"}


def test_a_study_that_another_process_runs_asks_no_cluster(found: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(across, "cluster_backend", lambda *_, **__: pytest.fail("its workers would answer late"))
    lock = take_lock(found.paths.lock)
    with pytest.raises(StudyInUse):
        finish(found, cluster="tcp://10.0.0.1:8786")
    os.close(lock)


def test_one_job_of_slurm_is_enough_for_a_result(
    found: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked, worker = list[SlurmJobs](), Machine()

    def workers(jobs: SlurmJobs, *_: object) -> AbstractContextManager[str]:
        asked.append(jobs)
        return nullcontext("tls://10.0.0.1:8786")

    monkeypatch.setattr(slurm, "slurm_workers", workers)
    monkeypatch.setattr(across, "cluster_backend", on_a_worker(worker))
    worker.during = lambda number: send(found.paths.commands, "stop") if number == 1 else None
    words = ["finish", "--slurm", "partition=gpu,count=8"]
    assert main(words) == 0 and [jobs.count for jobs in asked] == [1]
    assert "finish --name nov23 --slurm partition=gpu,count=8` goes on" in capsys.readouterr().out
    worker.during = lambda number: None
    assert main(words) == 0 and state_of(found).result is not None


def test_a_machine_that_fails_while_the_test_split_is_open_is_asked_again(found: Study, machine: Machine) -> None:
    score, failures = machine.score_test, [MachineFailed("The worker alpha is gone.")]

    def lost(job: ScoringJob) -> Evaluation:
        if failures:
            raise failures.pop()
        return score(job)

    machine.score_test = lost
    assert finish(found) is not None and len(machine.tested) == 6
    assert "alpha is gone. This is not the experiment's fault; it is tried" in events_of(found, "note")[-1]["text"]


def test_nothing_is_trained_or_scored_twice_wherever_a_finish_was_cut_off(
    found: Study,
    machine: Machine,
) -> None:
    """Cut off in each training and before each test score."""
    cuts = {"left": 0}

    def cut() -> None:
        cuts["left"] -= 1
        if cuts["left"] == 0:
            raise KeyboardInterrupt

    def score(job: ScoringJob) -> Evaluation:
        cut()
        return machine.pretend_test_score(job)

    machine.score_test = score
    machine.during = lambda number: cut()
    result, num_cut = None, 0
    while result is None:
        cuts["left"] = 2  # one step further than the last time
        try:
            result = finish(found)
        except KeyboardInterrupt:
            num_cut += 1
    assert num_cut == 9  # of four trainings and six scores
    assert sorted(machine.tested) == sorted(set(machine.tested)) and len(machine.tested) == 6
    assert len(events_of(found, "tested")) == 6 and len(events_of(found, "result")) == 1
    trained = [(event["experiment"], event["run"]) for event in events_of(found, "trained")]
    assert len(trained) == len(set(trained))
    assert [e["reason"] for e in events_of(found, "stopped")] == ["interrupted by hand"] * num_cut


def test_a_stop_ends_a_finish_and_the_same_command_goes_on(
    found: Study,
    machine: Machine,
    capsys: pytest.CaptureFixture[str],
) -> None:
    machine.during = lambda number: void(send(found.paths.commands, "stop", ""))
    assert main(["finish"]) == 0
    assert "There is no result yet; `autoresearch finish --name nov23` goes on" in capsys.readouterr().out
    assert machine.trained == [(0, 3)] and look(found).phase == "stopped"
    machine.during = lambda number: None
    assert finish(found) is not None and machine.trained == [(0, 3), (0, 4), (0, 5), (1, 3)]


def test_a_later_champion_is_finished_anew_and_the_looks_are_counted(found: Study, machine: Machine) -> None:
    first = finish(found)
    list(research(found, Scripted({"ALPHA": 4.0}), experiments=1))
    assert finish(found) == first  # the same champion: the split is not opened again
    list(research(found, Scripted({"ALPHA": -3.0}), experiments=1))
    state = state_of(found)
    assert state.result is None and state.incumbent is not None and state.incumbent.number == 4
    again = finish(found)
    assert again is not None and (again.champion, again.num_looks) == (4, 2)
    assert "opened for 2 champions of this study" in findings(state_of(found), None)


def test_without_a_champion_the_split_stays_sealed(
    project: Path,
    small_corpus: Path,
    machine: Machine,
    capsys: pytest.CaptureFixture[str],
) -> None:
    study = counting_study(project, small_corpus)
    assert main(["finish"]) == 1
    assert "has no baseline yet. So there is no result to measure" in capsys.readouterr().err
    list(research(study, Scripted({"ALPHA": 3.0}), experiments=1))
    with pytest.raises(NothingToMeasure, match="has kept nothing besides its baseline yet"):
        finish(study)
    assert machine.tested == []


def test_a_model_that_fails_on_fresh_seeds_has_no_result(
    found: Study,
    machine: Machine,
) -> None:
    def fails(job: ScoringJob) -> Evaluation:
        raise ScoringFailed("its logits are NaN")

    machine.score = fails
    with pytest.raises(StudyError, match=r"0000 failed on 3 fresh seeds, last with crash: .*NaN.*tries again"):
        finish(found)
    assert machine.tested == []
    machine.score = machine.pretend_score
    assert finish(found) is not None


def test_fresh_seeds_on_which_the_champion_failed_are_counted_over_all_calls_and_said(
    found: Study, machine: Machine
) -> None:
    """Code that fails where its score would be bad chooses among its seeds."""
    failures = [True] * 3
    pretend = machine.train

    def train(given: Training, listener: Listener) -> RunOutcome:
        if given.paths.folder.name != "0000" and failures and given.run > 1:
            failures.pop()
            return RunOutcome(Status.CRASH, "RuntimeError: a bad seed", None, None)
        return pretend(given, listener)

    machine.train = train
    with pytest.raises(StudyError, match="failed on 3 fresh seeds"):
        finish(found)
    result = finish(found)
    assert result is not None and result.num_failed_runs == 3 and result.num_champion_runs == 3
    assert "3 trainings of the champion failed on fresh seeds: the means are of the seeds" in result_words(result)


def test_a_test_score_that_the_audit_refuses_is_no_result(
    found: Study,
    machine: Machine,
) -> None:
    refusal = Audit(False, 0.0, 0.0, 256, 90, "at 90 of 256 places the model said something else", 0.1)
    machine.audit_test = lambda job, **_: refusal
    for _ in range(2):
        with pytest.raises(StudyError, match="refused the test score of experiment 0001, run 2: at 90 of 256"):
            finish(found)
    assert len(machine.tested) == 6 and state_of(found).result is None
    assert state_of(found).tested[-1] == SealedScore(1, 3, 1, None, refusal.reason)


def test_a_scorer_that_somebody_killed_is_asked_once_more(
    found: Study,
    machine: Machine,
) -> None:
    kills = [True]

    def score(job: ScoringJob) -> Evaluation:
        if kills and kills.pop():
            failure = ScoringFailed("the scorer was killed by signal 9")
            failure.may_be_the_machine = True
            raise failure
        return machine.pretend_test_score(job)

    machine.score_test = score
    assert finish(found) is not None and len(machine.tested) == 6


def test_fresh_runs_of_a_machine_that_became_another_are_made_again(found: Study, machine: Machine) -> None:
    machine.speed = lambda experiment, call: SPEED * 0.8
    result = finish(found)
    assert result is not None and machine.trained.count((1, 3)) == 1
    assert [number for number, _ in machine.trained].count(1) == 3  # the two of the night's end ran at another speed
    assert [folder for number, folder in machine.tested if number == 1] == ["handover-3", "handover-4", "handover-5"]


def test_turns_and_errors_are_those_of_a_hand_calculation() -> None:
    counts, turns = {0: 0, 7: 0}, []
    while (number := training_due(counts)) is not None:
        counts = counts | {number: counts[number] + 1}
        turns.append(number)
    assert turns == [0, 7, 0, 7, 0, 7]
    assert standard_error([1.0, 2.0, 3.0], [4.0, 6.0, 8.0]) == pytest.approx((1 / 3 + 4 / 3) ** 0.5)


def test_only_runs_after_the_last_decision_are_fresh(found: Study) -> None:
    state = state_of(found)
    assert [run.index for run in finishing.fresh_runs(state.experiments[1], state)] == [1, 2]
    assert finishing.fresh_runs(state.experiments[0], state) == []
    refused = replace(state.experiments[1].runs[2], val_bpb=None, status=Status.REJECTED)
    one_less = replace(state.experiments[1], runs=(*state.experiments[1].runs[:2], refused))
    assert [run.index for run in finishing.fresh_runs(one_less, state)] == [1]


def test_a_notebook_measures_the_same_result(found: Study) -> None:
    by_hand = open_study("nov23")
    result = by_hand.finish()
    assert result is not None and result == state_of(found).result == by_hand.finish()
    assert "Result: test bpb" in repr(by_hand)
    assert repr(by_hand.table()).startswith("Result: test bpb")
    assert "is measured already. Result: test bpb" in actions.finish(found), "no process is started for it"


def test_real_models_are_scored_and_audited_on_the_test_rows(measured: Study, no_pictures: None) -> None:
    with open_session(measured) as session:
        session.train(session.propose(Scripted({"ALPHA": 0.05})), 0)
        session.score(session.state.experiments[1], 0)
        final_test.open_test_split(session, 1, [(0, 0), (1, 0)])
    of_baseline, of_champion = tested = events_of(measured, "tested")
    state = state_of(measured)
    for event in tested:
        val_bpb = state.experiments[event["experiment"]].runs[0].val_bpb
        assert 0 < abs(event["test_bpb"] - (val_bpb or 0.0)) < 0.3  # other rows, much the same text
    assert of_champion["test_bpb"] < of_baseline["test_bpb"] - 0.05
    assert of_baseline["audit"] is None and of_champion["audit"]["accepted"] and of_champion["audit"]["num_cuts"] > 0
    test_rows = HeldOut.load(measured.corpus_dir, measured.heldout_dir, "test")
    assert {event["num_tokens"] for event in tested} == {(test_rows.num_bytes > 0).sum()}
    assert {check.verdict for check in verify(measured)} == {"ok"}
