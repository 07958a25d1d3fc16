"""What a study says before it begins: what runs, how long, what will be there."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoresearch_kernel.core.state import replay
from autoresearch_kernel.core.types import Experiment, Run, Status
from autoresearch_kernel.record.study import Study
from autoresearch_kernel.show.plan import Outlook, outlook_of, overhead_seconds, plan_lines
from tests.conftest import counting_study


def test_a_first_study_says_what_runs_how_long_and_what_will_be_there() -> None:
    what, how_long, there = plan_lines(
        Outlook(3, 20.0, 10.0, False, experiments=5), "you press Ctrl-C", "studies/first"
    )
    assert what.startswith(
        "What runs: 3 runs of the baseline (at most 8 where the machine's speed changes), then 5 experiments; an "
        "experiment whose score may be luck"
    )
    assert what.endswith(" Each run trains for 20 s.")
    # 8 runs of 30 s at least; three experiments that run twice and two last runs of the best more at most
    assert how_long.startswith("How long: about 4 min to 6 min on a machine with nothing else to do; a run with")
    assert " its score takes about 30 s (an estimate" in how_long
    for path in ("studies/first/experiments", "studies/first/progress.png", "studies/first/best/train.py"):
        assert path in there


@pytest.mark.parametrize(
    ("outlook", "said"),
    [
        (
            Outlook(0, 300.0, 60.0, True, hours=8.0),
            "8 h and what is left of the experiment that then runs, about 10 runs",
        ),
        (
            Outlook(0, 300.0, 60.0, True),
            "until you press Ctrl-C, about 10 runs an hour; a run with its score takes about 6 min (as measured",
        ),
        (
            Outlook(0, 60.0, 12.0, True, 100, 2.0),
            "about 2 h 0 min to 3 h 2 min on a machine with nothing else to do, at most 2 h",
        ),
    ],
)
def test_hours_or_a_person_end_it(outlook: Outlook, said: str) -> None:
    what, how_long, _ = plan_lines(outlook, "you press Ctrl-C", "studies/first")
    assert said in how_long and "baseline" not in what


def test_a_baseline_in_the_middle_and_who_is_waited_for_are_named() -> None:
    what, how_long, _ = plan_lines(Outlook(1, 20.0, 10.0, True, 1), "", "s", waits_for="your approval")
    assert what.startswith(
        "What runs: 1 more run of the baseline (at most 6 where the machine's speed changes), then 1 "
    )
    assert how_long.endswith("; waiting for your approval comes on top.")


def test_the_overhead_is_the_median_of_what_was_measured() -> None:
    runs = [Run(i, i, measured={"total_seconds": 20.0 + i, "scoring_seconds": 4.0}) for i in (5, 7, 30)]
    experiment = Experiment(0, "Baseline", "search", None, runs=tuple(runs), status=Status.KEEP)
    assert overhead_seconds(experiment.runs, 20.0) == 11.0
    assert overhead_seconds([Run(0, 1)], 20.0) is None


def test_a_training_that_ended_before_its_budget_took_its_overhead_all_the_same() -> None:
    measured = {"total_seconds": 4.5, "training_seconds": 0.5, "overhead_seconds": 4.0, "scoring_seconds": 1.0}
    assert overhead_seconds([Run(0, 1, measured=measured)], 20.0) == 5.0


def test_a_new_study_expects_the_overhead_that_another_one_measured(measured: Study, small_corpus: Path) -> None:
    new = counting_study(measured.project, small_corpus, "new")
    outlook = outlook_of(new, replay([]), 1, None)
    assert outlook.is_measured and outlook.num_baseline_runs == 3 and 0.1 < outlook.overhead_seconds < 60
    measured.paths.history.write_text("{}\n{}\n")  # damaged: the new study starts all the same
    assert not outlook_of(new, replay([]), 1, None).is_measured
