"""The values of a study that is looked back on, and what follows from them at once. Pure; nothing is judged anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...core.decide import best
from ...core.drift import STEADY, machine_speeds
from ...core.types import FAILED, Experiment, Spent, Status, error_of_difference
from ...show.plot_scale import score_of
from ...show.study_words import difference_to


@dataclass(frozen=True, repr=False)
class StudyData:
    """A study, or what a results.tsv tells of one."""

    name: str
    experiments: tuple[Experiment, ...]  # decided ones, oldest first
    sigma: float | None = None  # run-to-run standard deviation in bits per byte
    spent: Mapping[int, Spent] | None = None  # on models, by experiment; None where no costs were recorded
    seconds: float | None = None  # during which a supervisor ran the study; None where there are no times
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
        """The sum of all kept changes, each as it was judged, in bits per byte: positive is better."""
        return sum(-judged_delta(e) for e in self.kept)

    @property
    def gain_standard_error(self) -> float | None:
        """The error of `gain`: where no incumbent ran again, all scores but the last and the baseline's cancel out."""
        return difference_to(self.baseline, self.best)[1] if self.best and self.baseline else None

    @property
    def difference_standard_error(self) -> float | None:
        """The error of `difference`."""
        if self.best is None or self.baseline is None:
            return None
        return error_of_difference(self.best.mean_standard_error, self.baseline.mean_standard_error)

    @property
    def difference(self) -> float | None:
        """The incumbent's mean over all its runs so far less the baseline's: negative is better."""
        return _mean_of(self.best) - _mean_of(self.baseline) if self.best and self.baseline else None

    @property
    def whole_gain(self) -> float:
        """The study's gain: by the runs at its end where there are any, else as judged if the machine was steady."""
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


def _mean_of(experiment: Experiment) -> float:
    """Over all runs so far; a results.tsv holds no runs, only a score."""
    return score_of(experiment) if experiment.mean_bpb is None else experiment.mean_bpb


def judged_delta(experiment: Experiment) -> float:
    """The difference to the incumbent at the decision; negative is better, 0 without one."""
    return experiment.delta_bpb or 0.0
