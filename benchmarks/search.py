"""How much of a known, noisy landscape each way of proposing finds in 10, 30 and 100 experiments.

    python benchmarks/search.py [--seeds 12] [--sigma 0.003] [--policies search local]

The landscape stands for a train.py whose defaults are decent: 14 parameters, of which a few matter,
valleys curved and tilted against each other, learning rates that explode, batches that do not fit.
Every policy goes through the study's rule: three baselines, discard at or above the incumbent's mean,
keep at once beyond three sigma, one fresh run otherwise. Printed is the *true* gain of the incumbent
over the baseline in millibits per byte, noise left out, and the share of experiments that crashed; for every policy
after the first also the paired difference to the first, landscape by landscape.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from autoresearch_kernel.agents.search import SearchAgent, known_values, observations_of
from autoresearch_kernel.agents.search_model import Move, Observation
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


def plain_tpe(seed: int) -> Policy:
    """Optuna's TPE as it comes, over the whole space, with the defaults enqueued."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.TPESampler(multivariate=True, n_startup_trials=5, seed=seed)
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
        return Proposal("tpe", set_parameters(context.train_source, changes), "tpe", changes)

    return propose


def random_search(seed: int) -> Policy:
    """A uniform draw from the whole written space."""
    rng = np.random.default_rng(seed)

    def draw(p: Parameter) -> Any:
        if p.choices:
            return p.choices[rng.integers(len(p.choices))]
        assert p.low is not None and p.high is not None
        if p.kind == "pow2":
            return 2 ** int(rng.integers(round(math.log2(p.low)), round(math.log2(p.high)) + 1))
        if p.kind == "int":
            return int(rng.integers(p.low, p.high + 1))
        return math.exp(rng.uniform(math.log(p.low), math.log(p.high))) if p.log else rng.uniform(p.low, p.high)

    def propose(context: Context) -> Proposal:
        changes = {p.name: draw(p) for p in TUNABLE}
        return Proposal("random", set_parameters(context.train_source, changes), "random", changes)

    return propose


class SearchWithTPE(SearchAgent):
    """The embedded optimiser as it was until version 0.6: Optuna's TPE chose the value inside the window of a move."""

    def propose(self, context: Context) -> Proposal:
        self.observations = observations_of(context.experiments, known_values(context))
        return super().propose(context)

    def draw(self, moves: Sequence[Move], seed: int) -> dict[str, Any]:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        spaces = {move.axis.parameter.name: _distribution(move) for move in moves}
        sampler = optuna.samplers.TPESampler(multivariate=True, n_startup_trials=4, seed=seed)
        study = optuna.create_study(sampler=sampler, direction="minimize")
        here = Observation(-1, {move.axis.parameter.name: (None, move.axis.parameter.value) for move in moves}, 0.0)
        for observation in (here, *self.observations):
            if (trial := _trial(observation, spaces)) is not None:
                study.add_trial(trial)
        asked = study.ask(fixed_distributions=spaces).params
        values = {move.axis.parameter.name: move.axis.rounded(asked[move.axis.parameter.name]) for move in moves}
        old = {move.axis.parameter.name: move.axis.parameter.value for move in moves}
        return {name: value for name, value in values.items() if value != old[name]}


def _distribution(move: Move) -> Any:
    """The window of a move as Optuna's distribution, in the parameter's own units."""
    import optuna

    p = move.axis.parameter
    if move.choice is not None:
        return optuna.distributions.CategoricalDistribution([move.choice])
    low, high = sorted((move.axis.value(move.low), move.axis.value(move.high)))
    if p.kind == "int":
        return optuna.distributions.IntDistribution(low, high, log=p.log and low > 0)
    return optuna.distributions.FloatDistribution(low, high, log=p.log)


def _trial(observation: Observation, spaces: Mapping[str, Any]) -> Any:
    """`observation` as a finished trial of the space asked about; None when it lies outside."""
    import optuna

    params = {name: observation.moved[name][1] for name in spaces if name in observation.moved}
    if not params or len(params) < len(spaces) or not all(_fits(spaces[name], v) for name, v in params.items()):
        return None
    failed = observation.delta_bpb is None
    return optuna.trial.create_trial(
        state=optuna.trial.TrialState.FAIL if failed else optuna.trial.TrialState.COMPLETE,
        value=observation.delta_bpb,
        params=params,
        distributions=dict(spaces),
    )


def _fits(space: Any, value: Any) -> bool:
    choices = getattr(space, "choices", None)
    if choices is not None:
        return value in choices
    return isinstance(value, (int, float)) and bool(space._contains(value))


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
    "random": random_search,
    "search-tpe": lambda seed: SearchWithTPE(seed).propose,
    "tpe": plain_tpe,
}
WITH_OPTUNA = ("search-tpe", "tpe")  # `pip install optuna` first; the package does without it


def one(job: tuple[str, int, int, float]) -> list[tuple[float, bool]]:
    policy, seed, num_experiments, sigma = job
    return night(POLICIES[policy](seed), Landscape(seed), num_experiments, sigma, seed)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seeds", type=int, default=12)
    arguments.add_argument("--experiments", type=int, default=100)
    arguments.add_argument("--sigma", type=float, nargs="+", default=[0.0005, 0.003])
    arguments.add_argument("--policies", nargs="+", default=[p for p in POLICIES if p not in WITH_OPTUNA])
    arguments.add_argument("--jobs", type=int, default=2)
    options = arguments.parse_args()
    marks = [n for n in (10, 30, 100) if n <= options.experiments]
    for sigma in options.sigma:
        print(f"\nsigma {sigma} bpb, {options.seeds} landscapes; true gain in millibits per byte (standard error)")
        first: np.ndarray | None = None
        print(f"{'policy':>14}" + "".join(f"{n:>16}" for n in marks) + f"{'crashed':>10}")
        for policy in options.policies:
            jobs = [(policy, seed, options.experiments, sigma) for seed in range(options.seeds)]
            with ProcessPoolExecutor(options.jobs) as pool:
                nights = np.array(list(pool.map(one, jobs)), dtype=float)  # (seeds, experiments, 2)
            gains = 1000 * nights[:, :, 0]
            error = gains.std(axis=0) / math.sqrt(len(gains))
            cells = "".join(f"{gains[:, n - 1].mean():>10.1f} ({error[n - 1]:.1f})" for n in marks)
            print(f"{policy:>14}{cells}{nights[:, :, 1].mean():>10.1%}", flush=True)
            first = gains if first is None else first
            if first is not gains:  # paired: the same landscapes
                less = gains - first
                error = less.std(axis=0, ddof=1) / math.sqrt(len(less))
                cells = "".join(f"{less[:, n - 1].mean():>+9.2f} ({error[n - 1]:.2f})" for n in marks)
                print(f"{'minus ' + options.policies[0]:>14}{cells}", flush=True)


if __name__ == "__main__":
    main()
