"""Lesson 4: the simulated nights, the recorded one, and the figures that its text states."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import NormalDist, fmean, stdev
from typing import Any

import numpy as np
import pytest

from autoresearch_kernel.lab.lessons import noise_figures, recorded_night
from autoresearch_kernel.lab.lessons.answers import check
from autoresearch_kernel.lab.lessons.build import FOLDER
from autoresearch_kernel.lab.lessons.checks_4 import HALF_WAY_TO_MEDIAN, LUCK, MEDIAN_OF_TWENTY, THRESHOLDS
from autoresearch_kernel.lab.lessons.data import recorded
from autoresearch_kernel.lab.lessons.exercise import WrongAnswer
from autoresearch_kernel.lab.lessons.learned import PROGRESS_FILE
from autoresearch_kernel.lab.lessons.simulated_nights import TRAININGS, mean_and_error, simulate, simulate_many
from tests.conftest import PROJECT

PNG = b"\x89PNG"


def test_the_same_seed_gives_the_same_night() -> None:
    assert simulate("confirm", seed=3) == simulate("confirm", seed=3)
    assert simulate("confirm", seed=3) != simulate("confirm", seed=4)


@pytest.mark.parametrize("rule", ["greedy", "confirm"])
def test_a_night_makes_the_trainings_that_it_has(rule: str) -> None:
    made = [len(night.truth) for night in simulate_many(rule, 5)]
    assert all(TRAININGS <= count <= TRAININGS + 2 for count in made)  # a confirmation may begin at the end


@pytest.mark.parametrize("rule", ["greedy", "confirm"])
def test_where_nothing_helps_nothing_is_gained_and_something_is_reported(rule: str) -> None:
    nights = simulate_many(rule, 20, nothing_helps=True)
    assert {night.true_gain for night in nights} == {0.0}
    assert all(night.kept == night.kept_in_vain for night in nights)
    if rule == "greedy":
        assert fmean(night.reported_gain for night in nights) > 0


def test_without_noise_greedy_keeps_what_helps_and_nothing_else() -> None:
    night = simulate("greedy", sigma=0.0, seed=5)
    assert night.kept > 10 and night.kept_in_vain == 0
    assert night.reported_gain == pytest.approx(night.true_gain)
    assert all(after >= before for before, after in pairwise(night.truth))


def test_confirming_exaggerates_less_and_gains_more_in_a_noisy_world() -> None:
    """As the lesson says, each with its error: 80 nights at a sigma of 0.0005, compared night by night."""
    greedy, confirm = (simulate_many(rule, 80, sigma=0.0005) for rule in ("greedy", "confirm"))
    said = [g.exaggeration - c.exaggeration for g, c in zip(greedy, confirm, strict=True)]
    gained = [c.true_gain - g.true_gain for g, c in zip(greedy, confirm, strict=True)]
    for differences in (said, gained):
        mean, error = mean_and_error(differences)
        assert mean > 2 * error


def test_no_fixed_threshold_gains_more_than_none() -> None:
    """What exercise 4.5 asks, with the nights that the lesson simulates."""
    gains = {at: fmean(night.true_gain for night in simulate_many("greedy", 60, threshold=at)) for at in THRESHOLDS}
    assert max(gains, key=lambda at: gains[at]) == 0.0
    assert gains[3.0] < gains[1.0] < gains[0.0]


def test_the_luck_of_the_lowest_is_what_the_check_expects() -> None:
    """Against a sum over the distribution of the lowest of n: n·φ(x)·(1 − Φ(x))^(n − 1)."""
    normal = NormalDist()
    for count, expected in LUCK.items():
        places = [-6 + i * 0.001 for i in range(12_000)]
        weights = [count * normal.pdf(x) * (1 - normal.cdf(x)) ** (count - 1) for x in places]
        mean = sum(x * w for x, w in zip(places, weights, strict=True)) / sum(weights)
        assert mean == pytest.approx(expected, abs=0.002)
        assert median_of_the_lowest(count) - expected == pytest.approx(2 * HALF_WAY_TO_MEDIAN, abs=0.003)
    assert median_of_the_lowest(20) == pytest.approx(MEDIAN_OF_TWENTY, abs=0.005)


def median_of_the_lowest(count: int) -> float:
    """Half of all drawings of so many scores have their lowest below this."""
    return NormalDist().inv_cdf(1 - 0.5 ** (1 / count))


@pytest.mark.parametrize("is_drawn_anew", [True, False], ids=["one generator", "one seed in each call"])
def test_the_mean_of_the_lowest_is_right_and_their_median_gets_its_sentence_whatever_the_luck(
    is_drawn_anew: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PROGRESS_FILE, str(tmp_path / "lessons.json"))
    for seed in range(10):
        check("winner", luck_by(np.mean, seed, is_drawn_anew))
        with pytest.raises(WrongAnswer, match=r"This is the median of the lowest scores, -1\.82 for 20"):
            check("winner", luck_by(np.median, seed, is_drawn_anew))


def luck_by(centre: Callable[[Any], Any], seed: int, is_drawn_anew: bool) -> Callable[[int], float]:
    """A learner's function with 2000 drawings, as the exercise asks."""
    shared = np.random.default_rng(seed)

    def luck_of_the_lowest(count: int) -> float:
        rng = shared if is_drawn_anew else np.random.default_rng(seed)
        return float(centre(rng.normal(size=(2000, count)).min(axis=1)))

    return luck_of_the_lowest


