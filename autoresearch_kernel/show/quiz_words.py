"""A quiz over a replay in words: the question before a verdict, and how the calls compare at the end. Pure text."""

from __future__ import annotations

from collections.abc import Mapping

from ..core.format import bpb, count
from ..core.quiz import Answer, Call, Outcome, Question, Shown, Tally
from .words import title

CALL_WORDS: Mapping[Call, str] = {"keep": "keep", "discard": "discard", "confirm": "once more"}
MOST_NAMED = 8  # experiments in a line
QUESTION = "Keep, discard, or train it once more with a fresh seed?"


def question_lines(asked: Shown) -> list[str]:
    """What is known before the verdict, and the question."""
    runs = ", ".join(map(bpb, asked.scores))
    mean = "" if len(asked.scores) == 1 else f", mean {bpb(sum(asked.scores) / len(asked.scores))}"
    lines = [title(asked.experiment), f"val_bpb {runs}{mean} ({count(len(asked.scores), 'run')})"]
    if asked.compared is not None:
        against = f"the incumbent's {bpb(asked.compared.theirs)} ({count(asked.incumbent_runs, 'run')})"
        lines.append(f"against {against}: {asked.compared.words}")
    if asked.sigma:
        lines.append(f"σ, from run to run of the same code: {asked.sigma:.4f}")
    return [*lines, QUESTION]


def answered_words(question: Question, call: Call) -> str:
    """`0012: you say keep, the rule says once more.`"""
    return f"{question.experiment:04d}: you say {CALL_WORDS[call]}, the rule says {CALL_WORDS[question.verdict]}."


def outcome_lines(outcome: Outcome) -> list[str]:
    """How a viewer's calls compare with the rule's, and both with what later runs of the same code say."""
    num = len(outcome.answers)
    if not num:
        return [f"No question was answered; the night has {count(outcome.num_questions, 'question')}."]
    lines = [
        f"You answered {num} of {count(outcome.num_questions, 'question')}. "
        f"Your call was the rule's in {outcome.as_the_rule} of them."
    ]
    lines += _against_truth(outcome)
    if outcome.untold:
        lines.append(f"For {outcome.untold}, later runs of the same code cannot tell: the difference is too small.")
    if outcome.without_runs:
        lines.append(
            f"For {outcome.without_runs}, the record has no later run of the same code, so nothing but the rule's call "
            "can be compared."
        )
    return lines


def _against_truth(outcome: Outcome) -> list[str]:
    if not outcome.known:
        return []
    better = [a for a in outcome.known if a.truth == "better"]
    worse = [a for a in outcome.known if a.truth == "worse"]
    told = [f"{_named(better)} better"] if better else []
    told += [f"{_named(worse)} worse"] if worse else []
    return [
        f"Later runs of the same code tell in {len(outcome.known)}: {'; '.join(told)} than the incumbent.",
        f"  You:      {_tally_words(outcome.viewer)}.",
        f"  The rule: {_tally_words(outcome.rule)}.",
    ]


def _named(answers: list[Answer]) -> str:
    """`0003 and 0007 were`."""
    numbers = [f"{number:04d}" for number in sorted({answer.question.experiment for answer in answers})]
    shown = numbers[:MOST_NAMED] + ([f"{len(numbers) - MOST_NAMED} more"] if len(numbers) > MOST_NAMED else [])
    named = " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))
    return f"{named} {'was' if len(numbers) == 1 else 'were'}"


def _tally_words(tally: Tally) -> str:
    """`3 right, 1 wrong, 1 once more`."""
    return f"{tally.right} right, {tally.wrong} wrong, {tally.once_more} once more"
