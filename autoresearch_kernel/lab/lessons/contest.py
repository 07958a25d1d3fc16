"""Lesson 3: five budgets of a learner and five of the optimiser, in two studies that begin alike."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...agents.search import SearchAgent
from ...core.decide import best
from ...core.format import bpb, signed
from ...core.types import Experiment
from ...show import html
from ...show.words import idea
from ...study.loop import research
from ..study import InteractiveStudy
from .data import recorded
from .example_study import project_source
from .me import Guess
from .studies import live_study, parameters_of, try_guess, values_in

NUM_BUDGETS = 5
_opened: list[InteractiveStudy] = []  # the learner's study of this process, whose train.py the lesson shows


@dataclass(frozen=True)
class Row:
    """One experiment of the contest."""

    what: str
    val_bpb: float | None
    change: float | None  # against its incumbent, negative is better; None without a score
    status: str


@dataclass(frozen=True, repr=False)
class Rows:
    """The experiments of one side; a notebook shows them as a table."""

    rows: tuple[Row, ...]

    @property
    def changes(self) -> list[float | None]:
        """The change of val_bpb of each experiment; None for a run without a score."""
        return [row.change for row in self.rows]

    def _cells(self) -> list[tuple[str, str, str, str]]:
        return [
            (row.what, bpb(row.val_bpb), "–" if row.change is None else signed(row.change), row.status)
            for row in self.rows
        ]

    def _repr_html_(self) -> str:
        cells = [tuple(map(html.text, row)) for row in self._cells()]
        return html.table(("what changed", "val_bpb", "change", "status"), cells, right=(1, 2))

    def __repr__(self) -> str:
        return "\n".join(f"{change:>8}  {score}  {status:<8} {what}" for what, score, change, status in self._cells())


@dataclass(frozen=True, repr=False)
class Contest:
    """Two studies of one budget: the learner's and the optimiser's."""

    mine: InteractiveStudy
    theirs: InteractiveStudy

    def measure(self) -> None:
        """Train both baselines, unless that is done."""
        self.mine.baseline()
        self.theirs.baseline()

    @property
    def parameters(self) -> dict[str, Any]:
        """What the baseline's train.py begins with."""
        return parameters_of(self.mine)

    @property
    def sigma(self) -> float:
        """Run-to-run standard deviation, from the runs of both baselines."""
        groups = [study.baseline().scores for study in (self.mine, self.theirs)]
        squares = sum(statistics.variance(scores) * (len(scores) - 1) for scores in groups)
        return math.sqrt(squares / sum(len(scores) - 1 for scores in groups))

    def try_guesses(self, guesses: Sequence[Guess]) -> Rows:
        """Each guess as an experiment of the learner's study; those that are recorded already are not tried again."""
        found = [try_guess(self.mine, guess) for guess in guesses]
        return Rows(
            tuple(row_of(guess.hypothesis, experiment) for guess, experiment in zip(guesses, found, strict=True))
        )

    def run_optimiser(self, experiments: int = NUM_BUDGETS) -> Rows:
        """The experiments of the optimiser, those that are missing trained now."""
        missing = experiments - (len(self.theirs.table().experiments) - 1)
        if missing > 0:
            for _ in research(self.theirs, SearchAgent(), experiments=missing, watch=self.theirs.watch()):
                pass
        decided = [e for e in self.theirs.table().experiments if e.number > 0 and e.status is not None]
        return Rows(tuple(row_of(idea(e), e) for e in decided[:experiments]))

    @property
    def difference(self) -> tuple[float, float]:
        """The learner's kept score minus the optimiser's, as each was decided, and the standard error."""
        mine, theirs = (_champion(study.table().experiments) for study in (self.mine, self.theirs))
        assert mine.val_bpb is not None and theirs.val_bpb is not None
        errors = [e.standard_error or self.sigma / math.sqrt(len(e.scores)) for e in (mine, theirs)]
        return mine.val_bpb - theirs.val_bpb, math.hypot(*errors)

    def _lines(self) -> list[str]:
        sides = (("you", self.mine), ("the optimiser", self.theirs))
        lines = []
        for name, study in sides:
            experiments = study.table().experiments
            if experiments and experiments[0].status is not None:
                first, last = experiments[0].val_bpb, _champion(experiments).val_bpb
                lines.append(f"{name}: baseline {bpb(first)}, now {bpb(last)} after {len(experiments) - 1} experiments")
        return lines

    def _repr_html_(self) -> str:
        return html.card("You and the optimiser", "".join(map(html.paragraph, self._lines())))

    def __repr__(self) -> str:
        return "\n".join(self._lines())


@dataclass(frozen=True, repr=False)
class RecordedContest:
    """The same with experiments that were recorded earlier, for a laptop that cannot train."""

    facts: dict[str, Any]

    def measure(self) -> None:
        """Nothing to train."""
        print("These experiments were recorded earlier. Nothing is trained on this machine.")

    @property
    def parameters(self) -> dict[str, Any]:
        """What the project's train.py begins with, which the guesses change; the record began with other sizes."""
        return values_in(project_source())

    @property
    def sigma(self) -> float:
        return float(self.facts["sigma"])

    def try_guesses(self, guesses: Sequence[Guess]) -> Rows:
        """Recorded experiments that are like the guesses of the solution."""
        print("Recorded: what came of five ideas like those of the solution, and not of yours.")
        print("Each change is against the code that was kept when the idea was tried, and not against the baseline.")
        rows = Rows(tuple(Row(**row) for row in self.facts["mine"]))
        if all(row.status != "keep" for row in rows.rows):
            print(
                "None of the five was kept, so your score stays that of the baseline. Some of these scores are lower: "
                "they were discarded because the code that was kept at that time had a still lower one."
            )
        return rows

    def run_optimiser(self) -> Rows:
        return Rows(tuple(Row(**row) for row in self.facts["theirs"]))

    @property
    def difference(self) -> tuple[float, float]:
        difference, error = self.facts["difference"]
        return difference, error

    def __repr__(self) -> str:
        return str(self.facts["words"])


def contest(seconds: float) -> Contest | RecordedContest:
    """Both studies with `seconds` of training a run; with 0 the recorded ones."""
    _opened.clear()
    if seconds == 0:
        return RecordedContest(recorded("3-contest"))
    found = Contest(live_study("lesson-3-me", seconds), live_study("lesson-3-optimiser", seconds))
    _opened.append(found.mine)
    return found


def shown_source() -> str:
    """The train.py whose numbers the lesson shows: the baseline of the learner's study, or the project's own."""
    return _opened[0].train_source(0) if _opened else project_source()


def _champion(experiments: Sequence[Experiment]) -> Experiment:
    champion = best(experiments)
    assert champion is not None  # a baseline that was measured
    return champion


def row_of(what: str, experiment: Experiment | None) -> Row:
    """A row of the table; for a guess that was not tried, one without numbers."""
    if experiment is None:
        return Row(what, None, None, "not tried")
    return Row(what, experiment.val_bpb, experiment.delta_bpb, str(experiment.status))
