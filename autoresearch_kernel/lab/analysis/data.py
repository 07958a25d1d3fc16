"""The values of a study that is looked back on, and what follows from them at once. Pure; nothing is judged anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...core.decide import best, mean
from ...core.drift import STEADY, machine_speeds
from ...core.types import FAILED, Experiment, Run, Spent, Status, scores_of
from ...show.plot_points import score_of


@dataclass(frozen=True, repr=False)
class StudyData:
    """A study, or what a results.tsv tells of one."""

    name: str
    experiments: tuple[Experiment, ...]  # decided ones, oldest first
    sigma: float | None = None  # run-to-run standard deviation in bits per byte
    spent: Mapping[int, Spent] | None = None  # on models, by experiment; None where nobody kept accounts
    seconds: float | None = None  # during which somebody ran the study; None where there are no times
    finished: Mapping[str, Any] | None = None  # the last `finished` event
    note: str = ""  # what the reader should know of where this comes from

    @property
    def baseline(self) -> Experiment | None:
        """The first that was kept: what all gains are counted from."""
        return next((e for e in self.experiments if e.status is Status.KEEP and e.val_bpb is not None), None)

    @property
    def best(self) -> Experiment | None:
        return best(self.experiments)

    @property
    def kept(self) -> list[Experiment]:
        """Changes that were kept, oldest first; the baseline is none."""
        return [e for e in self.experiments if e.status is Status.KEEP and e.val_bpb is not None][1:]

    @property
    def proposals(self) -> list[Experiment]:
        """All but the baseline."""
        return [e for e in self.experiments if e is not self.baseline]

    @property
    def failed(self) -> list[Experiment]:
        return [e for e in self.proposals if e.status in FAILED]

    @property
    def refused(self) -> list[Experiment]:
        """Those whose score the audit refused."""
        return [e for e in self.proposals if e.status is Status.REJECTED]

    @property
    def gain(self) -> float:
        """Of all kept changes, each as it was judged, in bits per byte: positive is better."""
        return sum(-judged_delta(e) for e in self.kept)

    @property
    def difference(self) -> float | None:
        """The best's mean over all its runs less the baseline's: negative is better."""
        return score_of(self.best) - score_of(self.baseline) if self.best and self.baseline else None

    @property
    def whole_gain(self) -> float:
        """Of the whole study: with fresh seeds at its end where that was done, else as judged if the machine allows."""
        finished = self.finished or {}
        if self.best is not None and finished.get("champion") == self.best.number:
            return -float(finished["difference_bpb"])
        return self.gain if self.is_steady else -(self.difference or 0.0)

    @property
    def is_steady(self) -> bool:
        """Whether the machine kept its speed, as far as that is known."""
        return all(abs(speed - 1) <= STEADY for _, speed in machine_speeds(self.experiments))

    def in_sigmas(self, delta: float | None) -> float | None:
        return delta / self.sigma if delta is not None and self.sigma else None


def own_runs(experiment: Experiment) -> list[Run]:
    """Scored runs that it was judged by, not those made later to check the machine."""
    number = experiment.number
    return [run for run in experiment.runs if run.val_bpb is not None and run.num_decided <= number]


def judged_delta(experiment: Experiment) -> float:
    """To the incumbent it was judged against, by the runs it was judged on; negative is better, 0 without one."""
    if experiment.incumbent_bpb is None:
        return 0.0
    scores = scores_of(own_runs(experiment))
    return (mean(scores) if scores else score_of(experiment)) - experiment.incumbent_bpb
