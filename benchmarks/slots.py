"""What slots are worth: experiments an hour on this machine, and the true gain of simulated nights.

    python benchmarks/slots.py --speed [--budget 10] [--experiments 16]   two pinned slots against one, real trainings
    python benchmarks/slots.py --nights 20 [--slots 4,16,64]              simulated nights with known truth

The simulated nights are those of `decisions.py`, on a machine that does not drift, played in the order of
`core/slots.py` and `core/waves.py` with the project's own `decide`, `noise_of` and `stack_sizes`. Compared is *best of
wave*: each wave tries as many proposals as there are slots, once, and takes the one with the lowest score where that is
below the lowest so far. Both see the same proposals. Effects add up when they are merged, and shrink as all gains of
these nights do.
"""

from __future__ import annotations

import argparse
import heapq
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from decisions import HOURS, NEAR, NOTHING, OVERHEAD_HOURS, RUN_HOURS, WORTH, Mixture, truth_after

from autoresearch_kernel.core.decide import NUM_BASELINE_RUNS, clearly_worse_share, decide, mean
from autoresearch_kernel.core.noise import noise_of
from autoresearch_kernel.core.types import Experiment, Run, Status, scores_of
from autoresearch_kernel.core.waves import MOST_RUNS, PROPOSALS_OF_A_SLOT, RERUNS, stack_sizes

PROJECT = Path(__file__).resolve().parents[1]
SIGMA = 0.0003
EACH_HOURS = RUN_HOURS + OVERHEAD_HOURS
SLOTS = (4, 16, 64)
LAST_ONES = 100  # experiments that say how many proposals are clearly worse


@dataclass(frozen=True)
class Tally:
    true_gain: float
    keeps: int = 0
    false_keeps: int = 0
    experiments: int = 0


@dataclass
class Try:
    """A proposal in work, and the effects that make its truth."""

    number: int
    effects: tuple[float, ...]  # of its own changes, before gains shrink
    truth: float
    parent: Experiment  # that it is compared with
    wave: int  # of a proposal; -1 for a stack and for a run of the incumbent
    runs: list[Run]
    verdict: str = ""

    @property
    def score(self) -> float:
        return mean(scores_of(self.runs))


