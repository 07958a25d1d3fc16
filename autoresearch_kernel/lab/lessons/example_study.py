"""A recorded study with the methods of a live one, for a laptop that cannot train."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...core.types import Experiment
from ...system.locations import project_root
from ..analysis.load import open_example
from ..errors import in_one_sentence
from ..idea import Idea
from ..results import Judgement, Outcome, Recorded
from ..shown_study import ShownStudy
from .me import Me

SHOWN = 1  # the experiment that stands for the learner's own
NEXT = "run the next cell of the lesson"
NOT_YOURS = "Recorded earlier: this is the run of another idea, and not of yours."


@dataclass(frozen=True, repr=False)
class RecordedStudy(ShownStudy):
    """The recorded study that comes with the project, to be taken step by step. Nothing trains, nothing is written."""

    def baseline(self) -> Recorded:
        """The recorded baseline with the runs that it was measured by; the study ran it again for its result."""
        state = self._state()
        first = state.experiments[0]
        measured = replace(first, runs=first.judged_runs)
        return self._recorded(replace(state, experiments=(measured, *state.experiments[1:])), 0)

    def propose(self, agent: Me, *, anew: bool = False) -> Idea:
        """What a learner proposes for the train.py that the lesson shows. Raises StepError, as a live study does."""
        with in_one_sentence():
            return Idea(SHOWN, agent.proposal(self.shown_source), 0, self.shown_source)

    @property
    def shown_source(self) -> str:
        """The train.py whose numbers the lesson shows. It is not the one that the record began with."""
        return project_source()

    def run(self, idea: Idea | None = None) -> Outcome:
        """The recorded training of another idea."""
        print(NOT_YOURS)
        return Outcome(self, self._shown(), NEXT)

    def judge(self) -> Judgement:
        """The recorded verdict on it."""
        return self._judgement(self._state(), self._shown())

    def record(self) -> Recorded:
        """Its record."""
        return self.view(SHOWN)

    def _shown(self) -> Experiment:
        return self._state().experiments[SHOWN]


def project_source() -> str:
    """The project's own train.py, as text."""
    return (project_root() / "train.py").read_text(encoding="utf-8")


def recorded_study() -> RecordedStudy:
    """The recorded study that comes with the project: its steps, its picture, its table, its experiments."""
    return RecordedStudy(**vars(open_example()))
