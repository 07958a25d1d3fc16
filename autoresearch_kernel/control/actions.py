"""What a person can do with a study: one function for each button of the panel and each word of the command line.

A study runs in a process of its own; here it is started, talked to, and what it found is taken home. Each function
returns what a person should hear. Nothing is drawn here, and nothing is decided.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Any

from ..agents.chat import knows_server, read_prices
from ..agents.options import (
    AGENTS,
    NO_READERS,
    PRICES,
    WITH_MODEL,
    AgentOptions,
    agent_options,
    make_agent,
    refuse_unused,
)
from ..core.errors import with_arguments
from ..core.format import count, duration
from ..core.state import StudyState
from ..record import history
from ..record.git import LineageError
from ..record.paths import study_paths
from ..record.study import (
    Study,
    StudyError,
    WouldOverwrite,
    check_unchanged,
    open_study,
    sha256,
    study_exists,
    study_names,
)
from ..sandbox.kinds import SandboxMissing, require_sandbox
from ..show.follow import look
from ..show.study_words import result_words
from ..study.create import CORPORA, DEFAULT_BUDGET_SECONDS, PRESETS, Settings, refuse_other_settings, start_study
from ..system.disk import is_full
from ..system.files import lock_holder, write_atomic
from .supervisor import ask, end, start_detached, wait_until_free

NUMBERS = {  # of a new study or a further run of one, each with what it may be
    "budget": "seconds",
    "hours": "hours",
    "experiments": "a whole number",
    "max_cost": "US dollars",
    "max_tokens": "a whole number",
    "prompt_tokens": "a whole number",
}
NO_SERVER = (
    "No language model can be reached: give this kernel a key by running "
    '`import getpass, os; os.environ["OPENAI_API_KEY"] = getpass.getpass()` in a cell, or the address of a local '
    'server with `os.environ["OPENAI_BASE_URL"] = "http://localhost:11434/v1"`.'
)
LATER = "sent; the supervisor reads it as soon as its agent has answered"

__all__ = [
    "AGENTS",
    "CORPORA",
    "DEFAULT_BUDGET_SECONDS",
    "NO_READERS",
    "PRESETS",
    "WITH_MODEL",
    "Plan",
    "SettingsRefused",
    "approve",
    "begin",
    "finish",
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


class SettingsRefused(StudyError):
    """Settings with which no study can run; `problems` says of each, by its name, what is wrong."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        super().__init__("\n".join(f"{name}: {words}" for name, words in problems.items()))
        self.problems = dict(problems)


@dataclass(frozen=True)
class Plan:
    """How long a study goes on, and on whose word; None for as it is, or without end."""

    experiments: int | None = None
    hours: float | None = None
    approve: bool | None = None
    unsafe: bool = False  # where there is no sandbox: run without one, every result marked untrusted
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
    """What a person asked for by name. Raises StudyError for a name that nothing here has."""
    parts: tuple[type[Any], ...] = (Settings, Plan, AgentOptions)
    names = [{f.name for f in dataclass_fields(part)} - {"options"} for part in parts]
    if unknown := set(fields) - set().union(*names):
        raise StudyError(
            f"There is no setting {sorted(unknown)[0]!r}. Known are {', '.join(sorted(set().union(*names)))}."
        )
    asked, plan, options = ({k: v for k, v in fields.items() if k in known} for known in names)
    of_agent = AgentOptions(**options)
    return Settings(**asked, options=of_agent), Plan(**plan, options=of_agent)


