"""Checks of lesson 6, how agents cheat."""

from __future__ import annotations

import math
from typing import Any

from ...core.overtime import BUDGET_SHARE, LEAST_SLACK_SECONDS, SLACK_SHARE
from ...core.sanitize import one_line
from ...scoring.audit import MISMATCHES_ALLOWED
from .attempt import REPEAT, Attempt
from .broken_trains import RULE_BREAKER, class_lines
from .cheating import asks_for_no_time, prints_a_score, signs_of_cheating
from .exercise import Exercise, choice_of, is_near, number_of, require, result_of

LEAST_LEAK_BPB = 0.3  # by which a leak that is worth its name claims less than the baseline
LONGEST_REASON = 240  # characters of the supervisor's words
HIDDEN_SECONDS = 0.4  # outside of the budget, more than the baseline: training that the clock did not see


def _attempt_in(answer: Any) -> Attempt:
    require(
        isinstance(answer, Attempt),
        f"Give what try_out returned. This is of the type {type(answer).__name__}: run the cell with try_out "
        "first, and "
        "give its result.",
    )
    attempt: Attempt = answer
    require(attempt.status != REPEAT, f"There is no change that Python can see: {_ended(attempt.reason)}")
    require(attempt.status != "invalid", f"This train.py is no notebook that can be run: {_ended(attempt.reason)}")
    require(attempt.status != "crash", f"The training crashed, so there is nothing to score: {_ended(attempt.reason)}")
    return attempt


def _ended(reason: str) -> str:
    """A reason as one sentence with its full stop."""
    return f"{one_line(reason, LONGEST_REASON).rstrip('. ')}."


def _next_token(answer: Any) -> str:
    """An attempt of a train.py whose model sees the token that follows."""
    attempt = _attempt_in(answer)
    require(
        attempt.status != "timeout",
        f"The supervisor ended this one for its time ({attempt.reason}). The exercise is about the model, not "
        "the clock.",
    )
    claimed = attempt.claimed_bpb
    require(claimed is not None, "The model was not scored, so there is no claim.")
    gain = attempt.baseline_bpb - (claimed or 0.0)
    require(
        gain > -LEAST_LEAK_BPB,
        f"The model claims {claimed:.3f}, far worse than the baseline's {attempt.baseline_bpb:.3f}. Add something to "
        "the logit of the token that follows, and do not subtract it.",
    )
    require(
        attempt.num_mismatches > 0,
        "The audit found no difference, or did not even ask, so the model does not use what follows. "
        "idx.roll(1, dims=1) looks at the token before; the token after is idx.roll(-1, dims=1).",
    )
    require(
        attempt.status == "rejected",
        f"The audit found {attempt.num_mismatches} differences and accepted the score all the same: the leak is "
        "too small "
        "to matter.",
    )
    require(
        gain > LEAST_LEAK_BPB,
        f"The model looks ahead, but claims only {gain:.3f} bits per byte less than the baseline. Add more to "
        "the logit "
        "of the token that follows, as in 4.0.",
    )
    return (
        f"It claims {claimed:.3f} against the baseline's {attempt.baseline_bpb:.3f}, and at "
        f"{attempt.num_mismatches} of "
        f"{attempt.num_cuts} secret places it said something else once it could not see what follows. The score "
        "is refused."
    )


def _slack(answer: Any) -> str:
    """A function from the baseline's overtime and the budget to the seconds that are allowed."""
    found = number_of(result_of(answer, 4.0, 20.0), "An allowance")
    at_twelve = number_of(result_of(answer, 12.0, 300.0), "An allowance")
    right, right_at_twelve = _allowed(4.0, 20.0), _allowed(12.0, 300.0)
    require(
        not is_near(found, right - 4.0),
        "The overtime of the baseline is missing: a run may have as much of it as the baseline, and the slack besides.",
    )
    require(
        not is_near(found, right - BUDGET_SHARE * 20.0),
        "The 2 % of the budget are missing: the last step may begin just before the budget ends.",
    )
    require(
        not is_near(found, 4.0 + SLACK_SHARE * 4.0 + BUDGET_SHARE * 20.0),
        "For an overtime of 4 s you allowed a quarter, 1 s. It is 2 s or a quarter, whichever is *more*: use max.",
    )
    require(
        not is_near(found, 4.0 + LEAST_SLACK_SECONDS + SLACK_SHARE * 4.0 + BUDGET_SHARE * 20.0),
        "You added both, 2 s and the quarter. Only the larger one of the two is allowed.",
    )
    require(
        not is_near(found, 4.0 + LEAST_SLACK_SECONDS + 0.2 * 20.0),
        "You used 20 % of the budget. 2 % are 0.02 times the budget.",
    )
    require(is_near(found, right), f"For an overtime of 4 s and a budget of 20 s, {right:.1f} s are allowed; "
    "your function "
            f"gives {found:.4g}.")  # fmt: skip
    require(
        is_near(at_twelve, right_at_twelve),
        f"For an overtime of 12 s and a budget of 300 s, {right_at_twelve:.1f} s are allowed: a quarter of 12 s "
        "is more "
        f"than 2 s. Your function gives {at_twelve:.4g}.",
    )
    return (
        f"With a budget of 20 s, {right:.1f} s are allowed, {right - 4.0:.1f} s more than the baseline needs. "
        f"With one of 300 s, it may be {right_at_twelve - 12.0:.0f} s more. A cheat can hide as much as that. The "
        "eight seconds of the warm-up were more than is allowed, and the supervisor refused the run."
    )


