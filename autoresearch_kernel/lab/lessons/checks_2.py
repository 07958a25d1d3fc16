"""Checks of lesson 2, one experiment cell by cell."""

from __future__ import annotations

import math
import statistics
from typing import Any

from ...core.decide import decide
from ...source.compare import literal_changes
from ...source.parameters import read_parameters
from ..idea import Idea
from .exercise import Exercise, expect, is_fixed, is_near, number_of, require, result_of

SCORES = (1.52, 1.48, 1.53)
VOCAB_SIZE = 2048
CURVES = {"low": "B", "fine": "C", "high": "A"}  # as data/2-curves.json has them
SIGMA, INCUMBENT = 0.01, (1.50, 1.51, 1.49)
CHALLENGERS = ((1.52,), (1.48,), (1.42,), (1.48, 1.495))
SHORTEST_REASON = 4  # words


def _spread(answer: Any) -> str:
    """A function from scores to their standard deviation."""
    given = number_of(result_of(answer, list(SCORES)), "A standard deviation")
    right = statistics.stdev(SCORES)
    require(
        not is_near(given, statistics.pstdev(SCORES)),
        "This divides by n. The mean is taken from the same scores and lies too close to them: divide by n - 1.",
    )
    require(
        not is_near(given, statistics.variance(SCORES)) and not is_near(given, statistics.pvariance(SCORES)),
        "This is the variance, in squared bits. Take its square root.",
    )
    require(
        not is_near(given, max(SCORES) - min(SCORES)),
        "This is the range. It grows with the number of runs, while the noise of one run stays the same.",
    )
    mean = statistics.fmean(SCORES)
    require(
        not is_near(given, statistics.fmean(abs(score - mean) for score in SCORES)),
        "This is the mean distance. The rule of this project uses squares: square, add, divide, and take the root.",
    )
    require(
        not is_near(given, right / math.sqrt(3)),
        "This is the error of the mean of three runs. The question is for the deviation of a single run.",
    )
    expect(given, right, "the scores are 1.52, 1.48 and 1.53")
    return (
        f"σ of 1.52, 1.48 and 1.53 is {right:.4f}. It says how far a single run typically lies from the mean, by "
        "chance alone. The three scores of your baseline stand above: compare your prediction with them."
    )


def _first_loss(answer: Any) -> str:
    """The loss before the first step, in nats per token."""
    given = number_of(result_of(answer, VOCAB_SIZE), "The first loss")
    right = math.log(VOCAB_SIZE)
    require(
        not is_near(given, math.log2(VOCAB_SIZE)), "This is in bits. A training prints its loss in nats: use math.log."
    )
    require(not is_near(given, 8.0), "8 bits per byte is a guess among 256 bytes. This model guesses among its tokens.")
    require(not is_near(given, math.log10(VOCAB_SIZE)), "This is in powers of ten. Nats need math.log.")
    require(given > 0, "A loss of a guess is positive: it is the negative logarithm of a probability below 1.")
    require(
        not is_near(given, 1 / VOCAB_SIZE), "This is the probability of each token. The loss is its negative logarithm."
    )
    require(not is_near(given, float(VOCAB_SIZE)), "This is the number of tokens. The surprise is the logarithm of it.")
    expect(given, right, "the vocabulary has 2048 tokens")
    return f"A guess among {VOCAB_SIZE} tokens costs {right:.3f} nats. A curve that starts far from it shows a mistake."


def _curves(answer: Any) -> str:
    """Which of three curves has which learning rate."""
    require(
        isinstance(answer, dict), f"Give a dict with the keys low, fine and high; this is a {type(answer).__name__}."
    )
    require(
        set(answer) == set(CURVES), f"The keys are low, fine and high, and yours are {', '.join(map(str, answer))}."
    )
    letters = {key: str(value).strip().upper() for key, value in answer.items()}
    require(
        sorted(letters.values()) == ["A", "B", "C"], "Use each of the letters A, B and C for one of the three curves."
    )
    require(
        letters["high"] == CURVES["high"],
        f"Curve {letters['high']} goes down steadily. With steps that are too large the loss goes up and down: look "
        "for the curve that stays high.",
    )
    require(
        letters["low"] == CURVES["low"],
        f"Curve {letters['low']} is the lowest at the end. With steps that are too small a curve falls slowly, and is "
        "not as low when the time is over.",
    )
    return "With steps that are too small the loss falls slowly, and with steps that are too large it stays high."


