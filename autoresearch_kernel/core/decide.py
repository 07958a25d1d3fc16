"""The rule that decides which experiments are kept. Pure functions of scores.

Scores are validation bits per byte, and lower is better: only this module and `thresholds.py` contain that. A training
without a score (a crash, a timeout) is not decided here.

The rule, with m the mean of the incumbent's runs at the challenger's speed of the machine (`core/drift.py`), and sigma
the run-to-run standard deviation: a first score at or above m is discarded. One so far below m that chance does it once
in 100,000 times is kept at once. A score in between may be luck, so the code is trained once more with a fresh seed,
and kept when the mean of both is at least 0.25 sigma below m. This mean, and not the lower of the two scores, becomes
the score to beat.

How far chance reaches depends on how well sigma is known: with few runs behind sigma, Student's t asks for many more
sigma. Nothing is kept at once that the machine ran faster for than any run of the incumbent. An m that was carried
from another speed of the machine may be less certain than one run; a win is then counted in the standard error of m.

That rule is cautious, as it must be where most proposals make no difference. Where an eighth of the proposals is
clearly worse (by 3 sigma), proposals do matter, and so do the small wins that a cautious rule misses; the rule is then
bold. The incumbent was chosen for a low score, so m is taken to be 1 sigma above its single score, or 0.4 sigma above
the mean of two. A score 0.75 sigma below that is kept at once, and a mean of two scores below it is kept. Where two
fifths are clearly worse, sigma is small compared with the effects of proposals, and nothing is confirmed: 0.3 sigma
below is kept.

When results tie, the simpler code wins: a challenger with less code whose first score is less than 1 sigma above m is
run once more, and kept when the mean of both is less than 0.25 sigma above m. Code cannot shrink without end, so ties
cannot add up without end.

docs/decisions.md has the measurements. `thresholds.py` has the constants and the two thresholds that follow from them,
and `grounds.py` what a decision was made from, as the history keeps it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .student import as_known
from .thresholds import (
    CHANCE_WORSE,
    NUM_RUNS_CONFIRMED,
    Bar,
    Thresholds,
    Verdict,
    bar,
    duel_thresholds,
    sigmas_of_chance,
)
from .types import Experiment, Status

NUM_BASELINE_RUNS = 3  # of like speed, before the first proposal: 2 degrees of freedom for sigma
MOST_BASELINE_RUNS = 8  # where no three are of like speed, the machine is too unsteady to judge small differences
NUM_FRESH_RUNS = 3  # of the baseline and of the champion, on fresh seeds, behind a study's result

LEAST_SPEED = 1e-3  # of the incumbent's: a lower one, which code may report of itself, counts as this
LEAST_CLEARLY_WORSE = 2  # proposals that are clearly worse, before the rule may be bold
LEAST_SIMPLER = 5  # nodes of the syntax tree fewer: about one short statement
EVALUATION_SHARE = 0.1  # of a score's standard error over rows that differs between runs, which share the rows


@dataclass(frozen=True)
class Decision:
    """A verdict on a challenger, with the numbers behind it."""

    verdict: Verdict  # "confirm": train once more with a fresh seed, then decide
    reason: str  # one line for users
    val_bpb: float  # mean over the challenger's runs
    incumbent_bpb: float  # mean over the incumbent's runs, without the correction for luck
    sigma: float | None  # or the standard error of the incumbent's mean, where that is larger
    thresholds: Thresholds  # that the first of these scores was compared with

    @property
    def delta_sigmas(self) -> float | None:
        """Difference to the incumbent in sigma, negative is better; None while sigma is unknown or zero."""
        return (self.val_bpb - self.incumbent_bpb) / self.sigma if self.sigma else None


def is_better(score: float, than: float) -> bool:
    """Whether `score` is lower than `than`; a tie is not better."""
    return score < than


def best(experiments: Iterable[Experiment]) -> Experiment | None:
    """The champion: the last experiment that was kept; None when none was.

    It is not the one with the lowest mean: each was kept because it beat the previous one at the machine's speed of
    that hour. Means of different hours differ by that speed, and the lowest of many means is partly luck.
    """
    kept = [e for e in experiments if e.status is Status.KEEP and e.val_bpb is not None]
    return max(kept, key=lambda e: e.order, default=None)


def decide(
    scores: Sequence[float],
    incumbent_scores: Sequence[float],
    sigma: float | None,
    *,
    degrees_of_freedom: int | None = None,
    speed_bpb: float = 0.0,
    level_error: float | None = None,
    is_like: bool = True,
    worse_share: float = 0.0,
    is_lucky: bool = True,
    is_simpler: bool = False,
) -> Decision:
    """Judge a challenger by its runs so far against all runs of the incumbent.

    Args:
        scores: one per run of the challenger, oldest first; two after a confirmation.
        incumbent_scores: one per run of the incumbent, its confirmations and re-runs included.
        sigma: run-to-run standard deviation; None while it is unknown, and then every win is confirmed.
        degrees_of_freedom: behind sigma; None for a sigma that is known exactly.
        speed_bpb: to be added to the incumbent's mean, for the machine's speed at the challenger's runs.
        level_error: standard error of the incumbent's mean at that speed. Where it is larger than sigma, a confirmed
            win is measured against it.
        is_like: the machine ran at one speed for both; False asks for a confirmation before a keep.
        worse_share: `clearly_worse_share` of the study so far; 0 is cautious.
        is_lucky: the incumbent was chosen for one of these scores; False when all of them were made later.
        is_simpler: the challenger has less code, so it need not be better.

    Raises ValueError for no scores, or for one that is not a finite number.
    """
    y, m = mean(scores), mean(incumbent_scores) + speed_bpb
    _check(sigma)
    incumbent = len(incumbent_scores), sigma, degrees_of_freedom, level_error
    to_beat = bar(len(scores), m, *incumbent, is_like, worse_share, is_lucky)
    limits, plain = to_beat.thresholds(is_simpler), to_beat.thresholds().verdict(y)
    verdict = limits.verdict(y)
    reason = _reason(plain, y, to_beat, degrees_of_freedom) if verdict == plain else _reason_of_tie(y, to_beat)
    return Decision(verdict, reason, y, m, to_beat.unit, limits)


@dataclass(frozen=True)
class DuelDecision(Decision):
    """A verdict on a challenger that met the incumbent in a duel. The two scores are means with the same weights."""

    difference_error: float = 0.0  # standard error of their difference


def decide_duel(
    first: float | None,
    first_level: float,
    first_error: float,
    pairs: Sequence[tuple[float, float]],
    pair_sd: float,
    *,
    degrees_of_freedom: int,
    worse_share: float = 0.0,
    is_simpler: bool = False,
) -> DuelDecision:
    """Judge a challenger by its duels and by its first run, each with the weight that its error gives it.

    Args:
        first: score of the run before the duels; None when there is none.
        first_level: the incumbent's score at the machine's speed of that run.
        first_error: standard error of the difference of these two.
        pairs: score of the challenger and of the incumbent in each duel.
        pair_sd: standard deviation of a duel's difference between equal codes.
        degrees_of_freedom: behind it.
        worse_share, is_simpler: as for `decide`.
    """
    weights = [1 / pair_sd**2] * len(pairs)
    scores = list(pairs)
    if first is not None:
        weights.append(1 / first_error**2)
        scores.append((first, first_level))
    y, m = (sum(w * pair[i] for w, pair in zip(weights, scores, strict=True)) / sum(weights) for i in (0, 1))
    error = 1 / math.sqrt(sum(weights))
    limits = duel_thresholds(m, error, degrees_of_freedom, worse_share, is_simpler)
    verdict = limits.verdict(y)
    is_win = duel_thresholds(m, error, degrees_of_freedom, worse_share, is_simpler=False).verdict(y) == "keep"
    mine, theirs = _in_as_few_decimals(y, m)
    words = f"in a duel {mine} against the incumbent's {theirs}, {abs(y - m) / error:.1f} standard errors"
    if is_win:
        reason = f"{words} below: kept"
    elif verdict == "keep":
        reason = f"{words} apart, which is a tie, and simpler: kept"
    else:
        reason = f"{words} {'below, not enough' if is_better(y, m) else 'above'}: discarded"
    return DuelDecision(verdict, reason, y, m, error, limits, error)


def _reason(verdict: Verdict, y: float, to_beat: Bar, degrees_of_freedom: int | None) -> str:
    """The words of a verdict on a challenger that is not known to be simpler."""
    m, sigma, num_runs = to_beat.level, to_beat.unit, to_beat.num_runs
    level = m + to_beat.luck
    mine, theirs = _in_as_few_decimals(y, level)
    theirs = (
        f"{theirs} (the incumbent's {m:.{len(theirs) - 2}f} without its luck)"
        if to_beat.luck
        else f"the incumbent's {theirs}"
    )
    sigmas = as_known(abs(level - y) / sigma, degrees_of_freedom) if sigma else 0.0
    distance = f"{sigmas:.1f} sigma " if sigma and y != level else ""
    if num_runs >= NUM_RUNS_CONFIRMED:
        if verdict == "keep":
            return f"the mean of {num_runs} runs, {mine}, is below {theirs}: kept"
        enough = " by enough" if is_better(y, level) else ""
        return f"the mean of {num_runs} runs, {mine}, is not below {theirs}{enough}: discarded"
    if not is_better(y, level):
        above = f" ({distance}above)" if distance else ""
        return f"{mine} is not below {theirs}{above}: discarded"
    if sigma is None:
        return f"{mine} is below {theirs}, but sigma is not known yet: once more, fresh seed"
    below = f"{mine} is {distance}below {theirs}"
    if verdict == "keep":
        return f"{below}: kept at once"
    if verdict == "discard":
        return f"{below}, not enough for a confirmation: discarded"
    return f"{below}, which may be luck: once more, fresh seed"


def _reason_of_tie(y: float, to_beat: Bar) -> str:
    """The words of a keep or a confirmation of a simplification that is no better."""
    mine, theirs = _in_as_few_decimals(y, to_beat.level)
    if to_beat.num_runs >= NUM_RUNS_CONFIRMED:
        words = f"the mean of {to_beat.num_runs} runs, {mine}, ties with the incumbent's {theirs}"
        return f"{words}, and is simpler: kept"
    return f"{mine} ties with the incumbent's {theirs}, and is simpler: once more, fresh seed"


def is_simpler(challenger: Experiment, incumbent: Experiment) -> bool:
    """Whether the challenger has less code, by a statement or more; False where that is not known."""
    mine, theirs = challenger.code_size, incumbent.code_size
    return mine is not None and theirs is not None and theirs - mine >= LEAST_SIMPLER


def clearly_worse_share(
    experiments: Iterable[Experiment], sigma: float | None, degrees_of_freedom: int | None = None, worth: float = 0.0
) -> float:
    """Share of the proposals that were clearly worse than their incumbents; it makes `decide` bold.

    Where scores differ no more than runs of the same code do, an apparent win is luck as well. A run that was ended
    early as hopeless counts as clearly worse, and one that crashed does not count. What a slower machine cost a run is
    not held against the proposal. The share is 0, which is cautious, while sigma is unknown, and while fewer than
    LEAST_CLEARLY_WORSE such proposals were seen.

    Args:
        worth: bits per byte for a factor of e in speed.
    """
    if sigma is None:
        return 0.0
    sigmas = sigmas_of_chance(CHANCE_WORSE, degrees_of_freedom)
    num_judged = num_worse = 0
    for experiment in experiments:
        if experiment.number == 0 or experiment.status not in (Status.KEEP, Status.DISCARD):
            continue
        num_judged += 1
        if experiment.difference_error is not None:  # its first run was promising, and its duel is of another hour
            continue
        if not experiment.scores or experiment.incumbent_bpb is None:
            num_worse += not experiment.scores
            continue
        first = next(run for run in experiment.runs if run.val_bpb is not None)
        speed = first.measured.get("relative_machine_speed", first.measured.get("relative_speed", 1.0))
        slower = min(1.0, max(LEAST_SPEED, speed))
        limit = sigmas * math.hypot(sigma, experiment.incumbent_standard_error or 0.0) - worth * math.log(slower)
        num_worse += experiment.scores[0] > experiment.incumbent_bpb + limit
    return 0.0 if num_worse < LEAST_CLEARLY_WORSE else num_worse / num_judged


def estimate_sigma(groups: Iterable[Sequence[float]], least: float = 0.0) -> float | None:
    """Run-to-run standard deviation, pooled over groups of runs of the same code; None while no code was run twice.

    Three baselines give the first estimate, and every confirmation and re-run improves it. Groups of one run are
    ignored. A confirmation follows a low first score, but for a challenger that is no better than the incumbent this
    selection leaves the expected square of the pair unchanged.

    Args:
        least: what is known from elsewhere, `least_sigma`; runs that agree better do so by chance.

    Raises ValueError for a score that is not a finite number.
    """
    squares, degrees_of_freedom = 0.0, 0
    for scores in groups:
        if len(scores) > 1:
            centre = mean(scores)
            squares += sum((score - centre) ** 2 for score in scores)
            degrees_of_freedom += len(scores) - 1
    return max(least, math.sqrt(squares / degrees_of_freedom)) if degrees_of_freedom else None


def least_sigma(standard_errors: Sequence[float], jitter: float | None, worth: float) -> float:
    """What sigma cannot be below: the evaluation's own error, and what the jitter of the machine's speed is worth.

    Args:
        standard_errors: of scores over rows.
        jitter: standard deviation of the logarithm of the speed between runs of like speed; None while it is unknown.
        worth: bits per byte for a factor of e in speed.
    """
    evaluation = EVALUATION_SHARE * statistics.median(standard_errors) if standard_errors else 0.0
    return math.hypot(evaluation, worth * (jitter or 0.0))


def standard_error(num_runs: int, sigma: float | None) -> float | None:
    """Standard error of a mean over `num_runs` runs, in bits per byte; None while sigma is unknown or nothing ran."""
    return None if sigma is None or num_runs < 1 else sigma / math.sqrt(num_runs)


def improvement(
    baseline_scores: Sequence[float], champion_scores: Sequence[float], sigma: float | None
) -> tuple[float, float | None]:
    """Difference of the champion's mean to the baseline's (negative is better), and its standard error.

    For publishing: both means are over at least NUM_FRESH_RUNS fresh seeds, never the running minimum. The standard
    error is None while sigma is unknown.
    """
    difference = mean(champion_scores) - mean(baseline_scores)
    if sigma is None:
        return difference, None
    return difference, sigma * math.sqrt(1 / len(baseline_scores) + 1 / len(champion_scores))


def mean(scores: Sequence[float]) -> float:
    """The mean of at least one finite score. Raises ValueError otherwise, because a failed run has no score."""
    if not scores:
        raise ValueError("There is no score to judge: a run that failed is recorded as failed, not decided.")
    for score in scores:
        if not math.isfinite(score):
            raise ValueError(
                f"The score {score} is not a finite number and cannot be judged. Record the run as a crash."
            )
    first = scores[0]  # with differences to it, the mean of equal scores is exactly that score: a tie
    return first + math.fsum(score - first for score in scores) / len(scores)


def _check(sigma: float | None) -> None:
    if sigma is not None and not 0 <= sigma < math.inf:
        raise ValueError(f"Sigma is {sigma}; it is a standard deviation in bits per byte, or None while unknown.")


def _in_as_few_decimals(a: float, b: float) -> tuple[str, str]:
    """Both numbers with four decimals, or with as many as show a difference."""
    for decimals in range(4, 9):
        texts = f"{a:.{decimals}f}", f"{b:.{decimals}f}"
        if texts[0] != texts[1] or a == b:
            break
    return texts
