"""A busy machine: the supervisor says so whenever it matters, and waits for quiet where the user asked for that.

Other processes on the processors slow a training down, so its score is worse and differs more from run to run. What
counts as busy is defined in `system/speed.py`; `doctor` measures the same.
"""

from __future__ import annotations

from ..core.decide import NUM_BASELINE_RUNS
from ..core.format import duration
from ..core.next_step import Step
from ..core.types import OF_THE_MACHINE, Busy, Experiment, Progress
from ..show.study_words import busy_words, quiet_words
from ..system.speed import Load
from .session import Session
from .steering import LOOK_EVERY_SECONDS, Steering

AT_START = "the study begins"
QUIET_LOOKS = 3  # in a row that have to find the machine quiet: a pause between two commands of a script is none


class Quiet:
    """What other processes do to the trainings of one session."""

    def __init__(self, session: Session, steering: Steering) -> None:
        self.session, self.steering = session, steering
        self.left_seconds = 0.0  # of what the user allows for waiting

    def allow(self, minutes: float | None) -> None:
        """From now on, wait for a quieter machine for so long in all; None for no wait."""
        self.left_seconds = 60.0 * (minutes or 0.0)

    def look(self, why: str) -> None:
        """Record and say that the machine is busy, if it is. Looking takes a second."""
        load = self.session.backend.load()
        if not load.is_low:
            self.session.history.append("busy", **_facts(load, why))
            state = self.session.state
            self.session.note(busy_words(state.busy[-1], state.noise.worth))

    def look_before(self, experiment: Experiment, step: Step) -> None:
        """The same before a training that a busy machine may have caused, or that measures the machine."""
        causes = experiment.runs[step.run].causes if step.run < len(experiment.runs) else ()
        if OF_THE_MACHINE & set(causes):
            self.look(f"experiment {experiment.number:04d} trains again")
        elif step.why:
            self.look(f"experiment {experiment.number:04d} runs again")
        elif experiment.number == 0 and step.run >= NUM_BASELINE_RUNS:
            self.look("the baseline needs more runs")
        elif self.session.is_interactive and step.run == 0:
            self.look(f"experiment {experiment.number:04d} is to train")

    def wait(self, about: Progress) -> None:
        """Before a training, wait while the machine is busy, as long as the user allows. Raises StopNow.

        A wait ends with the study's hours. A user may pause the study meanwhile; the pause does not count as waiting.
        """
        _, study_seconds = self.session.left(0)
        allowed = self.left_seconds if study_seconds is None else min(self.left_seconds, study_seconds)
        if allowed <= 0 or (load := self.session.backend.load()).is_low:
            return
        why = f"experiment {about.experiment:04d} is to train"
        self.session.history.append("quiet_wait", **_facts(load, why), seconds=allowed)
        num_quiet, waited = 0, 0.0
        try:
            with self.session.telling(_saying(about, load, allowed)), self.steering.idle():
                while num_quiet < QUIET_LOOKS and waited < allowed and not self.steering.stopping:
                    self.steering.wait_while_paused()
                    began = self.session.clock.monotonic()
                    self.session.clock.sleep(LOOK_EVERY_SECONDS)
                    load = self.session.backend.load()
                    num_quiet = num_quiet + 1 if load.is_low else 0
                    waited += self.session.clock.monotonic() - began
                    self.session.watch(_saying(about, load, allowed - waited))
        finally:
            self.left_seconds = max(0.0, self.left_seconds - waited)
            self.session.history.append("quiet_waited", seconds=round(waited, 1), **_facts(load, why))
        self.steering.end_if_stopping()
        so_long = f"after {duration(waited)} of waiting; experiment {about.experiment:04d} trains now"
        is_quiet = num_quiet >= QUIET_LOOKS
        self.session.note(f"The machine is {'quiet' if is_quiet else 'still busy'} {so_long}.")


def _saying(about: Progress, load: Load, left_seconds: float) -> Progress:
    busy = busy_moment(load)
    return Progress("quiet", about.experiment, about.run, text=quiet_words(busy, about.experiment, left_seconds))


def _facts(load: Load, why: str) -> dict[str, object]:
    return {"why": why, "cores": round(load.cores, 2), "num_cores": load.num_cores, "who": load.words()}


def busy_moment(load: Load, why: str = "", time: str = "") -> Busy:
    """A measured load as the views take it."""
    return Busy(time, why, load.cores, load.num_cores, load.words())
