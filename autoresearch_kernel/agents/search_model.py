"""Which parameter to change next, in which direction and how far: a small Bayesian model of what was measured.

Every tunable parameter is an axis measured in *steps*: a factor of 1.5 of a logarithmic parameter, one exponent of a
power of two, an eighth of a linear range, one entry of a list of numbers. Each experiment that changed literals is an
observation: the difference, in bits per byte, between two points. The model says that the score bends like a parabola
along an ordered axis, that each choice of an unordered one has an offset, that axes add up, and that the rest is
noise. Its coefficients are Gaussian, so one linear solve gives their posterior. One sample of the posterior (Thompson
sampling) names the next move.

It follows that untried parameters are uncertain and come first (a switch that is off before one that is on), that
parameters which moved the score are tried again, that a kept change is followed by another step the same way and a
harmful one by a step the other way, and that parameters without effect are left alone.

Pure: numpy only, no I/O. `agents/search.py` draws the value inside the window that a move gives.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..core.comparison import Comparison
from ..source.parameters import Parameter

if TYPE_CHECKING:
    import numpy as np

STEP_FACTOR = 1.5  # one step of a logarithmic parameter
STEPS_IN_RANGE = 8  # a linear parameter crosses its range in so many steps
FIRST_REACH, LATER_REACH = 1.0, 2.0  # steps from the incumbent: at the first observation, afterwards
WINDOW = 0.35  # steps on either side of the aimed-at value that the value is chosen from
SECOND_PARAMETER, THIRD_PARAMETER = 0.35, 0.08  # chances that a proposal moves one more
UNTRIED_FACTOR = 1.5  # factor on the sampled gain of a parameter that no experiment has moved
FOLLOW_UP = 0.75  # chance that a kept change is followed by another step the same way
SECOND_SHARE = 0.3  # of the best move's expected gain, for a second one beside it

EFFECT_SIZES = (1.0, 2.0, 4.0, 8.0, 16.0)  # of one step, in sigmas: the data choose
BEND = 0.3  # expected curvature, as a share of the effect of a step
MISFIT = 0.3  # what a parabola leaves unexplained, as a share of the effect of a step
FAR_MISFIT = 0.25  # and of the difference itself: far away nothing is a parabola
USUALLY_MATTERS = re.compile(r"(^|_)(LR|MUON|OPTIMIZER|BATCH|DEPTH|LAYERS|DIM|WIDTH|SEQUENCE)(_|$)")
SWITCH_ON_FACTOR, SWITCH_OFF_FACTOR = 3.0, 0.5  # on the sampled gain of an idea of train.py that is off, or on
USUALLY_MATTERS_FACTOR = 1.5  # how much larger the effect of such a parameter is expected to be

Column = tuple[str, Any]  # (parameter, "slope" or "bend"), or (parameter, choice)


@dataclass(frozen=True)
class Axis:
    """A tunable parameter laid out in steps: position 0 is the incumbent's value, 1 a moderate change up."""

    parameter: Parameter

    @property
    def ordered(self) -> bool:
        values = self.parameter.choices
        return values is None or all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)

    @property
    def choices(self) -> list[Any]:
        """What a parameter with choices may be, its present value included; numbers ascending."""
        values = list(self.parameter.choices or ())
        values += [self.parameter.value] * (self.parameter.value not in values)
        return sorted(values) if self.ordered else values

    @property
    def whole(self) -> bool:
        """Whether only whole steps exist: choices, exponents, short integer ranges."""
        return self.parameter.choices is not None or self.parameter.kind == "pow2" or self._unit() == 1

    def _unit(self) -> float:
        """Size of a step of a linear parameter, in its own units; 0 for a logarithmic one."""
        p = self.parameter
        if p.log or p.low is None or p.high is None:
            return 0.0
        unit = (p.high - p.low) / STEPS_IN_RANGE
        return max(1.0, float(round(unit))) if p.kind == "int" else max(unit, float(p.step or 0.0))

    def _coordinate(self, value: Any) -> float:
        p = self.parameter
        if p.choices is not None:
            return float(self.choices.index(value))
        if p.kind == "pow2":
            return math.log2(value)
        if p.log:
            return math.log(value) / math.log(STEP_FACTOR)
        return float(value) / self._unit()

    def position(self, value: Any) -> float | None:
        """Steps from the incumbent's value to `value`; None for a value that is not on the scale."""
        try:
            return self._coordinate(value) - self._coordinate(self.parameter.value)
        except (ValueError, TypeError):  # a choice no longer listed, zero on a logarithmic axis
            return None

    def value(self, position: float) -> Any:
        """The literal a person would write `position` steps away: two digits, whole steps, inside the range."""
        p = self.parameter
        at = self._coordinate(p.value) + position
        if p.choices is not None:
            return self.choices[min(max(round(at), 0), len(self.choices) - 1)]
        if p.kind == "pow2":
            return self.rounded(2.0 ** min(at, 62.0))
        return self.rounded(STEP_FACTOR**at if p.log else at * self._unit())

    def rounded(self, value: Any) -> Any:
        """`value` as a person would write it, inside the range (which always holds the incumbent's own value)."""
        p = self.parameter
        if p.choices is not None or p.low is None or p.high is None:
            return value
        low, high = min(p.low, p.value), max(p.high, p.value)
        if p.kind == "pow2":
            return int(min(max(2 ** round(math.log2(value)), low), high))
        if p.step:
            value = float(f"{p.low + round((value - p.low) / p.step) * p.step:.6g}")
        elif p.log or p.kind == "int":
            value = float(f"{value:.2g}")
        else:  # of a linear range, a thirtieth of it or finer: 0.973 in 0.8..0.999, 0.74 in 0..1
            value = round(value, math.ceil(-math.log10((high - low) / 30)))
        value = min(max(value, low), high)
        return round(value) if p.kind == "int" else float(value)

    def limits(self) -> tuple[float, float]:
        """(lowest, highest) position the range allows; the incumbent's own value always is."""
        p = self.parameter
        if p.choices is not None:
            here = self._coordinate(p.value)
            return -here, len(self.choices) - 1 - here
        return min(0.0, self.position(p.low) or 0.0), max(0.0, self.position(p.high) or 0.0)


