"""What a user can do with a study: one function for each button of the panel and each command that a study answers.

A study runs in a process of its own. These functions start it, send it commands and promote what it found; each
returns the sentence to show. They draw nothing and decide nothing.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..agents.command_check import wrong_with
from ..agents.options import NO_READERS, PRICES, WITH_MODEL, WITH_SERVER, chat_of, tool_chat
from ..agents.prices import read_prices
from ..agents.server import knows_server
from ..core.errors import with_arguments
from ..core.format import count, duration
from ..core.state import StudyState
from ..core.types import ignore
from ..record import history
from ..record.commands import CHECKED_ALREADY, FOR_THE_AGENT, NOTHING_WAITS, OTHER_FILE
from ..record.git import LineageError
from ..record.paths import study_paths
from ..record.study import (
    Study,
    StudyError,
    WouldOverwrite,
    check_unchanged,
    sha256,
    study_exists,
    study_names,
)
from ..record.study import (
    open_study as open_study,  # for the panel
)
from ..sandbox.kinds import SandboxMissing, require_sandbox
from ..show.attribution_words import attribution_lines
from ..show.follow import look
from ..show.study_words import sealed_words
from ..study.create import start_study
from ..study.notices import choose_notifier
from ..study.options import (
    OptionRefused,
    SettingsRefused,
    StudyOptions,
    agent_of,
    agent_options,
    limits_of,
    options_of,
    refuse_other_settings,
    supervisor_words,
    wrong_values,
)
from ..study.server_start import require_server
from ..system.disk import is_full
from ..system.files import ensure_folder, flock, lock_holder, write_atomic
from ..system.places import require_places
from ..system.shell import shell_command
from .supervisor import StillStarting, ask, end, start_detached, wait_until_free

NO_SERVER = (
    "No language model can be reached: give this kernel a key by running "
    '`import getpass, os; os.environ["OPENAI_API_KEY"] = getpass.getpass()` in a cell, or the address of a local '
    'server with `os.environ["OPENAI_BASE_URL"] = "http://localhost:11434/v1"`.'
)
LATER = "sent; the supervisor reads it as soon as its agent has answered"


def problems(name: str, project: Path, fields: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with the settings of a new study, by field; empty when nothing is. Cheap: nothing is built."""
    found = wrong_values(fields)
    asked = options_of(fields)
    try:
        study_paths(name, project)
        if study_exists(name, project):
            found["name"] = f"There is a study {name} already: choose it above, or take another name."
    except ValueError:
        found["name"] = "Letters, digits, '-', '_' and '.', as in nov23."
    if asked.corpus == "files" and (wrong := _wrong_folder(asked.files_folder or "")):
        found["files_folder"] = wrong
    return found if "agent" in found else _wrong_agent(asked, project) | found


def _wrong_agent(asked: StudyOptions, project: Path) -> dict[str, str]:
    """What is wrong with the agent and what belongs to it, by option."""
    agent = asked.value("agent")
    found = {"agent": NO_SERVER} if agent in WITH_SERVER and not knows_server() else {}
    try:
        options = agent_options(agent, asked, os.environ)
    except OptionRefused as refused:
        return {refused.option: with_arguments(str(refused))} | found
    if agent == "replay" and options["from"] not in study_names(project):
        return {"recording": f"There is no study {options['from']}."}
    if agent == "command":
        return _wrong_tool(options, project, asked.max_cost)
    if agent not in WITH_MODEL:
        return {}
    model = options["model"]
    try:
        is_priced = asked.max_cost is None or read_prices(project / PRICES).cost(model, 1, 1) is not None
    except ValueError as error:
        return found | {"max_cost": str(error)}
    if not is_priced:
        found["max_cost"] = f"{PRICES} does not state the price of {model!r}: add it there, or leave the limit out."
    return found


