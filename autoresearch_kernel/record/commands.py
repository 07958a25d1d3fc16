"""commands.jsonl: the commands of users to the supervisor of a study. Any client writes it; the supervisor reads it.

A command is one line, appended in a single write. The supervisor answers it with a `command` event of the same id in
the history. This module transmits commands and does not know what they do.
"""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

from ..system.files import ensure_folder, flock, sync, utc_now, write
from .curves import Tail
from .history_reader import HistoryReader

FOR_THE_AGENT = ("hint", "clear hints")  # they wait for the next supervisor when none runs
KNOWN = ("pause", "resume", "stop", "stop now", *FOR_THE_AGENT, "approve", "reject")
# How the supervisor answers an `approve` or `reject` that it does not obey.
NOTHING_WAITS, CHECKED_ALREADY = "nothing waits for that", "is being checked already"
OTHER_FILE = "another file was put there meanwhile"
TEXT_LIMIT = 10_000  # characters: a line stays far below the size that a single write accepts


@dataclass(frozen=True)
class Command:
    """One request of a user to the supervisor."""

    id: str
    command: str  # one of KNOWN
    text: str  # a hint, the reason of a rejection, or the hypothesis of an approved proposal; "" otherwise
    by: str  # the user: "name@host"
    time: str  # UTC ISO 8601
    expected: str = ""  # of an approved proposal: the effect on val_bpb that its author expects
    refutation: str = ""  # of an approved proposal: which result would show that its hypothesis is wrong
    train_sha256: str = ""  # of the file that is approved; "" for the file as it is when the supervisor reads it


def send(path: Path, command: str, text: str = "", **others: str) -> Command:
    """Append a command durably; `others` are further fields of Command.

    Raises ValueError for an unknown command or a text that is too long.
    """
    if command not in KNOWN:
        raise ValueError(f"There is no command {command!r}. Known are {', '.join(KNOWN)}.")
    if (length := max(map(len, (text, *others.values())))) > TEXT_LIMIT:
        raise ValueError(f"A text of {length} characters is too long; say it in at most {TEXT_LIMIT}.")
    sent = Command(uuid.uuid4().hex, command, text, f"{_user()}@{os.uname().nodename}", utc_now(), **others)
    line = json.dumps(asdict(sent)).encode() + b"\n"
    ensure_folder(path.parent)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        flock(fd, fcntl.LOCK_EX, path.parent)
        size = os.fstat(fd).st_size
        if size and os.pread(fd, 1, size - 1) != b"\n":  # another writer died in the middle of a line
            line = b"\n" + line
        write(fd, line)
        sync(fd)
    finally:
        os.close(fd)
    return sent


class Inbox:
    """Gives the supervisor new commands as they arrive. Lines that are no command are skipped."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._tail = Tail(path)

    def read(self) -> list[Command]:
        """The commands since the last call. Without new ones, the call costs one `stat`."""
        try:
            size = self.path.stat().st_size
        except FileNotFoundError:
            size = 0
        if size < self._tail.offset:  # a user has removed or shortened the file; a command is answered once, by its id
            self._tail = Tail(self.path)
        if size == self._tail.offset:
            return []
        return [command for line in self._tail.read_lines() if (command := _parse(line))]


def wait_for_answer(history: Path, command: Command, seconds: float) -> str | None:
    """The supervisor's answer; None when there is none within `seconds`."""
    deadline, reader = time.monotonic() + seconds, HistoryReader(history)
    while True:
        if reader.read():
            for event in reversed(reader.events):
                if event["event"] == "command" and event.get("id") == command.id:
                    return str(event.get("answer") or "")
        if time.monotonic() >= deadline:
            return None
        time.sleep(0.1)


def _parse(line: bytes) -> Command | None:
    try:
        fields = json.loads(line)
        known = {name: str(fields[name]) for name in ("id", "command", "text", "by", "time")}
        others = {name: str(fields.get(name) or "") for name in ("expected", "refutation", "train_sha256")}
        command = Command(**known, **others)
    except (ValueError, KeyError, TypeError):
        return None
    return command


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # in a container, a uid may have no name
        return f"uid {os.getuid()}"