@dataclass(frozen=True)
class Observation:
    """One experiment as the model sees it: which parameters changed, from what to what, and the difference measured."""

    number: int
    moved: dict[str, tuple[Any, Any]]
    delta_bpb: float | None  # to the incumbent of its time, negative is better; None: it failed
    num_runs: int = 1
    kept: bool = False
    compared: Comparison | None = None  # the scores behind `delta_bpb`, for words


@dataclass(frozen=True)
class Move:
    """What to try next along one axis: a window of positions from the incumbent, or one choice."""

    axis: Axis
    low: float
    high: float
    choice: Any = None


@dataclass(frozen=True)
class Posterior:
    """Gaussian distribution of the coefficients of all axes, in bits per byte."""

    columns: dict[Column, int]
    mean: np.ndarray  # (columns,)
    root: np.ndarray  # (columns, columns); root @ root.T is the covariance

    def sample(self, rng: np.random.Generator) -> dict[Column, float]:
        drawn = self.mean + self.root @ rng.standard_normal(len(self.mean))
        return {column: float(drawn[index]) for column, index in self.columns.items()}


def weights(axis: Axis, before: Any, after: Any) -> dict[Column, float]:
    """How much each coefficient adds to the score on the way from one value to another; {} off the scale."""
    name = axis.parameter.name
    if not axis.ordered:
        return {(name, after): 1.0, (name, before): -1.0} if before != after else {}
    start, end = axis.position(before), axis.position(after)
    if start is None or end is None:
        return {}
    return {(name, "slope"): end - start, (name, "bend"): end * end - start * start}


