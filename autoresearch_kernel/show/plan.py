"""What a study will do, before it begins: what runs, how long it takes, what will be there at the end. Pure text."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..core.decide import MOST_BASELINE_RUNS, NUM_BASELINE_RUNS
from ..core.format import count, duration
from ..core.state import HistoryDamaged, StudyState, replay
from ..core.types import Experiment, Run
from ..record.history import events_so_far
from ..record.study import Study, StudyError, open_study, study_names

TYPICAL_OVERHEAD_SECONDS = 10.0  # of a training and its score, on a laptop, where none was measured
REPEATED_SHARE = 0.5  # of experiments, at most, that run a second time because their score may be luck
NUM_LAST_RUNS = NUM_BASELINE_RUNS - 1  # of the best on fresh seeds, at the end of a study, at most


@dataclass(frozen=True)
class Outlook:
    """How much a study is asked to do."""

    num_baseline_runs: int  # that are still to be made on a machine of one speed
    budget_seconds: float
    overhead_seconds: float  # of a run, beside its training
    is_measured: bool  # whether the overhead is that of earlier runs
    experiments: int | None = None
    hours: float | None = None
    num_slots: int | None = 1  # trainings at the same time; None where a cluster says that later
    slot_hours: float | None = None  # of all slots together

    @property
    def run_seconds(self) -> float:
        return self.budget_seconds + self.overhead_seconds

    @property
    def seconds(self) -> tuple[float, float] | None:
        """The least and the most that it will take, roughly.

        None when nothing but time or a person ends it, or where it is not known how many slots there are.
        """
        if self.experiments is None or self.num_slots is None:
            return None
        least = self.num_baseline_runs + self.experiments
        most = least + math.ceil(REPEATED_SHARE * self.experiments) + NUM_LAST_RUNS
        each = self.run_seconds / self.num_slots
        return least * each, most * each


def outlook_of(
    study: Study,
    state: StudyState,
    experiments: int | None,
    hours: float | None,
    slot_hours: float | None = None,
    *,
    is_on_cluster: bool = False,
) -> Outlook:
    """How much is asked of a study; a run's overhead is what this study measured, else another on such a machine."""
    measured = overhead_seconds(runs_of(state.experiments), study.time_budget_seconds)
    if measured is None:
        found = (_overhead_of(name, study) for name in study_names(study.project) if name != study.name)
        measured = next((seconds for seconds in found if seconds is not None), None)
    overhead = TYPICAL_OVERHEAD_SECONDS if measured is None else measured
    baseline = state.experiments[0] if state.experiments else None
    left = NUM_BASELINE_RUNS - len(baseline.scores) if baseline is not None else NUM_BASELINE_RUNS
    left = 0 if baseline is not None and baseline.status is not None else max(0, left)
    num_slots = None if is_on_cluster else study.num_slots
    facts = left, study.time_budget_seconds, overhead, measured is not None
    return Outlook(*facts, experiments, hours, num_slots, slot_hours)


def _overhead_of(name: str, study: Study) -> float | None:
    """A run's overhead in another study; None where that ran on another machine, measured nothing or is damaged."""
    try:
        other = open_study(name, study.project)
        if other.facts["hardware"].get("device_name") != study.facts["hardware"].get("device_name"):
            return None
        state = replay(events_so_far(other.paths.history))
    except (StudyError, HistoryDamaged):  # its own commands say so; this study does not depend on it
        return None
    return overhead_seconds(runs_of(state.experiments), other.time_budget_seconds)


def overhead_seconds(runs: Iterable[Run], budget_seconds: float) -> float | None:
    """What a run took beside its training, with its score: the median; None where nothing was measured."""
    spent = [
        _beside_training(run.measured, budget_seconds) + (run.measured.get("scoring_seconds") or 0.0)
        for run in runs
        if run.measured.get("total_seconds")
    ]
    return max(0.0, statistics.median(spent)) if spent else None


def _beside_training(measured: Mapping[str, Any], budget_seconds: float) -> float:
    """What a run took without its training, which may have ended before its budget."""
    seconds = measured.get("overhead_seconds")
    return measured["total_seconds"] - budget_seconds if seconds is None else seconds


def runs_of(experiments: Iterable[Experiment]) -> list[Run]:
    return [run for experiment in experiments for run in experiment.runs]


def plan_lines(outlook: Outlook, until: str, folder: str, waits_for: str = "") -> list[str]:
    """What runs, how long it takes and what will be there, a line each.

    Args:
        until: how a person ends it, as "you press Ctrl-C".
        waits_for: who may make it last longer, as "your approval".
    """
    return [
        f"What runs: {_what(outlook)}.",
        f"How long: {_how_long(outlook, until)}{f'; waiting for {waits_for} comes on top' if waits_for else ''}.",
        f"What will be there: an executed notebook for each experiment in {folder}/experiments, the picture "
        f"{folder}/progress.png, and the best train.py in {folder}/best/train.py.",
    ]


def _what(outlook: Outlook) -> str:
    runs = count(outlook.num_baseline_runs, "run" if outlook.num_baseline_runs == NUM_BASELINE_RUNS else "more run")
    most = outlook.num_baseline_runs + MOST_BASELINE_RUNS - NUM_BASELINE_RUNS
    at_most = f"at most {most} where the machine's speed changes"
    baseline = f"{runs} of the baseline ({at_most}), then " if outlook.num_baseline_runs else ""
    experiments = "experiments" if outlook.experiments is None else count(outlook.experiments, "experiment")
    again = "an experiment whose score may be luck runs again, and at the end the incumbent"
    if outlook.num_slots is None:
        at_once = ", on each slot of the cluster at the same time"
    else:
        at_once = f", {outlook.num_slots} runs at the same time" if outlook.num_slots > 1 else ""
    return f"{baseline}{experiments}; {again}. Each run trains for {outlook.budget_seconds:g} s{at_once}"


def _how_long(outlook: Outlook, until: str) -> str:
    source = "as measured in earlier runs" if outlook.is_measured else "an estimate, until this study has measured it"
    each = f"a run with its score takes about {duration(outlook.run_seconds)} ({source})"
    per_hour = count(max(1, round(3600 * (outlook.num_slots or 1) / outlook.run_seconds)), "run")
    per_hour += " an hour" + (" on each slot" if outlook.num_slots is None else "")
    limit = _limit(outlook)
    if outlook.experiments is not None and outlook.num_slots is None:
        words = f"until they are decided, with {per_hour}" + (f", at most {limit}" if limit else "")
    elif outlook.seconds is not None:
        least, most = map(duration, outlook.seconds)
        at_most = f", at most {limit}" if limit else ""
        words = f"about {least} to {most} on a machine with nothing else to do{at_most}"
    else:
        words = f"{limit or f'until {until}'}, about {per_hour}"
    return f"{words}; {each}"


def _limit(outlook: Outlook) -> str:
    """How long anything is proposed; "" where no hours end that."""
    ends, share = {outlook.hours: ""} if outlook.hours else {}, outlook.slot_hours
    if share and outlook.num_slots is not None:
        ends[share / outlook.num_slots] = f" ({share:g} slot hours)" if outlook.num_slots > 1 else ""
    words = [f"{round(min(ends), 2):g} h{ends[min(ends)]}"] if ends else []
    words += [f"{share:g} h of all slots together"] if share and outlook.num_slots is None else []
    return f"{' or '.join(words)} and what is left of the experiment that then runs" if words else ""
