"""The embedded optimiser: it changes the literals of the incumbent's parameters cell.

A study holds tens of noisy experiments, far too few to draw from the whole space of parameters. So:

1. One experiment changes one parameter of the incumbent, sometimes two, rarely three; the others stay.
2. `agents/search_model.py` says which, in which direction and about how far, from the differences measured so far.
   The first change of a parameter stays within one step of the incumbent's value (a factor of 1.5, one exponent, one
   entry of a list). Later ones go up to two steps, towards where the model expects the valley, never beyond the
   written range, and at most half-way to a value that failed.
3. The value is drawn uniformly from a window around that point, on a logarithmic scale where the parameter has one.
4. No configuration is tried twice, failed ones included. The same history and seeds give the same proposal. The agent
   keeps nothing between calls, so a study continues where it stopped.

`benchmarks/search.py` compares this with other ways of proposing.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..core.agent import NothingToPropose
from ..core.types import Context, Experiment, Proposal, Status
from ..source.compare import structure
from ..source.parameters import Parameter, literal, read_parameters, set_parameters
from .search_model import Axis, Move, Observation, choose_moves

if TYPE_CHECKING:
    import numpy as np

DEFAULT_SIGMA = 0.003  # bits per byte, before the study has measured its own
ATTEMPTS_PER_REACH, WIDEST = 6, 4  # proposals in a row that were tried before, until one step more is allowed
BOUNDED_BY_CORPUS = {"SEQUENCE_LENGTH": "sequence_length"}  # parameter -> the corpus' own, beyond which nothing changes
GENERIC_WORDS = {"USE", "HAS", "IS", "ENABLE", "NUM", "MAX", "MIN"}  # first words that name no part of the model


class SearchError(NothingToPropose):
    """The search has nothing to propose; the message says why and what to do."""


class SearchAgent:
    """Tunes the incumbent's literals; the module's docstring says how it chooses.

    Example:
        >>> study.propose(SearchAgent())  # doctest: +SKIP
        >>> list(research(study, SearchAgent(seed=1), experiments=5))  # doctest: +SKIP
    """

    name = "search"

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def propose(self, context: Context) -> Proposal:
        """The incumbent's train.py with one to three literals changed.

        Raises SourceError for a train.py without a readable parameters cell, SearchError when nothing
        in it may be tuned or every value nearby has been tried.
        """
        import numpy as np

        axes = axes_of(context)
        known = known_values(context)
        observations = observations_of((*context.experiments, *context.in_work), known)
        tried = tried_keys(context, axes, known)
        rng = np.random.default_rng([self.seed, context.seed, context.number])
        useful = in_use(axes)

        def is_tried(changes: Mapping[str, Any]) -> bool:
            return _key(_configuration(axes, changes)) in tried

        for attempt in range(ATTEMPTS_PER_REACH * (WIDEST + 1)):
            wider = attempt // ATTEMPTS_PER_REACH
            moves = choose_moves(useful, observations, context.sigma or DEFAULT_SIGMA, rng, is_tried, wider)
            changes = self.draw(moves, seed=int(rng.integers(2**31)))
            if changes and not is_tried(changes):
                return self._proposal(context, axes, changes, observations)
        raise SearchError(
            f"The search has tried every value near the incumbent ({len(tried)} configurations of {', '.join(axes)}). "
            "Widen the ranges in the comments of train.py's parameters cell, or end the study here."
        )

    def draw(self, moves: Sequence[Move], seed: int) -> dict[str, Any]:
        """New literals for the moved parameters, each uniform in its window; {} if none would differ."""
        import numpy as np

        rng = np.random.default_rng(seed)
        drawn = [(move.axis.parameter, _draw(move, rng)) for move in moves]
        return {parameter.name: value for parameter, value in drawn if value != parameter.value}

    def _proposal(
        self, context: Context, axes: Mapping[str, Axis], changes: dict[str, Any], observations: Sequence[Observation]
    ) -> Proposal:
        return Proposal(
            hypothesis=hypothesis(axes, changes, observations, context.study.get("time_budget_seconds")),
            train_source=set_parameters(context.train_source, changes),
            agent=self.name,
            changes=changes,
            details={
                "parameters": _configuration(axes, changes),
                "previous": {name: axes[name].parameter.value for name in changes},
                "structure": structure(context.train_source),
            },
        )


def axes_of(context: Context) -> dict[str, Axis]:
    """The tunable parameters of the incumbent. Raises SearchError when there is none."""
    parameters = read_parameters(context.train_source).values()
    bounded = (_bounded(p, context.study.get("corpus")) for p in parameters)
    axes = {p.name: Axis(p) for p in bounded if p.tunable}
    if not axes:
        raise SearchError(
            "No parameter of train.py may be tuned: each is marked fixed or has no range. Give one a range "
            "in its comment, as in `MATRIX_LR = 0.04  # step of the matrices; 0.005..0.2 log`."
        )
    return axes


def in_use(axes: Mapping[str, Axis]) -> dict[str, Axis]:
    """The axes without those whose part of the model is switched off, because a change of them would do nothing.

    The first words of the names say what belongs together: MUON_MOMENTUM does nothing while MUON is False, and NGRAM_LR
    nothing while NGRAM_ROWS is 0. A switch always stays. MUON_NESTEROV = False says nothing of MUON's other parameters.
    """
    part = {name: name.split("_")[0] for name in axes}
    off = {name for name, axis in axes.items() if isinstance(axis.parameter.value, int) and not axis.parameter.value}
    bools = {name for name, axis in axes.items() if isinstance(axis.parameter.value, bool)}
    whole = {name for name in off if name == part[name] or (name not in bools and part[name] not in axes)}
    parts_off, switches = {part[name] for name in whole} - GENERIC_WORDS, off | bools
    return {name: axis for name, axis in axes.items() if name in switches or part[name] not in parts_off}


def _bounded(parameter: Parameter, corpus: Any) -> Parameter:
    """Without the choices that the corpus makes meaningless: they would cost an experiment and change nothing."""
    limit = corpus.get(BOUNDED_BY_CORPUS.get(parameter.name, "")) if isinstance(corpus, Mapping) else None
    if not isinstance(limit, int):
        return parameter
    if parameter.choices is not None:
        return replace(parameter, choices=tuple(c for c in parameter.choices if not _is_number(c) or c <= limit))
    return replace(parameter, high=min(parameter.high, limit)) if parameter.high is not None else parameter


def known_values(context: Context) -> dict[int, dict[str, Any]]:
    """Experiment number -> its tunable values, as far as the record tells; the incumbent's come from its source."""
    known: dict[int, dict[str, Any]] = {}
    tried = (*context.experiments, *context.in_work)
    for experiment in tried:
        values, previous = experiment.details.get("parameters"), experiment.details.get("previous")
        if isinstance(values, dict):
            known[experiment.number] = values
            if experiment.parent is not None and isinstance(previous, dict):
                known.setdefault(experiment.parent, {**values, **previous})
    known[context.incumbent.number] = {
        name: p.value for name, p in read_parameters(context.train_source).items() if p.tunable
    }
    for experiment in tried:  # another agent's change of literals, derived from a known parent
        parent = known.get(experiment.parent) if experiment.parent is not None else None
        if experiment.number not in known and parent and experiment.changes:
            known[experiment.number] = {**parent, **experiment.changes}
    return known


