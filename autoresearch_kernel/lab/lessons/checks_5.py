"""Checks of lesson 5, an agent at work."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean, pstdev, stdev
from typing import Any

from ...agents.edits import EditError, apply_edits
from ...agents.program_sections import due_sections, lasting_sections
from ...agents.reply import read_submission
from ...core.sanitize import one_line
from ...core.student import quantile
from ...source.parameters import read_parameters
from .agent_prompt import example_context, with_discards
from .data import recorded
from .exercise import Exercise, choice_of, is_near, number_of, require, result_of
from .small_study import small_train

CONFIDENCE = 0.95
A, B = [-0.01, -0.03, 0.02, 0.0, -0.02], [-0.05, 0.03, -0.04, -0.02]  # for the check of the interval


def _what_counts(answer: Any) -> str:
    """The standard error of one run against the incumbent, as the prompt states it."""
    found = number_of(answer, "A size of a difference")
    context = example_context()
    sigma, runs = context.sigma or 0.0, len(context.incumbent.scores)
    right = sigma * math.sqrt(1 + 1 / runs)
    require(
        not is_near(found, sigma, 1e-5),
        "This is sigma, the noise of one run. The incumbent's score has an error of its own: the prompt states both "
        "together, one line further on.",
    )
    require(
        not is_near(found, sigma / math.sqrt(runs), 1e-5),
        "This is the error of the incumbent's mean alone. The new run brings its own noise.",
    )
    require(
        not is_near(found, context.incumbent.val_bpb or 0.0, 1e-3),
        "This is the incumbent's score. The question is how large a difference to it must be.",
    )
    require(
        not is_near(found, 2 * right, 1e-5),
        "You doubled the standard error. The prompt states the error itself: below it, a difference says nothing.",
    )
    require(
        is_near(found, right, 6e-6),
        f"The section says {right:.5f}, and you gave {found:g}. Read the lines below the heading `What counts`.",
    )
    return (
        f"One run against the incumbent's {runs}: a difference below {right:.5f} says nothing, in either direction. "
        "This is larger than sigma."
    )


def _reply(answer: Any) -> str:
    """A model's reply that halves BATCH_ROWS."""
    require(isinstance(answer, str), f"A reply is text, and this is of the type {type(answer).__name__}.")
    source = small_train()
    try:
        submission = read_submission(answer)
        changed = apply_edits(source, submission)
    except EditError as error:
        require(False, _reply_words(str(error)))
        raise
    values = {name: parameter.value for name, parameter in read_parameters(changed).items()}
    require(
        values.get("BATCH_ROWS") == 8,
        f"The edit applies, but BATCH_ROWS is now {values.get('BATCH_ROWS')}, and it should become 8.",
    )
    others = [name for name, p in read_parameters(source).items() if name != "BATCH_ROWS" and values[name] != p.value]
    require(not others, f"The edit also changes {', '.join(others)}. One idea an experiment: change BATCH_ROWS alone.")
    return (
        "The edit applies: train.py now has BATCH_ROWS = 8. Two things were wrong: the reply stated no hypothesis, and "
        "it quoted a part of a line."
    )


def _reply_words(error: str) -> str:
    """What is wrong with a reply, for a learner; the first line is what the model would be told."""
    told = f'The model would be told: "{one_line(error.splitlines()[0], 160)}".'
    if "states no hypothesis" in error:
        return f"The reply has no line that begins with HYPOTHESIS. {told}"
    if "matches nothing" in error:
        return f"The SEARCH lines are not in train.py: copy the whole line, with its comment. {told}"
    if "places of train.py" in error:
        return f"The SEARCH lines stand in train.py more than once, so it is not clear which place is meant. {told}"
    if "leaves code out" in error:
        return f"A line such as `# ...` stands for code that would be gone. {told}"
    if "leaves train.py as it is" in error or "by themselves" in error:
        return f"The reply changes nothing: both halves of the block are equal. {told}"
    return f"The reply holds no edit that can be used. {told}"


MARK = "Delete something"  # the first words of the section that the learner writes


def _program(answer: Any) -> str:
    """A program.md with a section that is due after three discards in a row."""
    require(isinstance(answer, str), f"program.md is text, and this is of the type {type(answer).__name__}.")
    require(MARK in answer, f"The words `{MARK}` are not in your program.md. Keep the sentence of the task.")
    shown = {n: _shows(answer, n) for n in (0, 2, 3, 10)}
    require(
        not any(MARK in section for section in lasting_sections(answer)),
        "The section is in every prompt, because its heading names no number of discards. Write `## After 3 "
        "discards in "
        "a row: ...`, with two number signs.",
    )
    require(any(shown.values()), _never(answer))
    require(
        shown[3],
        "After three discards the section is not in the prompt yet; it comes later. Change the number in its "
        "heading to 3.",
    )
    require(not shown[2], "The section already comes after two discards. Change the number in its heading to 3.")
    return (
        "After two discards the prompt does not have the section, and after three it does, near its end, with the "
        "reason."
    )


def _shows(program: str, discards: int) -> bool:
    context = replace(with_discards(example_context(), discards), program=program)
    return any(MARK in section for section in due_sections(context))


