"""Runs a program of the user that may start others, and leaves none of its processes behind.

A small parent stands between this process and the program. On Linux it becomes the parent of every process that the
program leaves, daemons included, and kills them all when the program ends, at the deadline, and when this process ends.
Elsewhere the program's process group and the processes that carry its mark in their environment are killed.
Input and output are files, so neither a long prompt nor a program that does not read can block anything.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .locations import RUN_TOKEN
from .processes import adopt_orphans, die_with_parent, end_below, kill_by_token, kill_descendants, kill_group
from .start import python_command

LOOK_SECONDS = 0.05
MOST_BYTES = 4 * 2**20  # of each output; a program that writes more is ended
CANNOT_START = 127  # exit status of the parent, as a shell has it


@dataclass(frozen=True)
class Ended:
    """How a program ended, and what it wrote; output is cut to `MOST_BYTES`."""

    returncode: int  # negative: the signal that killed it
    stdout: bytes
    stderr: bytes
    seconds: float
    is_late: bool = False  # it was killed at its deadline
    is_flood: bool = False  # it wrote more than MOST_BYTES, and was killed if it had not ended
    not_started: str = ""  # why the system could not start it


def run_contained(
    command: Sequence[str],
    *,
    folder: Path,
    working_folder: Path,
    stdin: bytes,
    environment: Mapping[str, str],
    limit_seconds: float,
    on_look: Callable[[Path], None] | None = None,
) -> Ended:
    """Run `command` to its end, or for `limit_seconds`.

    Args:
        folder: for the files of input and output; the caller removes it.
        environment: the whole environment of the program.
        on_look: called several times a second with the file that the program's output goes to.
    """
    token, why_not, began = secrets.token_hex(16), folder / "not-started", time.monotonic()
    (folder / "stdin").write_bytes(stdin)
    parent = _start(command, folder, working_folder, {**environment, RUN_TOKEN: token}, why_not)
    try:
        is_late = not _wait(parent, folder, began + limit_seconds, on_look)
    finally:
        _end(parent, token)
    return Ended(
        parent.returncode,
        _beginning(folder / "stdout"),
        _beginning(folder / "stderr"),
        time.monotonic() - began,
        is_late,
        _is_flood(folder),
        why_not.read_text(encoding="utf-8") if why_not.exists() else "",
    )


def _start(
    command: Sequence[str], folder: Path, working_folder: Path, environment: Mapping[str, str], why_not: Path
) -> subprocess.Popen[bytes]:
    """The small parent, which starts the program or writes to `why_not` what the system says."""
    words = python_command(__spec__.name, str(os.getpid()), str(why_not), json.dumps(list(command)))
    given, out, err = folder / "stdin", folder / "stdout", folder / "stderr"
    with given.open("rb") as stdin, out.open("wb") as stdout, err.open("wb") as stderr:
        return subprocess.Popen(
            words,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            cwd=working_folder,
            env=dict(environment),
            start_new_session=True,
        )


def _wait(
    parent: subprocess.Popen[bytes], folder: Path, deadline: float, on_look: Callable[[Path], None] | None
) -> bool:
    """Return when the program has ended, when it wrote too much, or at the deadline: then False."""
    while time.monotonic() < deadline:
        with suppress(subprocess.TimeoutExpired):
            parent.wait(LOOK_SECONDS)
            return True
        if _is_flood(folder):
            return True
        if on_look is not None:
            on_look(folder / "stdout")
    return False


def _is_flood(folder: Path) -> bool:
    return any((folder / name).stat().st_size > MOST_BYTES for name in ("stdout", "stderr"))


def _end(parent: subprocess.Popen[bytes], token: str) -> None:
    """Kill what is left of a program: the processes below its parent, then the parent itself."""
    if parent.poll() is None:
        end_below(parent.pid)
        kill_group(parent.pid)
        parent.kill()
        parent.wait()
    if sys.platform != "linux":  # where nothing adopts the processes that the program left
        kill_by_token(token)


def _beginning(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(MOST_BYTES)


# --- the small parent


def _main() -> None:
    """Start the command of the arguments, and end with its status when nothing of it is left."""
    owner, why_not, command = int(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    die_with_parent(owner, signal.SIGTERM)
    adopt_orphans()
    try:
        try:
            program = subprocess.Popen(command)
        except OSError as error:
            why_not.write_text(error.strerror or str(error), encoding="utf-8")
            sys.exit(CANNOT_START)
        returncode = program.wait()
    finally:
        kill_descendants()
    if returncode < 0:  # end by the same signal, which the caller sees
        signal.signal(-returncode, signal.SIG_DFL) if -returncode not in (signal.SIGKILL, signal.SIGSTOP) else None
        os.kill(os.getpid(), -returncode)
    sys.exit(returncode)


if __name__ == "__main__":
    _main()
