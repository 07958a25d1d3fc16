"""How much of a known, noisy landscape each way of proposing finds in 10, 30 and 100 experiments.

    python benchmarks/search.py [--seeds 12] [--sigma 0.003]

The landscape stands for a train.py whose defaults are decent: 14 parameters, of which a few matter,
valleys curved and tilted against each other, learning rates that explode, batches that do not fit.
Every policy goes through the study's rule: three baselines, discard at or above the incumbent's mean,
keep at once beyond three sigma, one fresh run otherwise. Printed is the *true* gain of the incumbent
over the baseline in millibits per byte, noise left out, and the share of experiments that crashed.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from autoresearch_kernel.agents.search import SearchAgent
from autoresearch_kernel.core.types import Context, Experiment, Proposal, Run, Status
from autoresearch_kernel.source.parameters import Parameter, read_parameters, set_parameters

SOURCE = """# %% tags=["parameters"]
SEED = 0  # fixed
DEPTH = 4  # layers; 1..10
WIDTH = 2**7  # channels; 2**5..2**10
HEAD_DIM = 32  # channels; {16, 32, 64, 128}
BATCH_TOKENS = 2**11  # tokens a step; 2**9..2**15
MATRIX_LR = 0.02  # 0.002..0.2 log
EMBEDDING_LR = 0.3  # 0.01..3 log
HEAD_LR = 0.004  # 0.0002..0.1 log
WEIGHT_DECAY = 0.1  # 0.005..2 log
WARMDOWN = 0.5  # share of the budget; 0.1..1.0 step 0.05
WARMUP = 0.02  # share of the budget; 0.0..0.2
MOMENTUM = 0.95  # 0.8..0.99
SOFTCAP = 15.0  # 5..60 log
ACTIVATION = "relu2"  # {relu2, gelu, silu}
QK_NORM = True  # whether queries and keys are normalised
"""
DEFAULTS = read_parameters(SOURCE)
TUNABLE = [p for p in DEFAULTS.values() if p.tunable]
RATES = ("MATRIX_LR", "EMBEDDING_LR", "HEAD_LR")


def steps_from_default(parameter: Parameter, value: Any) -> float:
    """Distance in natural steps: factors of 1.5, exponents, layers, eighths of a linear range, choices."""
    if parameter.kind in ("bool", "str"):
        return 0.0
    if parameter.choices:
        return float(parameter.choices.index(value) - parameter.choices.index(parameter.value))
    if parameter.kind == "pow2":
        return math.log2(value / parameter.value)
    if parameter.log:
        return math.log(value / parameter.value) / math.log(1.5)
    assert parameter.low is not None and parameter.high is not None
    return (value - parameter.value) / max(1 if parameter.kind == "int" else 0, (parameter.high - parameter.low) / 8)


class Landscape:
    """A seeded objective: `bpb(values)` is the true score, None where the run would crash."""

    def __init__(self, seed: int, scale: float = 0.0012) -> None:
        rng = np.random.default_rng(seed)
        size = len(TUNABLE)
        self.bend = scale * rng.lognormal(0.0, 1.2, size)
        self.optimum = rng.normal(0.0, 1.5, size)
        tilt = np.eye(size) + np.triu(rng.normal(0.0, 0.25, (size, size)) * (rng.random((size, size)) < 0.2), 1)
        self.tilt = tilt
        self.category = {
            p.name: dict(zip(p.choices or (), rng.exponential(2 * scale, len(p.choices or ())), strict=True))
            for p in TUNABLE
            if p.kind in ("bool", "str")
        }
        self.explodes = rng.uniform(2.5, 5.0)
        self.memory = rng.uniform(3.0, 5.0)

    def bpb(self, values: dict[str, Any]) -> float | None:
        z = np.array([steps_from_default(p, values[p.name]) for p in TUNABLE])
        at = dict(zip([p.name for p in TUNABLE], z, strict=True))
        if max(at[name] for name in RATES) > self.explodes:
            return None
        if at["BATCH_TOKENS"] + at["WIDTH"] + 0.5 * at["DEPTH"] > self.memory:
            return None
        away = self.tilt @ (z - self.optimum)
        valley = self.bend * away**2 / np.sqrt(1 + (away / 4) ** 2)  # parabola near, linear far
        return 1.5 + float(valley.sum()) + sum(table[values[name]] for name, table in self.category.items())


def experiment(
    number: int,
    proposal: Proposal,
    parent: int | None,
    scores: list[float],
    status: Status,
    m: float | None,
    sigma: float,
) -> Experiment:
    return Experiment(
        number=number,
        hypothesis=proposal.hypothesis,
        agent=proposal.agent,
        parent=parent,
        changes=proposal.changes,
        details=proposal.details,
        runs=tuple(Run(i, i, val_bpb=score) for i, score in enumerate(scores)),
        status=status,
        val_bpb=float(np.mean(scores)) if scores else None,
        incumbent_bpb=m,
        sigma=sigma,
    )


Policy = Callable[[Context], Proposal]


def night(
    policy: Policy, landscape: Landscape, num_experiments: int, sigma: float, seed: int
) -> list[tuple[float, bool]]:
    """One study: after each experiment, (true gain of the incumbent in bits per byte, whether this one crashed)."""
    rng = np.random.default_rng([seed, 7])
    source = SOURCE
    baseline = landscape.bpb({p.name: p.value for p in TUNABLE})
    assert baseline is not None
    scores = [baseline + rng.normal(0, sigma) for _ in range(3)]
    first = experiment(0, Proposal("baseline", source, "baseline"), None, scores, Status.KEEP, None, sigma)
    experiments, incumbent, gains, gain = [first], first, [], 0.0
    for number in range(1, num_experiments + 1):
        context = Context("", source, incumbent, tuple(experiments), sigma, {}, seed)
        proposal = policy(context)
        true = landscape.bpb({n: p.value for n, p in read_parameters(proposal.train_source).items() if p.tunable})
        m = incumbent.val_bpb
        assert m is not None
        status, scores = Status.CRASH, []
        if true is not None:
            scores = [true + rng.normal(0, sigma)]
            if m - 3 * sigma <= scores[0] < m:
                scores.append(true + rng.normal(0, sigma))
            status = Status.KEEP if np.mean(scores) < m else Status.DISCARD
        experiments.append(experiment(number, proposal, incumbent.number, scores, status, m, sigma))
        if status is Status.KEEP:
            incumbent, source, gain = experiments[-1], proposal.train_source, baseline - (true or 0.0)
        gains.append((gain, true is None))
    return gains


def distributions() -> dict[str, Any]:
    """The whole written space, as a person would hand it to Optuna."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    spaces: dict[str, Any] = {}
    for p in TUNABLE:
        if p.choices:
            spaces[p.name] = CategoricalDistribution(list(p.choices))
        elif p.kind == "pow2":
            spaces[p.name] = IntDistribution(int(math.log2(p.low or 1)), int(math.log2(p.high or 1)))
        elif p.kind == "int":
            spaces[p.name] = IntDistribution(int(p.low or 0), int(p.high or 0), log=p.log)
        else:
            spaces[p.name] = FloatDistribution(p.low or 0.0, p.high or 0.0, log=p.log, step=p.step)
    return spaces


