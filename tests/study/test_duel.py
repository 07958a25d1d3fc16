"""Confirmations as duels, in studies on a machine that pretends: what is recorded, what is resumed, who is judged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autoresearch_kernel.core.errors import MachineFailed
from autoresearch_kernel.core.types import Cause, RunOutcome, Status
from autoresearch_kernel.record.study import Study
from autoresearch_kernel.run.backend import using_backend
from autoresearch_kernel.show.follow import look
from autoresearch_kernel.show.status import doing
from autoresearch_kernel.study.loop import research
from autoresearch_kernel.study.options import OptionRefused, StudyOptions, refuse_other_settings
from tests.conftest import counting_study
from tests.pretended import Machine
from tests.study.test_loop import Scripted
from tests.study.test_night import events_of, state_of

BETTER = {"ALPHA": 0.9}  # by 0.001, which two degrees of freedom cannot tell from luck


class Cut(BaseException):
    """The supervisor ends without a word."""


@pytest.fixture
def study(project: Path, small_corpus: Path, machine: Machine) -> Iterator[Study]:
    machine.duel = machine.pretend_duel
    with using_backend(machine.backend):
        yield counting_study(project, small_corpus)


def one_more(study: Study, *ideas: dict[str, float], duel: Any = "always") -> None:
    list(research(study, Scripted(*(ideas or (BETTER,))), experiments=len(ideas or (BETTER,)), duel=duel))


def duels_of(study: Study) -> list[tuple[int, int, Any]]:
    return [(e["experiment"], e["run"], e["duel"]) for e in events_of(study, "started") if e.get("duel")]


def fails_once(machine: Machine, failure: Callable[[], Any]) -> None:
    """The first duel of this machine ends in this way, and the next ones as they should."""

    def duel(trainings: Any, listeners: Any) -> Any:
        machine.duel = machine.pretend_duel
        return failure() or machine.pretend_duel(trainings, listeners)

    machine.duel = duel


def test_a_confirmation_is_a_duel_and_both_runs_are_ordinary_ones(study: Study) -> None:
    one_more(study)
    state = state_of(study)
    assert duels_of(study) == [(1, 1, [0, 3]), (0, 3, [1, 1])]
    challenger, incumbent = state.experiments[1], state.experiments[0]
    mine, theirs = challenger.runs[1], incumbent.runs[3]
    assert (mine.duel, theirs.duel) == ((0, 3), (1, 1))
    assert mine.val_bpb is not None and theirs.val_bpb is not None and mine.audit is not None
    assert mine.seed not in {run.seed for run in (*incumbent.runs, challenger.runs[0])}
    assert challenger.status is Status.KEEP and challenger.reason.startswith("in a duel ")
    compared = challenger.compared
    assert compared is not None and compared.error == challenger.difference_error
    assert compared.difference == pytest.approx(-0.001, abs=5e-4)


def test_without_it_a_confirmation_trains_alone(study: Study, machine: Machine) -> None:
    one_more(study, duel="never")
    assert not duels_of(study) and len(state_of(study).experiments[1].judged_runs) == 2
    with using_backend(replace(machine.backend, duel=None)):  # a machine that cannot stop a training
        one_more(study, duel="always")
    assert not duels_of(study)


def test_the_study_keeps_to_what_was_asked(study: Study) -> None:
    one_more(study, duel="always")
    one_more(study, {"ALPHA": 0.8}, duel=None)
    assert [event["mode"] for event in events_of(study, "duels")] == ["always"]
    assert len(duels_of(study)) == 4


def test_a_steady_machine_needs_no_duels(study: Study) -> None:
    one_more(study, duel="auto")
    assert not duels_of(study)


def test_a_study_with_a_steady_clock_has_no_duels(project: Path, small_corpus: Path, machine: Machine) -> None:
    """The runs of a duel are counted by the wall clock: `machine_speed` and `budget_speed` cannot be compared."""
    machine.duel = machine.pretend_duel
    with using_backend(machine.backend):
        steady = counting_study(project, small_corpus, clock="steady")
        one_more(steady)
    assert not duels_of(steady) and len(state_of(steady).experiments[1].judged_runs) == 2
    with pytest.raises(OptionRefused, match="--duel always is for studies with --clock wall"):
        refuse_other_settings(steady, StudyOptions(duel="always"))
    refuse_other_settings(steady, StudyOptions(duel="auto"))


def test_a_duel_that_a_user_stops_is_made_again_under_the_same_numbers(study: Study, machine: Machine) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    fails_once(machine, stop)
    with pytest.raises(KeyboardInterrupt):
        one_more(study)
    assert [e.runs[-1].causes for e in state_of(study).experiments] == [(Cause.ASKED,), (Cause.ASKED,)]
    one_more(study, duel=None)
    assert duels_of(study)[:4] == [(1, 1, [0, 3]), (0, 3, [1, 1])] * 2
    assert state_of(study).experiments[1].status is Status.KEEP


def test_a_duel_that_was_cut_off_is_resumed(study: Study, machine: Machine) -> None:
    def cut() -> None:
        raise Cut

    fails_once(machine, cut)
    with pytest.raises(Cut):
        one_more(study)
    one_more(study, duel=None)
    state = state_of(study)
    assert [state.experiments[n].runs[i].attempts for n, i in ((1, 1), (0, 3))] == [2, 2]
    assert state.experiments[1].status is Status.KEEP and state.experiments[0].runs[3].val_bpb is not None


def test_a_machine_that_slept_makes_both_again(study: Study, machine: Machine) -> None:
    def sleep() -> None:
        machine.time.slept += 100

    fails_once(machine, sleep)
    one_more(study)
    assert duels_of(study) == [(1, 1, [0, 3]), (0, 3, [1, 1])] * 2
    state = state_of(study)
    assert [state.experiments[n].runs[i].causes for n, i in ((1, 1), (0, 3))] == [(Cause.SLEPT,), (Cause.SLEPT,)]


def test_a_challenger_that_fails_in_a_duel_is_decided_by_that(study: Study, machine: Machine) -> None:
    def crash(trainings: Any, listeners: Any) -> Any:
        _, theirs = machine.pretend_duel(trainings, listeners)
        return RunOutcome(Status.CRASH, "ValueError: no", None, None), theirs

    machine.duel = crash
    one_more(study)
    state = state_of(study)
    assert state.experiments[1].status is Status.CRASH and state.experiments[1].compared is None
    assert state.experiments[0].runs[3].val_bpb is not None  # a run of the incumbent like any other


def test_an_incumbent_that_fails_in_a_duel_leaves_an_ordinary_confirmation(study: Study, machine: Machine) -> None:
    def crash(trainings: Any, listeners: Any) -> Any:
        mine, _ = machine.pretend_duel(trainings, listeners)
        return mine, RunOutcome(Status.CRASH, "ValueError: no", None, None)

    machine.duel = crash
    one_more(study)
    experiment = state_of(study).experiments[1]
    assert experiment.status is Status.KEEP and "the mean of 2 runs" in experiment.reason
    assert experiment.difference_error is None


def test_a_kernel_that_does_not_start_in_a_duel_starts_again_alone_where_its_fault_is_clear(
    study: Study, machine: Machine
) -> None:
    def fails() -> None:
        raise MachineFailed("The notebook could not be executed: no kernel", may_be_the_code=True)

    fails_once(machine, fails)
    one_more(study)
    experiment = state_of(study).experiments[1]
    assert experiment.status is Status.KEEP and experiment.difference_error is None
    assert {run.duel for run in experiment.runs} == {None} and experiment.runs[1].causes == (Cause.DIED,)


def test_a_user_who_asked_for_duels_is_told_why_there_is_none(
    project: Path, small_corpus: Path, machine: Machine
) -> None:
    with using_backend(machine.backend):  # which cannot stop a training
        study = counting_study(project, small_corpus)
        one_more(study)
    notes = [event["text"] for event in events_of(study, "note")]
    assert any("confirmed by a run alone" in text and "cannot stop one training" in text for text in notes), notes


def test_views_name_both_sides_while_they_train(study: Study, machine: Machine) -> None:
    seen: list[str] = []
    machine.during = lambda number: seen.extend([doing(look(study))] if number == 1 else [])
    one_more(study)
    (words,) = {text for text in seen if text.startswith("duel")}
    both = 2 * study.time_budget_seconds
    assert words == f"duel: 0001 against 0000, 0 of {both:g} s"  # no point of a curve yet


def test_a_duel_judges_a_worse_machine_fairly(study: Study, machine: Machine) -> None:
    """In the duel both are worse by the same amount, which a mean of two runs would hold against the challenger."""
    score, is_duel = machine.pretend_score, []

    def slow_duel(trainings: Any, listeners: Any) -> Any:
        is_duel.append(True)
        return machine.pretend_duel(trainings, listeners)

    machine.duel = slow_duel
    machine.score = lambda job: replace(score(job), val_bpb=score(job).val_bpb + 0.01 * bool(is_duel))
    one_more(study, {"ALPHA": 0.0})
    experiment = state_of(study).experiments[1]
    assert experiment.status is Status.KEEP and experiment.compared is not None
    assert experiment.compared.difference == pytest.approx(-0.01, abs=2e-3)
