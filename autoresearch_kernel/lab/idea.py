"""A proposal that a person reads, changes and then runs. Pure values; nothing is recorded here."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..core.format import plain
from ..core.sanitize import visible
from ..core.types import Experiment, Proposal
from ..show import html
from ..show.words import idea, title
from ..source.cell import SourceError
from ..source.compare import literal_changes
from ..source.diff import diff
from ..source.parameters import read_parameters, set_parameters
from ..study.review import edited
from ..study.steps import with_previous
from .errors import StepError
from .results import Diff, next_html

BY_HAND = "(edited by hand)"


@dataclass(frozen=True, repr=False)
class Idea:
    """What is proposed for the next experiment. `study.run(idea)` trains it, as it is or as you changed it.

    Example:
        >>> idea = study.propose()  # doctest: +SKIP
        >>> idea = idea.change(MATRIX_LR=0.02)  # doctest: +SKIP
        >>> idea = idea.edit("x = F.relu(x).square()", "x = F.gelu(x)", "GELU trains as well")  # doctest: +SKIP
        >>> print(idea.diff)  # doctest: +SKIP
    """

    number: int  # of the experiment that it becomes
    proposal: Proposal
    parent: int  # the incumbent it was made for
    parent_source: str = field(repr=False)  # its train.py
    next: str = "`study.run(idea)` trains it; `idea.change(NAME=value)` and `idea.edit(old, new)` make another of it"

    @property
    def hypothesis(self) -> str:
        return self.proposal.hypothesis

    @property
    def expected(self) -> str:
        """The effect that it should have; "" when its agent does not say."""
        return self.proposal.expected

    @property
    def train_source(self) -> str:
        """The whole train.py that will run."""
        return self.proposal.train_source

    @property
    def parameters(self) -> dict[str, Any]:
        """What `change` can change: name and value of each literal in the parameters cell."""
        return {name: parameter.value for name, parameter in read_parameters(self.train_source).items()}

    @property
    def before(self) -> dict[str, Any]:
        """The same of the incumbent: a change that is computed from these is the same when its cell runs again."""
        return {name: parameter.value for name, parameter in read_parameters(self.parent_source).items()}

    @property
    def diff(self) -> Diff:
        """What changes in the incumbent's train.py; coloured in a notebook."""
        return Diff(diff(self.parent_source, self.train_source))

    def change(self, hypothesis: str = "", **values: Any) -> Idea:
        """The idea with other literals in the parameters cell. Raises StepError for an unknown name or value."""
        try:
            known = read_parameters(self.train_source)
            source = set_parameters(self.train_source, values)
        except SourceError as error:
            unknown = [name for name in values if name not in known]
            raise StepError(_unknown(unknown[0], known) if unknown else str(error)) from error
        return self._with(source, hypothesis)

    def edit(self, old: str, new: str, hypothesis: str = "") -> Idea:
        """The idea with the text `old` replaced. Raises StepError when `old` is not there, or more than once."""
        places = self.train_source.count(old) if old else 0
        if places == 0:
            raise StepError(_absent(old, self.train_source))
        if places > 1:
            lines = [i for i, line in enumerate(self.train_source.split("\n"), 1) if old.split("\n")[0] in line]
            raise StepError(
                f"The text {_quoted(old)} stands {places} times in train.py, in lines {', '.join(map(str, lines))}. "
                "Give more of the lines around the one you mean."
            )
        return self._with(self.train_source.replace(old, new), hypothesis)

    def _with(self, source: str, hypothesis: str) -> Idea:
        """With another train.py; the agent's words stay only while they may still be true."""
        changes = literal_changes(self.parent_source, source)
        before = self.hypothesis.removesuffix(BY_HAND).rstrip()
        words = hypothesis or (f"{before} {BY_HAND}" if before else "An edit by hand")
        proposal = with_previous(edited(self.proposal, source, self.parent_source, words), self.parent_source)
        if changes:
            proposal = replace(proposal, expected="", refutation="")
            said = idea(_as_experiment(self.number, proposal, self.parent))
            proposal = replace(proposal, hypothesis=hypothesis or f"{said}, by hand")
        return replace(self, proposal=proposal)

    def _rows(self) -> list[tuple[str, str]]:
        return [
            ("hypothesis", plain(self.hypothesis)),
            ("expected", plain(self.expected)),
            ("refuted by", plain(self.proposal.refutation)),
            ("proposed by", plain(self.proposal.agent)),
            ("changes", f"train.py of {self.parent:04d}"),
        ]

    def _title(self) -> str:
        return title(_as_experiment(self.number, self.proposal, self.parent))

    def _repr_html_(self) -> str:
        return html.card(self._title(), html.facts(self._rows()) + self.diff._repr_html_() + next_html(self.next))

    def __repr__(self) -> str:
        lines = [self._title(), *(f"  {name:<11} {words}" for name, words in self._rows() if words)]
        change = [visible(line) for line in self.diff.splitlines()]
        return "\n".join([*lines, *change, f"Next: {self.next}"])


def _as_experiment(number: int, proposal: Proposal, parent: int) -> Experiment:
    words = proposal.hypothesis, proposal.agent
    return Experiment(number, *words, parent, changes=proposal.changes, details=proposal.details)


def _unknown(name: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name.upper(), known, n=3, cutoff=0.6)
    words = f"Did you mean {' or '.join(near)}?" if near else f"Its parameters cell holds {', '.join(known)}."
    return f"train.py has no parameter {name}. {words}"


def _absent(old: str, source: str) -> str:
    wanted = next((line for line in old.split("\n") if line.strip()), "")
    lines = source.split("\n")
    near = difflib.get_close_matches(wanted, lines, n=1, cutoff=0.4)
    hint = f"The line most like it is {lines.index(near[0]) + 1}: {_quoted(near[0])}. " if near else ""
    return f"train.py has no text {_quoted(old)}. {hint}Copy it from `print(idea.train_source)`, spaces included."


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:77]}...")