def observations_of(experiments: Sequence[Experiment], known: Mapping[int, Mapping[str, Any]]) -> list[Observation]:
    """The experiments that moved literals of a known parent, oldest first.

    One that is in work is taken to score as its parent does (a "constant liar"), so that the next one goes elsewhere.
    """
    observations = []
    for experiment in experiments:
        parent = known.get(experiment.parent) if experiment.parent is not None else None
        mine = known.get(experiment.number)
        if parent is None or mine is None or not experiment.changes or experiment.status is Status.INTERRUPTED:
            continue
        moved = {n: (parent[n], mine[n]) for n in experiment.changes if n in parent and n in mine}
        scored = len(experiment.judged_runs)
        delta = None if experiment.status is Status.REJECTED else experiment.delta_bpb
        delta = 0.0 if experiment.status is None else delta
        observations.append(
            Observation(
                experiment.number, moved, delta, max(1, scored), experiment.status is Status.KEEP, experiment.compared
            )
        )
    return observations


def tried_keys(context: Context, axes: Mapping[str, Axis], known: Mapping[int, Mapping[str, Any]]) -> set[str]:
    """Fingerprints of the configurations of this structure that are in the record, the incumbent's included.

    One that was interrupted says nothing of its configuration, which may be tried again; one that a person refused
    may not.
    """
    mine = structure(context.train_source)
    others = {e.number for e in (*context.experiments, *context.in_work) if e.details.get("structure", mine) != mine}
    others |= {e.number for e in context.experiments if e.status is Status.INTERRUPTED}
    refused = [r.parameters for r in context.refusals if all(name in r.parameters for name in axes)]
    return {_key({name: values[name] for name in axes}) for values in refused} | {
        _key({name: values[name] for name in axes})
        for number, values in known.items()
        if number not in others and all(name in values for name in axes)
    }


def _configuration(axes: Mapping[str, Axis], changes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: changes.get(name, axis.parameter.value) for name, axis in axes.items()}


