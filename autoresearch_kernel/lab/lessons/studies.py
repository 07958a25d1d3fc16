"""Studies of the lessons that they train in: the functions of a night, one step after the other."""

from __future__ import annotations

import os
from contextlib import nullcontext, redirect_stdout
from io import StringIO
from typing import Any

from ...core.types import Experiment
from ...record.history_reader import readable_events
from ...record.study import Study, study_exists
from ...source.parameters import read_parameters
from ...system.locations import project_root
from ..errors import StepError
from ..opening import start_study
from ..results import Recorded
from ..study import InteractiveStudy
from .example_study import RecordedStudy, recorded_study
from .learned import GRADING
from .me import Guess
from .small_study import on_processors

CONFIRM = "confirm"


def lesson_study(name: str, seconds: float) -> InteractiveStudy | RecordedStudy:
    """The study of a lesson, with `seconds` of training a run; with 0 the recorded one, in which nothing trains."""
    return live_study(name, seconds) if seconds else recorded_study()


def live_study(name: str, seconds: float) -> InteractiveStudy:
    """The study of a lesson: opened where it exists, else begun, with Python's own library as its text.

    A study keeps its budget, so the seconds are a part of its name. It trains on the processors, also where there is a
    GPU, for which another text with other tokens would be chosen. While nbgrader grades a notebook, the study of each
    student is a new one.
    """
    full_name = f"{name}-{seconds:g}s" + (f"-{os.getpid()}" if os.environ.get(GRADING) else "")
    is_new = not study_exists(full_name, project_root())
    if is_new:
        print("Preparing the text and measuring this machine. The first time, this takes about half a minute.")
    # These lines name folders of this machine. A study that began on a GPU, with an earlier version, goes on there.
    with redirect_stdout(StringIO()), on_processors() if is_new else nullcontext():
        return start_study(full_name, budget=seconds, corpus="stdlib")


def parameters_of(study: Study) -> dict[str, Any]:
    """The parameters of the train.py that a learner's first idea changes: name and value."""
    source = study.shown_source if isinstance(study, RecordedStudy) else study.train_source(0)
    return values_in(source)


def values_in(source: str) -> dict[str, Any]:
    """The parameters of a train.py: name and value."""
    return {name: parameter.value for name, parameter in read_parameters(source).items()}


def events_of(study: Study) -> list[dict[str, Any]]:
    """The lines of the study's history.jsonl, oldest first."""
    return [dict(event) for event in readable_events(study.paths.history).events]


def try_once(study: InteractiveStudy, agent: Any) -> Recorded:
    """One experiment from its proposal to its record; the confirmation that the rule may want is included."""
    study.propose(agent, anew=True)
    return _carry_on(study)


def try_guess(study: InteractiveStudy, guess: Guess) -> Experiment | None:
    """The experiment that a guess became: recorded already, or tried now. None when it could not be tried."""
    experiments = study.table().experiments
    if experiments and experiments[-1].status is None:  # the kernel was stopped in the middle of one
        _carry_on(study)
    for experiment in study.table().experiments:
        if experiment.hypothesis == guess.hypothesis and experiment.changes == dict(guess.changes):
            return experiment
    try:
        return try_once(study, guess.agent)
    except StepError as error:  # train.py has no such parameter, or another study runs
        print(f"{guess.hypothesis} This guess was not tried: {error}")
        return None


def _carry_on(study: InteractiveStudy) -> Recorded:
    """Train, judge and record what is proposed."""
    study.run()
    while study.judge().verdict == CONFIRM:
        study.run()
    return study.record()
