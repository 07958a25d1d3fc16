"""What stands for the small study on a laptop that is too slow: its results as they were recorded.

`python scripts/record_lessons.py` makes the recordings.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean, stdev

from ...core.types import Context, Experiment, Run, Status
from ...source.compare import fingerprint
from ...system.locations import originals
from .attempt import Attempt
from .data import recorded

ATTEMPTS = "attempts"  # the file of recorded attempts, for lessons 5 and 6


def recorded_attempt(name: str) -> Attempt:
    """One of the recorded attempts of lesson 6.

    >>> recorded_attempt("leak").status  # doctest: +SKIP
    'rejected'

    Raises KeyError, which names those that there are.
    """
    attempts = recorded(ATTEMPTS)["attempts"]
    if name not in attempts:
        raise KeyError(f"There is no recorded attempt {name!r}. There are: {', '.join(attempts)}.")
    return Attempt.of(attempts[name])


@dataclass(frozen=True)
class RecordedSmall:
    """Answers as a study of the small train.py does, from the recordings."""

    name: str

    @property
    def baseline_scores(self) -> list[float]:
        """The scores of the recorded baseline."""
        return list(recorded(ATTEMPTS)["baseline_scores"])

    def same_code(self, runs: int) -> list[float]:
        """The first of the recorded scores of one code."""
        return list(recorded("4-same-code")["scores"][:runs])

    def attempt(self, source: str) -> Attempt | None:
        """The recorded attempt with this train.py, up to blanks and comments; None where there is none."""
        attempts = [Attempt.of(facts) for facts in recorded(ATTEMPTS)["attempts"].values()]
        mine = fingerprint(source)
        same = [attempt for attempt in attempts if fingerprint(attempt.source) == mine]
        return next((attempt for attempt in same if attempt.source == source), same[0] if same else None)

    def context(self, train_source: str) -> Context:
        """What an agent could read after the recorded baseline."""
        scores = self.baseline_scores
        runs = tuple(Run(i, i, val_bpb=score) for i, score in enumerate(scores))
        words = "The baseline.", "baseline"
        baseline = Experiment(0, *words, None, runs=runs, status=Status.KEEP, val_bpb=fmean(scores))
        program, prepare = ((originals() / name).read_text(encoding="utf-8") for name in ("program.md", "prepare.py"))
        facts = {"time_budget_seconds": recorded(ATTEMPTS)["budget_seconds"]}
        return Context(
            program, train_source, baseline, (baseline,), stdev(scores), facts, seed=0, prepare_source=prepare
        )