def _wrong_tool(options: dict[str, Any], project: Path, max_cost: float | None) -> dict[str, str]:
    """What is wrong with a command-line tool, by option; it is asked nothing."""
    try:
        words = wrong_with(tool_chat(project, options, None))
        if not words and max_cost is not None:
            tool_chat(project, options, max_cost)
    except StudyError as error:
        return {"max_cost" if "limit of $" in str(error) else "with_": with_arguments(str(error))}
    return {"with_": with_arguments(words)} if words else {}


def _wrong_folder(folder: str) -> str:
    if not Path(folder).is_absolute():
        return "The whole path of a folder with your texts, from / on."
    return "" if os.path.exists(folder) else f"There is no folder or file {folder}."


def begin(name: str, project: Path, fields: Mapping[str, Any], say: Callable[[str], None]) -> Study:
    """Create a study and let it run in the background. Raises SettingsRefused, and StudyError for all else."""
    asked = options_of(fields)
    if wrong := problems(name, project, fields):
        raise SettingsRefused(wrong)
    check_machine(project, bool(asked.unsafe))
    try:
        study = start_study(name, project, asked, say)
    except LineageError as error:  # a branch of that name is there
        raise SettingsRefused({"name": with_arguments(str(error))}) from error
    say("Starting ...")
    try:
        choose_notifier(study, asked.notify)
        start_detached(study, supervisor_words(asked))
    except StillStarting:
        raise
    except (StudyError, OSError) as error:
        is_removed = False
        with suppress(OSError):  # another process has it, or the drive fails: then it stays
            is_removed = _remove_unbegun(study)
        if is_removed and isinstance(error, StudyError):
            raise StudyError(f"{str(error).rstrip()} Nothing of it is kept: start it again.") from error
        raise
    return study


def _remove_unbegun(study: Study) -> bool:
    """Remove a study that was created and has recorded nothing: continued, it would lack what was asked for it.

    Returns whether it was removed.
    """
    lock = os.open(study.paths.lock, os.O_RDWR)
    try:
        flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB, study.paths.folder)
        if not study.paths.history.is_file() or study.paths.history.stat().st_size == 0:
            shutil.rmtree(study.paths.folder)
            return True
    finally:
        os.close(lock)
    return False


def go_on(study: Study, fields: Mapping[str, Any]) -> int:
    """Continue a study in the background; returns the pid. Raises StudyInUse when it runs already."""
    asked = options_of(fields)
    if wrong := wrong_values(fields):
        raise SettingsRefused(wrong)
    _still_there(study)
    refuse_other_settings(study, asked)
    check_machine(study.project, bool(asked.unsafe))
    if study.agent in WITH_MODEL:
        if study.agent in WITH_SERVER and not knows_server():
            raise StudyError(NO_SERVER)
        agent = agent_of(study, asked, limits_of(read_state(study), asked))  # a missing key is said here, not in a log
        if (chat := chat_of(agent)) is not None:
            require_server(study.name, chat, study.project, ignore)
    choose_notifier(study, asked.notify)
    return start_detached(study, supervisor_words(asked))


def finish(study: Study, unsafe: bool = False) -> str:
    """Measure the result of a study in the background, once: fresh seeds, then the sealed test split.

    Starts nothing when the result is measured already, or is being measured. Raises StudyError while a process runs
    the study otherwise, and when nothing better than the baseline was found.
    """
    from ..study.finish import Outlook  # numpy, which the other functions do without

    _still_there(study)
    state = read_state(study)
    if state.result is not None:
        return f"The result of study {study.name} is measured already. {sealed_words(state).splitlines()[0]}"
    if (holder := lock_holder(study.paths.lock)) is not None:
        if look(study).is_finishing:
            return f"{_process_of(holder).capitalize()} measures the result of study {study.name} already."
        raise StudyError(
            f"Study {study.name!r} is being run by {_process_of(holder)}: "
            "wait until it ends or stop it, then finish it."
        )
    outlook = Outlook.of(study)
    check_machine(study.project, unsafe)
    pid = start_detached(study, ["--unsafe"] if unsafe else [], command="finish")
    return (
        f"Process {pid} measures the result in the background: {count(outlook.num_trainings, 'training')} of "
        f"{study.time_budget_seconds:g} s, about {duration(outlook.seconds)}. This notebook may be closed."
    )


