"""What a decision is made from: every number, as the history keeps it with the decision. Pure.

The field `rule` of a `decided` event holds the numbers, the thresholds that follow from them and the rule's version, so
a reader can compute the verdict again: keep below `keep_below`, else confirm below `confirm_below`, else discard. The
`started` event of a confirmation holds the same of the verdict that asked for it. Events of versions before 0.10 have
no such field. A failure has none either: it is decided by how its last run ended.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from .decide import (
    MOST_BASELINE_RUNS,
    NUM_BASELINE_RUNS,
    Decision,
    DuelDecision,
    clearly_worse_share,
    decide,
    decide_duel,
    is_simpler,
    mean,
)
from .drift import level
from .duel import duels_between
from .noise import has_like_runs
from .state import StudyState
from .thresholds import RULE_VERSION, Verdict
from .types import Experiment, scores_of


@dataclass(frozen=True)
class Grounds:
    """What a challenger's runs are judged by; the fields that `decide` has too mean the same there."""

    incumbent: int  # number of the experiment
    runs: tuple[int, ...]  # indices of the challenger's runs, and their scores
    scores: tuple[float, ...]
    incumbent_runs: tuple[int, ...]  # those that it is compared with
    incumbent_scores: tuple[float, ...]
    speed_bpb: float
    sigma: float | None
    degrees_of_freedom: int
    level_error: float | None
    is_like: bool
    worse_share: float
    is_lucky: bool
    is_simpler: bool

    def decision(self) -> Decision:
        return decide(
            self.scores,
            self.incumbent_scores,
            self.sigma,
            degrees_of_freedom=self.degrees_of_freedom,
            speed_bpb=self.speed_bpb,
            level_error=self.level_error,
            is_like=self.is_like,
            worse_share=self.worse_share,
            is_lucky=self.is_lucky,
            is_simpler=self.is_simpler,
        )


@dataclass(frozen=True)
class DuelGrounds:
    """What a challenger is judged by that met the incumbent in a duel; see `decide_duel`."""

    incumbent: int
    runs: tuple[int, ...]  # indices of the challenger's runs alone, and their scores; empty where they do not count
    scores: tuple[float, ...]
    first_level: float
    first_error: float
    duels: tuple[tuple[int, int], ...]  # indices of the runs that took turns: the challenger's, the incumbent's
    pairs: tuple[tuple[float, float], ...]  # their scores
    pair_sd: float
    degrees_of_freedom: int
    worse_share: float
    is_simpler: bool

    def decision(self) -> DuelDecision:
        return decide_duel(
            mean(self.scores) if self.scores else None,
            self.first_level,
            self.first_error,
            self.pairs,
            self.pair_sd,
            degrees_of_freedom=self.degrees_of_freedom,
            worse_share=self.worse_share,
            is_simpler=self.is_simpler,
        )


@dataclass(frozen=True)
class BaselineGrounds:
    """What ends the runs of the baseline, which is kept without a comparison."""

    runs: tuple[int, ...]
    scores: tuple[float, ...]
    has_like_runs: bool  # as many runs of like speed as the first estimate of sigma needs

    def verdict(self) -> Verdict:
        count = len(self.scores)
        is_enough = count >= NUM_BASELINE_RUNS and (self.has_like_runs or count >= MOST_BASELINE_RUNS)
        return "keep" if is_enough else "confirm"


AnyGrounds = Grounds | DuelGrounds | BaselineGrounds
KINDS: dict[str, type[AnyGrounds]] = {"runs": Grounds, "duel": DuelGrounds, "baseline": BaselineGrounds}


# --- from a study


