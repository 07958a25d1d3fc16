"""Campaigns on a machine that other programs share: its speed jumps by 1.5 to 3 and back. Played by the project's rule.

A campaign is a study of trainings of 20 s on two cores. What a score depends on was measured there: 0.0076 bits per
byte of standard deviation between seeds at the same number of steps, the jitter of the number of steps by each clock
(benchmarks/README.md), and 0.23 bits per byte for a factor of e in speed. `next_step` and `drift.void_by_speed` decide
what runs, on the state of a study; every run counts as audited. `decisions.py` prints the table.
"""

from __future__ import annotations

import math
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from autoresearch_kernel.core.drift import relative_machine_speed, relative_speed, void_by_speed
from autoresearch_kernel.core.duel import PRIOR_SPEED, DuelMode
from autoresearch_kernel.core.next_step import Action, Step, duel_decision, next_step
from autoresearch_kernel.core.state import StudyState
from autoresearch_kernel.core.types import Audit, Cause, Experiment, Run, Status

SIGMA, WORTH = 0.0076, 0.23  # standard deviation of a score at fixed steps; what a factor of e in speed is worth
JITTER = 0.05  # standard deviation of the logarithm of the number of steps by the wall clock, beside the jumps below
QUIET_JITTER = 0.095  # the same without such jumps, where only the host of the machine is busy
STEADY_JITTER, STEADY_QUIET_JITTER = 0.056, 0.038  # the same two by the steady clock
MOST_STRETCH = 1.5  # by what factor a steady clock lets a training take longer on a slow machine
JUMP = (1.5, 3.0)  # by what factor the machine is slower while others use it
QUIET_RUNS, BUSY_RUNS = 6.0, 4.0  # mean length of the two states, in runs
MEASURING_ERROR = 0.05  # of the log of `machine_speed`
DUEL_REST = 0.003  # of a score in a duel, beside the seed's: two sides of one seed differ by sqrt(2) of it
NUM_RUNS = 120  # trainings of a campaign, about an hour
ACCEPTED = Audit(True, 0.0, 0.0, 256, 0, "", 0.0)


@dataclass(frozen=True)
class Proposals:
    """What proposals do to the true score, in bits per byte; the sizes are log-normal."""

    gain_share: float = 0.28
    gain_bpb: float = 0.01
    nothing_share: float = 0.1
    harm_bpb: float = 0.03  # of the rest
    log_sd: float = 1.0
    room_bpb: float = 0.3  # gains shrink by exp(-gained so far / this)

    def effects(self, rng: np.random.Generator, count: int) -> list[float]:
        sizes, kinds = np.exp(self.log_sd * rng.standard_normal(count)), rng.random(count)
        gain, nothing = kinds < self.gain_share, kinds < self.gain_share + self.nothing_share
        return np.where(gain, -self.gain_bpb * sizes, np.where(nothing, 0.0, self.harm_bpb * sizes)).tolist()


USEFUL = Proposals()
NOTHING = Proposals(gain_share=0.0, nothing_share=1.0)


@dataclass(frozen=True)
class Landscape:
    """The machine, and what the rule knows of it."""

    proposals: Proposals = USEFUL
    is_busy: bool = True
    is_measured: bool = True  # the supervisor measures the machine's speed
    assumed_worth: float = 1.0  # times the true one: what the study takes speed to be worth before it has measured it
    jitter: float = JITTER
    is_steady: bool = False  # a steady clock counts the budget
    duels: DuelMode = "never"


@dataclass
class Campaign:
    """What a campaign came to."""

    true_gain: float = 0.0
    experiments: int = 0
    keeps: int = 0
    false_keeps: int = 0  # no better in truth than what they replaced
    above_3_sigma: int = 0  # false keeps that claimed more than 3 sigma, or were beyond chance at once
    made_again: int = 0
    duels: int = 0
    baseline_runs: int = 0
    incumbent_runs: int = 0  # after the decision
    is_unsteady: bool = False