class SlotNight:
    """One night on several slots, event by event."""

    def __init__(self, mixture: Mixture, num_slots: int, seed: int) -> None:
        self.mixture, self.num_slots = mixture, num_slots
        self.effects = mixture.effects(np.random.default_rng([seed, 1]), 200 * num_slots)
        self.rng = np.random.default_rng([seed, 2])
        self.num_runs = self.next_effect = self.numbers = 0
        self.hours = EACH_HOURS * math.ceil(NUM_BASELINE_RUNS / num_slots)
        runs = tuple(self.train(0.0, i) for i in range(num_slots * math.ceil(NUM_BASELINE_RUNS / num_slots)))
        self.experiments = [Experiment(0, "", "", None, runs=runs, status=Status.KEEP, val_bpb=mean(scores_of(runs)))]
        self.incumbent, self.truth = self.experiments[0], 0.0
        self.noise = noise_of(self.experiments, WORTH)
        self.in_work: list[tuple[float, int, Try]] = []  # when its run ends
        self.next_ones: list[Try] = []  # stacks, and runs of the incumbent
        self.stacks: list[Try] = []  # that are not all decided
        self.promising: list[Try] = []
        self.wave = self.num_proposed = 0  # proposals of the wave
        self.tally = Tally(0.0)

    # --- what is tried

    def train(self, truth: float, index: int) -> Run:
        self.num_runs += 1
        return Run(index, seed=self.num_runs, val_bpb=truth + SIGMA * float(self.rng.standard_normal()))

    def truth_of(self, effects: tuple[float, ...]) -> float:
        """Of the incumbent with these changes, made one after the other."""
        truth = self.truth
        for effect in effects:
            truth = truth_after(effect, -truth, self.mixture.room_bpb)
        return truth

    def begin(self, tried: Try) -> None:
        heapq.heappush(self.in_work, (self.hours + EACH_HOURS, self.num_runs + len(self.in_work), tried))

    def next(self) -> Try:
        if self.next_ones:
            return self.next_ones.pop(0)
        effects = (self.effects[self.next_effect],)
        self.next_effect += 1
        self.numbers += 1
        is_of_next = self.num_proposed >= PROPOSALS_OF_A_SLOT * self.num_slots
        self.num_proposed += 1
        return Try(self.numbers, effects, self.truth_of(effects), self.incumbent, self.wave + is_of_next, [])

    def is_wave_tried(self) -> bool:
        is_full = self.num_proposed >= PROPOSALS_OF_A_SLOT * self.num_slots
        return is_full and not self.stacks and not any(tried.wave == self.wave for _, _, tried in self.in_work)

    # --- what is decided

    def judge(self, tried: Try) -> str:
        noise, theirs = self.noise, scores_of(tried.parent.runs)
        return decide(
            scores_of(tried.runs),
            theirs,
            noise.sigma,
            degrees_of_freedom=noise.degrees_of_freedom,
            speed_bpb=0.0,
            level_error=(noise.sigma or 0.0) / math.sqrt(len(theirs)),
            is_like=True,
            worse_share=clearly_worse_share(
                self.experiments[-LAST_ONES:], noise.sigma, noise.degrees_of_freedom, noise.worth
            ),
            is_lucky=any(run.index == 0 for run in tried.parent.runs),
        ).verdict

    def decided(self, tried: Try, status: Status) -> Experiment:
        runs = tuple(tried.runs)
        experiment = Experiment(tried.number, "", "", 0, runs=runs, status=status, val_bpb=tried.score)
        self.experiments.append(experiment)
        if len(runs) > 1:  # else it says nothing about noise
            self.noise = noise_of([e for e in self.experiments if len(e.runs) > 1], WORTH)
        return experiment

    def play(self) -> Tally:
        while True:
            while len(self.in_work) < self.num_slots and self.hours < HOURS:
                if not self.next_ones and self.is_wave_tried():
                    self.stack()
                else:
                    self.begin(self.next())
            if not self.in_work:
                return replace(self.tally, true_gain=-self.truth, experiments=self.numbers)
            self.hours, _, tried = heapq.heappop(self.in_work)
            run = self.train(tried.truth, len(tried.runs))
            if not tried.effects:
                self.run_again(tried.parent, run)
                continue
            tried.runs.append(run)
            tried.verdict = self.judge(tried)
            if tried.wave >= 0:
                if tried.verdict == "discard":
                    self.decided(tried, Status.DISCARD)
                else:
                    self.promising.append(tried)
            elif tried.verdict == "confirm":
                self.begin(tried)
            elif all(stack.verdict in ("keep", "discard") for stack in self.stacks):
                self.end_of_stacks()

    def stack(self) -> None:
        """Merge what is promising of a wave, and run the incumbent again beside the stacks."""
        promising, self.promising = sorted(self.promising, key=lambda tried: tried.score), []
        self.wave += 1
        self.num_proposed = sum(tried.wave == self.wave for _, _, tried in self.in_work)
        for size in stack_sizes(len(promising)):
            effects = tuple(tried.effects[0] for tried in promising[:size])
            best = promising[0]
            if size == 1 and best.parent is self.incumbent:
                best.wave = -1  # it goes on by itself
                self.stacks.append(best)
                continue
            self.numbers += 1
            self.stacks.append(Try(self.numbers, effects, self.truth_of(effects), self.incumbent, -1, []))
        for tried in promising:
            if tried not in self.stacks:
                self.decided(tried, Status.DISCARD)
        self.next_ones = list(self.stacks)
        if promising:
            reruns = min(RERUNS, MOST_RUNS - len(self.incumbent.runs))
            self.next_ones += [Try(0, (), self.truth, self.incumbent, -1, []) for _ in range(reruns)]

    def run_again(self, experiment: Experiment, run: Run) -> None:
        """One more run of the incumbent, or of what was the incumbent when the run began."""
        place = next(i for i, known in enumerate(self.experiments) if known.number == experiment.number)
        known = self.experiments[place]
        self.experiments[place] = again = replace(known, runs=(*known.runs, replace(run, index=len(known.runs))))
        if self.incumbent.number == again.number:
            self.incumbent = again
        for tried in (*self.promising, *self.stacks, *self.next_ones, *(tried for _, _, tried in self.in_work)):
            if tried.parent.number == again.number:
                tried.parent = again
        self.noise = noise_of([e for e in self.experiments if len(e.runs) > 1], WORTH)

    def end_of_stacks(self) -> None:
        """Keep the best stack that the rule keeps."""
        kept = sorted((tried for tried in self.stacks if tried.verdict == "keep"), key=lambda tried: tried.score)
        for tried in self.stacks:
            if tried not in kept[:1]:
                self.decided(tried, Status.DISCARD)
        self.stacks = []
        if kept:
            best = kept[0]
            is_false = best.truth >= self.truth
            self.tally = replace(self.tally, keeps=self.tally.keeps + 1, false_keeps=self.tally.false_keeps + is_false)
            self.incumbent, self.truth = self.decided(best, Status.KEEP), best.truth


def best_of_wave(mixture: Mixture, num_slots: int, seed: int) -> Tally:
    effects = mixture.effects(np.random.default_rng([seed, 1]), 200 * num_slots)
    rng = np.random.default_rng([seed, 2])
    truth, lowest, keeps, false_keeps, waves = 0.0, SIGMA * float(rng.standard_normal()), 0, 0, 0
    for wave in range(int((HOURS - EACH_HOURS) / EACH_HOURS)):
        truths = [truth_after(e, -truth, mixture.room_bpb) for e in effects[wave * num_slots : (wave + 1) * num_slots]]
        scores = [t + SIGMA * float(rng.standard_normal()) for t in truths]
        best = int(np.argmin(scores))
        waves += 1
        if scores[best] < lowest:
            keeps, false_keeps = keeps + 1, false_keeps + (truths[best] >= truth)
            lowest, truth = scores[best], truths[best]
    return Tally(-truth, keeps, false_keeps, waves * num_slots)


