from __future__ import annotations

import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch_kernel.core.comparison import Comparison
from autoresearch_kernel.core.decide import (
    NUM_BASELINE_RUNS,
    best,
    clearly_worse_share,
    decide,
    estimate_sigma,
    improvement,
    is_better,
    is_simpler,
    least_sigma,
    mean,
    standard_error,
)
from autoresearch_kernel.core.thresholds import BOLD_SHARE, CHANCE_AT_ONCE, SURE_SHARE, sigmas_of_chance
from autoresearch_kernel.core.types import Experiment, Run, Status

BASELINE = [1.4420, 1.4436, 1.4452]  # mean 1.4436, sd 0.0016
scores = st.floats(min_value=0.5, max_value=8.0)
sigmas = st.one_of(st.none(), st.floats(min_value=0.0, max_value=0.05))


def test_lower_is_better_and_a_tie_is_not():
    assert is_better(1.43, 1.44)
    assert not is_better(1.44, 1.44)
    assert not is_better(1.45, 1.44)


def test_sigma_of_three_baselines_is_their_standard_deviation():
    assert estimate_sigma([BASELINE]) == pytest.approx(0.0016)
    assert len(BASELINE) == NUM_BASELINE_RUNS


def test_sigma_pools_squares_over_degrees_of_freedom():
    # Squares: 2 * 0.0016^2 from the baselines, 2 * 0.001^2 from a pair 0.002 apart; 2 + 1 degrees of freedom.
    expected = math.sqrt((2 * 0.0016**2 + 2 * 0.001**2) / 3)
    assert estimate_sigma([BASELINE, [1.40, 1.402], [1.39]]) == pytest.approx(expected)


def test_sigma_is_unknown_while_nothing_ran_twice():
    assert estimate_sigma([]) is None
    assert estimate_sigma([[1.4], [1.5], []]) is None


def test_sigma_of_equal_runs_is_zero():
    assert estimate_sigma([[1.4, 1.4, 1.4]]) == 0.0


def test_a_confirmed_winner_does_not_inflate_sigma():
    """The first score of a confirmed pair was selected for being low; the pair's expected square is still sigma's."""
    rng = random.Random(0)
    pairs = [[y, rng.gauss(0, 1)] for y in (rng.gauss(0, 1) for _ in range(40_000)) if y < 0]
    assert estimate_sigma(pairs) == pytest.approx(1.0, abs=0.02)


def test_a_score_not_below_the_incumbent_is_discarded():
    decision = decide([1.4470], BASELINE, 0.0016)
    assert decision.verdict == "discard"
    assert decision.reason == "1.4470 is not below the incumbent's 1.4436 (2.1 sigma above): discarded"
    assert decide([mean(BASELINE)], BASELINE, 0.0016).verdict == "discard"


def test_what_chance_does_once_in_100000_times_is_kept_at_once():
    decision = decide([1.4312], BASELINE, 0.0124 / 5.8)  # 4.265 sigma, times sqrt(1 + 1/3) for the incumbent's error
    assert decision.verdict == "keep"
    assert decision.reason == "1.4312 is 5.8 sigma below the incumbent's 1.4436: kept at once"
    assert decision.delta_sigmas == pytest.approx(-5.8)
    assert decide([1.4312], BASELINE, 0.0124 / 4.8).verdict == "confirm"


@pytest.mark.parametrize(("runs", "sigmas"), [(1, 30.0), (2, 30.0), (4, 23.332), (10, 7.5270), (30, 5.0541)])
def test_with_few_runs_behind_sigma_chance_reaches_further(runs, sigmas):
    """Student's t at 1e-5, from tables, and at most 30."""
    assert sigmas_of_chance(CHANCE_AT_ONCE, runs) == pytest.approx(sigmas, rel=1e-4)
    at_once, sigma = sigmas * math.sqrt(4 / 3), 1e-6
    for factor, verdict in ((1.001, "keep"), (0.999, "confirm")):
        score = mean(BASELINE) - factor * at_once * sigma
        assert decide([score], BASELINE, sigma, degrees_of_freedom=runs).verdict == verdict