class Machine:
    """Draws speeds and scores, run after run."""

    def __init__(self, landscape: Landscape, seed: int, count: int = 2 * NUM_RUNS) -> None:
        rng = np.random.default_rng([seed, 7])
        self.landscape = landscape
        self.noise = (SIGMA * rng.standard_normal(count)).tolist()
        self.measuring = (MEASURING_ERROR * rng.standard_normal(count)).tolist()
        jitters = (landscape.jitter * rng.standard_normal(count)).tolist()
        self.slower = [0.0] * count  # logarithm of the machine's speed while others use it
        self.rest = (DUEL_REST * np.random.default_rng([seed, 8]).standard_normal(count)).tolist()
        state, level = bool(rng.random() < BUSY_RUNS / (QUIET_RUNS + BUSY_RUNS)), 0.0
        for i in range(count if landscape.is_busy else 0):
            if i == 0 or rng.random() < 1 / (BUSY_RUNS if state else QUIET_RUNS):
                state = state if i == 0 else not state
                level = -math.log(rng.uniform(*JUMP)) if state else 0.0
            self.slower[i] = level
        if landscape.is_steady:  # what its limits leave of a slow machine; within them it measures the budget exactly
            self.slower = [min(0.0, slower + math.log(MOST_STRETCH)) for slower in self.slower]
            self.measuring = [
                error if slower else 0.0 for error, slower in zip(self.measuring, self.slower, strict=True)
            ]
        self.log_speed = [jitter + slower for jitter, slower in zip(jitters, self.slower, strict=True)]
        self.runs = 0

    def train(self, truth: float) -> tuple[float, dict[str, float]]:
        """The score of one run, and its measurements."""
        i, self.runs = self.runs, self.runs + 1
        measured = {"tokens_per_second": 20_000 * math.exp(self.log_speed[i])}
        if self.landscape.is_steady:
            measured["budget_speed"] = math.exp(self.slower[i] + self.measuring[i])
        elif self.landscape.is_measured:
            measured["machine_speed"] = math.exp(self.log_speed[i] + self.measuring[i])
        return truth + self.noise[i] - WORTH * self.log_speed[i], measured

    def duel(self, *truths: float) -> list[tuple[float, dict[str, float]]]:
        """The scores of two runs that take turns, and their measurements: both meet the same machine."""
        i, self.runs = self.runs, self.runs + 2
        log_speed = (self.log_speed[i] + self.log_speed[i + 1]) / 2
        measured = {"tokens_per_second": 20_000 * math.exp(log_speed)}
        if self.landscape.is_measured:
            measured["machine_speed"] = math.exp(log_speed + self.measuring[i])
        lucks = [self.noise[j] + self.rest[j] for j in (i, i + 1)]
        return [(truth + luck - WORTH * log_speed, measured) for truth, luck in zip(truths, lucks, strict=True)]


