"""Checks of lesson 3, be the agent."""

from __future__ import annotations

import math
from typing import Any

from ...source.cell import SourceError
from ...source.parameters import read_parameters, set_parameters
from .contest import shown_source
from .exercise import Exercise, expect, is_fixed, is_near, number_of, require, result_of
from .me import Guess

NUM_GUESSES = 5
WIDEST = 0.5  # bits per byte: an interval that is always right
SHORTEST_REASON = 4  # words
INTERVALS = ((-0.03, 0.01), (-0.02, 0.00), (-0.05, -0.01), (0.00, 0.02))
RESULTS = (-0.01, 0.00, 0.03, None)
EXPECTED = (-0.020, -0.010, -0.030, -0.010)
CAME = (-0.010, 0.010, -0.020, 0.070)


def _guesses(answer: Any) -> str:
    """Five ideas with what their learner expects of them."""
    require(isinstance(answer, list | tuple), f"Give a list of five Guess(...); this is a {type(answer).__name__}.")
    require(len(answer) == NUM_GUESSES, f"You can try five ideas, and your list has {len(answer)} guesses.")
    source = shown_source()
    for number, guess in enumerate(answer, 1):
        require(isinstance(guess, Guess), f"Guess {number} is a {type(guess).__name__}. Write Guess(...).")
        _one_guess(number, guess, source)
    changes = [tuple(sorted(guess.changes.items())) for guess in answer]
    repeated = next((number for number, change in enumerate(changes, 1) if change in changes[: number - 1]), None)
    require(
        repeated is None,
        f"Guess {repeated} makes the same change as an earlier guess. The second run would teach little.",
    )
    require(
        len({guess.high - guess.low for guess in answer}) > 1,
        "All five intervals have the same width. Are you equally sure of every idea? Make one wider or narrower.",
    )
    return "Five ideas, each with a reason, an expectation, and an interval that may turn out wrong."


def _one_guess(number: int, guess: Guess, source: str) -> None:
    require(
        len(guess.hypothesis.split()) >= SHORTEST_REASON,
        f"Guess {number} has no reason. Say in one sentence why the change may help.",
    )
    require(bool(guess.changes), f"Guess {number} changes nothing.")
    known = read_parameters(source)
    unknown = [name for name in guess.changes if name not in known]
    require(not unknown, f"Guess {number}: train.py has no parameter {', '.join(unknown)}.")
    try:
        set_parameters(source, dict(guess.changes))
    except SourceError as error:
        require(False, f"Guess {number}: {error}")
    names = list(guess.changes)
    require(
        len(names) == 1,
        f"Guess {number} changes {' and '.join(names)}. With two changes you cannot say which of them helped: change "
        "one.",
    )
    require(not known[names[0]].fixed, f"Guess {number}: {is_fixed(names[0])}")
    require(
        guess.changes[names[0]] != known[names[0]].value,
        f"Guess {number} changes nothing: {names[0]} is {known[names[0]].value!r} already. Choose another value.",
    )
    require(
        guess.low < guess.high,
        f"Guess {number}: low is {guess.low:g}, high is {guess.high:g}. The lower end comes first: −0.03, then −0.01.",
    )
    require(
        guess.low <= guess.expected <= guess.high,
        f"Guess {number}: you expect {guess.expected:g}, which is outside of your own interval.",
    )
    require(
        guess.high - guess.low <= WIDEST,
        f"Guess {number}: an interval of {guess.high - guess.low:g} bits holds nearly every result, and says nothing.",
    )


def _hits(answer: Any) -> str:
    """The share of intervals that hold their result."""
    given = number_of(result_of(answer, list(INTERVALS), list(RESULTS)), "The share")
    require(not is_near(given, 2.0), "This is the number of hits. The share divides by the number of guesses.")
    require(
        not is_near(given, 2 / 3, 1e-3),
        "You left out the run without a score. Its guess expected a result and did not get one: it is a miss.",
    )
    require(
        not is_near(given, 1 / 4),
        "A result at the very end of its interval is still within it: use <= on both sides.",
    )
    require(
        not is_near(given, 3 / 4), "A run without a score counts as a hit in your function. None is no result at all."
    )
    require(not is_near(given, 50.0), "This is in percent. Give the share, from 0 to 1.")
    expect(given, 0.5, "the results are −0.01 (within), 0.00 (at the end), 0.03 (outside) and None")
    return (
        "Two of four are within. For intervals that shall hold in four cases of five, the share should be near 0.8. "
        "Most people's intervals are too narrow."
    )


