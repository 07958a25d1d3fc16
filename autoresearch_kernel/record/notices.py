"""Who is told of a study's news, and what was told: notify.json and notified.jsonl.

Neither is part of the record: the news themselves are events of the history. notify.json holds a command of the user,
which may contain a secret, so only its owner can read it. notified.jsonl gets one line directly before the command of
a notice starts, and one line after it has ended.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..core.errors import Plain
from ..core.sanitize import parse_object
from ..system.files import sync, write, write_atomic

LIMIT_SECONDS = 30.0  # for the command of one notice


class NotifierUnreadable(Plain, ValueError):
    """notify.json was damaged; the message says what to do."""


@dataclass(frozen=True)
class Notifier:
    """The user's command, and from which event of the history on it is told."""

    command: str  # for /bin/sh
    since: int  # number of the last event of which nothing is told
    greet_after: int  # the first session that opens after this event is told of
    limit_seconds: float = LIMIT_SECONDS


@dataclass(frozen=True)
class Told:
    """What is known of a notice whose command was started."""

    token: str  # in the environment of the command
    is_ended: bool = False
    failed: str = ""  # why it may not have arrived; "" where nothing says so


def read_notifier(path: Path) -> Notifier | None:
    """None where the user wants no notices. Raises NotifierUnreadable."""
    try:
        return Notifier(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise NotifierUnreadable(
            f"{path} cannot be read ({error}). Remove it, and name the command again with --notify."
        ) from error


def write_notifier(path: Path, notifier: Notifier) -> None:
    """Replace notify.json by one that its owner alone can read."""
    write_atomic(path, json.dumps(asdict(notifier)) + "\n", mode=0o600)


def read_told(path: Path) -> dict[str, Told]:
    """What was told, by the notice's id; a line that was cut off counts for nothing."""
    try:
        return told_in(path.read_bytes().splitlines())
    except FileNotFoundError:
        return {}


def told_in(lines: Iterable[bytes], told: dict[str, Told] | None = None) -> dict[str, Told]:
    """`told` with what further lines of notified.jsonl say."""
    known = {} if told is None else told
    for line in lines:
        facts = parse_object(line) or {}
        name = facts.get("id")
        if not isinstance(name, str):
            continue
        if "ended" in facts:
            before = known.get(name, Told(""))
            known[name] = Told(before.token, True, str(facts.get("failed") or ""))
        else:
            known.setdefault(name, Told(str(facts.get("token") or "")))
    return known


def mark(fd: int, **facts: Any) -> None:
    """Append one line to notified.jsonl, durably. Its caller holds the lock of the file."""
    size = os.fstat(fd).st_size
    start = b"\n" if size and os.pread(fd, 1, size - 1) != b"\n" else b""  # the last writer was killed in a line
    write(fd, start + json.dumps(facts).encode() + b"\n")
    sync(fd)
