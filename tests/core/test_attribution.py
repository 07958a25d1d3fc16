"""Attribution as a pure function: what the trainings say, which one comes next, and how often a name is wrong."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from autoresearch_kernel.core import attribution as rules
from autoresearch_kernel.core.attribution import Attribution, Due, Part, due, effects, folded
from autoresearch_kernel.core.noise import Noise
from autoresearch_kernel.core.student import quantile

SIGMA = 0.002
NOISE = Noise(SIGMA, 10, 0.05, 0.01, 1.1, False)
CHAMPION = 9
Found = tuple[Attribution, ...]


def event(what: str, **fields: object) -> dict[str, object]:
    return {"event": "attribution", "what": what, "champion": CHAMPION, **fields}


def begun(*changes: int, seeds: int = rules.NUM_SEEDS) -> tuple[Attribution, ...]:
    """An attribution whose variants are all prepared."""
    found = folded((), event("begun", changes=[*changes], num_seeds=seeds))
    for without in (None, *changes):
        found = folded(found, event("variant", without=without, train_sha256="x", obstacle=None, why=""))
    return found


def trained(found: Found, step: Due, val_bpb: float | None, status: str | None = None) -> Found:
    """After a training and its score; without a score it failed."""
    where = {"without": step.without, "run": step.run}
    if not step.is_score:
        found = folded(found, event("started", seed=1, **where))
        found = folded(
            found, event("trained", status=status, reason="it failed" if status else "", measured={}, **where)
        )
    return found if val_bpb is None else folded(found, event("scored", val_bpb=val_bpb, standard_error=0.001, **where))


def go(found: tuple[Attribution, ...], score: Callable[[int | None], float]) -> tuple[Attribution, ...]:
    """Train until all is settled."""
    while (step := due(found[-1], NOISE)) is not None:
        found = trained(found, step, score(step.without))
    return found


def parts(found: tuple[Attribution, ...]) -> dict[int, Part]:
    return {effect.change: effect.part for effect in effects(found[-1], NOISE)}


def test_a_gain_and_its_interval_are_those_of_a_hand_calculation() -> None:
    found = begun(1, seeds=2)
    for without, score in ((None, 1.400), (1, 1.410), (None, 1.402), (1, 1.414)):
        run = len(found[-1].variant(without).trials)
        found = trained(found, Due(without, run), score)
    (effect,) = effects(found[-1], NOISE)
    squares = 10 * SIGMA**2 + 2 * 0.001**2 + 2 * 0.002**2
    sigma = (squares / 12) ** 0.5
    reach = quantile(0.025, 12) * sigma  # of two means of two runs each
    assert (effect.without_bpb, effect.with_bpb) == pytest.approx((1.412, 1.401))
    assert effect.gain == pytest.approx(0.011) and effect.error == pytest.approx(sigma)
    assert (effect.low, effect.high) == pytest.approx((0.011 - reach, 0.011 + reach))
    assert effect.part is Part.CARRIES and effect.num_seeds == 2


def test_champion_and_variants_take_turns_and_the_champion_runs_twice_a_round() -> None:
    found, turns = begun(1, 2, 3, 4), []
    for _ in range(18):
        step = due(found[-1], NOISE)
        assert step is not None
        turns.append(step.without or 0)
        found = trained(found, step, 1.5 + 0.001 * (step.run % 2))
    assert turns == [0, 1, 2, 0, 3, 4, 0, 1, 2, 0, 3, 4, 0, 1, 2, 0, 3, 4]


def test_what_is_clear_stops_early_and_what_is_not_uses_all_seeds() -> None:
    found = go(begun(1, 2), lambda without: 1.5 + (0.03 if without == 1 else 0.0))
    assert parts(found) == {1: Part.CARRIES, 2: Part.LUCK}
    trials = {variant.without: len(variant.trials) for variant in found[-1].variants}
    assert trials[1] == rules.LEAST_SEEDS and trials[2] <= rules.NUM_SEEDS
    assert sum(trials.values()) <= found[-1].most_trainings


def test_a_change_that_makes_it_worse_costs() -> None:
    assert parts(go(begun(1), lambda without: 1.5 - (0.03 if without == 1 else 0.0))) == {1: Part.COSTS}


def test_a_gain_between_luck_and_clear_stays_unclear() -> None:
    scores = {None: 1.5, 1: 1.5 + 0.9 * rules.LEAST_GAIN_SIGMAS * SIGMA / 2}
    noise = iter(random.Random(3).gauss(0, 1.3 * SIGMA) for _ in range(1000))
    found = go(begun(1, seeds=3), lambda without: scores[without] + next(noise))
    assert parts(found)[1] in (Part.UNCLEAR, Part.LUCK, Part.CARRIES) and due(found[-1], NOISE) is None


@pytest.mark.parametrize(
    ("obstacle", "part"), [("conflict", Part.TANGLED), ("dry run", Part.TANGLED), ("same", Part.REPLACED)]
)
def test_what_cannot_be_taken_out_is_named_and_never_trains(obstacle: str, part: Part) -> None:
    found = folded(begun(1, 2), event("variant", without=1, obstacle=obstacle, why="the same lines"))
    seen = []
    while (step := due(found[-1], NOISE)) is not None:
        seen.append(step.without)
        found = trained(found, step, 1.5 if step.without is None else 1.53)
    assert 1 not in seen and parts(found) == {1: part, 2: Part.CARRIES}
    assert effects(found[-1], NOISE)[0].why == "the same lines"


def test_code_that_fails_twice_on_fresh_seeds_cannot_be_taken_out() -> None:
    found = begun(1)
    while (step := due(found[-1], NOISE)) is not None:
        found = trained(found, step, None if step.without else 1.5, "crash" if step.without else None)
    (effect,) = effects(found[-1], NOISE)
    assert effect.part is Part.TANGLED and effect.why == "crash: it failed"
    assert len(found[-1].variant(1).trials) == rules.MOST_FAILURES


def test_a_training_that_was_cut_off_is_made_again_and_one_that_was_trained_is_scored() -> None:
    found = begun(1)
    found = folded(found, event("started", without=None, run=0, seed=7))
    assert due(found[-1], NOISE) == Due(None, 0)
    found = folded(found, event("interrupted", without=None, run=0, cause="gone", reason="it went away"))
    assert due(found[-1], NOISE) == Due(None, 0)
    found = folded(found, event("started", without=None, run=0, seed=7))
    found = folded(found, event("trained", without=None, run=0, status=None, reason="", measured={}))
    assert due(found[-1], NOISE) == Due(None, 0, is_score=True)
    assert found[-1].variant(None).trials[0].attempts == 2


def test_an_interruption_that_a_user_asked_for_does_not_count() -> None:
    found = begun(1)
    for _ in range(5):
        found = folded(found, event("started", without=None, run=0, seed=7))
        found = folded(found, event("interrupted", without=None, run=0, cause="asked", reason="stopped"))
    assert due(found[-1], NOISE) == Due(None, 0) and not found[-1].variant(None).failures


def test_more_seeds_go_on_with_what_was_trained() -> None:
    found = go(begun(1, seeds=3), lambda without: 1.5)
    before = len(found[-1].variant(1).trials)
    found = folded(found, event("ended"))
    found = folded(found, event("begun", changes=[1], num_seeds=12))
    assert not found[-1].is_ended and len(found) == 1 and len(found[-1].variant(1).trials) == before


def test_an_event_of_a_later_version_is_left_alone() -> None:
    found = begun(1)
    assert folded(found, event("looked at", without=1, depth=3)) == found


# --- how often a name is wrong


class Landscape:
    """Scores of a variant: what it lacks, noise, and a machine that drifts by half a sigma in 100 trainings."""

    def __init__(self, rng: random.Random, gains: dict[int, float]) -> None:
        self.rng, self.gains, self.count = rng, gains, 0

    def __call__(self, without: int | None) -> float:
        self.count += 1
        drift = 0.5 * SIGMA * self.count / 100
        return 1.5 + self.gains.get(without or 0, 0.0) + self.rng.gauss(0, SIGMA) + drift


def landscapes(number: int) -> Iterator[tuple[dict[int, float], Callable[[int | None], float]]]:
    """Half of the changes carry 3 to 10 sigma, the others nothing; runs scatter by sigma, and the machine drifts."""
    for seed in range(number):
        rng = random.Random(seed)
        gains = {n: rng.choice((0.0, rng.uniform(3, 10) * SIGMA)) for n in range(1, rng.randint(3, 10))}
        yield gains, Landscape(rng, gains)


def test_nine_of_ten_planted_no_ops_are_named_and_no_carrier_is() -> None:
    of_no_ops, of_carriers = Counter[Part](), Counter[Part]()
    trainings = most = 0
    for gains, score in landscapes(80):
        found = go(begun(*gains), score)
        trainings, most = trainings + found[-1].num_trained, most + found[-1].most_trainings
        for change, part in parts(found).items():
            (of_carriers if gains[change] else of_no_ops)[part] += 1
    named = of_no_ops[Part.LUCK] + of_no_ops[Part.COSTS]
    assert named >= 0.9 * of_no_ops.total(), of_no_ops
    assert of_carriers[Part.LUCK] + of_carriers[Part.COSTS] == 0, of_carriers
    assert of_carriers[Part.CARRIES] >= 0.98 * of_carriers.total(), of_carriers
    assert trainings < 0.8 * most, "it stops early where the answer is clear"