class Player:
    """One campaign under the project's rule."""

    def __init__(self, landscape: Landscape, seed: int) -> None:
        self.machine = Machine(landscape, seed)
        self.effects = landscape.proposals.effects(np.random.default_rng([seed, 1]), NUM_RUNS)
        self.room = landscape.proposals.room_bpb
        budget = 20.0 * landscape.assumed_worth ** (-1 / 0.3)  # the budget at which speed is usually worth that much
        facts = {"hardware": {"device": "cpu"}, "time_budget_seconds": budget, "duel_prior_speed": PRIOR_SPEED}
        self.state = StudyState(facts, duels=landscape.duels, can_duel=True)
        self.truths = [0.0]
        self.found = Campaign()

    def play(self) -> Campaign:
        while self.machine.runs < NUM_RUNS:
            self.do(next_step(self.state))
        state, found = self.state, self.found
        assert state.incumbent is not None
        found.true_gain = -self.truths[state.incumbent.number]
        found.experiments, found.is_unsteady = len(state.decided) - 1, state.is_unsteady
        return found

    def do(self, step: Step) -> None:
        match step.action:
            case Action.PROPOSE:
                self.propose(step.experiment)
            case Action.TRAIN if step.against is not None:
                self.duel(step.experiment, step.against)
            case Action.TRAIN:
                self.train(self.state.experiments[step.experiment])
            case Action.DECIDE:
                self.decide(self.state.experiments[step.experiment], step)

    def propose(self, number: int) -> None:
        incumbent = self.state.incumbent
        if incumbent is not None:
            truth, effect = self.truths[incumbent.number], self.effects[number]
            self.truths.append(truth + (effect * math.exp(truth / self.room) if effect < 0 else effect))
        self.put(Experiment(number, "", "", incumbent.number if incumbent else None))

    def train(self, experiment: Experiment) -> None:
        score, measured = self.machine.train(self.truths[experiment.number])
        causes: tuple[Cause, ...] = ()
        incumbent = self.state.incumbent
        if experiment.status is None and incumbent and void_by_speed(measured, incumbent, causes):
            self.found.made_again += 1
            causes = (Cause.SLOW,)
            score, measured = self.machine.train(self.truths[experiment.number])
        facts = measured | recorded(measured, self.state)
        place = len(self.state.decided)
        index = len(experiment.runs)
        run = Run(index, 0, val_bpb=score, audit=ACCEPTED, measured=facts, num_decided=place, causes=causes)
        self.put(replace(experiment, runs=(*experiment.runs, run)))
        self.found.baseline_runs += experiment.number == 0 and experiment.status is None
        self.found.incumbent_runs += experiment.status is not None

    def duel(self, number: int, incumbent: int) -> None:
        self.found.duels += 1
        pair = [self.state.experiments[n] for n in (number, incumbent)]
        trained = self.machine.duel(*(self.truths[e.number] for e in pair))
        place = len(self.state.decided)
        facts = [measured | recorded(measured, self.state) for _, measured in trained]
        for me, other, (score, _), fact in zip(pair, pair[::-1], trained, facts, strict=True):
            met = other.number, len(other.runs)
            run = Run(len(me.runs), 0, val_bpb=score, audit=ACCEPTED, measured=fact, num_decided=place, duel=met)
            self.put(replace(me, runs=(*me.runs, run)))

    def decide(self, experiment: Experiment, step: Step) -> None:
        scores, (incumbent_bpb, incumbent_standard_error) = experiment.scores, self.state.judged_against(experiment)
        assert step.status is not None
        duel = duel_decision(experiment, self.state)
        decided = replace(
            experiment,
            status=step.status,
            reason=step.why,
            val_bpb=sum(scores) / len(scores),
            incumbent_bpb=incumbent_bpb,
            incumbent_standard_error=incumbent_standard_error,
            sigma=self.state.sigma,
            degrees_of_freedom=self.state.noise.degrees_of_freedom,
        )
        if duel is not None:
            scores_of_duel = {"val_bpb": duel.val_bpb, "incumbent_bpb": duel.incumbent_bpb}
            decided = replace(decided, **scores_of_duel, difference_error=duel.difference_error)
        if step.status is Status.KEEP and (incumbent := self.state.incumbent) is not None:
            self.found.keeps += 1
            is_false = self.truths[experiment.number] >= self.truths[incumbent.number]
            self.found.false_keeps += is_false
            self.found.above_3_sigma += is_false and decided.compared.sigmas < -3
        self.put(decided)

    def put(self, experiment: Experiment) -> None:
        """The state with this experiment in its place."""
        others = list(self.state.experiments)
        others[experiment.number : experiment.number + 1] = [experiment]
        incumbent = self.state.incumbent
        is_kept = experiment.status is Status.KEEP
        if is_kept and (incumbent is None or experiment.number >= incumbent.number):
            incumbent = experiment
        self.state = replace(self.state, experiments=tuple(others), incumbent=incumbent)