def test_the_recorded_night_has_what_the_exercises_ask_for() -> None:
    first, kept, pairs = recorded_night.first_scores(), recorded_night.kept_numbers(), recorded_night.pairs_run_twice()
    assert len(first) == 101 and min(kept) > 0 and max(kept) < len(first)
    rises = [second - first_score for first_score, second in pairs]
    assert len(pairs) == 16 and fmean(rises) == pytest.approx(0.0187, abs=1e-4)
    assert fmean(rises) > 2 * stdev(rises) / len(rises) ** 0.5
    with_two_runs = [number for number in kept if first[number] in {first_score for first_score, _ in pairs}]
    assert len(kept) == 16 and len(with_two_runs) == 8, "the lesson says how many were kept after a single run"
    assert sum(score > noise_figures.highest_shown(first) for score in first) == 3
    assert "The three highest of the 101 scores" in (PROJECT / FOLDER / "4-noise.py").read_text()


def test_a_night_shows_its_numbers_without_digits_that_mean_nothing() -> None:
    words = "true_gain 0.0034, reported_gain 0.0042, kept 11, kept_in_vain 0, confirmations 0"
    assert str(simulate("greedy", seed=1)) == words


def test_the_recorded_runs_of_one_code_differ() -> None:
    scores = recorded("4-same-code")["scores"]
    assert len(scores) == 20 and len(set(scores)) == 20
    assert 0 < stdev(scores) < 0.2


def test_each_picture_is_one_and_says_in_words_what_it_shows() -> None:
    nights = simulate_many("greedy", 3)
    first = recorded_night.first_scores()
    pictures = [
        noise_figures.scores_figure([1.5, 1.6, 1.4], [1.5, 1.55]),
        noise_figures.winner_figure(20, 0.01),
        noise_figures.winner_figure(1, 0.01),
        noise_figures.night_figure(first, [5, 9], recorded_night.kept_numbers()),
        noise_figures.night_figure(first, [], recorded_night.kept_numbers()),
        noise_figures.pairs_figure(recorded_night.pairs_run_twice()),
        noise_figures.threshold_figure({0.0: nights, 1.0: nights}),
        noise_figures.gain_figure({"greedy": nights}),
        noise_figures.errors_figure(0.01),
    ]
    assert all(picture.png.startswith(PNG) and picture.words for picture in pictures)
