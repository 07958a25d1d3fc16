"""The detached supervisor: a study that goes on when the terminal, the browser or the session is closed.

It is the command `autoresearch run` in a process of its own session, with its output in the study's supervisor.log.
`record/commands.py` talks to it and `show/follow.py` sees it; this module starts it, and ends it when it
does not listen.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from ..agents.server import read_key
from ..record.commands import FOR_THE_AGENT, send, wait_for_answer
from ..record.study import Remedied, Study, StudyError
from ..study.disk_space import release_reserve_if_full
from ..study.server_start import take_asked
from ..system.disk import free_bytes
from ..system.files import boot_id, ensure_folder, lock_holder, study_in_use
from ..system.shell import shell_command
from ..system.start import python_command

START_SECONDS = 60.0  # until it holds the study; a cold disk takes most of it
ANSWER_SECONDS = 5.0  # until a command is acknowledged: it looks several times a second, but not while an agent thinks
LOG_TAIL_BYTES = 2_000
LEAST_FREE_MB = 16  # with less, a supervisor that says nothing was probably kept from it by the disk
PROGRAMS = ("cli.py", "autoresearch")  # as the lock names them


class StillStarting(StudyError):
    """A supervisor has not taken up its study in time, and may do so yet."""


def start_detached(study: Study, options: Sequence[str] = (), command: str = "run") -> int:
    """Continue `study`, or finish it, in a process of its own and return its pid once it holds the study.

    Args:
        options: of `autoresearch run`, as ("--experiments", "100").
        command: "run", "finish" or "attribute".

    Raises StudyInUse when the study is being run already, StudyError when the process ends instead of starting,
    StillStarting when it takes too long.
    """
    _refuse_second(study)
    release_reserve_if_full(study, free_bytes)  # so that the process can say in its log what is wrong
    ensure_folder(study.paths.folder)
    key = read_key()
    words = python_command("autoresearch_kernel.cli", command, "--name", study.name, *options)
    with open(study.paths.supervisor_log, "ab") as log:
        begin = log.tell()
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=study.project,
            env=os.environ | ({"OPENAI_API_KEY": key} if key else {}),
            start_new_session=True,
        )
    take_asked(study.name)  # which the supervisor records
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        holder = lock_holder(study.paths.lock)
        if holder and holder.get("pid") == process.pid:
            return process.pid
        if process.poll() is not None:
            with open(study.paths.supervisor_log, "rb") as log:
                log.seek(max(begin, os.fstat(log.fileno()).st_size - LOG_TAIL_BYTES))
                said = log.read().decode("utf-8", "replace").strip()
            if process.returncode == 0:  # so short a study that it is over already
                return process.pid
            _refuse_second(study)
            said = f"It said: {said}" if said else _about_silence(study)
            raise StudyError(f"The supervisor did not start (exit status {process.returncode}). {said}")
        time.sleep(0.05)
    raise StillStarting(
        f"The supervisor, process {process.pid}, did not take up study {study.name!r} within {START_SECONDS:.0f} s; "
        f"see {study.paths.supervisor_log}."
    )


def _about_silence(study: Study) -> str:
    free = free_bytes(study.paths.folder) / 1e6
    full = " Free some space and start it again." if free < LEAST_FREE_MB else ""
    return f"It said nothing in {study.paths.supervisor_log}, whose disk has {free:.0f} MB left.{full}"


def _refuse_second(study: Study) -> None:
    holder = lock_holder(study.paths.lock)
    if holder is not None:
        raise study_in_use(study.paths.lock, holder)


def ask(study: Study, command: str, text: str = "", **others: str) -> str | None:
    """Send a command and return the answer; None when the supervisor is busy and will read it later.

    `others` are further fields of the command.
    Raises StudyError when no process runs the study, unless the command is for the agent: the next supervisor reads it.
    """
    holder = lock_holder(study.paths.lock)
    if holder is None and command not in FOR_THE_AGENT:
        raise Remedied(
            f"No process runs study {study.name!r}, so there is nothing to {command.split()[0]}.",
            remedy=f"`{shell_command(f'run --name {study.name} --detach')}` continues it.",
            in_panel="Press Continue or run `lab.go_on()` to continue it.",
        )
    sent = send(study.paths.commands, command, text, **others)
    if holder is None:
        return "no process runs the study now; it holds when the study goes on"
    return wait_for_answer(study.paths.history, sent, ANSWER_SECONDS)


def end(study: Study, seconds: float = 30.0) -> bool:
    """End a supervisor that does not listen: SIGTERM, which it records, then SIGKILL. True when it is gone.

    Only on the host and boot that it runs on, as elsewhere its pid means nothing, and only our own program: a notebook
    that runs the loop itself is the kernel of a user.
    """
    for signum in (signal.SIGTERM, signal.SIGKILL):
        holder = lock_holder(study.paths.lock)
        if not holder:
            return holder is None
        if (holder.get("host"), holder.get("boot_id")) != (os.uname().nodename, boot_id()):
            return False
        if holder.get("program") not in PROGRAMS:
            return False
        with suppress(ProcessLookupError):  # it went by itself
            os.kill(int(holder["pid"]), signum)
        if wait_until_free(study, seconds):
            return True
    return False


def wait_until_held(study: Study, seconds: float) -> bool:
    """Whether a process holds the study within `seconds`, or has held it since it was created."""
    return _within(seconds, lambda: lock_holder(study.paths.lock) is not None or study.paths.history.exists())


def wait_until_free(study: Study, seconds: float) -> bool:
    """Whether no process holds the study within `seconds`."""
    return _within(seconds, lambda: lock_holder(study.paths.lock) is None)


def _within(seconds: float, condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.1)
    return True
