"""Checks of lesson 4, noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, pstdev, stdev
from typing import Any

from .exercise import Exercise, is_near, number_of, require, result_of
from .recorded_night import first_scores, pairs_run_twice

SCORES = [1.52, 1.50, 1.53, 1.49, 1.51]  # of one code, for the check of the spread
THRESHOLDS = (0.0, 0.5, 1.0, 2.0, 3.0)  # in sigma, as the lesson simulates them
LUCK = {20: -1.867, 50: -2.249, 100: -2.508, 200: -2.746}  # mean of the lowest of so many standard normal numbers
LUCK_OF_TWENTY, LUCK_OF_HUNDRED = LUCK[20], LUCK[100]
LUCK_TOLERANCE = 0.12
MEDIAN_OF_TWENTY = -1.82  # of the lowest of 20; the median of each of LUCK is 0.043 to 0.046 higher than the mean
HALF_WAY_TO_MEDIAN = 0.022
NOISIEST_CALL = 0.03  # sigma from call to call: about 0.01 with 2000 drawings
LOWEST_POSSIBLE = -7.0  # below it is a sum of scores
LOWEST_OF_COLUMNS = -3.0  # below it is the lowest of thousands, and not of 20


def _spread(answer: Any) -> str:
    """A function from scores to their standard deviation."""
    found = number_of(result_of(answer, list(SCORES)), "A spread")
    right = stdev(SCORES)
    require(
        not is_near(found, pstdev(SCORES)),
        f"You divided by the number of scores, {len(SCORES)}. The mean was computed from the same scores, so one of "
        f"their deviations is not free: divide by {len(SCORES) - 1}.",
    )
    require(
        not is_near(found, right**2) and not is_near(found, pstdev(SCORES) ** 2),
        "This is the variance, in squared bits per byte. Take its square root.",
    )
    require(
        not is_near(found, max(SCORES) - min(SCORES)),
        "This is the distance from the lowest to the highest score, which grows with the number of runs. Use "
        "all scores.",
    )
    require(
        not is_near(found, right / math.sqrt(len(SCORES))),
        "This is the standard error of the mean of these scores. The spread of a single score does not shrink when you "
        "make more runs.",
    )
    require(
        not is_near(found, fmean(abs(s - fmean(SCORES)) for s in SCORES)),
        "This is the mean of the absolute deviations. Square the deviations, and take the root at the end.",
    )
    require(
        is_near(found, right), f"For the scores {SCORES} the spread is {right:.4f}; your function gives {found:.4g}."
    )
    constant = number_of(result_of(answer, [1.5, 1.5, 1.5]), "A spread")
    require(abs(constant) < 1e-9, f"Three equal scores have the spread 0, and your function gives {constant:.4g}.")
    return (
        f"The spread of {SCORES} is {right:.4f}. It says how far a single score lies from the mean, typically. The "
        "five scores of your prediction stand above."
    )


def _winner(answer: Any) -> str:
    """A function from a number of runs to the mean of the lowest of so many, in sigma from the truth."""
    first, again = ({count: _luck(answer, count) for count in LUCK} for _ in range(2))
    found = {count: (first[count] + again[count]) / 2 for count in LUCK}
    require(
        max(first[20], again[20]) > LOWEST_POSSIBLE,
        f"Your function gives {found[20]:.4g} for 20, and no score lies so low: is that a sum? Return the mean.",
    )
    require(
        max(first[20], again[20]) > LOWEST_OF_COLUMNS,
        f"Your function gives {found[20]:.2f} for 20: that is the lowest of thousands of scores. A drawing is a row of "
        "the array, and `min(axis=0)` takes the lowest of each column: use `axis=1`.",
    )
    noise = math.sqrt(sum((first[count] - again[count]) ** 2 for count in LUCK) / (2 * len(LUCK)))
    least_sure = max(LUCK, key=lambda count: abs(first[count] - again[count]))
    require(
        noise < NOISIEST_CALL,
        f"Two calls for {least_sure} scores gave {first[least_sure]:.2f} and {again[least_sure]:.2f}: that is the luck "
        "of one drawing, or of a few. Draw 2000 times, and return the mean of the lowest scores.",
    )
    _require_the_lowest(found[20])
    require(
        abs(found[100] - LUCK_OF_HUNDRED) < LUCK_TOLERANCE,
        f"For 100 scores the answer is {LUCK_OF_HUNDRED:.2f}, and your function gives {found[100]:.2f}: does it use "
        "the number that it gets?",
    )
    require(
        fmean(found[count] - mean for count, mean in LUCK.items()) < HALF_WAY_TO_MEDIAN,
        f"This is the median of the lowest scores, {MEDIAN_OF_TWENTY:.2f} for 20. Their mean is lower, because a few "
        "of them are far below the others: take the mean. If you do, draw more often: 2000 times are enough.",
    )
    return "The lowest of 20 is 1.87 sigma too low, the lowest of 100 is 2.51: the more you try, the luckier the best."


def _luck(answer: Any, count: int) -> float:
    return number_of(result_of(answer, count), "The luck of the lowest")


def _require_the_lowest(of_twenty: float) -> None:
    """Raise WrongAnswer unless this may be the mean of the lowest of 20 scores."""
    require(
        abs(of_twenty) > LUCK_TOLERANCE,
        f"Your function gives {of_twenty:.2f}: that is the mean of all scores, which is the truth. Take the lowest of "
        "the 20 in each drawing.",
    )
    require(
        of_twenty < 0,
        f"Your function gives {of_twenty:+.2f}. Lower is better here: take the lowest score, not the highest.",
    )
    require(
        not abs(of_twenty + 1.645) < 0.06,
        "This is the point below which one score in 20 lies. The lowest of 20 is on average still lower.",
    )
    require(
        abs(of_twenty - LUCK_OF_TWENTY) < LUCK_TOLERANCE,
        f"The lowest of 20 is 1.87 sigma below the truth on average; your function gives {of_twenty:.2f}.",
    )


def _greedy(answer: Any) -> str:
    """A function from first scores to the numbers that the greedy rule keeps."""
    scores = [5.0, 4.8, 4.9, 4.85, 4.8, 4.7, 5.1, 4.75]
    found = result_of(answer, list(scores))
    require(
        isinstance(found, Sequence) and not isinstance(found, str),
        f"Return a list of experiment numbers; this is of the type {type(found).__name__}.",
    )
    found = list(found)
    require(found != [4.8, 4.7], "You returned the scores that are kept. Return their numbers, that is their places.")
    require(
        found != [0, 1, 5], "Number 0 is the baseline, which was not proposed. Leave it out."
    )  # fmt: skip
    require(
        found != [1, 2, 3, 4, 5, 7],
        "You compared each score with the baseline. After a change is kept, the next one has to beat that change.",
    )
    require(
        found != [1, 3, 4, 5, 7],
        "You compared each score with the one before it, kept or not. Compare with the lowest so far.",
    )
    require(found != [1, 4, 5], "You kept number 4, which only equals the lowest score. A tie is not better.")
    require(found == [1, 5], f"For the scores {scores} greedy keeps numbers 1 and 5; your function keeps {found}.")
    falling = result_of(answer, [3.0, 2.0, 1.0])
    require(list(falling) == [1, 2], "For the scores [3, 2, 1] greedy keeps both changes, 1 and 2.")
    night = result_of(answer, first_scores())
    return (
        "Greedy keeps a change when its one score is below the lowest score so far. In the recorded night it keeps "
        f"{len(night)} of the 100 changes."
    )


def _regress(answer: Any) -> str:
    """The mean rise from the first to the second score, in the recorded night."""
    found = number_of(answer, "The mean rise")
    pairs = pairs_run_twice()
    right = fmean(second - first for first, second in pairs)
    require(
        not is_near(found, -right, 1e-4),
        "This is first minus second. The question is how much higher the second score is, so subtract the first.",
    )
    require(
        not is_near(found, right / 2, 1e-4),
        "This is the mean of both scores less the first, which is half of the rise. Subtract the first from the "
        "second.",
    )
    require(
        not is_near(found, right * len(pairs), 1e-4),
        f"This is the sum over all {len(pairs)} pairs. Divide by their number.",
    )
    require(
        not is_near(found, fmean(abs(second - first) for first, second in pairs), 1e-4),
        "You took absolute differences. Then luck in both directions counts as a rise; keep the sign.",
    )
    require(
        not is_near(found, fmean(second for _, second in pairs), 1e-4),
        "This is the mean of the second scores alone. Subtract the first score of each pair.",
    )
    require(is_near(found, right, 2e-4), f"The mean rise is {right:.4f} bits per byte, and you gave {found:.4g}.")
    error = stdev(second - first for first, second in pairs) / math.sqrt(len(pairs))
    return (
        f"The second score is higher by {right:.4f} ± {error:.4f} on average, with the same code. Only codes "
        "with a low "
        "first score ran again, and a part of a low score is luck."
    )


_WHY_NOT = {
    0.5: "At 0.5 sigma some real gains are already refused: compare the means and their errors at 0 and at 0.5.",
    1.0: "At 1 sigma greedy keeps fewer changes, and the true gain is lower. The lowest score so far is lucky already, "
    "which is a threshold by itself.",
    2.0: "At 2 sigma most real gains are refused: they are smaller than 2 sigma. Look at the true gain.",
    3.0: "At 3 sigma hardly anything is kept, so hardly anything is false either. But the night gains nearly nothing.",
}


def _threshold(answer: Any) -> str:
    """The threshold, in sigma, with the largest true gain."""
    found = number_of(answer, "A threshold")
    if found not in THRESHOLDS:
        raise_for = ", ".join(f"{at:g}" for at in THRESHOLDS)
        require(False, f"The thresholds in the picture are {raise_for}. You gave {found:g}.")
    require(found == 0.0, _WHY_NOT.get(found, ""))
    return (
        "The largest true gain is at no threshold. The lowest score so far is lucky, so a change has to be better by "
        "more than one sigma anyway; a fixed threshold on top of that refuses most real gains."
    )


def _enough(answer: Any) -> str:
    """A function from a difference and sigma to the runs that each of two codes needs."""
    found = number_of(result_of(answer, 0.5, 1.45), "A number of runs")
    require(
        not is_near(found, 33.64) and found != 34,
        "You used the error of one mean, sigma/√n. A difference of two means has the errors of both: sigma·√(2/n).",
    )
    require(
        not is_near(found, 16.82) and found != 17,
        "With so few runs the error is as large as the difference itself. It has to be at most half of it.",
    )
    require(
        not 8.1 < found < 9.1,
        "You need the square: the error falls with the square root of n, so half of the error takes four times "
        "the runs.",
    )
    require(
        not is_near(found, 67.28) and found != 67,
        "67 runs are not enough: the error would be more than half of the difference. Round up, with math.ceil.",
    )
    require(
        found == 68, f"For a difference of 0.5 and sigma 1.45 each code needs 68 runs; your function gives {found:g}."
    )
    small = number_of(result_of(answer, 2.0, 1.5), "A number of runs")
    require(
        not is_near(small, 4.5),
        "4.5 runs cannot be made. Round up, with math.ceil: 4 runs are not enough.",
    )
    require(small != 4, "4 runs are not enough: the error would be more than half of the difference. Round up.")
    require(small == 5, f"For a difference of 2 and sigma 1.5 each code needs 5 runs; your function gives {small:g}.")
    return (
        "Half of the difference takes four times the runs: with sigma 1.5, 5 runs for a difference of 2, and 18 for 1."
    )


EXERCISES = (
    Exercise("run-spread", "The spread of one code", _spread),
    Exercise("winner", "The luck of the lowest", _winner),
    Exercise("greedy", "The greedy rule", _greedy),
    Exercise("regress", "What a second run says", _regress),
    Exercise("threshold", "A fixed threshold", _threshold),
    Exercise("enough-runs", "When you may stop measuring", _enough),
)