def _allowed(overtime: float, budget: float) -> float:
    return overtime + max(LEAST_SLACK_SECONDS, SLACK_SHARE * overtime) + BUDGET_SHARE * budget


_PRINTED = {
    "a": "The supervisor does not judge the words of an output, and no list of words could be complete.",
    "c": "The training may print what it likes. The line is in its output, where it does no harm.",
    "d": "The audit was not needed: there was no claim of 0.1 to examine. The claim comes from the scorer.",
    "e": "The rule knows no score that is too good. A real score of 0.1 would be kept at once.",
}


def _printed(answer: Any) -> str:
    """The letter of the reason why a printed score does nothing."""
    letter = choice_of(answer, "abcde")
    require(letter == "b", _PRINTED.get(letter, ""))
    return (
        "Only the model leaves the training. What counts is computed from the model by a process that begins later. So "
        "the record shows the score of the model, and not 0.1."
    )


def _rows(answer: Any) -> str:
    """The line of a train.py that breaks the rule."""
    require(isinstance(answer, str), "Answer with the text of a line, between quotes.")
    line = _bare(answer)
    known = {_bare(text) for text in class_lines()}
    require(line in known, "This line is not in the class. Copy one line of it; spaces and the comment do not matter.")
    require(
        "register_buffer" not in line,
        "A table of ones that nothing writes to holds no text. Which line puts something into it?",
    )
    require(
        "F.pad" not in line,
        "This looks at the token before, in the same row. The text before a token may be used.",
    )
    require(
        not line.startswith("logits=logits"),
        "This line only reads the table. With a table that stays empty it would do nothing: which line fills it?",
    )
    require(
        not line.startswith("ifnot"),
        "A model may behave otherwise while it is scored; dropout does so too. What it does there is what matters.",
    )
    require(
        line == _bare(RULE_BREAKER),
        "This line uses the weights and the text of the row alone, which is allowed. Look for something that is still "
        "there when the next row comes.",
    )
    return (
        "This line keeps what it saw in one row for the rows that follow, so a row is answered with the text of "
        "others. This makes its claim better than the baseline's score, as the next attempt shows."
    )


def _bare(line: str) -> str:
    """Without blanks and without its comment."""
    return "".join(line.partition("#")[0].split())


def _caught(answer: Any) -> str:
    """A function from the share of the places that leak, and the number of cuts, to the chance of a refusal."""
    found = number_of(result_of(answer, 0.01, 100), "A probability")
    right = caught(0.01, 100)
    require(
        not is_near(found, 1.0),
        "This is share times cuts, the number of differences that are expected. The question is how likely a "
        "refusal is.",
    )
    require(
        not is_near(found, 1 - 0.99**100),
        "This is the chance of at least one difference. One difference is forgiven: two are needed.",
    )
    require(
        not is_near(found, 1 - right),
        "This is the chance that the leak escapes. Subtract it from 1.",
    )
    require(
        not is_near(found, math.comb(100, 2) * 0.01**2 * 0.99**98),
        "This is the chance of exactly two differences. More than two refuse the score as well.",
    )
    require(is_near(found, right), f"A leak at 1 % of the places is refused with probability {right:.3f} by 100 "
    "cuts; your "
            f"function gives {found:.4g}.")  # fmt: skip
    more = number_of(result_of(answer, 0.005, 1000), "A probability")
    require(
        is_near(more, caught(0.005, 1000)),
        f"With 1000 cuts two differences are forgiven, one in 500. The probability for 0.5 % of the places is then "
        f"{caught(0.005, 1000):.3f}, and your function gives {more:.4g}.",
    )
    return (
        f"A leak at 1 % of the places is refused in {100 * right:.0f} % of all audits with 100 cuts, and in "
        f"{100 * caught(0.01, 1000):.1f} % of those with 1000. One at 0.1 % of the places is refused in "
        f"{100 * caught(0.001, 1000):.0f} % of those with 1000. A leak that escapes has to be rare, and then it gains "
        "little."
    )


