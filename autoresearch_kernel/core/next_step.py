"""What comes next in a study: one pure function of its state, `next_step`.

The loop executes what it returns, and a notebook executes one step and names the next. The order of an experiment is
written nowhere else; which fresh runs the result of a study needs is in `study/finish.py`.

A discard needs no audit. A run whose score would make the rule say "keep" or "confirm" is audited first: an audit
costs less than the training of a confirmation. Of the baseline, whose code no agent wrote, the last run
is audited, since a leak in the code shows in each of them. Of a kept experiment each later run is audited, as later
experiments are compared with it, and code can tell from its seed which run it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from .decide import MOST_BASELINE_RUNS, NUM_BASELINE_RUNS, DuelDecision
from .drift import STEADY, present_speed, rerun_due, stays_far
from .duel import duel_pays, fits_twice
from .grounds import AnyGrounds, BaselineGrounds, duel_grounds, grounds_of
from .noise import has_like_runs
from .state import StudyState
from .types import NO_OUTCOME, Experiment, Run, Status, scores_of

UNSTEADY = "the machine is too unsteady to judge small differences, so sigma is that of all runs, whatever their speed"
MOST_ATTEMPTS = 2  # trainings begun under one run index: one interruption is bad luck, two are the experiment's


class Action(StrEnum):
    """What a step does."""

    PROPOSE = "propose"
    TRAIN = "train"
    SCORE = "score"
    AUDIT = "audit"
    DECIDE = "decide"
    STACK = "stack"  # of several slots: what is promising of a wave is merged
    CONCLUDE = "conclude"


@dataclass(frozen=True)
class Step:
    """What is done next, and to which run of which experiment."""

    action: Action
    experiment: int  # its number; for PROPOSE the number that it will get
    run: int = 0  # index; of TRAIN, SCORE and AUDIT
    why: str = ""  # for a training of an experiment that is decided already; for DECIDE the reason of the decision
    status: Status | None = None  # of the decision, for DECIDE
    against: int | None = None  # the experiment that trains in turns with it, for a TRAIN that is a duel
    wave: tuple[int, ...] = ()  # for a DECIDE that no rule has come to: the experiments of its wave that decide on it


def next_step(state: StudyState, *, is_ending: bool = False) -> Step:
    """What comes next.

    Args:
        is_ending: nothing more is to be proposed. The champion, and where the machine's speed has changed the
            baseline beside it, then run until there are three runs of each; the last step is CONCLUDE.
    """
    experiment, incumbent = state.unfinished, state.incumbent
    if experiment is not None:
        return _alone(of_undecided(experiment, state), experiment, state)
    if incumbent is None:
        return Step(Action.PROPOSE, len(state.experiments))
    if step := of_decided(incumbent):
        return step
    if is_ending:
        return step_at_the_end(incumbent, state)
    if why := rerun_due(state.experiments, incumbent, state.noise.like_speed):
        return Step(Action.TRAIN, incumbent.number, incumbent.next_run, why)
    return Step(Action.PROPOSE, len(state.experiments))


def _alone(step: Step, experiment: Experiment, state: StudyState) -> Step:
    """The step of an experiment that another session left; on its slots another one was kept meanwhile.

    Then it is promising at most against its parent, and is not kept.
    """
    incumbent, reference, machine = state.incumbent, state.reference_for(experiment), experiment.machine
    is_of_incumbent = incumbent is not None and reference is not None and reference.number == incumbent.number
    if incumbent is None or reference is None or (is_of_incumbent and not machine) or not experiment.scores:
        return step
    is_again = step.action is Action.TRAIN and step.experiment == experiment.number and step.run > 0
    if not is_again and step.status is not Status.KEEP:
        return step
    why = f"promising against {reference.number:04d}, and {incumbent.number:04d} was kept meanwhile"
    why = f"promising on {machine}, of which kind no machine is here" if machine else why
    return Step(Action.DECIDE, experiment.number, why=why, status=Status.DISCARD, wave=(incumbent.number,))


def of_undecided(experiment: Experiment, state: StudyState) -> Step:
    if step := of_last_run(experiment):
        return _as_duel(step, experiment, state)
    if step := _of_other_side(experiment, state):
        return step
    if step := _on_own_machine(experiment) or _without_reference(experiment, state):
        return step
    verdict, reason = rule_says(experiment, state)
    if step := _of_machine_that_changed(experiment, state, is_gain=verdict in ("keep", "confirm")):
        return step
    if (run := audit_due(experiment, verdict)) is not None:
        return Step(Action.AUDIT, experiment.number, run)
    if verdict == "confirm":
        why = reason if experiment.number == 0 and len(experiment.runs) >= NUM_BASELINE_RUNS else ""
        step = Step(Action.TRAIN, experiment.number, experiment.next_run, why)
        return _as_duel(step, experiment, state)
    return Step(Action.DECIDE, experiment.number, why=reason, status=Status(verdict))


def _on_own_machine(experiment: Experiment) -> Step | None:
    """One run on the study's own kind of machine, where another kind may be why a training or a score failed."""
    if experiment.runs[-1].machine and experiment.runs[-1].status in (Status.CRASH, Status.TIMEOUT):
        return Step(Action.TRAIN, experiment.number, experiment.next_run)
    return None