def fit_model(axes: Mapping[str, Axis], observations: Sequence[Observation], sigma: float) -> Posterior:
    """What the observations say about every axis; the size of effects is the one with the largest evidence."""
    import numpy as np

    columns: dict[Column, int] = {}
    for name, axis in axes.items():
        for label in ("slope", "bend") if axis.ordered else axis.choices:
            columns[(name, label)] = len(columns)
    rows, deltas, variances = [], [], []
    for observation in observations:
        row = np.zeros(len(columns))
        for name in observation.moved.keys() & axes.keys():
            for column, weight in weights(axes[name], *observation.moved[name]).items():
                if column in columns:
                    row[columns[column]] += weight
        if observation.delta_bpb is not None and row.any():
            rows.append(row)
            deltas.append(observation.delta_bpb)
            variances.append(sigma**2 * (1 / observation.num_runs + 0.4))  # 0.4: the incumbent's mean is uncertain too
    design, measured, noise = np.array(rows).reshape(-1, len(columns)), np.array(deltas), np.array(variances)
    bends = np.array([label == "bend" for _, label in columns])
    matters = np.array([USUALLY_MATTERS_FACTOR if USUALLY_MATTERS.search(name) else 1.0 for name, _ in columns])
    fits = [_posterior(design, measured, noise, bends, size * sigma * matters, size * sigma) for size in EFFECT_SIZES]
    _, mean, root = max(fits, key=lambda fit: fit[0])
    return Posterior(columns, mean, root)


def _posterior(
    design: np.ndarray, measured: np.ndarray, noise: np.ndarray, bends: np.ndarray, scale: np.ndarray, size: float
) -> tuple[float, np.ndarray, np.ndarray]:
    """(log evidence, mean, root of the covariance) when a step changes the score by about `scale` (columns,).

    design (observations, columns), measured and noise (observations,). Solved in the space of coefficients, so ten
    thousand observations cost no more than reading them.
    """
    import numpy as np

    spread = np.where(bends, BEND * scale, scale)
    prior_mean = np.where(bends, BEND * scale, 0.0)
    noise = noise + (MISFIT * size) ** 2 + (FAR_MISFIT * measured) ** 2
    residual = measured - design @ prior_mean
    scaled = (design * spread) / np.sqrt(noise)[:, None]  # whitened: the prior is the unit Gaussian
    precision = np.eye(len(spread)) + scaled.T @ scaled
    factor = np.linalg.cholesky(precision)
    projected = np.linalg.solve(factor, scaled.T @ (residual / np.sqrt(noise)))
    fit = float((residual**2 / noise).sum() - projected @ projected)
    evidence = -0.5 * (fit + float(np.log(noise).sum())) - float(np.log(np.diag(factor)).sum())
    mean = prior_mean + spread * np.linalg.solve(factor.T, projected)
    return evidence, mean, spread[:, None] * np.linalg.inv(factor).T


def choose_moves(
    axes: Mapping[str, Axis],
    observations: Sequence[Observation],
    sigma: float,
    rng: np.random.Generator,
    is_tried: Callable[[Mapping[str, Any]], bool],
    wider: int = 0,
) -> list[Move]:
    """One to three moves with the largest gain under one sample of the posterior; [] when every value was tried.

    `is_tried` says whether changing the incumbent like this alone is in the record; `wider` steps are added
    to the reach, for when nothing near is left.
    """
    coefficients = fit_model(axes, observations, sigma).sample(rng)
    following = _kept_direction(axes, observations)
    best: list[tuple[float, Move]] = []
    for name, axis in axes.items():
        mine = [observation for observation in observations if name in observation.moved]
        options = [
            (_gain(axis, target, coefficients), target)
            for target in targets(axis, mine, wider)
            if not (axis.whole or not axis.ordered) or not is_tried({name: _choice(axis, target)})
        ]
        if options:
            gain, target = max(options, key=lambda option: option[0])
            if not mine:
                gain = _of_untried(axis, target, gain)
            if name in following and rng.random() < FOLLOW_UP:
                onward = [option for option in options if following[name] * option[1] > 0 and option[0] > 0]
                gain, target = (math.inf, max(onward)[1]) if onward else (gain, target)
            best.append((gain, _move(axis, target, mine)))
    best.sort(key=lambda option: -option[0])
    draw = float(rng.random())
    count = 1 + (draw < SECOND_PARAMETER) + (draw < THIRD_PARAMETER)
    return [move for gain, move in best[:1]] + [
        move for gain, move in best[1:count] if gain > max(SECOND_SHARE * best[0][0], 0.0)
    ]