def problems(name: str, project: Path, fields: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with the settings of a new study, by field; empty when nothing is. Cheap: nothing is built."""
    found = wrong_values(fields)
    asked, _ = settings_of(fields)
    try:
        study_paths(name, project)
        if study_exists(name, project):
            found["name"] = f"There is a study {name} already: choose it above, or take another name."
    except ValueError:
        found["name"] = "Letters, digits, '-', '_' and '.', as in nov23."
    if asked.corpus == "files" and (wrong := _wrong_folder(asked.files_folder or "")):
        found["files_folder"] = wrong
    return found if "agent" in found else {**_wrong_agent(asked, project), **found}


def wrong_values(fields: Mapping[str, Any]) -> dict[str, str]:
    """Which settings have a value that they cannot have, and why; nothing else is looked at."""
    found = {}
    for name, choices in (("agent", AGENTS), ("corpus", CORPORA), ("preset", PRESETS)):
        if fields.get(name) is not None and fields[name] not in choices:
            found[name] = f"There is no {fields[name]!r}. Choose one of {', '.join(choices)}."
    for name, unit in NUMBERS.items():
        if fields.get(name) is not None and (wrong := _wrong_number(fields[name], unit)):
            found[name] = wrong
    return found


def _wrong_number(value: Any, unit: str) -> str:
    kind = int if unit == "a whole number" else int | float
    if not isinstance(value, kind) or isinstance(value, bool) or not 0 < value < float("inf"):
        return f"{value!r} is not possible: give {unit}, as a number above 0, or leave it out."
    return ""


def _wrong_agent(asked: Settings, project: Path) -> dict[str, str]:
    """What is wrong with the agent and what belongs to it, by field."""
    agent, options = asked.agent or "search", asked.options
    try:
        refuse_unused(agent, options)
    except StudyError as error:
        return {"agent": with_arguments(str(error))}
    if agent == "replay":
        if options.recording is None:
            return {"recording": "Name the study to repeat."}
        known = options.recording in study_names(project)
        return {} if known else {"recording": f"There is no study {options.recording}."}
    if agent not in WITH_MODEL:
        return {}
    found = {} if knows_server() else {"agent": NO_SERVER}
    try:
        model = agent_options(agent, options, os.environ)["model"]
        priced = options.max_cost is None or read_prices(project / PRICES).cost(model, 1, 1) is not None
    except StudyError:
        return found | {"model": "By what name does its server know it?"}
    except ValueError as error:
        return found | {"max_cost": str(error)}
    if not priced:
        found["max_cost"] = f"{PRICES} does not state the price of {model!r}: add it there, or leave the limit out."
    return found


def _wrong_folder(folder: str) -> str:
    if not Path(folder).is_absolute():
        return "The whole path of a folder with your texts, from / on."
    return "" if Path(folder).is_dir() else f"There is no folder {folder}."


def begin(name: str, project: Path, fields: Mapping[str, Any], say: Callable[[str], None]) -> Study:
    """Create a study and let it run in the background. Raises SettingsRefused, and StudyError for all else."""
    asked, plan = settings_of(fields)
    if wrong := problems(name, project, fields):
        raise SettingsRefused(wrong)
    need_sandbox(plan.unsafe)
    try:
        study = start_study(name, project, asked, say)
    except LineageError as error:  # a branch of that name is there
        raise SettingsRefused({"name": with_arguments(str(error))}) from error
    say("Starting ...")
    start_detached(study, plan.words())
    return study


def go_on(study: Study, fields: Mapping[str, Any]) -> int:
    """Continue a study in the background; returns the pid. Raises StudyInUse when it runs already."""
    asked, plan = settings_of(fields)
    if wrong := wrong_values(fields):
        raise SettingsRefused(wrong)
    _still_there(study)
    refuse_other_settings(study, asked)
    need_sandbox(plan.unsafe)
    if study.agent in WITH_MODEL:
        if not knows_server():
            raise StudyError(NO_SERVER)
        limit = asked.options.max_cost or read_state(study).limits.max_cost
        make_agent(study, replace(asked.options, max_cost=limit))  # a missing key is said here, not in a log
    return start_detached(study, plan.words())


def finish(study: Study, unsafe: bool = False) -> str:
    """Measure the result of a study in the background, once: fresh seeds, then the sealed test split.

    Starts nothing when the result is measured already, or is being measured. Raises StudyError while a process runs
    the study otherwise, and when nothing better than the baseline was found.
    """
    from ..study.finish import Outlook  # numpy, which the other functions do without

    _still_there(study)
    state = read_state(study)
    if state.result is not None:
        return f"The result of study {study.name} is measured already. {result_words(state.result).splitlines()[0]}"
    if (holder := lock_holder(study.paths.lock)) is not None:
        if look(study).is_finishing:
            return f"{_process_of(holder).capitalize()} measures the result of study {study.name} already."
        raise StudyError(
            f"Study {study.name!r} is being run by {_process_of(holder)}: "
            "wait until it ends or stop it, then finish it."
        )
    outlook = Outlook.of(study)
    need_sandbox(unsafe)
    pid = start_detached(study, ["--unsafe"] if unsafe else [], command="finish")
    return (
        f"Process {pid} measures the result in the background: {count(outlook.num_trainings, 'training')} of "
        f"{study.time_budget_seconds:g} s, about {duration(outlook.seconds)}. This notebook may be closed."
    )


def _process_of(holder: Mapping[str, Any]) -> str:
    """Who holds a study; it may have taken the lock this very moment, and not said yet who it is."""
    return f"process {holder['pid']}" if holder.get("pid") else "another process"


def _still_there(study: Study) -> None:
    if not study.paths.study.is_file():
        raise StudyError(f"Study {study.name} was removed: {study.paths.study} is gone.")


def need_sandbox(unsafe: bool) -> None:
    """Raise StudyError where code would run without a sandbox and nobody said --unsafe: now, not in a log later."""
    if unsafe:
        return
    try:
        require_sandbox()
    except SandboxMissing as missing:
        raise StudyError(str(missing)) from missing


def say_to(study: Study, command: str, text: str = "") -> str:
    """Send `pause`, `resume`, `hint` ... and return the answer.

    Raises StudyError when no process runs the study, and for a hint to an agent that reads none.
    """
    if command == "hint" and study.agent in NO_READERS:
        raise StudyError(NO_READERS[study.agent])
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
        raise WouldOverwrite(
            f"{target} has changed since study {study.name!r} began and would be overwritten. Commit or copy it first.",
            remedy="Then use --force.",
            in_panel='Then press "Overwrite train.py" or run `lab.promote(force=True)`.',
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