def test_a_sigma_that_is_known_needs_no_student():
    assert sigmas_of_chance(0.00135, None) == pytest.approx(3.0, abs=0.001)
    assert sigmas_of_chance(0.00135, 2) == pytest.approx(19.206, abs=0.01)


def test_on_a_machine_of_another_speed_nothing_is_kept_at_once():
    for share in (0.0, BOLD_SHARE, SURE_SHARE):
        assert decide([1.0], BASELINE, 0.0016, worse_share=share, is_like=False).verdict == "confirm"
    moved = decide([1.4420], BASELINE, 0.0016, speed_bpb=-0.01)
    assert moved.verdict == "discard" and moved.incumbent_bpb == pytest.approx(1.4336)


def test_sigma_is_not_below_what_the_evaluation_and_the_speed_imply():
    assert estimate_sigma([[1.44, 1.44001, 1.44]], least=0.004) == 0.004
    assert estimate_sigma([BASELINE], least=0.001) == pytest.approx(0.0016)
    assert estimate_sigma([[1.4]], least=0.004) is None
    assert least_sigma([0.03], 0.02, 0.2) == pytest.approx(0.005)  # 0.003 and 0.004
    assert least_sigma([], None, 0.2) == 0.0


def test_a_narrow_win_is_run_again_with_a_fresh_seed():
    decision = decide([1.4420], BASELINE, 0.0016)
    assert decision.verdict == "confirm"
    assert (
        decision.reason == "1.4420 is 1.0 sigma below the incumbent's 1.4436, which may be luck: once more, fresh seed"
    )


def test_the_mean_of_two_decides_after_a_confirmation():
    kept = decide([1.4420, 1.4440], BASELINE, 0.0016)
    assert (kept.verdict, kept.val_bpb) == ("keep", pytest.approx(1.4430))
    assert kept.reason == "the mean of 2 runs, 1.4430, is below the incumbent's 1.4436: kept"
    lost = decide([1.4420, 1.4454], BASELINE, 0.0016)
    assert (lost.verdict, lost.val_bpb) == ("discard", pytest.approx(1.4437))
    assert lost.reason == "the mean of 2 runs, 1.4437, is not below the incumbent's 1.4436: discarded"


def test_a_mean_of_two_that_is_hardly_below_is_no_win():
    hardly = decide([1.4420, 1.4448], BASELINE, 0.0016)  # mean 1.4434, 0.1 sigma below
    assert hardly.verdict == "discard"
    assert hardly.reason == "the mean of 2 runs, 1.4434, is not below the incumbent's 1.4436 by enough: discarded"


def test_where_proposals_matter_less_certainty_is_asked():
    sigma = 0.0016
    assert decide([1.4420], BASELINE, sigma, worse_share=BOLD_SHARE).verdict == "keep"  # 1.0 sigma below
    assert decide([1.4430], BASELINE, sigma, worse_share=BOLD_SHARE).verdict == "confirm"  # 0.4 sigma below
    assert decide([1.4430, 1.4440], BASELINE, sigma, worse_share=BOLD_SHARE).verdict == "keep"
    assert decide([1.4420], BASELINE, sigma, worse_share=BOLD_SHARE - 0.01).verdict == "confirm"


def test_where_most_proposals_matter_nothing_is_confirmed():
    assert decide([1.4430], BASELINE, 0.0016, worse_share=SURE_SHARE).verdict == "keep"
    hardly = decide([1.4433], BASELINE, 0.0016, worse_share=SURE_SHARE)
    assert hardly.verdict == "discard"
    assert "not enough for a confirmation" in hardly.reason


def test_an_incumbent_of_one_run_is_taken_to_have_been_lucky():
    """A score a little above the incumbent's single run is probably a better model; above a mean of three it is not."""
    decision = decide([1.4439], [1.4436], 0.0016, worse_share=BOLD_SHARE)
    assert decision.verdict == "keep"
    assert decision.reason == "1.4439 is 0.8 sigma below 1.4452 (the incumbent's 1.4436 without its luck): kept at once"
    assert decision.incumbent_bpb == 1.4436
    assert decide([1.4440], [1.4430, 1.4442], 0.0016, worse_share=BOLD_SHARE).verdict == "confirm"
    assert decide([1.4440], BASELINE, 0.0016, worse_share=BOLD_SHARE).verdict == "discard"
    assert decide([1.4439], [1.4436], 0.0016).verdict == "discard"