def _bias(answer: Any) -> str:
    """The mean of result minus expectation."""
    given = number_of(result_of(answer, list(EXPECTED), list(CAME)), "The bias")
    differences = [came - hoped for hoped, came in zip(EXPECTED, CAME, strict=True)]
    right = sum(differences) / len(differences)
    require(
        not is_near(given, -right),
        "The sign is turned around. Take what came minus what was expected: a positive bias then means too much hope.",
    )
    require(not is_near(given, sum(differences)), "This is the sum. The bias is the mean.")
    require(
        not is_near(given, sum(CAME) / len(CAME)),
        "This is the mean of the results. Subtract what was expected of each.",
    )
    require(
        not is_near(given, sum(EXPECTED) / len(EXPECTED)),
        "This is the mean of the expectations. Compare with what came.",
    )
    require(
        not is_near(given, sorted(differences)[1])
        and not is_near(given, (sorted(differences)[1] + sorted(differences)[2]) / 2),
        "This is the median. It hides the one idea that failed badly, and the mean counts that one as well.",
    )
    expect(given, right, "−0.02, −0.01, −0.03 and −0.01 were expected, and −0.01, 0.01, −0.02 and 0.07 came")
    return f"The results were {right:.3f} bits per byte worse than expected on average: most people hope too much."


def _interval_score(answer: Any) -> str:
    """The score of one interval: its width, and a penalty for a miss."""

    def given(result: float) -> float:
        return number_of(result_of(answer, -0.02, 0.0, result), "The price")

    require(
        not is_near(given(-0.01), 0.0),
        "An interval that holds the result costs its width. Without that, the widest one wins.",
    )
    require(
        is_near(given(-0.01), 0.02), f"The interval from −0.02 to 0 holds −0.01, so its price is its width, 0.02. "
        f"Yours is {given(-0.01):.4g}."
    )  # fmt: skip
    above, below = given(0.01), given(-0.03)
    require(
        not is_near(above, 0.02), "A miss costs nothing in your function, so the narrowest interval would always win."
    )
    require(not is_near(above, 0.03), "The distance counts once in your function. It counts ten times.")
    require(
        not is_near(above, 0.10), "You leave out the width when the interval missed. It counts in every case: add both."
    )
    require(is_near(above, below), "A miss on one side costs more than on the other. 0.01 outside is 0.01 outside.")
    expect(above, 0.12, "the interval from −0.02 to 0 misses 0.01 by 0.01")
    return (
        "The interval from −0.02 to 0 misses 0.01 by 0.01, so it costs 0.02 for its width and 0.10 for the miss: 0.12. "
        "An interval that is too wide pays for its width."
    )


def _chance(answer: Any) -> str:
    """The probability of at most so many hits."""
    given = number_of(result_of(answer, 2, 6, 0.8), "The chance")
    right = _at_most(2, 6, 0.8)
    exactly = right - _at_most(1, 6, 0.8)
    require(not is_near(given, exactly), "This is the chance of exactly two hits. Add those of one and of none.")
    require(not is_near(given, 1 - right), "This is the chance of more than two hits. Take one minus it.")
    require(not is_near(given, _at_most(1, 6, 0.8)), "Two hits themselves are missing: range(hits) ends before `hits`.")
    require(
        not is_near(given, _at_most(2, 6, 0.2)),
        "Hits and misses are exchanged: p is the chance of a hit, and 1 - p that of a miss.",
    )
    require(
        not is_near(given, sum(0.8**k * 0.2 ** (6 - k) for k in range(3))),
        "The orders are missing: two hits of six can come in math.comb(6, 2) = 15 orders.",
    )
    expect(given, right, "at most two of six intervals hold, and each holds with 0.8")
    return (
        f"At most two hits of five have the probability {_at_most(2, 5, 0.8):.3f}: so few hits are a hint that the "
        "intervals are too narrow, but no proof."
    )


