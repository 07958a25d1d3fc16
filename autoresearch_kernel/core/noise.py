"""How much runs of the same code differ in a study, and what speed is worth; a pure function of runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .decide import NUM_BASELINE_RUNS, estimate_sigma, least_sigma
from .drift import SAME_SPEED, alike, alike_to, least_jitter, speeds_and_scores, tolerance
from .speed_worth import estimate_worth, expected_worth
from .types import Experiment, Run, Status, scores_of


@dataclass(frozen=True)
class Noise:
    """What a decision needs to know of the noise."""

    sigma: float | None  # standard deviation of runs of like speed, bits per byte; None while nothing ran twice
    degrees_of_freedom: int  # behind sigma
    worth: float  # bits per byte by which val_bpb falls when the machine is a factor of e faster
    worth_error: float  # its standard error
    like_speed: float  # factor between two speeds of the machine that are alike; infinite on an unsteady machine
    is_unsteady: bool  # no three runs of the baseline had like speed, so sigma is that of all runs


def noise_of(experiments: Sequence[Experiment], usual_worth: float) -> Noise:
    """The noise of a study so far.

    Args:
        usual_worth: what speed is worth elsewhere, for a study that cannot tell yet.
    """
    judged = [e for e in experiments if e.status is not Status.REJECTED]
    baseline = experiments[0].on("").runs if experiments else ()
    is_unsteady = len(scores_of(baseline)) >= NUM_BASELINE_RUNS and not has_like_runs(baseline)
    within = math.inf if is_unsteady else SAME_SPEED
    of_one_kind = [(e, runs) for e in judged for runs in by_machine(e)]
    groups = [scores_of(group) for _, runs in of_one_kind for group in alike(runs, within)]
    scatter = estimate_sigma(groups)
    by_speed = [speeds_and_scores(runs, is_trusted=e.number == 0) for e, runs in of_one_kind if len(runs) > 1]
    errors = [run.standard_error for run in baseline if run.val_bpb is not None and run.standard_error]
    has_jitter = bool(judged) and judged[0].number == 0 and not is_unsteady
    jitter = _jitter(list(alike(baseline, within))) if has_jitter else None
    jitter = max(jitter or 0.0, least_jitter(baseline))
    expected = expected_worth(baseline, usual_worth)
    noise = None if scatter is None else max(scatter, least_sigma(errors, jitter, expected))
    worth, worth_error = estimate_worth(by_speed, expected, noise)
    sigma = estimate_sigma(groups, least_sigma(errors, jitter, worth))
    factor = math.inf if is_unsteady else tolerance(sigma, worth)
    return Noise(sigma, sum(len(group) - 1 for group in groups), worth, worth_error, factor, is_unsteady)


def by_machine(experiment: Experiment) -> list[tuple[Run, ...]]:
    """The runs of an experiment in groups of one kind of machine each."""
    kinds = dict.fromkeys(run.machine for run in experiment.runs)
    return [experiment.on(kind).runs for kind in kinds]


def has_like_runs(baseline: Sequence[Run]) -> bool:
    """Whether the baseline has as many runs of like speed as the first estimate of sigma needs."""
    scored = [run for run in baseline if run.val_bpb is not None]
    return any(len(alike_to(run, scored)) >= NUM_BASELINE_RUNS for run in scored)


def _jitter(groups: Sequence[Sequence[Run]]) -> float | None:
    """Standard deviation of the logarithm of the speed within groups of like speed; None while it is unknown.

    Of the baseline's runs alone: other code could report any speed.
    """
    speeds = [speeds_and_scores(group, is_trusted=True) for group in groups]
    return estimate_sigma([[math.log(speed) for speed, _ in group] for group in speeds])
