"""The values of a study that is looked back on, and what follows from them at once. Pure; nothing is judged anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...core.attribution import Attribution, Effect
from ...core.comparison import Comparison
from ...core.decide import best
from ...core.drift import STEADY, machine_speeds
from ...core.types import FAILED, Experiment, Spent, Status
from ...show.study_words import compared_at_end


@dataclass(frozen=True, repr=False)
class StudyData:
    """A study, or what a results.tsv tells of one."""

    name: str
    experiments: tuple[Experiment, ...]  # decided ones, oldest first
    sigma: float | None = None  # run-to-run standard deviation in bits per byte
    spent: Mapping[int, Spent] | None = None  # on models, by experiment; None where no costs were recorded
    seconds: float | None = None  # that its experiments took; None where there are no times
    whole_seconds: float | None = None  # during which a supervisor ran the study, also for `finish` and `attribute`
    attribution_seconds: float = 0.0  # of these, for trainings without a kept change
    finished: Mapping[str, Any] | None = None  # the last `finished` event
    machine: str = ""  # how busy the machine was, and how long the study waited for quiet; "" where it was quiet
    note: str = ""  # what the reader should know of where this comes from
    metric: str = "val_bpb"  # what the scores measure, of which lower is better
    taken_out: Attribution | None = None  # trainings without each kept change; None where there are none
    effects: tuple[Effect, ...] = ()  # what these say
    can_be_attributed: bool = False  # it is a study of this project, whose code can train

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
        as_decided = self.best.against(self.baseline) if self.best and self.baseline else None
        return as_decided.error if as_decided else None

    @property
    def so_far(self) -> Comparison | None:
        """Incumbent and baseline by the means over all their runs so far, with what is known of sigma now."""
        if self.best is None or self.baseline is None:
            return None  # a results.tsv holds no runs, only a score
        return self.best.so_far_against(self.baseline, self.sigma) or self.best.against(self.baseline)

    @property
    def whole_gain(self) -> float:
        """The study's gain: by the runs at its end where there are any, else as judged if the machine was steady."""
        finished = self.finished or {}
        if self.best is not None and finished.get("champion") == self.best.number:
            return -compared_at_end(finished).difference
        return self.gain if self.is_steady or self.so_far is None else -self.so_far.difference

    @property
    def is_steady(self) -> bool:
        """Whether the machine kept its speed, as far as that is known."""
        return all(abs(speed - 1) <= STEADY for _, speed in machine_speeds(self.experiments))

    @property
    def unit(self) -> str:
        """Of the scores, in words."""
        return "bits per byte" if self.metric == "val_bpb" else self.metric

    def in_sigmas(self, delta: float | None) -> float | None:
        return delta / self.sigma if delta is not None and self.sigma else None


def judged_delta(experiment: Experiment) -> float:
    """The difference to the incumbent at the decision; negative is better, 0 without one."""
    return experiment.delta_bpb or 0.0