def _study(*differences: float | None, speed: float = 1.0, **measured: float) -> list[Experiment]:
    """A baseline at 1.44 and experiments so far above it; None was ended early."""

    facts = {"relative_speed": speed} | measured

    def experiment(number: int, scores: list[float], incumbent_bpb: float | None) -> Experiment:
        runs = tuple(Run(i, i, val_bpb=score, measured=facts) for i, score in enumerate(scores))
        status = Status.DISCARD if number else Status.KEEP
        return Experiment(number, "", "", 0, runs=runs, status=status, incumbent_bpb=incumbent_bpb)

    others = [[] if d is None else [1.44 + d] for d in differences]
    return [experiment(0, [1.44] * 3, None), *(experiment(n, scores, 1.44) for n, scores in enumerate(others, 1))]


def test_the_share_of_clearly_worse_proposals():
    sigma = 0.001
    assert clearly_worse_share(_study(0.0031, 0.0023, -0.001, 0.0040), sigma) == 0.5
    assert clearly_worse_share(_study(None, 0.0, 0.0, 0.0040), sigma) == 0.5  # what was ended early is clearly worse
    assert clearly_worse_share(_study(0.0031, 0.0, 0.0, 0.0), sigma) == 0.0  # one is too few to say
    assert clearly_worse_share(_study(), sigma) == 0.0
    assert clearly_worse_share(_study(0.1, 0.1), None) == 0.0


def test_a_crash_says_nothing_about_what_proposals_do():
    study = _study(0.0031, 0.0031, 0.0, 0.0)
    crash = Experiment(5, "", "", 0, runs=(Run(0, 0, Status.CRASH),), status=Status.CRASH, incumbent_bpb=1.44)
    assert clearly_worse_share([*study, crash], 0.001) == clearly_worse_share(study, 0.001) == 0.5


def test_what_a_slow_machine_cost_is_not_held_against_a_proposal():
    study = _study(0.1, 0.1, speed=math.exp(-0.45))  # worth 0.09 at 0.2 bits per byte for a factor of e
    assert clearly_worse_share(study, 0.001, worth=0.2) == 1.0
    assert clearly_worse_share(study, 0.005, worth=0.2) == 0.0
    assert clearly_worse_share(study, 0.005) == 1.0
    measured = _study(0.1, 0.1, speed=1.0, relative_machine_speed=math.exp(-0.45))
    assert clearly_worse_share(measured, 0.005, worth=0.2) == 0.0


def test_with_few_runs_behind_sigma_fewer_proposals_are_clearly_worse():
    study = _study(0.0060, 0.0060)  # Student's t at 0.01 is 6.96 for 2 degrees of freedom, 4.54 for 3
    assert clearly_worse_share(study, 0.001, 2) == 0.0 and clearly_worse_share(study, 0.001, 3) == 1.0


def test_when_results_tie_the_simpler_code_wins_and_only_then():
    def judge(*mine, simpler=True, **others):
        return decide(mine, BASELINE, 0.0016, is_simpler=simpler, **others).verdict

    assert judge(1.4440) == "confirm" and judge(1.4440, simpler=False) == "discard"
    assert judge(1.4440, worse_share=SURE_SHARE) == "confirm"
    assert judge(1.4436 + 0.0017) == "discard"  # more than a sigma above
    assert judge(1.4440, 1.4438) == "keep" and judge(1.4440, 1.4438, simpler=False) == "discard"
    assert judge(1.4440, 1.4442) == "discard"  # their mean is more than a quarter of a sigma above
    assert judge(1.4436 - 0.0080) == "keep"
    assert decide([1.4440], BASELINE, None, is_simpler=True).verdict == "discard"  # nothing says what a tie is