def grounds_of(experiment: Experiment, state: StudyState) -> AnyGrounds | None:
    """What an experiment that is not decided yet is judged by; None where no run has a score."""
    scored = [run for run in experiment.runs if run.val_bpb is not None]
    if not scored:
        return None
    mine = tuple(run.index for run in scored), scores_of(scored)
    noise, incumbent, against = state.noise, state.reference_for(experiment), state.level_for(experiment)
    if incumbent is None or against is None:
        return BaselineGrounds(*mine, has_like_runs(experiment.runs))
    if duel := duel_grounds(experiment, state):
        return duel
    scores = scores_of(against.runs)
    return Grounds(
        incumbent.number,
        *mine,
        tuple(run.index for run in against.runs),
        scores,
        speed_bpb=against.bpb - mean(scores),
        sigma=noise.sigma,
        degrees_of_freedom=noise.degrees_of_freedom,
        level_error=against.standard_error(noise.sigma, noise.worth_error),
        is_like=against.is_like,
        worse_share=clearly_worse_share(state.decided, noise.sigma, noise.degrees_of_freedom, noise.worth),
        is_lucky=any(run.index == 0 for run in against.runs),
        is_simpler=is_simpler(experiment, incumbent),
    )


def grounds_of_confirmation(experiment: Experiment, run: int, state: StudyState) -> Grounds | None:
    """What a confirmation was asked for by, as its training `run` begins; None for any other training."""
    if experiment.number == 0 or experiment.status is not None or run == 0:
        return None
    grounds = grounds_of(experiment, state)
    if not isinstance(grounds, Grounds) or max(grounds.runs) >= run:  # a run that is made again counts no more
        return None
    return grounds if grounds.decision().verdict == "confirm" else None


def duel_grounds(experiment: Experiment, state: StudyState) -> DuelGrounds | None:
    """What an experiment is judged by that met the present incumbent in a duel; None for any other."""
    incumbent, noise = state.incumbent and state.incumbent.audited.on(""), state.noise
    duels = duels_between(experiment, incumbent) if incumbent is not None else []
    if incumbent is None or not duels:
        return None
    alone = tuple(run for run in experiment.runs if run.duel is None)
    met = [duel.incumbent for duel in duels]
    others = [run for run in incumbent.runs if all(run is not one for one in met)]
    first = level(alone, others, noise.like_speed, noise.worth) if noise.sigma else None
    error = first.standard_error(noise.sigma, noise.worth_error) if first else None
    scored = [run for run in alone if run.val_bpb is not None] if first else []
    return DuelGrounds(
        incumbent.number,
        tuple(run.index for run in scored),
        scores_of(scored),
        first.bpb if first else 0.0,
        math.hypot((noise.sigma or 0.0) / math.sqrt(len(scored)), error or 0.0) if first else 0.0,
        tuple((duel.challenger.index, duel.incumbent.index) for duel in duels),
        tuple((duel.challenger.val_bpb or 0.0, duel.incumbent.val_bpb or 0.0) for duel in duels),
        state.duel_noise.sd,
        degrees_of_freedom=state.duel_noise.degrees_of_freedom,
        worse_share=clearly_worse_share(state.decided, noise.sigma, noise.degrees_of_freedom, noise.worth),
        is_simpler=is_simpler(experiment, incumbent),
    )


# --- in the history


def recorded(grounds: AnyGrounds) -> dict[str, Any]:
    """The field `rule` of an event."""
    kind = next(name for name, of in KINDS.items() if isinstance(grounds, of))
    limits = {} if isinstance(grounds, BaselineGrounds) else asdict(grounds.decision().thresholds)
    return {"version": RULE_VERSION, "kind": kind, **asdict(grounds), **limits}


def read_grounds(rule: Mapping[str, Any]) -> AnyGrounds:
    """The grounds that a field `rule` of this version holds. Raises ValueError for one that lacks a part."""
    if rule.get("kind") not in KINDS:
        raise ValueError(f"there is no kind {rule.get('kind')} of numbers")
    kind = KINDS[rule["kind"]]
    if missing := [f.name for f in fields(kind) if f.name not in rule]:
        raise ValueError(f"it lacks {', '.join(missing)}")
    return kind(**{f.name: _frozen(rule[f.name]) for f in fields(kind)})


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
