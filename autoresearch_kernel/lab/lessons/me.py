"""The learner as an agent: an idea, its reason, and what is expected of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...core.format import signed
from ...core.types import Context, Proposal
from ...source.parameters import set_parameters


@dataclass(frozen=True)
class Me:
    """An agent: it proposes the parameters that a learner chose, with the learner's reason.

    >>> study.propose(Me("Half the batch makes twice the steps.", {"TOTAL_BATCH_SIZE": 512}))  # doctest: +SKIP
    """

    hypothesis: str  # why the change may help, in one sentence
    changes: Mapping[str, Any]  # parameter of train.py -> its new value
    expected: str = ""  # the effect that it should have
    name: str = field(default="me", init=False)

    def propose(self, context: Context) -> Proposal:
        """The incumbent's train.py with the new values."""
        return self.proposal(context.train_source)

    def proposal(self, train_source: str) -> Proposal:
        """A train.py with the new values. Raises SourceError for a parameter that it does not have."""
        changes = dict(self.changes)
        return Proposal(
            self.hypothesis, set_parameters(train_source, changes), self.name, changes, expected=self.expected
        )


@dataclass(frozen=True)
class Guess:
    """An idea, and what its learner expects of it: the change of val_bpb, negative is better."""

    hypothesis: str
    changes: Mapping[str, Any]
    expected: float
    low: float  # with `high` an interval that shall hold the result in four cases of five
    high: float

    @property
    def agent(self) -> Me:
        """What proposes this guess in a study."""
        words = f"{signed(self.expected)} bits per byte, between {signed(self.low)} and {signed(self.high)}"
        return Me(self.hypothesis, self.changes, words)