def _of_untried(axis: Axis, target: Any, gain: float) -> float:
    """The sampled gain of an axis that no experiment has moved, as large as curiosity makes it.

    A switch is a parameter that is True or False. What train.py holds but does not use was written because it may help,
    so a switch that is off is never taken to harm before it was tried.
    """
    is_switch = isinstance(axis.parameter.value, bool)
    if is_switch and target:
        return UNTRIED_FACTOR * SWITCH_ON_FACTOR * abs(gain)
    if gain < 0:
        return gain
    return UNTRIED_FACTOR * gain * (SWITCH_OFF_FACTOR if is_switch else 1.0)


def _kept_direction(axes: Mapping[str, Axis], observations: Sequence[Observation]) -> dict[str, float]:
    """Ordered axes that the latest observation moved, with the sign of the way, if it became the incumbent."""
    if not observations or not observations[-1].kept:
        return {}
    ways = {}
    for name, (before, after) in observations[-1].moved.items():
        axis = axes.get(name)
        if axis is not None and axis.ordered and axis.position(after) == 0:
            ways[name] = -(axis.position(before) or 0.0)
    return ways


def targets(axis: Axis, observations: Sequence[Observation], wider: int = 0) -> list[Any]:
    """Positions (or choices) worth aiming at: near at the first observation, further later, short of what crashed.

    `observations` are those that moved this axis.
    """
    if not axis.ordered:
        return [choice for choice in axis.choices if choice != axis.parameter.value]
    reach = (LATER_REACH if observations else FIRST_REACH) + wider
    low, high = open_limits(axis, observations)
    sizes = range(1, math.ceil(reach) + 1) if axis.whole else [quarter / 4 for quarter in range(2, int(4 * reach) + 1)]
    inside = [sign * size for size in sizes for sign in (-1, 1) if low - 1e-9 <= sign * size <= high + 1e-9]
    ends = [] if axis.whole else [end for end in (low, high) if 0.2 < abs(end) < 0.5]  # too close for a full step
    return inside + ends


def open_limits(axis: Axis, observations: Sequence[Observation]) -> tuple[float, float]:
    """The range in positions, cut half-way to any value that failed when this axis alone was moved."""
    low, high = axis.limits()
    for observation in observations:
        if observation.delta_bpb is None and len(observation.moved) == 1:
            at = axis.position(observation.moved[axis.parameter.name][1])
            if at is not None and at > 0:
                high = min(high, at / 2)
            elif at is not None and at < 0:
                low = max(low, at / 2)
    return low, high


def _gain(axis: Axis, target: Any, coefficients: Mapping[Column, float]) -> float:
    """Sampled improvement of a move, in bits per byte."""
    after = axis.parameter.value if axis.ordered else target
    if axis.ordered:
        name = axis.parameter.name
        return -(coefficients[(name, "slope")] * target + coefficients[(name, "bend")] * target * target)
    return -sum(coefficients[column] * weight for column, weight in weights(axis, axis.parameter.value, after).items())


def _choice(axis: Axis, target: Any) -> Any:
    return axis.value(target) if axis.ordered else target


def _move(axis: Axis, target: Any, observations: Sequence[Observation]) -> Move:
    """The window around `target` on its side of the incumbent, inside the open limits."""
    if axis.whole or not axis.ordered:
        return Move(axis, 0.0, 0.0, choice=_choice(axis, target))
    low, high = open_limits(axis, observations)
    near, far = max(0.25, abs(target) - WINDOW), abs(target) + WINDOW
    if target < 0:
        return Move(axis, max(low, -far), max(low, -near))
    return Move(axis, min(high, near), min(high, far))