def attribute(study: Study, seeds: int | None = None, unsafe: bool = False) -> str:
    """Take each kept change out of a study's champion in the background, on fresh seeds.

    Starts nothing when that is done already, or is going on. Raises StudyError while a process runs the study
    otherwise, and when nothing better than the baseline was found.
    """
    from ..study.attribution import Outlook

    _still_there(study)
    outlook, state = Outlook.of(study, seeds), read_state(study)
    known = state.attribution
    if known is not None and known.is_done(seeds):
        return attribution_lines(state)[0]
    if (holder := lock_holder(study.paths.lock)) is not None:
        if look(study).is_attributing:
            return f"{_process_of(holder).capitalize()} takes out the kept changes of study {study.name} already."
        raise StudyError(
            f"Study {study.name!r} is being run by {_process_of(holder)}: wait until it ends or stop it, then press "
            "Attribute."
        )
    check_machine(study.project, unsafe)
    options = [*(["--seeds", str(seeds)] if seeds else []), *(["--unsafe"] if unsafe else [])]
    pid = start_detached(study, options, command="attribute")
    return f"Process {pid} runs in the background. {plan_of_attribution(study, outlook)} This notebook may be closed."


def share(
    study: Study, prompts: bool = False, yes: bool = False, say: Callable[[int, int], None] = lambda done, of: None
) -> str:
    """Make one zip of the study in its project's folder, which others can open, read and check.

    Args:
        prompts: with the prompts and replies of its model.
        yes: remove all words that may be private. Without it, Unanswered names them when there are any.
        say: hears how many experiments of how many are done.
    """
    from ..share.command import refuse, report, share_study  # pages and pictures, which no other command needs

    _still_there(study)
    into = study.project / f"{study.name}.zip"
    _, made = share_study(study, into, agree=lambda num: prompts, decide=list if yes else refuse, say=say)
    return report(into.relative_to(study.project), made, "lab.share(prompts=True) in a cell")


def plan_of_attribution(study: Study, outlook: Any) -> str:
    """What an attribution trains, and how long that takes at most; `outlook` is `study.attribution.Outlook`."""
    changes = count(outlook.num_changes, "kept change")
    return (
        f"Attribution of study {study.name}: experiment {outlook.champion:04d} trains without each of its {changes}, "
        f"on up to {count(outlook.num_seeds, 'fresh seed')}. That is at most about "
        f"{count(outlook.num_trainings, 'training')} of {study.time_budget_seconds:g} s, {duration(outlook.seconds)}; "
        "what is clear earlier stops earlier."
    )


def _process_of(holder: Mapping[str, Any]) -> str:
    """Who holds a study; it may have taken the lock this very moment, and not said yet who it is."""
    return f"process {holder['pid']}" if holder.get("pid") else "another process"


def _still_there(study: Study) -> None:
    if not study.paths.study.is_file():
        raise StudyError(f"Study {study.name} was removed: {study.paths.study} is gone.")


def check_machine(project: Path, unsafe: bool) -> None:
    """Raise StudyError or NoPlace where no study can run, instead of letting a supervisor fail and log it.

    That is so without a sandbox, unless `unsafe` renounces it, and where a folder cannot be used.
    """
    require_places(project)
    if unsafe:
        return
    try:
        require_sandbox()
    except SandboxMissing as missing:
        raise StudyError(str(missing)) from missing


def say_to(study: Study, command: str, text: str = "", **others: str) -> str:
    """Send `pause`, `resume`, `hint` ... and return the answer; `others` are further fields of the command.

    Raises StudyError when no process runs the study, when it was removed, for a hint to an agent that reads none, and
    for an `approve` or `reject` that comes when nothing waits for it.
    """
    _still_there(study)
    if command in FOR_THE_AGENT and study.agent in NO_READERS:
        raise StudyError(NO_READERS[study.agent])
    answer = ask(study, command, text, **others) or LATER
    if command in ("approve", "reject") and answer.endswith((NOTHING_WAITS, CHECKED_ALREADY, OTHER_FILE)):
        raise _not_taken(study, command, answer)
    return answer