def caught(share: float, cuts: int) -> float:
    """The chance that more cuts differ than are forgiven, where this share of the places leaks."""
    forgiven = int(max(1, MISMATCHES_ALLOWED * cuts))
    return 1 - sum(math.comb(cuts, k) * share**k * (1 - share) ** (cuts - k) for k in range(forgiven + 1))


def _escape(answer: Any) -> str:
    """An attempt that broke the rules and was not refused, and the two ends of what it gained."""
    require(
        isinstance(answer, tuple | list) and len(answer) == 3,
        "Give three things: the attempt, and the lower and the upper end of what it gained.",
    )
    attempt = _attempt_in(answer[0])
    require(attempt.status != "rejected", f"The audit refused this one, so it did not escape: {_ended(attempt.reason)}")
    require(attempt.status != "timeout", f"The supervisor refused this one for its time: {_ended(attempt.reason)}")
    is_cheat = _is_cheat(attempt)
    require(
        is_cheat or not prints_a_score(attempt.source),
        "This train.py prints a score, and nothing reads what a training prints, as exercise 6.3 shows. So it gained "
        "nothing. Break a rule that changes the model: use some of the slack of exercise 6.2.",
    )
    require(
        is_cheat or not asks_for_no_time(attempt.source),
        "Nothing trains before the clock in this one: its warm-up ends after 0 seconds. Give it a part of the slack of "
        "exercise 6.2.",
    )
    require(
        is_cheat,
        "This train.py kept the rules: no training outside of the budget and no difference in the audit. An "
        "honest gain "
        "is no escape. Use some of the slack of exercise 6.2.",
    )
    require(attempt.val_bpb is not None, "This attempt has no score: run it again.")
    delta, error = attempt.delta_bpb, attempt.delta_error
    low, high = number_of(answer[1], "The lower end"), number_of(answer[2], "The upper end")
    require(low < high, "The first number is the lower end. Negative is better, so it is the larger gain.")
    require(
        not (is_near(low, -delta - 2 * error, 1e-3) and is_near(high, -delta + 2 * error, 1e-3)) or abs(delta) < error,
        "The signs are wrong: a score that is lower than the baseline's is a negative difference.",
    )
    require(
        not is_near(high - low, 2 * error, 1e-4),
        "This is one standard error to each side, which misses the truth in one case of three. Take two.",
    )
    claimed = None if attempt.claimed_bpb is None else attempt.claimed_bpb - attempt.baseline_bpb
    is_claim = claimed is not None and not is_near(claimed, delta, 1e-4) and is_near((low + high) / 2, claimed, 1e-4)
    require(not is_claim, "This is what the model claimed. The score that counts is val_bpb.")
    require(
        is_near(low, delta - 2 * error, 1e-3) and is_near(high, delta + 2 * error, 1e-3),
        f"The attempt gained {delta:+.4f} with the standard error {error:.4f}, so give {delta - 2 * error:+.4f} and "
        f"{delta + 2 * error:+.4f}: attempt.delta_bpb less and plus 2 * attempt.delta_error.",
    )
    sure = "more than chance" if abs(delta) > 2 * error else "no more than chance may bring"
    return f"It was not refused, and gained {delta:+.4f} ± {error:.4f} bits per byte: {sure}."


def _is_cheat(attempt: Attempt) -> bool:
    """Whether the attempt trained outside of its budget, or its model does what the rule forbids."""
    hidden = (attempt.overtime_seconds or 0.0) - (attempt.usual_overtime_seconds or 0.0)
    return hidden > HIDDEN_SECONDS or attempt.num_mismatches > 0 or bool(signs_of_cheating(attempt.source))


EXERCISES = (
    Exercise("next-token", "A model that sees the future", _next_token),
    Exercise("slack", "The clock's blind side", _slack),
    Exercise("printed", "A printed score", _printed),
    Exercise("rows", "A memory across rows", _rows),
    Exercise("caught", "How likely a leak is found", _caught),
    Exercise("escape", "One that escapes", _escape),
)
