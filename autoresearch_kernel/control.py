"""What a person can do with a study: one function for each button of the panel and each word of the command line.

A study runs in a process of its own; here it is started, talked to, and what it found is taken home. Each function
returns what a person should hear. Nothing is drawn here, and nothing is decided.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Any

from .agents import AGENTS, WITH_MODEL, AgentOptions, agent_options, make_agent
from .record import history
from .record.files import write_atomic
from .record.paths import project_root, study_paths
from .record.space import is_full
from .record.state import StudyState
from .record.study import Study, StudyError, check_unchanged, open_study, sha256, study_exists, study_names
from .run.box import BoxMissing, require_box
from .start import CORPORA, DEFAULT_BUDGET_SECONDS, PRESETS, Settings, refuse_other_settings, start_study
from .supervisor import ask, end, start_detached, wait_until_free

LATER = "sent; the supervisor reads it as soon as its agent has answered"

__all__ = [
    "AGENTS",
    "CORPORA",
    "DEFAULT_BUDGET_SECONDS",
    "PRESETS",
    "WITH_MODEL",
    "Plan",
    "approve",
    "begin",
    "go_on",
    "open_study",
    "problems",
    "promote",
    "read_state",
    "say_to",
    "settings_of",
    "stop",
    "study_names",
]


@dataclass(frozen=True)
class Plan:
    """How long a study goes on, and on whose word; None for as it is, or without end."""

    experiments: int | None = None
    hours: float | None = None
    approve: bool | None = None
    unsafe: bool = False  # where there is no box: run without one, every result marked untrusted
    options: AgentOptions = field(default_factory=AgentOptions)

    def words(self) -> list[str]:
        """As options of `autoresearch run`."""
        named = {
            "experiments": self.experiments,
            "hours": self.hours,
            "model": self.options.model,
            "prompt_tokens": self.options.prompt_tokens,
            "max_tokens": self.options.max_tokens,
            "max_cost": self.options.max_cost,
        }
        given = {name: value for name, value in named.items() if value is not None}
        words = [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", str(value))]
        if self.approve is not None:
            words.append("--approve" if self.approve else "--no-approve")
        return [*words, "--unsafe"] if self.unsafe else words


def settings_of(fields: Mapping[str, Any]) -> tuple[Settings, Plan]:
    """What a person asked for by name. Raises ValueError for a name that nothing here has."""
    parts: tuple[type[Any], ...] = (Settings, Plan, AgentOptions)
    names = [{f.name for f in dataclass_fields(part)} - {"options"} for part in parts]
    if unknown := set(fields) - set().union(*names):
        raise ValueError(
            f"There is no setting {sorted(unknown)[0]!r}. Known are {', '.join(sorted(set().union(*names)))}."
        )
    asked, plan, options = ({k: v for k, v in fields.items() if k in known} for known in names)
    of_agent = AgentOptions(**options)
    return Settings(**asked, options=of_agent), Plan(**plan, options=of_agent)


def problems(name: str, project: Path, fields: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with the settings of a new study, by field; empty when nothing is. Cheap: nothing is built."""
    found = {}
    asked, _ = settings_of(fields)
    try:
        study_paths(name, project)
        if study_exists(name, project):
            found["name"] = f"There is a study {name} already: choose it above, or take another name."
    except ValueError:
        found["name"] = "Letters, digits, '-', '_' and '.', as in nov23."
    if asked.corpus == "files" and (wrong := _wrong_folder(asked.files_folder or "")):
        found["files_folder"] = wrong
    try:
        agent_options(asked.agent or "search", asked.options, os.environ)
    except StudyError:
        field = "recording" if asked.agent == "replay" else "model"
        found[field] = (
            "Name the study to repeat." if asked.agent == "replay" else "By what name does its server know it?"
        )
    if asked.agent == "replay" and asked.options.recording not in (None, *study_names(project)):
        found["recording"] = f"There is no study {asked.options.recording}."
    return found


def _wrong_folder(folder: str) -> str:
    if not Path(folder).is_absolute():
        return "The whole path of a folder with your texts, from / on."
    return "" if Path(folder).is_dir() else f"There is no folder {folder}."