def _never(program: str) -> str:
    if "<!--" in program and MARK in program.partition("<!--")[2].partition("-->")[0]:
        return "The sentence stands in a comment, and the agent never reads comments. Write it outside of `<!-- -->`."
    return (
        "The section is in no prompt, neither after three discards nor after ten. Its heading must name the number "
        "of discards, as in `## After 3 discards in a row`."
    )


def interval_of(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
    """Student's interval, at 95 %, for the mean of `b` less the mean of `a`."""
    degrees = len(a) + len(b) - 2
    pooled = math.sqrt(((len(a) - 1) * stdev(a) ** 2 + (len(b) - 1) * stdev(b) ** 2) / degrees)
    error = pooled * math.sqrt(1 / len(a) + 1 / len(b))
    half = quantile((1 - CONFIDENCE) / 2, degrees) * error
    centre = fmean(b) - fmean(a)
    return centre - half, centre + half


def _interval(answer: Any) -> str:
    """A function from two lists to the two ends of the interval."""
    found = result_of(answer, list(A), list(B))
    require(
        isinstance(found, Sequence) and not isinstance(found, str) and len(found) == 2,
        "Return the two ends of the interval, as in `return low, high`.",
    )
    low, high = (number_of(end, "An end of the interval") for end in found)
    right = interval_of(A, B)
    centre, half = (low + high) / 2, (high - low) / 2
    want_centre, want_half = fmean(B) - fmean(A), (right[1] - right[0]) / 2
    require(half > 0, "The first number must be the lower end.")
    require(
        not is_near(centre, -want_centre) or is_near(want_centre, 0.0),
        "The interval is that of a minus b. Subtract the mean of a from the mean of b.",
    )
    require(is_near(centre, want_centre), f"The middle must be the difference of the means, {want_centre:.4f}.")
    degrees, count = len(A) + len(B) - 2, 1 / len(A) + 1 / len(B)
    error = want_half / quantile(0.025, degrees)
    require(
        not is_near(half, 1.96 * error, 1e-4),
        "You used 1.96, which is right for a spread that is known. Here it is an estimate from nine numbers, so "
        "Student's "
        f"t is needed: quantile(0.025, {degrees}).",
    )
    require(
        not is_near(half, quantile(0.05, degrees) * error, 1e-4),
        "quantile(0.05, ...) leaves 5 % on each side. For 95 % in the middle, 2.5 % is left on each side.",
    )
    require(
        not is_near(half, want_half / math.sqrt(count), 1e-4),
        "You used the spread of a single number. The error of the difference of two means is the spread times "
        "sqrt(1/len(a) + 1/len(b)).",
    )
    wrong_degrees = [quantile(0.025, n) * error for n in (len(A) + len(B), len(A) + len(B) - 1)]
    require(
        not any(is_near(half, wrong, 1e-4) for wrong in wrong_degrees),
        f"Two means were computed, so two numbers are not free: {degrees} degrees of freedom.",
    )
    spread = math.sqrt((len(A) * pstdev(A) ** 2 + len(B) * pstdev(B) ** 2) / (len(A) + len(B)))
    require(
        not is_near(half, quantile(0.025, degrees) * spread * math.sqrt(count), 1e-4),
        "The pooled spread is too small: divide the sum of the squares by len(a) + len(b) - 2.",
    )
    require(is_near(half, want_half, 1e-4), f"For the lists of the check half of the interval is {want_half:.4f}, and "
            f"yours is {half:.4f}.")  # fmt: skip
    ends = interval_of(*gains().values())
    return (
        f"The interval of the two lists of the check is {right[0]:.4f} to {right[1]:.4f}. That of the two programs is "
        f"{ends[0]:.4f} to {ends[1]:.4f}, and 0 is inside."
    )


def gains() -> dict[str, list[float]]:
    """What each recorded proposal gained, by the name of its program.md: its score less the mean of the baseline."""
    found = recorded("5-scores")
    baseline = fmean(found["baseline"])
    return {name: [score - baseline for score in scores] for name, scores in found["scores"].items()}


_SAID = {
    "a": "The interval also holds differences of the other sign, so the data do not say that one program is better.",
    "b": "That the interval holds 0 does not show that the programs are equal: it holds large differences as well.",
    "d": "95 % is no probability of being better. It says how often such intervals hold the true difference, in the "
    "long run.",
    "e": "The best of eight is the luckiest, as in lesson 4. It says little about the mean of the programs.",
}


def _say(answer: Any) -> str:
    """The letter of the sentence that the data allow."""
    letter = choice_of(answer, "abcde")
    require(letter == "c", _SAID.get(letter, ""))
    low, high = interval_of(*gains().values())
    return f"You cannot tell: the difference lies between {low:.4f} and {high:.4f} bits per byte, with 0 between them."


EXERCISES = (
    Exercise("what-counts", "What counts as a difference", _what_counts),
    Exercise("reply", "A reply that applies", _reply),
    Exercise("program", "A section that comes when it is needed", _program),
    Exercise("interval", "An interval by hand", _interval),
    Exercise("say", "What you may say", _say),
)
