"""Watches one training from its curve and the clock, and ends it when it cannot win or cannot hand over in time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.drift import relative_machine_speed, relative_speed
from ..core.early_stopping import caution, hopeless, projected_timeout
from ..core.sanitize import is_number
from ..core.speed_worth import curve_slope
from ..core.types import Experiment, Progress, Status
from ..record.curves import read_curve
from ..run.outcome import EndRun
from .session import Session

FAIR_SPEED = 0.85  # of the incumbent's; a run slower than this may owe its place to the machine


class Monitor:
    """What a backend calls while it trains; it tells the session's watcher what it sees."""

    def __init__(self, session: Session, experiment: Experiment, run: int, is_shown: bool = True) -> None:
        """`is_shown`: the watcher is told of its points; of a duel that is the challenger's side alone."""
        study, state, paths = session.study, session.state, session.study.experiment(experiment.number)
        self.session, self.experiment, self.run, self.is_shown = session, experiment, run, is_shown
        self.points: list[Mapping[str, Any]] = []
        self.seconds = 0.0  # since the run started
        self.like_speed = state.noise.like_speed
        machine = session.machine
        self.incumbent = experiment.on(machine) if experiment.number == 0 else state.reference_for(experiment, machine)
        self.budget = study.time_budget_seconds
        allowances = study.facts["startup_allowance_seconds"] + study.facts["handover_allowance_seconds"]
        self.limit = study.longest_budget_seconds + allowances
        self.caution: float | None = None  # only the first run of a challenger may be ended early
        self.curve: list[dict[str, Any]] = []
        if self.incumbent is not None and run == 0 and experiment.number > 0 and session.ends_hopeless:
            scored = [r.index for r in self.incumbent.runs if r.val_bpb is not None]
            self.curve = read_curve(study.experiment(self.incumbent.number).metrics(scored[-1])) if scored else []
            self.caution = caution(paths.diff.read_text(encoding="utf-8"))

    def at_point(self, point: Mapping[str, Any]) -> None:
        """Raises EndRun when the curve says that the run cannot win, or cannot hand over in time."""
        self.points.append(point)
        progress = point.get("progress")
        fraction = float(progress) if is_number(progress) else 0.0
        e = self.experiment
        if self.is_shown:
            self.session.tell(Progress("training", e.number, self.run, e.hypothesis, fraction, point))
        budget = {"time_budget_seconds": self.budget, "hard_limit_seconds": self.limit}
        if why := projected_timeout(self.points, seconds_since_start=self.seconds, **budget):
            raise EndRun(Status.TIMEOUT, f"ended early: {why}")
        if why := hopeless(self.points, self.curve, caution=self.caution):
            relative = self.measured({}).get("relative_speed")
            if relative is None or relative > FAIR_SPEED:
                raise EndRun(Status.DISCARD, f"ended early: {why}")

    def at_clock(self, seconds: float) -> None:
        """Raises StopNow when a user wants the study to end at once."""
        self.session.tick()
        self.seconds = seconds

    def measured(self, measured: dict[str, Any]) -> dict[str, Any]:
        """What the run measured, and what can be said of one that was ended before it could measure."""
        last = self.points[-1] if self.points else {}
        seconds, tokens = (v if is_number(v := last.get(k)) else 0 for k in ("seconds", "num_tokens"))
        if self.session.study.clock == "steady":  # then tokens are compared by the seconds that were counted
            seconds = self.budget * (v if is_number(v := last.get("progress")) else 0)
        if "tokens_per_second" not in measured and seconds > 0 and tokens > 0:
            measured = measured | {"tokens_per_second": tokens / seconds, "ended_at": last.get("progress")}
        incumbent = self.incumbent.runs if self.incumbent else ()
        relative = {
            "relative_speed": relative_speed(measured, incumbent, self.like_speed),
            "relative_machine_speed": relative_machine_speed(measured, incumbent),
        }
        slope = curve_slope(self.points) if self.experiment.number == 0 else None
        facts = relative | {"curve_slope": slope}
        return measured | {name: round(value, 4) for name, value in facts.items() if value is not None}
