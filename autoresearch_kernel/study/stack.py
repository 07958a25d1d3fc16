"""Proposals of the supervisor on several slots: what was promising of a wave, merged into the incumbent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..core.agent import NothingToPropose
from ..core.state import StudyState
from ..core.types import Context, Experiment, Proposal
from ..core.waves import STACK, Wave, stack_sizes, stack_to_propose
from ..record.study import Study
from ..show.words import idea
from ..source.compare import fingerprint, literal_changes
from ..source.diff import rebase


@dataclass(frozen=True)
class Stack:
    """An agent that proposes one merged train.py."""

    proposal: Proposal
    name: str = STACK

    def propose(self, context: Context) -> Proposal:
        """The merged train.py. Raises NothingToPropose where it was refused, or made for another incumbent."""
        if context.refused or context.incumbent.number != self.proposal.details["stacked_on"]:
            raise NothingToPropose("What was promising is not merged.")
        return self.proposal


def stacks_of(study: Study, state: StudyState, wave: Wave) -> list[tuple[int, ...]]:
    """The stacks that are to be tried: numbers of the experiments in each, the best first.

    An experiment whose lines a better one has changed too is left out. A stack that is the code of another experiment
    is not tried, and neither is the best experiment alone where it was made from the incumbent: its own run goes on.
    One that was tried on another kind of machine is no such code, as it has to be tried on the study's own. A recorded
    study is repeated as it was, without stacks.
    """
    assert state.incumbent is not None
    tried = {e.fingerprint for e in state.experiments if not e.machine}
    stacks = []
    for size in () if study.agent == "replay" else stack_sizes(len(wave.candidates)):
        source, merged = _merged(study, state.incumbent, wave.candidates[:size])
        if merged and (mark := fingerprint(source)) not in tried:
            tried.add(mark)
            stacks.append(tuple(e.number for e in merged))
    return stacks


def next_stack(study: Study, state: StudyState) -> Stack | None:
    """The next stack of the last wave; None where all were proposed."""
    numbers = stack_to_propose(state)
    if not numbers or state.incumbent is None:
        return None
    incumbent, experiments = state.incumbent, [state.experiments[number] for number in numbers]
    source, _ = _merged(study, incumbent, experiments)
    ideas = "; ".join(f"{e.number:04d}, {idea(e)}" for e in experiments)
    return Stack(
        Proposal(
            f"Together, as each is promising: {ideas}." if len(experiments) > 1 else f"On the new incumbent: {ideas}.",
            source,
            STACK,
            changes=literal_changes(study.train_source(incumbent.number), source),
            details={"stacked_on": incumbent.number, "merged": list(numbers)},
        )
    )


def _merged(study: Study, incumbent: Experiment, experiments: Sequence[Experiment]) -> tuple[str, list[Experiment]]:
    """The incumbent's code with the changes of the experiments, and those that are in it."""
    source, merged = study.train_source(incumbent.number), list[Experiment]()
    for experiment in experiments:
        assert experiment.parent is not None, "only a challenger is promising"
        both = rebase(study.train_source(experiment.parent), source, study.train_source(experiment.number))
        if both is not None and both != source:
            source = both
            merged.append(experiment)
    return source, merged
