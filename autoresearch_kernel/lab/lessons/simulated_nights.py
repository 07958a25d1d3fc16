"""Simulated nights whose truth is known: what a rule gained, and what it reports. No training, and no clock.

A night is a number of trainings. Each proposal has a true effect that is drawn from the landscape "near a good
baseline" of docs/decisions.md; a score is the truth plus noise. The rule "confirm" is the project's own `decide`, with
a sigma that it estimates as a study does. The rule "greedy" trains each proposal once and keeps it when its score is
below the lowest so far by more than a threshold.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ...core.decide import clearly_worse_share, decide, estimate_sigma, mean
from ...core.types import Experiment, Run, Status, scores_of

GAIN_SHARE, GAIN_BPB, GAIN_LOG_SD = 0.28, 0.0002, 0.8  # of the proposals that help: their share, median size, spread
NOTHING_SHARE = 0.10  # of the proposals change nothing
WRECK_SHARE, WRECK_BPB, WRECK_LOG_SD = 0.03, 0.06, 0.8
HARM_BPB, HARM_LOG_SD = 0.0006, 1.2  # of the rest
ROOM_BPB = 0.01  # a gain shrinks by exp(-gained so far / this): the better the code, the less is left to find
TRAININGS = 120  # a night of 12 hours, at six minutes each
SIGMA = 0.0003  # run-to-run standard deviation of a long training
BASELINE_RUNS = 3
RULES = ("greedy", "confirm")


@dataclass(frozen=True)
class SimulatedNight:
    """What came of a night. Gains are in bits per byte, and positive is better here."""

    true_gain: float  # of the code that was kept last, against the baseline
    reported_gain: float  # what the scores say
    kept: int
    kept_in_vain: int  # no better in truth than what they replaced
    confirmations: int = 0
    truth: tuple[float, ...] = field(default=(), repr=False)  # the true gain after each training

    def __str__(self) -> str:
        gains = f"true_gain {self.true_gain:.4f}, reported_gain {self.reported_gain:.4f}"
        return f"{gains}, kept {self.kept}, kept_in_vain {self.kept_in_vain}, confirmations {self.confirmations}"

    @property
    def exaggeration(self) -> float:
        """What is reported beyond the truth."""
        return self.reported_gain - self.true_gain


def simulate(
    rule: str = "confirm",
    *,
    threshold: float = 0.0,
    sigma: float = SIGMA,
    trainings: int = TRAININGS,
    seed: int = 0,
    nothing_helps: bool = False,
) -> SimulatedNight:
    """One night; the same seed gives the same proposals and the same luck.

    >>> simulate("greedy", seed=1).kept  # doctest: +SKIP
    12

    Args:
        rule: "greedy" or "confirm".
        threshold: of the greedy rule, in sigma: a score must be so far below the lowest.
        sigma: run-to-run standard deviation, bits per byte.
        nothing_helps: every proposal is the same code in truth.
    """
    if rule not in RULES:
        raise ValueError(f"There is no rule {rule!r}: take one of {', '.join(RULES)}.")
    luck = random.Random(2 * seed + 1)
    world = _World(random.Random(2 * seed), luck, sigma, trainings, nothing_helps)
    return _greedy(world, threshold) if rule == "greedy" else _confirm(world)


def simulate_many(rule: str, nights: int = 40, first_seed: int = 0, **settings: Any) -> list[SimulatedNight]:
    """Several nights with seeds of their own; other rules with the same seeds meet the same proposals."""
    return [simulate(rule, seed=first_seed + i, **settings) for i in range(nights)]


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """The mean and its standard error."""
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return statistics.fmean(values), error


class _World:
    """Proposals with a true effect, and a machine that trains them with luck."""

    def __init__(
        self, proposals: random.Random, luck: random.Random, sigma: float, trainings: int, nothing_helps: bool
    ) -> None:
        self.proposals, self.luck, self.sigma = proposals, luck, sigma
        self.left, self.nothing_helps = trainings, nothing_helps
        self.truth: list[float] = []

    def train(self, true_bpb: float, kept_bpb: float) -> float:
        """The score of one training of code with this true score."""
        self.left -= 1
        self.truth.append(-kept_bpb)
        return true_bpb + self.sigma * self.luck.gauss(0, 1)

    def proposed(self, kept_bpb: float) -> float:
        """The true score of the next proposal, which is made for code with the true score `kept_bpb`."""
        kind, size = self.proposals.random(), self.proposals.gauss(0, 1)
        if self.nothing_helps or GAIN_SHARE <= kind < GAIN_SHARE + NOTHING_SHARE:
            return kept_bpb
        if kind < GAIN_SHARE:
            return kept_bpb - GAIN_BPB * math.exp(GAIN_LOG_SD * size) * math.exp(kept_bpb / ROOM_BPB)
        if kind < GAIN_SHARE + NOTHING_SHARE + WRECK_SHARE:
            return kept_bpb + WRECK_BPB * math.exp(WRECK_LOG_SD * size)
        return kept_bpb + HARM_BPB * math.exp(HARM_LOG_SD * size)


def _greedy(world: _World, threshold: float) -> SimulatedNight:
    kept_bpb, kept, in_vain = 0.0, 0, 0
    baseline = lowest = world.train(0.0, 0.0)
    while world.left > 0:
        true_bpb = world.proposed(kept_bpb)
        score = world.train(true_bpb, kept_bpb)
        if score < lowest - threshold * world.sigma:
            kept, in_vain = kept + 1, in_vain + (true_bpb >= kept_bpb)
            lowest, kept_bpb = score, true_bpb
    return SimulatedNight(-kept_bpb, baseline - lowest, kept, in_vain, truth=tuple(world.truth))


def _confirm(world: _World) -> SimulatedNight:
    """The project's rule: three runs of the baseline, confirmations, and three runs of the champion in the end."""
    kept_bpb, in_vain, confirmations = 0.0, 0, 0
    runs = tuple(Run(i, i, val_bpb=world.train(0.0, 0.0)) for i in range(BASELINE_RUNS))
    experiments = [Experiment(0, "", "", None, runs=runs, status=Status.KEEP, val_bpb=mean(scores_of(runs)))]
    incumbent = experiments[0]
    while world.left > BASELINE_RUNS - len(incumbent.runs):
        true_bpb = world.proposed(kept_bpb)
        experiment = _judged(world, experiments, incumbent, true_bpb, kept_bpb)
        experiments.append(experiment)
        confirmations += len(experiment.runs) - 1
        if experiment.status is Status.KEEP:
            in_vain += true_bpb >= kept_bpb
            incumbent, kept_bpb = experiment, true_bpb
    scores = list(incumbent.scores)
    while len(scores) < BASELINE_RUNS:
        scores.append(world.train(kept_bpb, kept_bpb))
    kept = sum(e.status is Status.KEEP for e in experiments) - 1
    reported = mean(scores_of(runs)) - mean(scores)
    return SimulatedNight(-kept_bpb, reported, kept, in_vain, confirmations, tuple(world.truth))


def _judged(
    world: _World, experiments: Sequence[Experiment], incumbent: Experiment, true_bpb: float, kept_bpb: float
) -> Experiment:
    """The next experiment: trained until the rule keeps or discards it."""
    groups = [e.scores for e in experiments]
    sigma, degrees = estimate_sigma(groups), sum(len(group) - 1 for group in groups if group)
    share = clearly_worse_share(experiments, sigma, degrees)
    scores: list[float] = []
    verdict = "confirm"
    while verdict == "confirm":
        scores.append(world.train(true_bpb, kept_bpb))
        decision = decide(scores, incumbent.scores, sigma, degrees_of_freedom=degrees, worse_share=share)
        verdict = decision.verdict
    runs = tuple(Run(i, i, val_bpb=score) for i, score in enumerate(scores))
    number = len(experiments)
    found = Experiment(number, "", "", incumbent.number, runs=runs, val_bpb=mean(scores))
    return replace(found, status=Status(verdict), incumbent_bpb=mean(incumbent.scores))