def _epochs(answer: Any) -> str:
    """How often a training reads its corpus."""
    given = number_of(result_of(answer, 20_000.0, 15.0, 2_000_000), "The number of epochs")
    right = 20_000 * 15 / 2_000_000
    require(not is_near(given, 300_000.0), "This is the number of tokens. Divide by the tokens of the corpus.")
    require(
        not is_near(given, 1 / right), "This is upside down: it says how many such trainings the corpus would fill."
    )
    require(not is_near(given, 20_000 / 2_000_000), "The seconds are missing: this is the share that one second reads.")
    require(
        not is_near(given, 20_000 / 15 / 2_000_000),
        "You divide by the seconds. More time reads more tokens: multiply.",
    )
    require(not is_near(given, 100 * right), "This is in percent. Give the share itself, without the factor 100.")
    expect(given, right, "20,000 tokens a second are read for 15 seconds, of a corpus of 2,000,000")
    return (
        "Here 0.15: most of the text is never read. So a model cannot learn its text by heart, and a faster step is "
        "worth as much as one that learns more."
    )


def _idea(answer: Any) -> str:
    """An idea with one changed parameter, a reason and an expectation."""
    require(
        isinstance(answer, Idea),
        f"Give what `study.propose(...)` returns; this is a {type(answer).__name__}.",
    )
    assert isinstance(answer, Idea)
    changed = list(literal_changes(answer.parent_source, answer.train_source))
    require(
        bool(answer.diff.strip()), "Nothing changes in train.py: the new value is the old one. Choose another value."
    )
    require(bool(changed), "This changes the code. For this exercise change one number of the parameters cell.")
    require(
        len(changed) == 1,
        f"This changes {' and '.join(changed)}. With two changes you cannot say which of them helped: change one.",
    )
    require(not read_parameters(answer.parent_source)[changed[0]].fixed, is_fixed(changed[0]))
    require(
        len(answer.hypothesis.split()) >= SHORTEST_REASON and "..." not in answer.hypothesis,
        "Write why it may help, in one sentence. Without a reason the result teaches nothing but itself.",
    )
    require(
        any(character.isdigit() for character in answer.expected),
        "Write down what you expect as a number, as in expected='-0.02 bits per byte'. After the run it is too late.",
    )
    return f"One change, {changed[0]}, with a reason and an expectation that the run can refute."


def _difference_error(answer: Any) -> str:
    """The standard error of the difference of two means."""
    given = number_of(result_of(answer, 0.02, 1, 4), "A standard error")
    right = 0.02 * math.sqrt(1 + 1 / 4)
    require(
        not is_near(given, 0.02 * (1 + 1 / 4)),
        "The squares of errors add up, not the errors: add 1/n and 1/m, and take the root of the sum.",
    )
    require(
        not is_near(given, 0.02 / math.sqrt(5)),
        "This is the error of the mean of all five runs. Two means are compared, and each has its own error.",
    )
    require(
        not is_near(given, 0.02 * math.sqrt(1 - 1 / 4)),
        "Errors of two independent runs never cancel, even in a difference: add the squares.",
    )
    require(
        not is_near(given, 0.02 / math.sqrt(4)), "This is the error of the second mean alone. The first has one, too."
    )
    require(
        not is_near(given, 0.02 * math.sqrt(2)), "This is right for one run against one run. Here the second has four."
    )
    require(
        not is_near(given, 0.02),
        "This is the error of the first score alone. The mean it is compared with has one, too.",
    )
    expect(given, right, "σ is 0.02, and one run is compared with the mean of four")
    of_two = number_of(result_of(answer, 0.02, 2, 4), "A standard error")
    require(
        not is_near(of_two, right),
        "This is right for one run of the idea only. Two runs and four give the same result in your function as one "
        "and four: the first mean has n runs, and so its squared error is σ²/n.",
    )
    expect(of_two, 0.02 * math.sqrt(1 / 2 + 1 / 4), "σ is 0.02, and the mean of two runs is compared with that of four")
    return (
        f"One run against the mean of four has an error of {right:.4f}, hardly more than σ itself: most of it comes "
        "from the single run."
    )