def _key(values: Mapping[str, Any]) -> str:
    """Equal for equal values, however they were written: 1, 1.0 and 1e0; a bool is not a number."""
    plain = {name: f"{float(value):.6g}" if _is_number(value) else repr(value) for name, value in values.items()}
    return json.dumps(plain, sort_keys=True)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _draw(move: Move, rng: np.random.Generator) -> Any:
    parameter = move.axis.parameter
    if move.choice is not None or not move.axis.ordered:  # None may itself be a choice
        return move.axis.rounded(move.choice)
    low, high = sorted((move.axis.value(move.low), move.axis.value(move.high)))
    half = 0.5 if parameter.kind == "int" else 0.0  # so that the whole numbers at both ends get their share
    start, end = low - half, high + half
    is_log = parameter.log and start > 0
    value = math.exp(rng.uniform(math.log(start), math.log(end))) if is_log else rng.uniform(start, end)
    if parameter.kind == "int":
        value = min(max(round(value), low), high)
    return move.axis.rounded(value)


# (name, what raising may do, what lowering may do); {budget} is the training time.
_WORDS = (
    (r"FINAL_LR|LR_END|MIN_LR", "the end of the run may still learn", "a colder end may settle lower"),
    (r"_LR$|^LR$|LEARNING_RATE", "larger steps may learn more in {budget}", "smaller steps may settle lower"),
    (r"DEVICE_BATCH", "larger passes may run faster", "smaller passes may fit the cache better"),
    (r"BATCH", "steadier gradients may be worth fewer updates", "more updates fit into {budget}"),
    (r"DEPTH|LAYERS", "a deeper model may use {budget} better", "a shallower model sees more tokens in {budget}"),
    (r"DIM|WIDTH|RATIO|HEADS|ROWS", "more capacity may pay for its time", "a smaller model sees more tokens"),
    (r"SEQUENCE|CONTEXT|WINDOW", "more context may predict better", "shorter rows cost less attention"),
    (r"WARMDOWN|COOLDOWN", "a longer decay may settle lower", "more time at the full rate may learn more"),
    (r"WARMUP", "a gentler start may be steadier", "less time is lost at the start"),
    (r"WEIGHT_DECAY|DROPOUT", "more regularisation may generalise better", "less regularisation may fit faster"),
    (r"BETA|MOMENTUM", "a longer memory may steady the steps", "a shorter memory may adapt faster"),
    (r"SOFTCAP|CAP$|CLIP", "a looser cap may let the model be surer", "a tighter cap may keep training steady"),
)


def hypothesis(
    axes: Mapping[str, Axis],
    changes: Mapping[str, Any],
    observations: Sequence[Observation],
    budget_seconds: float | None = None,
) -> str:
    """One sentence in a person's words: what moves, and why that may help."""
    whats = [_what(axes[name].parameter, value) for name, value in changes.items()]
    whys = [_why(axes[name], value, observations, budget_seconds) for name, value in changes.items()]
    what = " and ".join([whats[0], *(w[0].lower() + w[1:] for w in whats[1:])])
    return f"{what}: {'; '.join(dict.fromkeys(whys))}."


def _what(parameter: Parameter, value: Any) -> str:
    new = literal(parameter, value)
    if parameter.kind == "bool":
        return f"Switch {parameter.name} {'on' if value else 'off'}"
    if not (_is_number(value) and _is_number(parameter.value)):
        return f"Change {parameter.name} from {parameter.text} to {new}"
    return f"{'Raise' if value > parameter.value else 'Lower'} {parameter.name} from {parameter.text} to {new}"


def _compared(observation: Observation) -> str:
    return f" ({observation.compared})" if observation.compared else ""


def _why(axis: Axis, value: Any, observations: Sequence[Observation], budget_seconds: float | None) -> str:
    """The latest evidence for the direction; without any, what such a change usually does."""
    name = axis.parameter.name
    if not axis.ordered:
        return "this alternative has not been tried often"
    up = (axis.position(value) or 0.0) > 0
    for observation in reversed(observations):
        if list(observation.moved) != [name]:
            continue
        before, after = (axis.position(v) for v in observation.moved[name])
        if before is None or after is None or before == after:
            continue
        same_way = (after > before) == up
        if observation.kept and same_way and abs(after) < 1e-9:
            return f"the last step this way was kept in {observation.number:04d}{_compared(observation)}"
        if not same_way and observation.delta_bpb is None:
            return f"the other way failed in {observation.number:04d}"
        if not same_way and not observation.kept and observation.delta_bpb is not None and observation.delta_bpb > 0:
            return f"the other way was worse in {observation.number:04d}{_compared(observation)}"
    for pattern, raising, lowering in _WORDS:
        if re.search(pattern, name):
            budget = f"{budget_seconds:g} s" if budget_seconds else "the budget"
            return (raising if up else lowering).format(budget=budget)
    return f"a {'larger' if up else 'smaller'} value has not been ruled out"
