"""What the rule says of an experiment and its runs, and which run is audited before that counts. Pure functions.

A discard needs no audit. A run whose score would make the rule say "keep" or "once more" is audited first: that costs
less than the training that a confirmation is. Of the baseline, which is no agent's code, the last of the three runs is
audited, since a leak in the code shows in each; of what was kept, each further run, as scores are compared with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from .decide import NUM_BASELINE_RUNS, clearly_worse_share, decide, is_simpler
from .drift import at_present_speed
from .types import Experiment, Run, Status

if TYPE_CHECKING:
    from .state import StudyState


def judge_runs(experiment: Experiment, state: StudyState) -> tuple[Status, str] | None:
    """Status and reason from the runs so far; None when one more run is wanted. A pure function."""
    verdict, reason = rule_says(experiment, state)
    return None if verdict == "confirm" else (Status(verdict), reason)


def rule_says(experiment: Experiment, state: StudyState) -> tuple[str, str]:
    """Status, or "confirm" when one more run is wanted, and the reason. A pure function."""
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
    """The run to be audited before `verdict`, the rule's, counts; None when none must. A pure function."""
    if experiment.status is not None or verdict not in ("keep", "confirm"):
        return None
    if experiment.number == 0:
        return _first_unaudited(experiment.runs[-1:]) if verdict == "keep" else None
    return _first_unaudited(experiment.runs)


def late_audit_due(experiment: Experiment) -> int | None:
    """The run of a kept experiment, made after it was decided, that is still to be audited. A pure function.

    Code can tell from its seed which run it is, so that its first one was honest says nothing of the others.
    """
    if experiment.number == 0 or experiment.status is not Status.KEEP:
        return None
    return _first_unaudited(run for run in experiment.runs if run.num_decided > experiment.number)


def _first_unaudited(runs: Iterable[Run]) -> int | None:
    return next((run.index for run in runs if run.val_bpb is not None and run.audit is None), None)