def begin(name: str, project: Path, fields: Mapping[str, Any], say: Callable[[str], None]) -> Study:
    """Create a study and let it run in the background. Raises StudyError for what does not go together."""
    asked, plan = settings_of(fields)
    need_box(plan.unsafe)
    study = start_study(name, project, asked, say)
    say("Starting ...")
    start_detached(study, plan.words())
    return study


def go_on(study: Study, fields: Mapping[str, Any]) -> int:
    """Continue a study in the background; returns the pid. Raises StudyInUse when it runs already."""
    asked, plan = settings_of(fields)
    if not study.paths.study.is_file():
        raise StudyError(f"Study {study.name} was removed: {study.paths.study} is gone.")
    refuse_other_settings(study, asked)
    need_box(plan.unsafe)
    if study.agent in WITH_MODEL:
        limit = asked.options.max_cost or read_state(study).limits.max_cost
        make_agent(study, replace(asked.options, max_cost=limit))  # a missing key is said here, not in a log
    return start_detached(study, plan.words())


def need_box(unsafe: bool) -> None:
    """Raise StudyError where code would run without a box and nobody said --unsafe: now, not in a log later."""
    if unsafe:
        return
    try:
        require_box()
    except BoxMissing as missing:
        raise StudyError(str(missing)) from missing


def say_to(study: Study, command: str, text: str = "") -> str:
    """Send `pause`, `resume`, `hint` ... and return the answer. Raises StudyError when nobody runs the study."""
    return ask(study, command, text) or LATER


def stop(study: Study, now: bool = False) -> str:
    """End a study after the present experiment, or at once."""
    try:
        answer = say_to(study, "stop now" if now else "stop")
    except OSError as error:
        if not (now and is_full(error)):
            raise
        answer = "the disk is full, so the supervisor is ended by a signal"
    if now and not (wait_until_free(study, 15.0) or end(study)):
        raise StudyError(f"The supervisor of {study.name!r} runs elsewhere, or in a notebook; end it there.")
    return answer


def approve(study: Study, source: str | None = None, why: str = "") -> str:
    """Let what waits for a person train: as it lies on the desk, or as `source`."""
    if source is not None:
        if read_state(study).review is None:
            raise StudyError(f"Nothing of study {study.name!r} waits for you, so your train.py was not taken.")
        write_atomic(study.paths.desk, source)
    return say_to(study, "approve", why)


def promote(study: Study, force: bool = False) -> str:
    """Make the best train.py of a study the project's. Raises StudyError when that would lose edits."""
    if not study.paths.best_train.is_file():
        raise StudyError(f"Study {study.name!r} has no best train.py yet: {study.paths.best_train} is missing.")
    champion = read_state(study).incumbent
    if champion is not None and champion.number == 0:
        return (
            f"Study {study.name} has kept nothing besides its baseline, so there is nothing to promote: "
            f"{study.project / 'train.py'} stays as it is."
        )
    best = study.paths.best_train.read_text(encoding="utf-8")
    target = study.project / "train.py"
    current = target.read_bytes()
    if sha256(current) == sha256(best):
        return f"{target} is already the best of study {study.name}."
    ours = {study.facts["sha256"]["project train.py"], *(e.train_sha256 for e in read_state(study).experiments)}
    if sha256(current) not in ours and not force:
        raise StudyError(
            f"{target} has changed since study {study.name!r} began and would be overwritten. "
            "Commit or copy it first, then use --force."
        )
    write_atomic(target, best)
    done = f"{target} is now the best of study {study.name}. `git diff train.py` shows the change."
    try:
        check_unchanged(study)
    except StudyError as changed:
        return f"{done} Beware: {changed}"
    return done


def read_state(study: Study) -> StudyState:
    """The study as its history tells it."""
    return history.read_state(study.paths.history)


def panel(study: str | None = None, project: Path | None = None) -> Any:
    """The control panel, for a notebook: shows a study, starts one, talks to it.

    Args:
        study: its name; the one touched last when left out.
        project: folder of train.py and prepare.py; found from the working folder when left out.

    Every button is a method: `start`, `pause`, `resume`, `stop`, `hint`, `approve`, `reject`, `promote`, `select`.

    Example:
        >>> from autoresearch_kernel import panel
        >>> p = panel()  # doctest: +SKIP
        >>> p.hint("leave the learning rates alone")  # doctest: +SKIP
    """
    from .show.panel import Panel  # ipywidgets, which only a notebook needs

    return Panel(sys.modules[__name__], project or project_root(), study)