def test_a_win_over_an_uncertain_level_is_counted_in_the_error_of_that_level():
    """Of a level 0.02 above, carried from another speed of the machine with an error of 0.01."""

    def judge(*mine, error, **others):
        return decide(mine, BASELINE, 0.0016, level_error=error, is_like=False, **others)

    sure, unsure = judge(1.4236, 1.4236, error=0.0009), judge(1.4236, 1.4236, error=0.01)
    assert sure.delta_sigmas == pytest.approx(-12.5) and unsure.delta_sigmas == pytest.approx(-2.0)
    assert Comparison(1.4236, 1.4436, 0.0011, 0.0009, 0.0016).sigmas == pytest.approx(sure.delta_sigmas)
    assert Comparison(1.4236, 1.4436, 0.0011, 0.01, 0.0016).sigmas == pytest.approx(unsure.delta_sigmas)
    assert (
        judge(1.4420, 1.4420, error=0.0009).verdict == "keep" and judge(1.4420, 1.4420, error=0.01).verdict == "discard"
    )
    assert "1.0 sigma below" in judge(1.4336, error=0.01).reason
    tie = judge(1.4448, 1.4448, error=0.01, is_simpler=True)
    assert tie.verdict == "discard", "an uncertain level makes no ties"
    bold = judge(1.4448, 1.4448, error=0.01, worse_share=BOLD_SHARE)
    assert bold.verdict == "discard", "nor more luck of the incumbent"


def test_simpler_is_a_statement_or_more_and_must_be_known():
    def of(size):
        return Experiment(1, "h", "a", 0, code_size=size)

    assert is_simpler(of(505), of(510)) and not is_simpler(of(506), of(510)) and not is_simpler(of(520), of(510))
    assert not is_simpler(of(None), of(510)) and not is_simpler(of(500), of(None))


def test_the_same_score_again_is_a_tie_to_the_last_bit():
    for score in (1.4, 1.1, 0.1 + 0.2, 1 / 3):
        assert mean([score] * 3) == score
        assert decide([score], [score] * 3, 0.0).verdict == "discard"


def test_equal_baselines_do_not_divide_by_zero():
    decision = decide([1.4], [1.5, 1.5, 1.5], 0.0)
    assert (decision.verdict, decision.delta_sigmas) == ("keep", None)


def test_an_unknown_sigma_confirms_every_win():
    decision = decide([1.0], [1.4436], None)
    assert decision.verdict == "confirm"
    assert "sigma is not known yet" in decision.reason
    assert decide([1.5], [1.4436], None).verdict == "discard"


def test_the_incumbent_counts_with_all_its_runs():
    assert decide([1.4430], [1.4420], 0.001).verdict == "discard"
    assert decide([1.4430], [1.4420, 1.4450], 0.001).verdict == "confirm"


def test_scores_that_look_alike_get_more_decimals():
    assert decide([0.99792], [0.99794], 0.0001).reason.startswith("0.99792 is 0.2 sigma below the incumbent's 0.99794")


def test_a_failed_run_cannot_be_judged():
    for bad in ([], [math.nan], [math.inf]):
        with pytest.raises(ValueError, match="judge"):
            decide(bad, BASELINE, 0.001)
        with pytest.raises(ValueError, match="judge"):
            decide([1.4], bad, 0.001)
    with pytest.raises(ValueError, match="standard deviation"):
        decide([1.4], BASELINE, -1.0)


def test_improvement_of_means_with_its_standard_error():
    difference, error = improvement(BASELINE, [1.43, 1.4304], 0.0016)
    assert difference == pytest.approx(1.4302 - 1.4436)
    assert error == pytest.approx(0.0016 * math.sqrt(1 / 3 + 1 / 2))
    assert improvement(BASELINE, [1.43], None)[1] is None


def test_standard_error_of_a_mean():
    assert standard_error(4, 0.002) == pytest.approx(0.001)
    assert standard_error(3, None) is None
    assert standard_error(0, 0.1) is None