def plain(kind: str, seed: int) -> Policy:
    """Optuna as it comes, over the whole space: TPE (defaults enqueued) or random."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = (
        optuna.samplers.TPESampler(multivariate=True, n_startup_trials=5, seed=seed)
        if kind == "tpe"
        else optuna.samplers.RandomSampler(seed=seed)
    )
    study, spaces = optuna.create_study(sampler=sampler), distributions()

    def literals(params: dict[str, Any]) -> dict[str, Any]:
        return {n: 2**v if DEFAULTS[n].kind == "pow2" else v for n, v in params.items()}

    asked: dict[int, Any] = {}

    def propose(context: Context) -> Proposal:
        last = context.experiments[-1]
        if last.number == 0:
            params = {p.name: int(math.log2(p.value)) if p.kind == "pow2" else p.value for p in TUNABLE}
            study.add_trial(optuna.trial.create_trial(params=params, distributions=spaces, value=last.val_bpb))
        else:
            trial = asked.pop(last.number)
            if last.val_bpb is None:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
            else:
                study.tell(trial, last.val_bpb)
        trial = asked[last.number + 1] = study.ask(fixed_distributions=spaces)
        changes = literals(trial.params)
        return Proposal(kind, set_parameters(context.train_source, changes), kind, changes)

    return propose


def local_random(seed: int) -> Policy:
    """One parameter of the incumbent moved by a random step: what a patient person does without a memory."""
    rng = np.random.default_rng(seed)

    def propose(context: Context) -> Proposal:
        parameters = [p for p in read_parameters(context.train_source).values() if p.tunable]
        while True:
            p = parameters[rng.integers(len(parameters))]
            sign = 1 if rng.random() < 0.5 else -1
            if p.choices:
                value = p.choices[rng.integers(len(p.choices))]
            elif p.kind == "pow2":
                value = int(p.value * 2.0**sign)
            elif p.kind == "int":
                value = p.value + sign
            elif p.log:
                value = float(f"{p.value * 1.5 ** (sign * rng.uniform(0.6, 1.2)):.2g}")
            else:
                value = round(p.value + sign * rng.uniform(0.6, 1.2) * ((p.high or 0) - (p.low or 0)) / 8, 4)
            if value != p.value and (p.choices or (p.low or 0) <= value <= (p.high or 0)):
                return Proposal("local", set_parameters(context.train_source, {p.name: value}), "local")

    return propose


POLICIES: dict[str, Callable[[int], Policy]] = {
    "search": lambda seed: SearchAgent(seed).propose,
    "local": local_random,
    "tpe": lambda seed: plain("tpe", seed),
    "random": lambda seed: plain("random", seed),
}


def one(job: tuple[str, int, int, float]) -> list[tuple[float, bool]]:
    policy, seed, num_experiments, sigma = job
    return night(POLICIES[policy](seed), Landscape(seed), num_experiments, sigma, seed)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seeds", type=int, default=12)
    arguments.add_argument("--experiments", type=int, default=100)
    arguments.add_argument("--sigma", type=float, nargs="+", default=[0.0005, 0.003])
    arguments.add_argument("--policies", nargs="+", default=list(POLICIES))
    options = arguments.parse_args()
    marks = [n for n in (10, 30, 100) if n <= options.experiments]
    for sigma in options.sigma:
        print(f"\nsigma {sigma} bpb, {options.seeds} landscapes; true gain in millibits per byte (standard error)")
        print(f"{'policy':>8}" + "".join(f"{n:>16}" for n in marks) + f"{'crashed':>10}")
        for policy in options.policies:
            jobs = [(policy, seed, options.experiments, sigma) for seed in range(options.seeds)]
            with ProcessPoolExecutor(2) as pool:
                nights = np.array(list(pool.map(one, jobs)), dtype=float)  # (seeds, experiments, 2)
            gains = 1000 * nights[:, :, 0]
            error = gains.std(axis=0) / math.sqrt(len(gains))
            cells = "".join(f"{gains[:, n - 1].mean():>10.1f} ({error[n - 1]:.1f})" for n in marks)
            print(f"{policy:>8}{cells}{nights[:, :, 1].mean():>10.0%}", flush=True)


if __name__ == "__main__":
    main()
