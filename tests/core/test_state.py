"""What the events mean: scores that a decision was made on stay as they were, later runs make another figure."""

from __future__ import annotations

import pytest

from autoresearch_kernel.agents.history_text import comparison as in_prompt
from autoresearch_kernel.agents.search import observations_of
from autoresearch_kernel.core.state import StudyState, replay
from autoresearch_kernel.core.types import Experiment, Run, Status
from autoresearch_kernel.record.history import read_events
from autoresearch_kernel.show.words import difference, score_line
from tests.event_writer import Writer

SLOW = {"tokens_per_second": 14_000.0, "relative_speed": 0.5}


def kept_change(writer: Writer) -> StudyState:
    """A change that was kept with 1.49 against 1.5, each ± 0.001."""
    writer.open().baseline().settle(1, "keep", 1.49)
    return state_of(writer)


def state_of(writer: Writer) -> StudyState:
    return replay(read_events(writer.study.paths.history))


def test_a_kept_change_stays_better_when_it_runs_again_on_a_slower_machine(writer: Writer) -> None:
    before = kept_change(writer).experiments[1]
    writer.run(1, 1.55, run=1, **SLOW)
    after = state_of(writer).experiments[1]
    for told in (in_prompt, difference):
        assert told(before) == told(after) != ""
    assert after.val_bpb == before.val_bpb == 1.49 and after.delta_bpb == pytest.approx(-0.01)
    parameters = {0: {"ALPHA": 1.0}, 1: {"ALPHA": 0.5}}
    moved = Experiment(**{**vars(after), "changes": {"ALPHA": 0.5}})
    assert observations_of([moved], parameters)[0].delta_bpb == pytest.approx(-0.01)


def test_later_runs_make_another_figure_with_another_label(writer: Writer) -> None:
    kept_change(writer)
    writer.run(1, 1.55, run=1, **SLOW)
    state = state_of(writer)
    after = state.experiments[1]
    assert after.mean_bpb == pytest.approx(1.52) and after.mean_standard_error == pytest.approx(0.002 / 2**0.5)
    assert score_line(after) == "val_bpb 1.4900 ± 0.0010 (mean of its 2 runs so far 1.5200 ± 0.0014)"
    assert state.incumbent_bpb == 1.55, "what a challenger has to beat at the present speed"


def test_a_difference_has_the_error_of_both_scores() -> None:
    """By hand: 3 and 4 make 5."""
    e = Experiment(
        7, "Half the step", "search", 3, status=Status.KEEP, val_bpb=1.25, standard_error=0.003, incumbent_bpb=1.5,
        incumbent_standard_error=0.004, sigma=0.006,
    )  # fmt: skip
    assert e.delta_bpb == -0.25 and e.delta_standard_error == pytest.approx(0.005)
    assert difference(e) == "−0.2500 ± 0.0050 (−41.7 σ)"
    assert in_prompt(e) == "1.2500 vs 1.5000: -0.2500±0.0050"
    assert str(e.compared) == "1.2500 against 1.5000: −0.2500 ± 0.0050 (−41.7 σ)"


def test_a_difference_without_one_of_the_errors_has_none() -> None:
    e = Experiment(7, "Half the step", "search", 3, val_bpb=1.25, standard_error=0.003, incumbent_bpb=1.5)
    assert e.delta_standard_error is None and e.mean_bpb is None


def test_the_incumbents_score_has_the_error_of_its_runs(writer: Writer) -> None:
    writer.open().baseline()
    state = state_of(writer)
    assert state.incumbent_standard_error == pytest.approx(0.002 / 3**0.5), "three runs, sd 0.002"


def test_only_the_runs_of_a_decision_are_its_runs() -> None:
    runs = (Run(0, 1, val_bpb=1.4, num_decided=2), Run(1, 2, num_decided=2), Run(2, 3, val_bpb=1.5, num_decided=3))
    assert [run.index for run in Experiment(2, "", "search", 0, runs=runs).judged_runs] == [0]


def test_a_pause_is_a_persons_by_its_field_alone(writer: Writer) -> None:
    writer.open().append("paused", reason="by ann@here")
    assert not state_of(writer).is_paused_by_person
    writer.append("paused", reason="lunch", by_person=True)
    assert state_of(writer).is_paused_by_person
