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
        (
            Outlook(0, 300.0, 60.0, True, num_slots=4, slot_hours=16.0),
            "How long: 4 h (16 slot hours) and what is left of the experiment that then runs, about 40 runs an hour;",
        ),
        (Outlook(0, 300.0, 60.0, True, hours=2.0, num_slots=4, slot_hours=16.0), "How long: 2 h and what is left"),
        (Outlook(0, 300.0, 60.0, True, slot_hours=0.5), "How long: 0.5 h and what is left"),
        (
            Outlook(0, 300.0, 60.0, True, 100, num_slots=None),
            "How long: until they are decided, with 10 runs an hour on each slot; a run",
        ),
        (
            Outlook(0, 300.0, 60.0, True, None, 8.0, None, 16.0),
            "How long: 8 h or 16 h of all slots together and what is left of the experiment that then runs, about 10 "
            "runs an hour on each slot; a run",
        ),
    ],
)
def test_hours_or_a_person_end_it(outlook: Outlook, said: str) -> None:
    what, how_long, _ = plan_lines(outlook, "you press Ctrl-C", "studies/first")
    assert said in how_long and "baseline" not in what


def test_a_plan_says_how_many_runs_are_made_at_once(project: Path, small_corpus: Path) -> None:
    study = counting_study(project, small_corpus, asked={"slots": 2})
    here = outlook_of(study, replay([]), 4, None, 3.0)
    assert (here.num_slots, here.slot_hours) == (2, 3.0) and here.seconds is not None
    assert plan_lines(here, "", "s")[0].endswith("trains for 2 s, 2 runs at the same time.")
    there = outlook_of(study, replay([]), 4, None, is_on_cluster=True)
    assert there.num_slots is None and there.seconds is None
    assert plan_lines(there, "", "s")[0].endswith("trains for 2 s, on each slot of the cluster at the same time.")


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
