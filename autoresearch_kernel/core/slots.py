"""What comes next in a study whose machine is divided into slots: one pure function of its state, `next_for_slots`.

Experiments are tried in waves, whose promising ones are merged (`waves.py`); slots that are left over meanwhile try the
next wave. The baseline and the champion run on all slots at once, so that their runs meet the machine as other runs do.

Slots may be machines of several kinds, whose scores are never compared. The kind that the study began on does all that
is said there. A slot of another kind tries experiments: first the incumbent runs there, then each experiment that is
tried there is compared with these runs. What is promising there is stacked on the study's own kind of machine, where
alone an experiment can be kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from types import MappingProxyType

from .decide import NUM_BASELINE_RUNS
from .drift import rerun_due
from .next_step import (
    MOST_ATTEMPTS,
    Action,
    Step,
    late_scores,
    of_decided,
    of_undecided,
    rule_says,
    step_at_the_end,
)
from .state import StudyState
from .types import FAILED, Experiment, Status, scores_of
from .waves import Busy, discard_after_wave, due, is_stack, of_wave, without_runs

REFERENCE_RUNS = 2  # of the incumbent on another kind of machine, before experiments are tried there
MOST_FAILURES = 2  # of these runs; after so many, that kind is not used until there is another incumbent
Kinds = Mapping[str, int]  # how many slots there are of each kind of machine
ALL_OWN: Kinds = MappingProxyType({})  # no other kind than the one that the study began on


def next_for_slots(
    state: StudyState, busy: Busy, num_slots: int, *, machine: str = "", kinds: Kinds = ALL_OWN, is_ending: bool = False
) -> Step | None:
    """What a free slot does next; None while it waits for what is in work.

    A step of an undecided experiment stands for all steps that `due` gives for it.

    Args:
        machine: the kind of machine of the slot; "" for the kind that the study began on. Decisions, which need no
            slot, and stacks are steps of that kind.
        kinds: how many slots there are of each kind of machine, where there are several.
        is_ending: nothing more is to be proposed. What is promising is then judged by itself, as with one slot.
    """
    incumbent, num_own = state.incumbent, kinds.get("", num_slots)
    if incumbent is None:
        return None if machine else _of_baseline(state, busy, num_own)
    numbers = {number for number, _ in busy}
    waiting = [e for e in state.in_work if e.number not in numbers]
    complete = without_runs(state, busy)
    for experiment in () if machine else waiting:
        if step := discard_after_wave(experiment, state, is_ending):
            return step
    for step in (due(experiment, complete, is_ending) for experiment in waiting):
        is_free = step is not None and step.experiment not in numbers  # else it waits for a run of the incumbent
        if step is not None and is_free and is_for(step, state, machine, kinds.keys()):
            return step
    if machine:
        return _elsewhere(state, busy, machine, is_ending)
    if incumbent.number not in numbers and (step := of_decided(incumbent.on(""))):
        return step
    if step := of_wave(state, busy, num_slots, is_ending):
        return step
    if is_ending:
        return None if state.in_work else _at_the_end(state, busy, num_own)
    why = rerun_due(state.experiments, incumbent, state.noise.like_speed)
    if why and incumbent.number not in numbers:
        return Step(Action.TRAIN, incumbent.number, _new_run(incumbent, busy), why)
    return Step(Action.PROPOSE, len(state.experiments))


def is_for(step: Step, state: StudyState, machine: str, kinds: Set[str]) -> bool:
    """Whether a slot of this kind of machine can take a step that is due; `kinds` are those of all slots."""
    experiment = state.experiments[step.experiment]
    if step.action is Action.DECIDE or experiment.status is not None or is_stack(experiment):
        return not machine
    if step.action is not Action.TRAIN:  # where its model was made; on the study's own kind where that is gone
        made_on = experiment.runs[step.run].machine
        return made_on == machine or (not machine and made_on not in kinds)
    if not machine or step.run > 0:  # a later run of an experiment that failed elsewhere, or that is judged alone
        return not machine
    reference = state.reference_for(experiment, machine)
    return reference is not None and len(scores_of(reference.audited.runs)) >= REFERENCE_RUNS


def _elsewhere(state: StudyState, busy: Busy, machine: str, is_ending: bool) -> Step | None:
    """What a slot of another kind of machine does when no experiment in work needs it."""
    incumbent = state.incumbent
    assert incumbent is not None
    there = incumbent.on(machine)
    runs_in_work = {run for number, run in busy if number == incumbent.number and run is not None}
    if any(run >= incumbent.next_run for run in runs_in_work):  # that is not recorded yet
        return None
    for run in there.runs:
        step = None if run.index in runs_in_work else of_run(incumbent, run.index)
        if step is not None and not (is_ending and step.action is Action.TRAIN):
            return step
    if is_ending or sum(run.status in FAILED for run in there.runs if run.index not in runs_in_work) >= MOST_FAILURES:
        return None
    num_begun = sum(run.index in runs_in_work for run in there.runs)
    num_known = len(scores_of(there.audited.runs))
    if num_known + num_begun < REFERENCE_RUNS:
        why = f"experiments on {machine} are compared with it"
        return Step(Action.TRAIN, incumbent.number, incumbent.next_run, why)
    return Step(Action.PROPOSE, len(state.experiments)) if num_known >= REFERENCE_RUNS else None


def _new_run(experiment: Experiment, busy: Busy) -> int:
    """The index of a new run, beside those in work that are not recorded yet."""
    in_work = [run for number, run in busy if number == experiment.number and run is not None]
    return max([experiment.next_run - 1, *in_work]) + 1


# --- several runs of one experiment


def of_run(experiment: Experiment, index: int) -> Step | None:
    """What one of several runs of an experiment still lacks: training, score, or audit; None when it lacks nothing."""
    run = experiment.runs[index]
    is_baseline = experiment.number == 0
    if run.status is Status.INTERRUPTED and (is_baseline or run.attempts < MOST_ATTEMPTS):
        return Step(Action.TRAIN, experiment.number, index)
    if run.status is None and run.val_bpb is None:
        return Step(Action.SCORE, experiment.number, index)
    return Step(Action.AUDIT, experiment.number, index) if run in experiment.awaiting_audit else None


def _of_baseline(state: StudyState, busy: Busy, num_slots: int) -> Step | None:
    """Its runs, as many at a time as there are slots, until the rule wants no more."""
    baseline = state.unfinished
    if baseline is None:
        return Step(Action.PROPOSE, len(state.experiments))
    complete = without_runs(state, busy)
    scores, needed = complete.experiments[0].scores, NUM_BASELINE_RUNS
    if len(scores) >= needed and rule_says(complete.experiments[0], complete)[0] == "confirm":
        needed = len(scores) + 1
    if step := _one_of_its_runs(baseline, busy, _filling(needed, num_slots)):
        return step
    return None if busy else of_undecided(baseline, state)


def _at_the_end(state: StudyState, busy: Busy, num_slots: int) -> Step | None:
    """The fresh runs that `next_step` wants at the end, as many at a time as there are slots."""
    complete = without_runs(state, busy)
    assert complete.incumbent is not None
    step = step_at_the_end(complete.incumbent, complete)
    if step.action is not Action.TRAIN:
        return None if busy else step
    if {number for number, _ in busy} - {step.experiment}:
        return None
    experiment = state.experiments[step.experiment]
    late = late_scores(experiment, state)
    early = len(experiment.scores) - len(late)
    needed = NUM_BASELINE_RUNS - (early if step.experiment else 0)  # the baseline's early runs met another machine
    more = _one_of_its_runs(experiment, busy, early + _filling(needed, num_slots), step.why)
    return more if more is not None or busy else step


def _filling(needed: int, num_slots: int) -> int:
    """At least so many runs, and so many that no slot stands idle beside the last ones."""
    return math.ceil(needed / num_slots) * num_slots


def _one_of_its_runs(experiment: Experiment, busy: Busy, num_wanted: int, why: str = "") -> Step | None:
    """A run that is incomplete and not in work, or a new one while fewer than so many have scores or are in work."""
    in_work = [run for number, run in busy if number == experiment.number and run is not None]
    own = experiment.on("")
    for run in own.runs:
        if run.index not in in_work and (step := of_run(experiment, run.index)):
            return step
    elsewhere = {run.index for run in experiment.runs} - {run.index for run in own.runs}
    if len(own.scores) + len({*in_work} - elsewhere) >= num_wanted:
        return None
    return Step(Action.TRAIN, experiment.number, _new_run(experiment, busy), why)