def one_night(mixture: Mixture, num_slots: int, seed: int) -> tuple[Tally, Tally]:
    return SlotNight(mixture, num_slots, seed).play(), best_of_wave(mixture, num_slots, seed)


def print_nights(num_nights: int, slots: list[int]) -> None:
    print("| slots | true gain, waves and stacks | best of wave | ratio of the means | false keeps | theirs |")
    print("|---|---|---|---|---|---|")
    with ProcessPoolExecutor() as pool:
        for num_slots in slots:
            nights = list(pool.map(partial(one_night, NEAR, num_slots), range(num_nights)))
            ours, theirs = ([pair[side].true_gain for pair in nights] for side in (0, 1))
            ratio = statistics.mean(ours) / statistics.mean(theirs)
            shares = [
                f"{sum(pair[side].false_keeps for pair in nights)} of {sum(pair[side].keeps for pair in nights)}"
                for side in (0, 1)
            ]
            means = [f"{statistics.mean(side):.4f} ± {error_of(side):.4f}" for side in (ours, theirs)]
            cells = (num_slots, *means, f"{ratio:.2f} ± {error_of_ratio(ours, theirs):.2f}", *shares)
            print(f"| {' | '.join(map(str, cells))} |", flush=True)
        print("\nEvery proposal identical (A/A): experiments that are kept\n")
        for num_slots in slots:
            nights = list(pool.map(partial(one_night, NOTHING, num_slots), range(num_nights)))
            kept, tried = (sum(getattr(pair[0], name) for pair in nights) for name in ("keeps", "experiments"))
            print(f"{num_slots} slots: {kept} of {tried:,} ({kept / tried:.1%})", flush=True)


def error_of(values: list[float]) -> float:
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def error_of_ratio(ours: list[float], theirs: list[float]) -> float:
    """Standard error of the ratio of two means of pairs, by leaving each pair out."""
    n = len(ours)
    left_out = [(sum(ours) - a) / (sum(theirs) - b) for a, b in zip(ours, theirs, strict=True)]
    centre = statistics.mean(left_out)
    return math.sqrt((n - 1) / n * sum((value - centre) ** 2 for value in left_out))


# ---------------------------------------------------------------- this machine


def per_hour(num_slots: int, budget: float, experiments: int, cores: str) -> float:
    """Experiments an hour of a real study of the optimiser, whose slots have one core each."""
    with tempfile.TemporaryDirectory() as folder:
        cli = [sys.executable, "-m", "autoresearch_kernel.cli"]
        env = os.environ | {"PYTHONPATH": str(PROJECT)}
        project = Path(folder) / "project"
        subprocess.run([*cli, "new", str(project)], check=True, capture_output=True, env=env)
        words = ["run", "--name", "slots", "--budget", str(budget), "--experiments", str(experiments)]
        words += ["--clock", "wall", "--preset", "laptop", "--slots", str(num_slots)]
        subprocess.run(["taskset", "-c", cores, *cli, *words], check=True, cwd=project, env=env, capture_output=True)
        lines = (project / "studies" / "slots" / "history.jsonl").read_text().splitlines()
    events = [(line, re.search(r'"event":\s*"(\w+)"', line)) for line in lines]
    times = {
        kind: [seconds_of(line) for line, found in events if found and found[1] == kind]
        for kind in ("proposed", "decided")
    }
    return 3600 * experiments / (times["decided"][-1] - times["proposed"][1])


def seconds_of(line: str) -> float:
    from autoresearch_kernel.system.files import seconds_of as parsed

    found = re.search(r'"time":\s*"([^"]+)"', line)
    assert found is not None
    return parsed(found[1])


def print_speed(budget: float, experiments: int) -> None:
    cpus = sorted(os.sched_getaffinity(0))[:2]
    began = time.monotonic()
    one = per_hour(1, budget, experiments, str(cpus[0]))
    two = per_hour(2, budget, 2 * experiments, ",".join(map(str, cpus)))
    print(f"one slot of one core: {one:.0f} experiments an hour; two: {two:.0f}; ratio {two / one:.2f}")
    print(f"({time.monotonic() - began:.0f} s)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--nights", type=int, default=0)
    parser.add_argument("--slots", default=",".join(map(str, SLOTS)))
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--budget", type=float, default=10.0)
    parser.add_argument("--experiments", type=int, default=16)
    arguments = parser.parse_args()
    if arguments.nights:
        print_nights(arguments.nights, [int(word) for word in arguments.slots.split(",")])
    if arguments.speed:
        print_speed(arguments.budget, arguments.experiments)


if __name__ == "__main__":
    main()
