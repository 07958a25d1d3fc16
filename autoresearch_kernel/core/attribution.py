"""Which kept changes carry a study's gain: the champion trains without each of them, on fresh seeds. Pure.

A *variant* is the champion's train.py without one kept change. Champion and variants take turns, so that a machine that
drifts drifts for all of them. The champion runs twice or more in each round, because every variant is compared with it.

The *gain* of a change is what val_bpb rises by without it. Its interval is Student's t, with the standard deviation of
runs of the same code, pooled over these trainings and over the study. A change is settled before its last seed only
when chance would say so once in a thousand times; after its last seed the 95 % interval decides:

- it carries gain when the interval lies above zero, and costs when it lies below;
- it was luck when the interval reaches neither above zero as a whole nor up to LEAST_GAIN_SIGMAS;
- else the seeds did not tell.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from .decide import mean
from .noise import Noise
from .student import quantile
from .types import Cause, Status

NUM_SEEDS = 10  # of each variant, at most
LEAST_SEEDS = 2  # of each, before anything is said
LEAST_CONTROLS = 2  # runs of the champion in a round
CHANCE = 0.025  # on each side of the interval that is shown and decides after the last seed
CHANCE_EARLY = 0.001  # on each side, before that
LEAST_GAIN_SIGMAS = 1.5  # a change whose gain is below this, for sure, and not above zero for sure, was luck
MOST_ATTEMPTS = 2  # trainings begun under one run index that the supervisor did not survive
MOST_FAILURES = 2  # trainings of a variant that fail on their own account, before it cannot be taken out
TRIAL_EVENTS = ("started", "interrupted", "trained", "scored")


class Part(StrEnum):
    """What one kept change has to do with the gain."""

    CARRIES = "carries"
    LUCK = "luck"
    COSTS = "costs"
    UNCLEAR = "unclear"  # the seeds did not tell
    TANGLED = "tangled"  # it cannot be taken out alone
    REPLACED = "replaced"  # a later change has undone it: nothing of it is left in the champion
    OPEN = "open"  # not measured yet


class Obstacle(StrEnum):
    """Why a variant does not train."""

    CONFLICT = "conflict"  # later changes rest on the same lines
    SAME = "same"  # without the change the code means what it means with it
    DRY_RUN = "dry run"  # the first steps fail


@dataclass(frozen=True)
class Trial:
    """One training of a variant, or of the champion beside it."""

    index: int
    seed: int
    status: Status | None = Status.INTERRUPTED  # None: trained; what it is when nothing comes after its start
    reason: str = ""
    val_bpb: float | None = None
    measured: Mapping[str, Any] = field(default_factory=dict)
    attempts: int = 1  # begun under this index, those not counted that ended for no fault of the code
    causes: tuple[Cause, ...] = ()  # why earlier ones under this index did not count

    @property
    def is_cut_off(self) -> bool:
        """It is to be trained again under the same index."""
        return self.status is Status.INTERRUPTED and self.attempts < MOST_ATTEMPTS

    @property
    def is_unscored(self) -> bool:
        return self.status is None and self.val_bpb is None


@dataclass(frozen=True)
class Variant:
    """The champion without one change, or as it is."""

    without: int | None  # number of the experiment whose change is taken out; None: the champion as it is
    train_sha256: str = ""  # "" where there is no such train.py
    obstacle: Obstacle | None = None
    why: str = ""  # the obstacle, for people
    trials: tuple[Trial, ...] = ()

    @property
    def scores(self) -> tuple[float, ...]:
        return tuple(trial.val_bpb for trial in self.trials if trial.val_bpb is not None)

    @property
    def failures(self) -> tuple[Trial, ...]:
        """Trainings that failed on their own account."""
        return tuple(t for t in self.trials if t.status is not None and not t.is_cut_off)

    @property
    def is_tangled(self) -> bool:
        return self.obstacle in (Obstacle.CONFLICT, Obstacle.DRY_RUN) or len(self.failures) >= MOST_FAILURES


@dataclass(frozen=True)
class Attribution:
    """The trainings without each kept change, for one champion."""

    champion: int
    changes: tuple[int, ...]  # experiments that led to it, the champion included, oldest first
    num_seeds: int  # of each variant, at most
    variants: tuple[Variant, ...] = ()
    is_ended: bool = False
    settled: tuple[Effect, ...] = ()  # what it ended with

    def variant(self, without: int | None) -> Variant:
        return next(variant for variant in self.variants if variant.without == without)

    @property
    def unprepared(self) -> tuple[int | None, ...]:
        """Variants whose code is not made yet."""
        known = {variant.without for variant in self.variants}
        return tuple(without for without in (None, *self.changes) if without not in known)

    def is_done(self, num_seeds: int | None) -> bool:
        """Whether there is nothing left to train, with so many seeds or those that it began with."""
        return self.is_ended and (num_seeds is None or num_seeds <= self.num_seeds)

    @property
    def num_trained(self) -> int:
        return sum(trial.status is not Status.INTERRUPTED for variant in self.variants for trial in variant.trials)

    @property
    def most_trainings(self) -> int:
        """How many it takes at most, those without a result not counted."""
        trained = [v for v in self.variants if v.without is not None and v.obstacle is None]
        num = len(self.unprepared) - (None in self.unprepared) + len(trained)
        return self.num_seeds * (num + num_controls(num)) if num else 0


@dataclass(frozen=True)
class Effect:
    """What one kept change is worth in the champion; None is what is not known."""

    change: int  # number of the experiment
    part: Part
    without_bpb: float | None = None  # mean val_bpb of the champion without the change
    with_bpb: float | None = None  # and of the champion as it is, beside it
    gain: float | None = None  # bits per byte by which val_bpb rises without it
    error: float | None = None  # standard error of that
    low: float | None = None  # the 95 % interval
    high: float | None = None
    num_seeds: int = 0
    why: str = ""  # it cannot be taken out


@dataclass(frozen=True)
class Due:
    """What is to be done next."""

    without: int | None
    run: int
    is_score: bool = False  # it is trained, and its score is missing


# --- what follows from the events


def folded(found: tuple[Attribution, ...], event: Mapping[str, Any]) -> tuple[Attribution, ...]:
    """The attributions after one more event of the kind `attribution`; its field `what` says which."""
    champion, what = event["champion"], event["what"]
    if what == "begun":
        known = next((a for a in found if a.champion == champion), None)
        begun = Attribution(champion, tuple(event["changes"]), event["num_seeds"], known.variants if known else ())
        return (*(a for a in found if a.champion != champion), begun)
    one = next((a for a in found if a.champion == champion), None)
    if one is None:
        raise ValueError(f"the attribution of {champion} has not begun")
    others = tuple(a for a in found if a is not one)
    if what == "ended":
        return (*others, replace(one, is_ended=True, settled=_settled(event)))
    if what == "variant":
        obstacle = Obstacle(event["obstacle"]) if event.get("obstacle") else None
        made = Variant(event["without"], event.get("train_sha256") or "", obstacle, event.get("why") or "")
        variants = tuple(v for v in one.variants if v.without != made.without)
        return (*others, replace(one, variants=(*variants, made)))
    if what not in TRIAL_EVENTS:  # of a later version
        return found
    variants = tuple(_with_trial(v, event) if v.without == event["without"] else v for v in one.variants)
    return (*others, replace(one, variants=variants))


def _settled(event: Mapping[str, Any]) -> tuple[Effect, ...]:
    """The effects that an attribution ended with; none in records without them."""
    known = Effect.__dataclass_fields__
    facts = [{name: value for name, value in effect.items() if name in known} for effect in event.get("effects") or ()]
    return tuple(Effect(**effect | {"part": Part(effect["part"])}) for effect in facts)


def _with_trial(variant: Variant, event: Mapping[str, Any]) -> Variant:
    """The variant after its training started, was interrupted, ended or was scored."""
    run, trials = event["run"], list(variant.trials)
    if event["what"] == "started" and run == len(trials):
        return replace(variant, trials=(*trials, Trial(run, event["seed"])))
    before = trials[run]
    match event["what"]:
        case "started":
            now = Trial(run, event["seed"], attempts=before.attempts + 1, causes=before.causes)
        case "interrupted":
            cause = Cause(event["cause"])
            left = before.attempts - (cause is not Cause.GONE)
            causes = (*before.causes, cause)
            now = replace(before, status=Status.INTERRUPTED, reason=event["reason"], attempts=left, causes=causes)
        case "trained":
            status = None if event["status"] is None else Status(event["status"])
            now = replace(before, status=status, reason=event["reason"] or "", measured=event.get("measured") or {})
        case _:  # "scored"
            status = None if event.get("status") is None else Status(event["status"])
            now = replace(before, status=status, val_bpb=event.get("val_bpb"), reason=event.get("reason") or "")
    trials[run] = now
    return replace(variant, trials=tuple(trials))


# --- what the trainings say


def effects(attribution: Attribution, noise: Noise) -> tuple[Effect, ...]:
    """What each kept change is worth, oldest first; of an attribution that has ended, what it ended with.

    Runs that a study makes later change the noise, and nothing would be measured again because of that.
    """
    if attribution.is_ended and attribution.settled:
        return attribution.settled
    known = {variant.without: variant for variant in attribution.variants}
    control = known[None].scores if None in known else ()
    sd = _pooled(attribution, noise)
    return tuple(
        _effect(known[change], control, sd, attribution.num_seeds) if change in known else Effect(change, Part.OPEN)
        for change in attribution.changes
    )


def _pooled(attribution: Attribution, noise: Noise) -> tuple[float, int] | None:
    """Standard deviation of runs of the same code and its degrees of freedom; None while nothing ran twice."""
    squares, degrees = 0.0, 0
    for variant in attribution.variants:
        if len(variant.scores) > 1:
            centre = mean(variant.scores)
            squares += math.fsum((score - centre) ** 2 for score in variant.scores)
            degrees += len(variant.scores) - 1
    if noise.sigma is not None:
        squares += noise.degrees_of_freedom * noise.sigma**2
        degrees += noise.degrees_of_freedom
    return (math.sqrt(squares / degrees), degrees) if degrees else None


def _effect(variant: Variant, control: Sequence[float], sd: tuple[float, int] | None, num_seeds: int) -> Effect:
    assert variant.without is not None
    number, scores = variant.without, variant.scores
    if variant.obstacle is Obstacle.SAME:
        return Effect(number, Part.REPLACED, why=variant.why)
    if variant.is_tangled:
        last = variant.failures[-1] if variant.failures else None
        return Effect(number, Part.TANGLED, why=variant.why or (f"{last.status}: {last.reason}" if last else ""))
    if not scores or not control or sd is None:
        return Effect(number, Part.OPEN, num_seeds=len(scores))
    sigma, degrees = sd
    mine, theirs = mean(scores), mean(control)
    gain, error = mine - theirs, sigma * math.sqrt(1 / len(scores) + 1 / len(control))
    is_last = _num_made(variant) >= num_seeds
    reach = error * quantile(CHANCE if is_last else CHANCE_EARLY, degrees)
    part = _part(gain, reach, LEAST_GAIN_SIGMAS * sigma, is_last)
    if min(len(scores), len(control)) < LEAST_SEEDS and not is_last:
        part = Part.OPEN
    shown = error * quantile(CHANCE, degrees)
    return Effect(number, part, mine, theirs, gain, error, gain - shown, gain + shown, len(scores))


def _part(gain: float, reach: float, least_gain: float, is_last: bool) -> Part:
    if gain - reach > 0:
        return Part.CARRIES
    if gain + reach < 0:
        return Part.COSTS
    if gain + reach < least_gain:
        return Part.LUCK
    return Part.UNCLEAR if is_last else Part.OPEN


# --- what comes next


def num_controls(num_variants: int) -> int:
    """Runs of the champion in a round: the square root of the number of variants makes the errors smallest."""
    return max(LEAST_CONTROLS, round(math.sqrt(num_variants)))


def due(attribution: Attribution, noise: Noise) -> Due | None:
    """The training or score that comes next, once every variant is prepared; None when all is settled."""
    for variant in attribution.variants:
        last = variant.trials[-1] if variant.trials else None
        if last is not None and last.is_unscored:
            return Due(variant.without, last.index, is_score=True)
    settled = {effect.change for effect in effects(attribution, noise) if effect.part is not Part.OPEN}
    tried = [v for v in attribution.variants if v.without is not None and _num_made(v) < attribution.num_seeds]
    left = [variant for variant in tried if variant.without not in settled]
    if not left:
        return None
    counts = [_num_made(variant) for variant in left]
    round_number = min(counts)
    done = sum(count > round_number for count in counts)
    controls, as_it_is = num_controls(len(left)), attribution.variant(None)
    wanted = controls * round_number + controls * done // len(left)
    if _num_made(as_it_is) - len(as_it_is.failures) <= wanted:  # what made it fail may be mended
        return _next_of(as_it_is)
    return _next_of(left[counts.index(round_number)])


def _num_made(variant: Variant) -> int:
    """Trainings that count."""
    return sum(not trial.is_cut_off for trial in variant.trials)


def _next_of(variant: Variant) -> Due:
    last = variant.trials[-1] if variant.trials else None
    return Due(variant.without, last.index if last is not None and last.is_cut_off else len(variant.trials))