def recorded(measured: dict[str, float], state: StudyState) -> dict[str, float]:
    """What the session adds to the measurements of a run."""
    incumbent = state.incumbent.runs if state.incumbent else ()
    found = {
        "relative_speed": relative_speed(measured, incumbent, state.noise.like_speed),
        "relative_machine_speed": relative_machine_speed(measured, incumbent),
    }
    return {name: value for name, value in found.items() if value is not None}


def greedy(landscape: Landscape, seed: int) -> Campaign:
    """One run each, kept when it is below the lowest so far."""
    machine, found = Machine(landscape, seed), Campaign()
    effects = landscape.proposals.effects(np.random.default_rng([seed, 1]), NUM_RUNS)
    lowest, truth = machine.train(0.0)[0], 0.0
    for effect in effects[1:]:
        new = truth + (effect * math.exp(truth / landscape.proposals.room_bpb) if effect < 0 else effect)
        score, _ = machine.train(new)
        found.experiments += 1
        if score < lowest:
            found.keeps, found.false_keeps = found.keeps + 1, found.false_keeps + (new >= truth)
            lowest, truth = score, new
    found.true_gain = -truth
    return found


# ---------------------------------------------------------------- the table

ROWS = (
    ("steady clock, nothing else runs", Landscape(is_busy=False, is_steady=True, jitter=STEADY_QUIET_JITTER)),
    ("steady clock, busy", Landscape(is_steady=True, jitter=STEADY_JITTER)),
    ("wall clock, nothing else runs", Landscape(is_busy=False, jitter=QUIET_JITTER)),
    ("wall clock, busy, speed measured with an error of 5 %", Landscape()),
    ("the same, speed at first taken to be worth half as much", Landscape(assumed_worth=0.5)),
    ("the same, twice as much", Landscape(assumed_worth=2.0)),
    ("the same, with duels where they pay", Landscape(duels="auto")),
    ("the same, each confirmation a duel", Landscape(duels="always")),
    ("wall clock, busy, speed not measured", Landscape(is_measured=False)),
)


def play(landscape: Landscape, seed: int) -> tuple[Campaign, Campaign]:
    """(ours, greedy's)."""
    return Player(landscape, seed).play(), greedy(landscape, seed)


def print_table(seeds: range) -> None:
    """Each row's campaigns, with useful proposals and with identical ones."""
    print(
        "\n| machine | true gain against greedy | true gain, mbpb (greedy) | experiments | kept | of these no better ",
        end="",
    )
    print("| made again | baseline's runs | incumbent's later runs | A/A: kept | A/A: kept, above 3 sigma |")
    print("|---" * 11 + "|")
    with ProcessPoolExecutor(2) as pool:
        for label, landscape in ROWS:
            useful, nothing = (
                list(pool.map(partial(play, replace(landscape, proposals=proposals)), seeds, chunksize=8))
                for proposals in (USEFUL, NOTHING)
            )
            print(_line(label, useful, [ours for ours, _ in nothing]), flush=True)


def _line(label: str, useful: list[tuple[Campaign, Campaign]], nothing: list[Campaign]) -> str:
    gains = np.array([[c.true_gain for c in pair] for pair in useful])  # (campaigns, 2)
    drawn = gains[np.random.default_rng(0).integers(len(gains), size=(1000, len(gains)))].mean(axis=1)
    (ours, theirs), error = gains.mean(axis=0), float((drawn[:, 0] / drawn[:, 1]).std())
    mean = {f.name: statistics.fmean(getattr(c, f.name) for c, _ in useful) for f in fields(Campaign)}
    kept = sum(c.keeps for c in nothing) / sum(c.experiments for c in nothing)
    cells = (
        label, f"x{ours / theirs:.2f} ± {error:.2f}", f"{1000 * ours:.0f} ({1000 * theirs:.0f})",
        f"{mean['experiments']:.0f}", f"{mean['keeps']:.1f}", f"{mean['false_keeps']:.1f}", f"{mean['made_again']:.1f}",
        f"{mean['baseline_runs']:.1f}", f"{mean['incumbent_runs']:.1f}", f"{kept:.1%}",
        str(sum(c.above_3_sigma for c in nothing)),
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"