def _without_reference(experiment: Experiment, state: StudyState) -> Step | None:
    """The discard of an experiment on a kind of machine on which nothing has run that it could be compared with."""
    reference = state.reference_for(experiment)
    if not experiment.machine or not experiment.scores or reference is None or reference.audited.scores:
        return None
    why = f"{reference.number:04d} has no score on {experiment.machine}, with which it could be compared"
    return Step(Action.DECIDE, experiment.number, why=why, status=Status.DISCARD, wave=(reference.number,))


def _as_duel(step: Step, experiment: Experiment, state: StudyState) -> Step:
    """The same step, as a duel with the incumbent where it is the training of a confirmation and a duel is due."""
    incumbent = state.incumbent
    if step.action is not Action.TRAIN or step.run == 0 or incumbent is None or not is_duel_due(experiment, state):
        return step
    if any(NO_OUTCOME & set(run.causes) for run in experiment.runs[step.run :]):  # alone, it is clear whose fault
        return step
    return replace(step, against=incumbent.number)


def is_duel_due(experiment: Experiment, state: StudyState) -> bool:
    """Whether a confirmation of the experiment is to be a duel: where one is possible, asked for, or pays."""
    if state.incumbent is None or experiment.number == 0 or state.duels == "never" or why_alone(experiment, state):
        return False
    return state.duels == "always" or duel_pays(state.duel_noise, state.sigma, state.is_unsteady)


def why_alone(experiment: Experiment, state: StudyState) -> str:
    """Why the experiment cannot meet the incumbent in a duel; "" where it can."""
    if not state.can_duel:
        return "this supervisor cannot stop one training while another one runs"
    if state.study.get("clock") == "steady":  # the runs of a duel have the wall clock and are not like the others
        return "a study with --clock steady has no duels"
    hardware = state.study.get("hardware") or {}
    on_gpu = (hardware.get("device") or "cpu") != "cpu"
    memory = hardware.get("gpu_memory_mb" if on_gpu else "memory_mb") or None
    if state.incumbent is None or not fits_twice(experiment, state.incumbent, memory, on_gpu):
        return "the memory may not hold both trainings at once"
    return ""


def _of_other_side(experiment: Experiment, state: StudyState) -> Step | None:
    """What the incumbent's run of a duel still lacks before the experiment can be judged by it; None for nothing."""
    incumbent, duel = state.incumbent, experiment.runs[-1].duel
    if incumbent is None or duel is None or duel[0] != incumbent.number:
        return None
    return of_decided(incumbent)


def of_last_run(experiment: Experiment) -> Step | None:
    """The training or score that the last run still lacks; None when it lacks neither."""
    number = experiment.number
    if not experiment.runs:
        return Step(Action.TRAIN, number)
    run, is_baseline = experiment.runs[-1], number == 0
    if run.status is Status.INTERRUPTED and (is_baseline or run.attempts < MOST_ATTEMPTS):
        return Step(Action.TRAIN, number, run.index)
    if run.status is None and run.val_bpb is None:
        return Step(Action.SCORE, number, run.index)
    if is_baseline and experiment.status is None and run.status is not None:  # what made it fail may be mended
        return Step(Action.TRAIN, number, run.index + 1)
    return None


def of_decided(experiment: Experiment) -> Step | None:
    """What a later run of a decided experiment lacks: training, score or audit; None when nothing is lacking."""
    if step := of_last_run(experiment):
        return step
    waiting = experiment.awaiting_audit
    return Step(Action.AUDIT, experiment.number, waiting[0].index) if waiting else None


def _of_machine_that_changed(experiment: Experiment, state: StudyState, is_gain: bool) -> Step | None:
    """One more run of the incumbent when the machine stays far from the speed that it had for the incumbent.

    Where the machine's speed was measured, the experiment itself was made again before (`drift.void_by_speed`).
    """
    incumbent, run = state.reference_for(experiment), experiment.runs[-1]
    if experiment.machine:  # a slot of another kind of machine has nothing else to run beside it
        return None
    if state.incumbent is None or incumbent is None or run.val_bpb is None or not incumbent.runs:
        return None
    if incumbent.number != state.incumbent.number:
        return None
    before = experiment.number if experiment.decided_before is None else experiment.decided_before
    if max(r.num_decided for r in incumbent.runs) >= before:  # it has run since then, or was cut off
        return of_decided(incumbent)
    if (relative := stays_far(run, incumbent, is_gain)) is None:
        return None
    why = f"experiment {experiment.number:04d} ran at {relative:.2f} times its speed, which may be the machine"
    return Step(Action.TRAIN, incumbent.number, incumbent.next_run, why)