def test_the_champion_is_the_last_that_was_kept_and_not_the_luckiest():
    def experiment(number: int, status: Status, val_bpb: float | None) -> Experiment:
        return Experiment(number, "", "search", None, status=status, val_bpb=val_bpb)

    kept = [experiment(0, Status.KEEP, 1.44), experiment(2, Status.KEEP, 1.41), experiment(4, Status.KEEP, 1.42)]
    others = [
        experiment(5, Status.DISCARD, 1.40),
        experiment(6, Status.CRASH, None),
        experiment(7, Status.REJECTED, 0.1),
    ]
    assert best([*kept, *others]) == kept[-1]
    assert best(others) is None


@given(st.lists(scores, min_size=1, max_size=4), st.lists(scores, min_size=1, max_size=6), sigmas)
def test_nothing_is_kept_whose_mean_does_not_beat_the_incumbent(mine, theirs, sigma):
    decision = decide(mine, theirs, sigma)
    assert decision.verdict == "discard" or decision.val_bpb < decision.incumbent_bpb
    assert decision.verdict != "confirm" or len(mine) == 1


@given(scores, scores, scores, sigmas, st.floats(min_value=0, max_value=1))
def test_a_better_first_score_never_fares_worse(y, better_by, m, sigma, worse_share):
    rank = {"discard": 0, "confirm": 1, "keep": 2}
    worse, better = (decide([score], [m], sigma, worse_share=worse_share) for score in (y, y - better_by))
    assert rank[better.verdict] >= rank[worse.verdict]


@given(st.lists(st.lists(scores, max_size=5), max_size=6), st.floats(min_value=-0.4, max_value=3))
def test_sigma_does_not_depend_on_where_scores_lie(groups, shift):
    sigma = estimate_sigma(groups)
    moved = estimate_sigma([[score + shift for score in group] for group in groups])
    assert (sigma is None) == (moved is None)
    if sigma is not None:
        assert moved == pytest.approx(sigma, abs=1e-9)


def test_false_keeps_of_an_a_a_study_are_few():
    """Every proposal is the incumbent in disguise: each keep is false, each gain reported an illusion."""
    ours, greedy = ([_play_a_a(seed, rule) for seed in range(300)] for rule in (_our_rule, _greedy))
    keeps = [statistics.mean(k for k, _ in games) for games in (ours, greedy)]
    illusions = [statistics.mean(gain for _, gain in games) for games in (ours, greedy)]
    assert keeps[0] < 0.05 * 60
    assert illusions[0] < 0.8 * illusions[1]


def _play_a_a(seed: int, rule) -> tuple[int, float]:
    """False keeps, and the gain in sigma that was reported, over a study of 60 experiments of sd 0.01."""
    rng = random.Random(seed)
    return rule(lambda: rng.gauss(1.5, 0.01), 60)


def _our_rule(train, experiments: int) -> tuple[int, float]:
    groups, incumbent, keeps = [], [train() for _ in range(NUM_BASELINE_RUNS)], 0
    groups.append(incumbent)
    done: list[Experiment] = []
    for number in range(1, experiments + 1):
        sigma, m, runs = estimate_sigma(groups), mean(incumbent), [train()]
        degrees = sum(len(group) - 1 for group in groups)
        share = clearly_worse_share(done, sigma, degrees)
        rule = {"degrees_of_freedom": degrees, "worse_share": share}
        while (decision := decide(runs, incumbent, sigma, **rule)).verdict == "confirm":
            runs.append(train())
        groups.append(runs)
        status = Status(decision.verdict)
        scored = tuple(Run(i, i, val_bpb=score) for i, score in enumerate(runs))
        done.append(Experiment(number, "", "", 0, runs=scored, status=status, incumbent_bpb=m))
        if decision.verdict == "keep":
            incumbent, keeps = runs, keeps + 1
    return keeps, (1.5 - mean(incumbent)) / 0.01


def _greedy(train, experiments: int) -> tuple[int, float]:
    incumbent, keeps = train(), 0
    for score in (train() for _ in range(experiments)):
        if score < incumbent:
            incumbent, keeps = score, keeps + 1
    return keeps, (1.5 - incumbent) / 0.01
