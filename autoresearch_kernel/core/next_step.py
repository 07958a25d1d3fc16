"""What comes next in a study: one pure function of its state, `next_step`.

The loop executes what it returns, and a notebook executes one step and names the next. The order of an experiment is
written nowhere else; which fresh runs the result of a study needs is in `study/finish.py`.

A discard needs no audit. A run whose score would make the rule say "keep" or "confirm" is audited first: an audit
costs less than the training of a confirmation. Of the baseline, whose code no agent wrote, the last of the three runs
is audited, since a leak in the code shows in each of them. Of a kept experiment each later run is audited, as later
experiments are compared with it, and code can tell from its seed which run it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from .decide import NUM_BASELINE_RUNS, clearly_worse_share, decide, is_simpler
from .drift import at_present_speed, is_much_slower, present_speed, rerun_due, tolerance
from .state import StudyState
from .types import Experiment, Run, Status, scores_of

MOST_ATTEMPTS = 2  # trainings begun under one run index: one interruption is bad luck, two are the experiment's


class Action(StrEnum):
    """What a step does."""

    PROPOSE = "propose"
    TRAIN = "train"
    SCORE = "score"
    AUDIT = "audit"
    DECIDE = "decide"
    CONCLUDE = "conclude"


@dataclass(frozen=True)
class Step:
    """What is done next, and to which run of which experiment."""

    action: Action
    experiment: int  # its number; for PROPOSE the number that it will get
    run: int = 0  # index; of TRAIN, SCORE and AUDIT
    why: str = ""  # for a training of an experiment that is decided already; for DECIDE the reason of the decision
    status: Status | None = None  # of the decision, for DECIDE


def next_step(state: StudyState, *, is_ending: bool = False) -> Step:
    """What comes next.

    Args:
        is_ending: nothing more is to be proposed. The champion, and where the machine's speed has changed the
            baseline beside it, then run until there are three runs of each; the last step is CONCLUDE.
    """
    experiment, incumbent = state.unfinished, state.incumbent
    if experiment is not None:
        return _of_undecided(experiment, state)
    if incumbent is None:
        return Step(Action.PROPOSE, len(state.experiments))
    if step := of_decided(incumbent):
        return step
    if is_ending:
        return _at_the_end(incumbent, state)
    if why := rerun_due(state.experiments, incumbent, state.sigma):
        return Step(Action.TRAIN, incumbent.number, len(incumbent.runs), why)
    return Step(Action.PROPOSE, len(state.experiments))


def _of_undecided(experiment: Experiment, state: StudyState) -> Step:
    if step := of_last_run(experiment):
        return step
    if step := _of_slow_machine(experiment, state):
        return step
    verdict, reason = rule_says(experiment, state)
    if (run := audit_due(experiment, verdict)) is not None:
        return Step(Action.AUDIT, experiment.number, run)
    if verdict == "confirm":
        return Step(Action.TRAIN, experiment.number, len(experiment.runs))
    return Step(Action.DECIDE, experiment.number, why=reason, status=Status(verdict))


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
    run = late_audit_due(experiment)
    return None if run is None else Step(Action.AUDIT, experiment.number, run)


def _of_slow_machine(experiment: Experiment, state: StudyState) -> Step | None:
    """One more run of the incumbent when the experiment was slow twice: a slow incumbent means a slow machine."""
    incumbent, run = state.incumbent, experiment.runs[-1]
    if incumbent is None or not run.slow or not is_much_slower(run.measured.get("relative_speed")):
        return None
    if step := of_decided(incumbent):  # such a run was cut off
        return step
    if max(r.num_decided for r in incumbent.runs) >= experiment.number:
        return None  # it has run
    why = f"experiment {experiment.number:04d} was slow twice, which may be the machine"
    return Step(Action.TRAIN, incumbent.number, len(incumbent.runs), why)


def _at_the_end(champion: Experiment, state: StudyState) -> Step:
    """Fresh runs, until champion and baseline can be compared as a difference of means.

    The validation figure at the end of a study is then no lucky minimum, and `finish` need not make these runs again.
    On a machine whose speed has changed, the baseline runs again too: else the difference would be the machine's.
    """
    aim = f"until there are {NUM_BASELINE_RUNS} runs of each to compare"
    if len(champion.scores) < NUM_BASELINE_RUNS and champion.runs[-1].status is None:
        why = f"it is the champion, and runs with fresh seeds {aim}"
        return Step(Action.TRAIN, champion.number, len(champion.runs), why)
    baseline = state.experiments[0]
    if champion.number > 0 and is_moved(state) and len(late_scores(baseline, state)) < NUM_BASELINE_RUNS:
        if step := of_last_run(baseline):
            return step
        if baseline.runs[-1].status is None:
            why = f"the machine's speed has changed, so the baseline runs with fresh seeds {aim}"
            return Step(Action.TRAIN, 0, len(baseline.runs), why)
    return Step(Action.CONCLUDE, champion.number)


def is_moved(state: StudyState) -> bool:
    """Whether the machine's speed differs from that at the start by more than scores tolerate."""
    factor = tolerance(state.sigma)
    return not 1 / factor <= present_speed(state.experiments) <= factor


def late_scores(experiment: Experiment, state: StudyState) -> tuple[float, ...]:
    """Scores of the runs that began after the last decision: beside the champion's last ones."""
    return scores_of(run for run in experiment.runs if run.num_decided == len(state.decided))


# --- the rule and the audits


def rule_says(experiment: Experiment, state: StudyState) -> tuple[str, str]:
    """Status, or "confirm" when one more run is wanted, and the reason."""
    last = experiment.refusal or experiment.runs[-1]
    if last.status is not None:
        which = "the confirmation: " if last.index > 0 and experiment.number > 0 else ""
        return last.status, which + last.reason
    if state.incumbent is None:
        if len(experiment.scores) < NUM_BASELINE_RUNS:
            return "confirm", f"the baseline runs {NUM_BASELINE_RUNS} times, to know how noisy a run is"
        return Status.KEEP, f"the baseline, {len(experiment.scores)} runs; run-to-run sd {state.sigma:.4f}"
    worse_share = clearly_worse_share(state.decided, state.sigma)
    is_lucky = any(run.index == 0 for run in at_present_speed(state.incumbent.runs, state.sigma))
    decision = decide(
        experiment.scores,
        state.incumbent_scores,
        state.sigma,
        worse_share=worse_share,
        is_lucky=is_lucky,
        is_simpler=is_simpler(experiment, state.incumbent),
    )
    return decision.verdict, decision.reason


def audit_due(experiment: Experiment, verdict: str) -> int | None:
    """The run to be audited before `verdict`, the rule's, counts; None when none must."""
    if experiment.status is not None or verdict not in ("keep", "confirm"):
        return None
    if experiment.number == 0:
        return _first_unaudited(experiment.runs[-1:]) if verdict == "keep" else None
    return _first_unaudited(experiment.runs)


def late_audit_due(experiment: Experiment) -> int | None:
    """The run of a kept experiment, made after it was decided, that is still to be audited; None when none is."""
    if experiment.number == 0 or experiment.status is not Status.KEEP:
        return None
    return _first_unaudited(run for run in experiment.runs if run.num_decided > experiment.number)


def _first_unaudited(runs: Iterable[Run]) -> int | None:
    return next((run.index for run in runs if run.val_bpb is not None and run.audit is None), None)