def step_at_the_end(champion: Experiment, state: StudyState) -> Step:
    """Fresh runs, until champion and baseline can be compared as a difference of means.

    The validation figure at the end of a study is then no lucky minimum, and `finish` need not make these runs again.
    On a machine whose speed has changed, the baseline runs again too: else the difference would be the machine's.
    """
    aim = f"until there are {NUM_BASELINE_RUNS} runs of each to compare"
    champion = champion.on("")
    if len(champion.scores) < NUM_BASELINE_RUNS and champion.runs[-1].status is None:
        why = f"it is the champion, and runs with fresh seeds {aim}"
        return Step(Action.TRAIN, champion.number, champion.next_run, why)
    baseline = state.experiments[0].on("")
    if champion.number > 0 and is_moved(state) and len(late_scores(baseline, state)) < NUM_BASELINE_RUNS:
        if step := of_last_run(baseline):
            return step
        if baseline.runs[-1].status is None:
            why = f"the machine's speed has changed, so the baseline runs with fresh seeds {aim}"
            return Step(Action.TRAIN, 0, baseline.next_run, why)
    return Step(Action.CONCLUDE, champion.number)


def is_moved(state: StudyState) -> bool:
    """Whether the machine's speed differs from that at the start by more than scores tolerate."""
    factor = state.noise.like_speed
    return not 1 / factor <= present_speed(state.experiments) <= factor


def is_drifting(state: StudyState) -> bool:
    """Whether the machine is so far from its speed at the start that a user should know.

    It has to come back by half of the way before it counts as back, so that a speed at the limit is no news each time.
    """
    factor = max(state.noise.like_speed, 1 + STEADY)
    factor = math.sqrt(factor) if state.is_drifting else factor
    return not 1 / factor <= present_speed(state.experiments) <= factor


def late_scores(experiment: Experiment, state: StudyState) -> tuple[float, ...]:
    """Scores of the runs that began after the last decision: beside the champion's last ones."""
    return scores_of(run for run in experiment.on("").runs if run.num_decided == len(state.decided))


# --- the rule and the audits


def rule_says(experiment: Experiment, state: StudyState) -> tuple[str, str]:
    """Status, or "confirm" when one more run is wanted, and the reason."""
    last = _judged_by(experiment)
    if last.status is not None:
        which = "the confirmation: " if last.index > 0 and experiment.number > 0 else ""
        return last.status, which + last.reason
    grounds = grounds_of(experiment, state)
    if grounds is None or isinstance(grounds, BaselineGrounds):
        return _of_baseline(experiment, state)
    decision, incumbent = grounds.decision(), state.incumbent
    is_parent = incumbent is not None and grounds.incumbent != incumbent.number  # another one was kept meanwhile
    reason = decision.reason.replace("the incumbent's", "its parent's") if is_parent else decision.reason
    return decision.verdict, reason


def grounds_of_rule(experiment: Experiment, state: StudyState) -> AnyGrounds | None:
    """What `rule_says` judges an experiment by; None where it goes by how the last run ended."""
    if not experiment.runs or _judged_by(experiment).status is not None:
        return None
    return grounds_of(experiment, state)


def _judged_by(experiment: Experiment) -> Run:
    """The run that says how an experiment ended: a refused one, else the last one.

    No agent wrote the baseline, and a user may have mended why it was refused, so its last run counts.
    """
    last = experiment.runs[-1]
    return last if experiment.number == 0 else experiment.refusal or last


def duel_decision(experiment: Experiment, state: StudyState) -> DuelDecision | None:
    """The verdict on an experiment that met the present incumbent in a duel; None for any other."""
    grounds = duel_grounds(experiment, state)
    return grounds.decision() if grounds else None


def _of_baseline(baseline: Experiment, state: StudyState) -> tuple[str, str]:
    """The baseline runs until three of its runs have like speed: runs that differ in speed say little about noise."""
    count = len(baseline.scores)
    if count < NUM_BASELINE_RUNS:
        return "confirm", f"the baseline runs {NUM_BASELINE_RUNS} times, to know how noisy a run is"
    sd = f"run-to-run sd {state.sigma:.4f}" if state.sigma is not None else "run-to-run sd unknown"
    if has_like_runs(baseline.runs):
        return Status.KEEP, f"the baseline, {count} runs; {sd}"
    if count < MOST_BASELINE_RUNS:
        until = f"until {NUM_BASELINE_RUNS} of its runs have like speed, at most {MOST_BASELINE_RUNS} times"
        return "confirm", f"the machine changed its speed between the runs of the baseline, which runs {until}"
    return Status.KEEP, f"the baseline, {count} runs; {UNSTEADY}; {sd}"


def audit_due(experiment: Experiment, verdict: str) -> int | None:
    """The run to be audited before `verdict`, the rule's, counts; None when none must."""
    if experiment.status is not None or verdict not in ("keep", "confirm"):
        return None
    if experiment.number == 0:
        return _first_unaudited(experiment.runs[-1:]) if verdict == "keep" else None
    return _first_unaudited(experiment.runs)


def _first_unaudited(runs: Iterable[Run]) -> int | None:
    return next((run.index for run in runs if run.val_bpb is not None and run.audit is None), None)
