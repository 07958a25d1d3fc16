"""Runs the user's command for each notice of a study that it was not run for: a process of its own, one at a time.

It reads which news there are from the history, and which were told from notified.jsonl. The supervisor starts it and
never waits for it; it goes on when the supervisor is killed. A notice is marked in the process that becomes the user's
command, directly before it does, so no kill of supervisor or courier makes a notice be told twice or not at all. What
is lost is a notice whose command itself is killed, or whose machine loses its power, in the moment that it starts.

    python -m autoresearch_kernel.study.courier studies/NAME PROJECT
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, Any

from ..core.format import duration, plain
from ..core.notices import news, notice_id, study_name
from ..core.state import replay
from ..record.history import read_events
from ..record.notices import Notifier, mark, read_notifier, read_told
from ..record.paths import StudyPaths
from ..show.notice_words import notice
from ..system.explain import run_main
from ..system.files import flock, utc_now
from ..system.locations import RUN_TOKEN
from ..system.processes import adopt_orphans, descendants, has_carrier, kill_by_token, kill_descendants, kill_group

TITLE, TEXT, KIND = "AUTORESEARCH_TITLE", "AUTORESEARCH_TEXT", "AUTORESEARCH_KIND"  # of a notice, for the command
SHELL = "/bin/sh"
LOOK_SECONDS = 0.05
TURN_SECONDS = 120.0  # that a courier waits for the courier of an earlier supervisor
MOST_BYTES = 2**20  # that a command may print
LONGEST_WORDS = 200  # characters of its last line that are shown
ALARM_AFTER_SECONDS = 10  # behind the limit: ends a command whose courier was killed


def main() -> int:
    """Tell all that was not told, oldest first."""
    paths, project = StudyPaths(Path(sys.argv[1])), Path(sys.argv[2])
    fd = os.open(paths.notified, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    if not _take_turn(fd, paths.folder):
        print("another courier is at work", file=sys.stderr)
        return 1
    adopt_orphans()
    notifier = read_notifier(paths.notify)
    if notifier is not None:
        _end_earlier(fd, paths.notified, notifier.limit_seconds)
    while notifier is not None and (facts := _next(paths, notifier)) is not None:
        _tell(fd, facts, notifier, project)
        notifier = read_notifier(paths.notify)
    return 0


def _take_turn(fd: int, folder: Path) -> bool:
    """Lock notified.jsonl. The lock passes on to the process that becomes the command, until it is that command."""
    deadline = time.monotonic() + TURN_SECONDS
    while time.monotonic() < deadline:
        with suppress(BlockingIOError):
            flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, folder)
            return True
        time.sleep(LOOK_SECONDS)
    return False


def _end_earlier(fd: int, notified: Path, limit_seconds: float) -> None:
    """Let commands end whose courier was killed, and kill what is left of them at their limit."""
    deadline = time.monotonic() + limit_seconds
    for name, told in read_told(notified).items():
        if told.is_ended or not told.token:
            continue
        while has_carrier(told.token) and time.monotonic() < deadline:
            time.sleep(10 * LOOK_SECONDS)
        failed = _late(limit_seconds) if kill_by_token(told.token) else ""
        mark(fd, id=name, ended=utc_now(), failed=failed)


def _next(paths: StudyPaths, notifier: Notifier) -> dict[str, Any] | None:
    """The first notice that was not told; None when all were."""
    events = read_events(paths.history)
    told, study = read_told(paths.notified), study_name(events)
    for kind, event in news(events, notifier.since, notifier.greet_after):
        if notice_id(study, event) not in told:
            return notice(kind, event, replay(events, left_out=[]))
    return None


def _tell(fd: int, facts: Mapping[str, Any], notifier: Notifier, project: Path) -> None:
    """Run the command for one notice, within its limit. Raises OSError where that cannot be marked."""
    token = secrets.token_hex(16)
    line = {"id": facts["id"], "kind": facts["kind"], "began": utc_now(), "token": token}
    own = {TITLE: facts["title"], TEXT: facts["text"], KIND: facts["kind"], RUN_TOKEN: token}
    with tempfile.TemporaryFile() as said, _given(facts) as stdin:
        try:
            command = subprocess.Popen(
                [SHELL, "-c", notifier.command],
                stdin=stdin,
                stdout=said,
                stderr=subprocess.STDOUT,
                cwd=project,
                env=os.environ | own,
                start_new_session=True,
                preexec_fn=partial(_begin, fd, line, notifier.limit_seconds),
            )
        except OSError as error:
            failed = f"it cannot be started ({error.strerror or error})"
        else:
            failed = _wait(command, said, time.monotonic() + notifier.limit_seconds, notifier.limit_seconds)
            kill_group(command.pid)
            kill_descendants()
    mark(fd, id=facts["id"], ended=utc_now(), failed=failed)


@contextmanager
def _given(facts: Mapping[str, Any]) -> Iterator[IO[bytes]]:
    """The notice as one line of JSON, for standard input: whole before the command starts."""
    with tempfile.TemporaryFile() as file:
        file.write(json.dumps(facts, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
        file.seek(0)
        yield file


def _begin(fd: int, line: Mapping[str, Any], limit_seconds: float) -> None:
    """In the process that becomes the command: mark the notice, and set an alarm that outlives a killed courier."""
    mark(fd, **line)
    signal.alarm(int(limit_seconds) + ALARM_AFTER_SECONDS)


def _wait(command: subprocess.Popen[bytes], said: IO[bytes], deadline: float, limit_seconds: float) -> str:
    """Return when the command and what it started have ended, at the deadline at the latest; why it failed, or ""."""
    while time.monotonic() < deadline:
        if command.poll() is not None and not _others_live():
            break
        if os.fstat(said.fileno()).st_size > MOST_BYTES:
            return "it printed more than 1 MB and was ended"
        time.sleep(LOOK_SECONDS)
    if command.returncode is None:
        return _late(limit_seconds)
    if command.returncode == 0:
        return ""
    how = f"exit status {command.returncode}" if command.returncode > 0 else f"signal {-command.returncode}"
    return ": ".join(filter(None, (how, _last_line(said))))


def _late(limit_seconds: float) -> str:
    return f"it did not end within {duration(limit_seconds)} and was ended"


def _others_live() -> bool:
    """Whether anything runs that the command left, as the part of a mail program that delivers."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0] > 0:
            pass
    return bool(descendants(os.getpid()))


def _last_line(said: IO[bytes]) -> str:
    said.seek(max(0, os.fstat(said.fileno()).st_size - 4 * LONGEST_WORDS))
    lines = [line for line in said.read().decode("utf-8", "replace").splitlines() if line.strip()]
    return plain(lines[-1], LONGEST_WORDS) if lines else ""


if __name__ == "__main__":
    sys.exit(run_main(main))
