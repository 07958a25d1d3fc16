"""Tells the user's command what is new in a study: has a courier started for each event, and never waits for it.

What a notice says, and that it is told once, is the affair of `courier.py`, a process of its own. A command that hangs,
fails or is missing is said once in a session, and delays or ends nothing.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import IO, TYPE_CHECKING

from ..core.format import plain
from ..core.notices import NewsReader, notice_id, study_name
from ..core.types import Progress
from ..record.curves import Tail
from ..record.history import events_so_far
from ..record.notices import Notifier, NotifierUnreadable, Told, read_notifier, told_in, write_notifier
from ..record.study import Study
from ..system.files import lock_holder
from ..system.start import python_command

if TYPE_CHECKING:
    from .session import Session, Watch

NONE = "none"  # what a user names instead of a command to get no more notices
COURIER = "autoresearch_kernel.study.courier"
OURS = ("AUTORESEARCH_", "OPENAI_")  # variables that the command does not get
RETRY_SECONDS = 60.0  # before a courier that failed is started again
FAREWELL_SECONDS = 5.0  # that a session waits at its end, when everything is recorded, for its last notices
LOOK_SECONDS = 0.05


def choose_notifier(study: Study, command: str | None) -> None:
    """From now on `command` is told of news of the study; "none" for no more notices, None leaves it as it was.

    Nothing changes while another process runs the study. News that the former command was not told of go to this one.
    """
    if command is None or lock_holder(study.paths.lock) is not None:
        return
    if command.strip().lower() in ("", NONE):
        study.paths.notify.unlink(missing_ok=True)
        return
    now = len(events_so_far(study.paths.history))
    with suppress(NotifierUnreadable):  # it is replaced
        before = read_notifier(study.paths.notify)
        if before is not None:
            if before.command != command:
                write_notifier(study.paths.notify, replace(before, command=command, greet_after=now))
            return
    write_notifier(study.paths.notify, Notifier(command, since=now, greet_after=now))


class Notices:
    """The notices of one session: `tick` as often as the supervisor looks at anything."""

    def __init__(self, study: Study, watch: Watch) -> None:
        self.study, self.watch = study, watch
        self._unread = ""  # why there are no notices although the user wants them
        self.notifier = self._read()
        known = self.notifier or Notifier("", 0, 0)
        self._reader = NewsReader(known.since, known.greet_after)
        self._num_read = 0  # events of the history
        self._news: list[str] = []  # ids of all news
        self._tail = Tail(study.paths.notified)
        self._told = told_in(self._tail.read_lines())
        self._told_before = frozenset(name for name, told in self._told.items() if told.is_ended)
        self._courier: subprocess.Popen[bytes] | None = None
        self._said: IO[bytes] | None = None  # what the courier prints: nothing unless it fails
        self._not_before = 0.0  # monotonic seconds of the next start
        self._is_failure_told = False

    def _read(self) -> Notifier | None:
        try:
            return read_notifier(self.study.paths.notify)
        except (NotifierUnreadable, OSError) as error:
            self._unread = str(error)
            return None

    def tick(self, session: Session) -> None:
        """Look for news, and have a courier started for what was not told; return at once."""
        if self._unread:
            self._say(session, f"There are no notices: {self._unread}")
            self._unread = ""
        if self.notifier is None:
            return
        self._read_events(session)
        if failed := self._look():
            self._say(session, failed)

    def _read_events(self, session: Session) -> None:
        events = session.history.events
        name = study_name(events)
        for event in events[self._num_read :]:
            if self._reader.kind(event) is not None:
                self._news.append(notice_id(name, event))
        self._num_read = len(events)

    def _look(self) -> str:
        """Start a courier where one is due; the first failure, in words, "" where there is none to tell."""
        told_in(self._tail.read_lines(), self._told)
        failed = self._courier_failed()
        if self._courier is None and self._is_due() and time.monotonic() >= self._not_before:
            failed = self._start() or failed
        failed = failed or next((told.failed for told in self._told_now() if told.failed), "")
        if not failed or self._is_failure_told:
            return ""
        self._is_failure_told = True
        return (
            f"A notice was not delivered: {plain(failed)}. The study goes on, and so do its notices; this is said "
            f"once. The command is in {self.study.paths.notify}, and --notify names another."
        )

    def _told_now(self) -> list[Told]:
        """Of all news, those whose command was started and has not ended before this session."""
        return [self._told[name] for name in self._news if name in self._told and name not in self._told_before]

    def _is_due(self) -> bool:
        return any(name not in self._told for name in self._news)

    def _start(self) -> str:
        """Start a courier; why it cannot be started, "" when it is."""
        words = python_command(COURIER, str(self.study.paths.folder), str(self.study.project))
        kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        try:
            self._said = tempfile.TemporaryFile()  # noqa: SIM115  (it is read when the courier has ended)
            self._courier = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._said,
                cwd=self.study.project,
                env=kept,
                start_new_session=True,
            )
        except OSError as error:
            self._not_before = time.monotonic() + RETRY_SECONDS
            return f"no process could be started for it ({error.strerror or error})"
        return ""

    def _courier_failed(self) -> str:
        """What a courier said that failed; "" while it works, and when it has done its work."""
        if self._courier is None or self._courier.poll() is None:
            return ""
        status, said, self._courier, self._said = self._courier.returncode, self._said, None, None
        assert said is not None
        with said:
            if status == 0:
                return ""
            said.seek(0)
            words = said.read(4_000).decode("utf-8", "replace").strip()
        self._not_before = time.monotonic() + RETRY_SECONDS
        return words or f"the process that starts the command ended with exit status {status}"

    def _say(self, session: Session, words: str) -> None:
        with suppress(OSError):  # a full disk, say: then the terminal alone shows it
            session.history.append("note", text=words)
        self.watch(Progress("note", text=words))

    @contextmanager
    def told_at_the_end(self) -> Iterator[None]:
        """After this block, in which the session is held, wait a moment for what is still to be told."""
        try:
            yield
        finally:
            deadline = time.monotonic() + FAREWELL_SECONDS
            while self.notifier is not None and self._is_under_way() and time.monotonic() < deadline:
                time.sleep(LOOK_SECONDS)
                if failed := self._look():
                    self.watch(Progress("note", text=failed))

    def _is_under_way(self) -> bool:
        """Whether a notice waits for a courier that can be started, or a courier for a command."""
        if self._courier is not None:
            return True
        return self._is_due() and time.monotonic() >= self._not_before