def _verdicts(answer: Any) -> str:
    """What the rule says of four challengers."""
    right = [decide(scores, INCUMBENT, SIGMA).verdict for scores in CHALLENGERS]
    require(isinstance(answer, list | tuple), f"Give a list of four words; this is a {type(answer).__name__}.")
    words = [str(word).strip().lower() for word in answer]
    require(len(words) == len(right), f"There are four challengers, and your list has {len(words)} words.")
    unknown = [word for word in words if word not in ("keep", "discard", "confirm")]
    require(not unknown, f"The rule has three verdicts, keep, discard and confirm, and not {', '.join(unknown)}.")
    reasons = (
        "1.52 is above the incumbent's mean of 1.50. A run that is not better needs no second chance.",
        "1.48 is better than 1.50 by 2 σ. Among many ideas chance does that often, so the rule wants one more run.",
        "1.42 is better by 8 σ. Chance does not reach that far, so a second run would be a waste of the budget.",
        "The mean of 1.48 and 1.495 is 1.4875, better by 1.25 σ after a confirmation: that is enough to keep it.",
    )
    for place, (word, verdict) in enumerate(zip(words, right, strict=True)):
        require(word == verdict, f"Challenger {place + 1}: not {word}. {reasons[place]}")
    return (
        "Two of the four are kept. Clearly better is kept at once, perhaps better runs once more, and not better is "
        "discarded."
    )


def _events(answer: Any) -> str:
    """The names of the events of one experiment, in their order."""
    require(
        isinstance(answer, list | tuple),
        f"Give a list of names in the order of the history; a {type(answer).__name__} has no such order.",
    )
    names = [name.get("event") if isinstance(name, dict) else name for name in answer]
    require(
        all(isinstance(name, str) for name in answer),
        "Your list has whole events. Take the name of each: event['event'].",
    )
    names = [name for name in names if name not in ("drawn", "refused")]  # views, and a proposal that was replaced
    require(bool(names), "No event is of experiment 1. Compare the number 1, not the text '1'.")
    require(
        "study_started" not in names and "opened" not in names,
        "There are events of the study itself in your list. Take those whose 'experiment' is 1.",
    )
    require(names.count("proposed") == 1, "An experiment is proposed once. Take the events of experiment 1 alone.")
    require(
        names[0] == "proposed",
        f"The first event is the proposal, and your list begins with {names[0]!r}: keep the order.",
    )
    missing = [name for name in ("started", "trained") if name not in names]
    require(
        not missing,
        f"{', '.join(missing)} is missing: take all events of the experiment, and not only its first and its last.",
    )
    require(
        names[-1] == "decided",
        f"The last event of an experiment is its decision, and your list ends with {names[-1]!r}.",
    )
    return "Proposed, started, trained, scored, decided: these lines are the record of every experiment."


EXERCISES = (
    Exercise("spread", "How far apart equal runs lie", _spread),
    Exercise("first-loss", "Where a curve begins", _first_loss),
    Exercise("curves", "Three learning rates", _curves),
    Exercise("epochs", "How much text a run reads", _epochs),
    Exercise("idea", "An idea that can be refuted", _idea),
    Exercise("difference-error", "The error of a difference", _difference_error),
    Exercise("verdicts", "Four verdicts", _verdicts),
    Exercise("events", "What is written down", _events),
)