def _not_taken(study: Study, command: str, answer: str) -> StudyError:
    return StudyError(
        f"{answer[0].upper()}{answer[1:]}, so this {command} of study {study.name!r} was not taken. Repeat it when "
        f"`{shell_command(f'status --name {study.name}')}` says that an experiment waits for you."
    )


def hint(study: Study, text: str = "", clear: bool = False) -> str:
    """Say something to the agent; with `clear` it no longer gets what was said before. Returns the answer."""
    text = text.strip()
    if not text and not clear:
        raise StudyError("There is nothing in the hint. Write what the agent should know.")
    answers = [say_to(study, "clear hints")] if clear else []
    return "; ".join([*answers, *([say_to(study, "hint", text)] if text else [])])


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


def approve(study: Study, source: str | None = None, why: str = "", seen_sha256: str = "", **reasons: str) -> str:
    """Let what waits for a person train: as it lies in the file under review, or as `source`.

    Args:
        seen_sha256: of the file under review as the user has seen it; "" for whatever it is now.
        reasons: `expected` and `refutation`.

    Raises StudyError when it is not taken: nothing waits, another proposal is handed over at this moment or is being
    checked, or the file is not the one that the user has seen.
    """
    if source is None:
        return say_to(study, "approve", why, **reasons, train_sha256=seen_sha256)
    if read_state(study).review is None:
        raise StudyError(f"Nothing of study {study.name!r} waits for you, so your train.py was not taken.")
    with _handing_over(study):
        return _approve_in_place(study, source, why, seen_sha256, reasons)


@contextmanager
def _handing_over(study: Study) -> Iterator[None]:
    """Within this block no other client puts a train.py in the place of the one under review."""
    folder = study.paths.review.parent
    ensure_folder(folder)
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, folder)
        except BlockingIOError as error:
            raise StudyError(
                f"Another train.py is handed over to study {study.name!r} at this moment, so yours was not taken. "
                f"`{shell_command(f'wait --name {study.name}')}` says what becomes of the other one."
            ) from error
        yield
    finally:
        os.close(fd)


def _approve_in_place(study: Study, source: str, why: str, seen_sha256: str, reasons: Mapping[str, str]) -> str:
    """Put a train.py in the place of the one under review and approve it; when it is not taken, put that one back."""
    review = study.paths.review
    before = review.read_bytes() if review.is_file() else b""
    if seen_sha256 and sha256(before) != seen_sha256:
        raise _not_taken(study, "approve", OTHER_FILE)
    write_atomic(review, source)
    try:
        return say_to(study, "approve", why, **reasons, train_sha256=sha256(source))
    except (StudyError, ValueError):
        if review.read_bytes() == source.encode():  # else another user has put a file there
            write_atomic(review, before)
        raise


def promote(study: Study, force: bool = False) -> str:
    """Make the best train.py of a study the project's. Raises StudyError when that would lose edits."""
    state = read_state(study)
    champion = state.incumbent
    if champion is None:
        raise StudyError(
            f"Study {study.name!r} has no best train.py yet, because its baseline is not measured. "
            f"`{shell_command(f'run --name {study.name}')}` goes on with it."
        )
    if champion.number == 0:
        return (
            f"Study {study.name} has kept nothing besides its baseline, so there is nothing to promote: "
            f"{study.project / 'train.py'} stays as it is."
        )
    path = study.experiment(champion.number).train  # best/train.py is a view of it, which may not be drawn yet
    best = path.read_text(encoding="utf-8") if path.is_file() else ""
    if sha256(best) != champion.train_sha256:
        raise StudyError(f"{path} is not the file that was recorded. Restore it from a copy, or from git.")
    target = study.project / "train.py"
    current = target.read_bytes()
    if sha256(current) == sha256(best):
        return f"{target} is already the best of study {study.name}."
    ours = {study.facts["sha256"]["project train.py"], *(e.train_sha256 for e in state.experiments)}
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
