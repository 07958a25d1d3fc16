"""`autoresearch rerun`: says what will run, trains, and prints whether the claim of a bundle holds on this machine."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path

from ..core.format import bpb, duration, plain, signed, with_error
from ..core.rerun import Difference, Rerun
from ..record.history import read_state
from ..record.study import StudyError
from ..share.bundle import read_bundle
from ..share.rerun import PARENT, Question, open_or_start, question_of, rerun, steps_of_a_run
from ..show.plan import TYPICAL_OVERHEAD_SECONDS
from ..show.terminal import Screen
from ..system.locations import cache_dir
from .foreground import choose_sandbox, hide_key, signals_as_ctrl_c

STATUS = {"agrees": 0, "contradicts": 1, "cannot tell": 3}  # exit status of the command
MOST_SEED = 1_000_000  # of the study of a rerun, which is chosen by chance
SAME_SPEED = 1.15  # ratio of steps up to which two machines are taken for equally fast
MOST_SAID = 100  # characters of a hypothesis


def run(
    path: Path, number: int, seeds: int, most_seeds: int, *, files_folder: str | None, is_agreed: bool, unsafe: bool
) -> int:
    """The exit status: 0 where the bundle's claim is confirmed, 1 where it is contradicted, 3 where it stays open."""
    if seeds < 2 or most_seeds < seeds:
        raise StudyError(
            "--seeds has to be 2 or more, and --most-seeds at least as many: one run says nothing of noise."
        )
    question = question_of(read_bundle(path), number)
    print(claim_words(question), plan_words(question, seeds, most_seeds), sep="\n", flush=True)
    if not (is_agreed or agreed()):
        print("Nothing was trained.")
        return STATUS["cannot tell"]
    choose_sandbox(cache_dir() / "reruns", unsafe)  # before a corpus is built for minutes
    hide_key()
    seed = 1 + secrets.randbelow(MOST_SEED)
    study = open_or_start(question, files_folder=files_folder, seed=seed, say=lambda words: print(words, flush=True))
    screen = Screen()
    with signals_as_ctrl_c():
        answer = rerun(
            question,
            study,
            seeds=seeds,
            most_seeds=most_seeds,
            watch=screen.watch,
            on_pair=lambda pair, mine, theirs: screen.line(pair_words(pair, mine, theirs)),
        )
    screen.clear()
    if answer is None:
        print("Stopped. The same command goes on; the runs that were made count.")
        return STATUS["cannot tell"]
    here = steps_of_a_run(read_state(study.paths.history).experiments[PARENT])
    print("\n".join(filter(None, (answer_words(answer), speed_words(question.num_steps, here)))))
    return STATUS[answer.answer]


def agreed() -> bool:
    """Whether the user lets the code run. Raises StudyError where there is no user to ask."""
    if not sys.stdin.isatty():
        raise StudyError("The code of this bundle was written on another machine. Say --yes to train it here.")
    return input("Train it? [y/N] ").strip().lower() in ("y", "yes")


# --- in words


def claim_words(question: Question) -> str:
    claim = question.claim
    return (
        f"Study {question.study}, experiment {question.number:04d} against {question.parent:04d}: "
        f"{plain(question.hypothesis, MOST_SAID)}\n"
        f"Claim: {with_error(claim.difference.bpb, claim.difference.error)} bits per byte, σ {claim.sigma:.4f} between "
        "runs there."
    )


def plan_words(question: Question, seeds: int, most_seeds: int) -> str:
    each = question.facts["time_budget_seconds"] + TYPICAL_OVERHEAD_SECONDS
    return (
        f"Code from this bundle will run here, in the sandbox of a study. Both codes train in turns, {seeds} times "
        f"each with fresh seeds, and up to {most_seeds} times while the answer is open: {duration(2 * seeds * each)} "
        f"to {duration(2 * most_seeds * each)}."
    )


def pair_words(pair: int, mine: float, theirs: float) -> str:
    return f"pair {pair}: {bpb(mine)} against {bpb(theirs)}: {signed(mine - theirs)}"


def answer_words(answer: Rerun) -> str:
    """The answer, its interval, and what it means."""
    return "\n".join(
        (
            f"Claim: {_with_interval(answer.claim.difference)}",
            f"Here:  {_with_interval(answer.here)}, {answer.num_seeds} seeds each",
            f"This machine {answer.answer}: {_meaning(answer)}",
        )
    )


def speed_words(there: float | None, here: float | None) -> str:
    """A warning where a run makes another number of steps here than where the bundle was recorded; "" otherwise."""
    if not there or not here or max(there, here) <= SAME_SPEED * min(there, here):
        return ""
    return (
        f"A run made {here / there:.2f} times as many steps here as where the bundle was recorded. With another number "
        "of steps a true effect may be smaller or larger, so this answer is for a machine of this speed."
    )


def _with_interval(difference: Difference) -> str:
    low, high = difference.interval
    return f"{with_error(difference.bpb, difference.error)} (95 % interval {signed(low)} to {signed(high)})"


def _meaning(answer: Rerun) -> str:
    short = with_error(answer.shortfall.bpb, answer.shortfall.error)
    if answer.answer == "agrees":
        return f"the effect has the claimed direction beyond chance, and less of it was found by only {short}."
    if answer.answer == "contradicts":
        kept = "Some of it is there. " if answer.here.bpb * answer.claim.difference.bpb > 0 else ""
        return f"the claimed effect is smaller here by {short}, which is beyond chance. {kept}".rstrip()
    if not answer.can_more_seeds_tell:
        return "the claim itself rests on so few runs that more seeds here may not tell either."
    return "the intervals are too wide. More seeds may tell: raise --most-seeds, and the same runs count."
