"""The room of a prompt: how much of the record and of the experiments in full it holds, chosen by worth. Pure.

The text itself is made by `agents/prompt.py`; here is only what fits. Each step of a `Filling` returns contents that
fit the budget.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from ..core.types import Context, Experiment
from .history_text import REFUTED, Detail, by_worth, forms_in_full

# Of the tokens that are left, at most: for a line for each experiment; else for lines and counts by subject; for longer
# lines where each has one. The rest is for experiments in full.
SHARE_OF_LINES, SHARE_OF_COUNTS, SHARE_OF_LONGER_LINES = 0.9, 2 / 3, 1 / 3
SHARE_OF_CLEAREST = 3 / 4  # of the tokens that are left: what the clearest refutation takes at most before the lines
SHARE_OF_ONE = 1 / 2  # of the tokens that are left: what one experiment takes at most in its fuller forms
MOST_MISFITS = 3  # experiments of which no form fits, before the rest is not tried

DETAILS = (
    Detail(200, None, 0, 12_000, 50),
    Detail(110, None, 0, 12_000, 50),
    Detail(60, None, 0, 12_000, 20),
    Detail(110, 100, 60, 8000, 20),
    Detail(110, 50, 40, 8000, 20),
    Detail(90, 35, 30, 6000, 10),
    Detail(90, 25, 25, 6000, 10),
    Detail(80, 15, 15, 4000, 8),
    Detail(70, 8, 10, 3000, 5),
    Detail(60, 3, 5, 1000, 2),
    Detail(45, 1, 3, 400, 1),
)
LINE_EACH = 2  # index of the shortest that has a line for each experiment

Count = Callable[[str], int]


@dataclass(frozen=True)
class Contents:
    """How much of a context a prompt holds. The default is the least."""

    detail: Detail = DETAILS[-1]
    hints: str = ""  # the section; "" for a line that says how many were left out
    has_whole_interface: bool = False
    in_full: Mapping[int, str] = field(default_factory=dict)  # experiments in full, by number

    def with_experiment(self, number: int, form: str) -> Contents:
        return replace(self, in_full={**self.in_full, number: form})


@dataclass(frozen=True)
class Filling:
    """The steps that fill a prompt; each returns contents that fit the budget."""

    context: Context
    budget_tokens: int
    count_tokens: Count
    size: Callable[[Contents], int]  # tokens of the whole prompt
    known_forms: dict[int, list[str]] = field(default_factory=dict)  # of experiments in full, by number

    def filled(self, contents: Contents) -> Contents:
        """The contents with all that the room allows, in the order of worth."""
        contents = self.with_clearest_refutation(contents)
        contents = self.first(contents, replace(contents, has_whole_interface=True))
        contents = self.with_lines(contents, DETAILS[LINE_EACH : LINE_EACH + 1], SHARE_OF_LINES)
        contents = self.with_lines(contents, DETAILS[LINE_EACH + 1 :], SHARE_OF_COUNTS)
        contents = self.with_lines(contents, DETAILS[1:LINE_EACH], SHARE_OF_LONGER_LINES)
        contents = self.with_experiments(contents, shortest=False)
        contents = self.with_lines(contents, DETAILS, 1.0)
        return self.with_longer_forms(self.with_experiments(contents, shortest=True))

    def first(self, contents: Contents, *better: Contents) -> Contents:
        """The first of the better ones that fits."""
        return next((more for more in better if self.size(more) <= self.budget_tokens), contents)

    def with_lines(self, contents: Contents, details: Sequence[Detail], share: float) -> Contents:
        """With the best lines that take at most a share of the room that is left."""
        size = self.size(contents)
        most = size + int(share * (self.budget_tokens - size))
        better = (replace(contents, detail=d) for d in details if DETAILS.index(d) < DETAILS.index(contents.detail))
        return next((more for more in better if self.size(more) <= most), contents)

    def with_clearest_refutation(self, contents: Contents) -> Contents:
        """With the largest clear loss in its fullest form, where that leaves room for the rest."""
        refuted = (item for item in by_worth(self.context.experiments) if item[1] == REFUTED)
        for experiment, why in islice(refuted, 1):
            form = self._forms(experiment, why)[0]
            if self.count_tokens(form) <= SHARE_OF_CLEAREST * (self.budget_tokens - self.size(contents)):
                return self.first(contents, contents.with_experiment(experiment.number, form))
        return contents

    def with_experiments(self, contents: Contents, shortest: bool) -> Contents:
        """With as many experiments in full as fit, the most instructive first; the shortest form only where asked for.

        None takes more than a share of the room while a shorter form of it does not.
        """
        misfits = 0
        for experiment, why in by_worth(self.context.experiments):
            number = experiment.number
            if number in contents.in_full:
                continue
            forms = self._forms(experiment, why)
            forms = forms if shortest else forms[:-1] or forms
            share = SHARE_OF_ONE * (self.budget_tokens - self.size(contents))
            chosen = next((form for form in forms if self.count_tokens(form) <= share), forms[-1])
            contents = self.first(contents, *(contents.with_experiment(number, form) for form in (chosen, forms[-1])))
            misfits += number not in contents.in_full
            if misfits == MOST_MISFITS:
                break
        return contents

    def with_longer_forms(self, contents: Contents) -> Contents:
        """With the room that is left for experiments that were shortened, the most instructive first."""
        for number, forms in self.known_forms.items():
            if (form := contents.in_full.get(number)) is not None:
                fuller = forms[: forms.index(form)]
                contents = self.first(contents, *(contents.with_experiment(number, form) for form in fuller))
        return contents

    def _forms(self, experiment: Experiment, why: str) -> list[str]:
        """The forms of an experiment in full; its files are read once."""
        if experiment.number not in self.known_forms:
            self.known_forms[experiment.number] = [*forms_in_full(experiment, why, self.context.archive)]
        return self.known_forms[experiment.number]