def _at_most(hits: int, n: int, p: float) -> float:
    return sum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(hits + 1))


def _runs_needed(answer: Any) -> str:
    """Runs of each side, until an effect is two standard errors."""
    given = number_of(result_of(answer, 0.005, 0.01), "The number of runs")
    require(
        not is_near(given, 16.0),
        "This is right for one mean. A difference has two, and each brings its own error: σ²/n comes twice.",
    )
    require(not is_near(given, 8.0), "The effect shall be two errors, not one: the error has to be half of the effect.")
    require(
        not is_near(given, 4.0),
        "Two things are missing: a difference has two errors, and the effect shall be two of them.",
    )
    require(
        not is_near(given, math.sqrt(32.0)), "This is the root of the answer. The error falls with the root of n only."
    )
    require(
        not is_near(given, 2.0), "Errors fall with the root of the runs: half the effect needs four times the runs."
    )
    expect(given, 32.0, "the effect is 0.005, and σ is 0.01")
    of_one_sigma = number_of(result_of(answer, 0.01, 0.01), "The number of runs")
    require(
        not is_near(of_one_sigma, 16.0),
        "Twice the effect takes half the runs in your function. The error falls with the root of the runs, so it takes "
        "a quarter of them: σ and the effect are squared.",
    )
    expect(of_one_sigma, 8.0, "the effect is 0.01, and σ is 0.01")
    return "32 runs of each, to see an effect of half a σ. With five runs of each, an effect must be larger than 1.3 σ."


def _who_won(answer: Any) -> str:
    """What a difference with its error allows to say."""

    def given(difference: float) -> str:
        words = result_of(answer, difference, 0.01)
        require(isinstance(words, str), f"Return one of three texts; this is a {type(words).__name__}.")
        return str(words).strip().lower()

    known = {"me", "optimiser", "cannot say"}
    answers = {difference: given(difference) for difference in (-0.03, 0.03, -0.015, 0.015, 0.0)}
    unknown = set(answers.values()) - known
    require(not unknown, f'Return "me", "optimiser" or "cannot say", and not {", ".join(map(repr, sorted(unknown)))}.')
    require(
        answers[-0.03] != "optimiser",
        "The sign is turned around: lower is better, so a negative difference is a win for you.",
    )
    require(
        answers[0.0] == "cannot say", "A difference of 0 is nothing to win by. With its error, it allows neither name."
    )
    require(
        answers[-0.015] == "cannot say",
        "−0.015 ± 0.010 is one and a half errors from 0. Chance brings that often: two errors are asked for.",
    )
    require(
        answers[0.015] == "cannot say",
        "You ask two errors of yourself and none of the optimiser: 0.015 is as near to 0 as −0.015. Use abs().",
    )
    require(answers[-0.03] == "me", "−0.03 ± 0.01 is three errors below 0. That much may be said.")
    require(answers[0.03] == "optimiser", "0.03 ± 0.01 is three errors above 0: the optimiser won.")
    require(
        str(result_of(answer, -0.03, 0.02)).strip().lower() == "cannot say"
        and str(result_of(answer, 0.015, 0.005)).strip().lower() == "optimiser",
        "Your function compares with a fixed number. −0.03 ± 0.02 is within two errors, and 0.015 ± 0.005 is beyond "
        "them: use the argument `error`.",
    )
    return "Beyond two errors you may name a winner. Within them, the honest answer is that you cannot say."


EXERCISES = (
    Exercise("guesses", "Five ideas and what you expect", _guesses),
    Exercise("hits", "How often you were right", _hits),
    Exercise("bias", "Hope and result", _bias),
    Exercise("interval-score", "The price of an interval", _interval_score),
    Exercise("chance", "Is it chance?", _chance),
    Exercise("runs-needed", "How many runs an effect needs", _runs_needed),
    Exercise("who-won", "You and the optimiser", _who_won),
)
