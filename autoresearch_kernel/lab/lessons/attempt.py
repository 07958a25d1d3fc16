"""One train.py of a learner, tried: what it claimed, what the supervisor found. A value that shows itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ...core.format import bpb, plain, with_error
from ...show import html

REPEAT = "repeat"  # the status of code that was tried before: it is not trained again
PRINTED_LINES = 6  # of what a training printed


@dataclass(frozen=True, repr=False)
class Attempt:
    """What came of one train.py. Scores are in bits per byte, and lower is better.

    >>> attempt = try_out(study, source, "Look at the next token")  # doctest: +SKIP
    >>> attempt.status, attempt.claimed_bpb, attempt.val_bpb, attempt.num_mismatches  # doctest: +SKIP
    ('rejected', 0.41, None, 958)
    """

    idea: str
    source: str  # the train.py
    status: str  # "keep", "discard", "rejected" by the audit, "timeout", "crash", "invalid" or "repeat"
    reason: str  # why, in one sentence
    baseline_bpb: float  # the mean score of the train.py that the study began with
    sigma: float  # run-to-run standard deviation, as the study knows it
    budget_seconds: float
    claimed_bpb: float | None = None  # what the scorer said before any audit
    first_bpb: float | None = None  # the score of the first run
    val_bpb: float | None = None  # the score that counts; None when it was refused
    num_runs: int = 0
    num_cuts: int = 0  # places at which the audit asked again; 0 where no audit was due
    num_mismatches: int = 0  # of these, where the model said something else
    overtime_seconds: float | None = None  # outside of the budget, as the supervisor measured
    usual_overtime_seconds: float | None = None  # the same of the baseline
    allowed_overtime_seconds: float | None = None
    printed: str = ""  # the end of what the training printed

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Attempt:
        """The attempt that `facts` describes, as it stands in a file of recorded results."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in facts.items() if name in known})

    @property
    def delta_bpb(self) -> float:
        """The score that counts, less the baseline's; negative is better.

        Not a number without a score, so that an answer which computes with it ends, and its check says what is wrong.
        """
        return math.nan if self.val_bpb is None else self.val_bpb - self.baseline_bpb

    @property
    def delta_error(self) -> float:
        """Standard error of `delta_bpb`, for a baseline of three runs."""
        return float(self.sigma * (1 / max(1, self.num_runs) + 1 / 3) ** 0.5)

    def _rows(self) -> list[tuple[str, str]]:
        audit, clock = "", ""
        if self.num_cuts:
            audit = f"at {self.num_mismatches} of {self.num_cuts} secret places the model said something else"
        if (self.overtime_seconds or 0.0) > 0 and self.allowed_overtime_seconds is not None:
            clock = f"{self.overtime_seconds:.1f} s outside of the budget of {self.budget_seconds:g} s"
            clock += f"; {self.allowed_overtime_seconds:.1f} s are allowed"
        score = "none"
        if self.val_bpb is not None:
            difference = with_error(self.delta_bpb, self.delta_error)
            score = f"{bpb(self.val_bpb)}, the baseline {bpb(self.baseline_bpb)}: {difference}"
        return [
            ("claimed", bpb(self.claimed_bpb) if self.claimed_bpb is not None else "nothing"),
            ("audit", audit or "none: it is made only before a score may be kept"),
            ("clock", clock),
            ("val_bpb that counts", score),
            ("verdict", f"{self.status}: {plain(self.reason)}"),
        ]

    def _repr_html_(self) -> str:
        lines = self.printed.strip().splitlines()[-PRINTED_LINES:]
        printed = html.details("What the training printed", html.printed("\n".join(lines))) if lines else ""
        return html.card(plain(self.idea), html.facts(self._rows()) + printed)

    def __repr__(self) -> str:
        rows = (f"  {name:<20} {words}" for name, words in self._rows() if words)
        return "\n".join([plain(self.idea), *rows])
