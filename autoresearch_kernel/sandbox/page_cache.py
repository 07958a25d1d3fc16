"""Keeps what scorers are shown in memory, so that the page cache carries no message between sandboxes.

Any process can evict a file that it may read from memory, and a later process can tell by `mincore` or by timing which
pages are there: a scorer that has seen the targets could tell the next one, or the next training, 20,000 bits in a
second. Linux evicts no page that another process has mapped. A process of the supervisor, `hold_pages.py`, therefore
maps these files, and before each sandbox starts it brings back what a lack of memory has taken. It holds nothing where
that would take more than half of the memory that is available.

Only files that a scorer can open matter, because only scorers see targets. macOS has no such means, and nothing is held
there.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

_PAUSES = (0.0, 0.1, 0.5)  # seconds before each attempt, when files change at the same time
_MOST_OF_MEMORY = 0.5  # of what is available may be used to hold files


@dataclass(frozen=True)
class Shown:
    """What scorers are shown, and what of it is held in memory.

    Only `own`, which is for one scorer, changes in a study. Below the folders in `code` only Python's files and
    libraries are held, because users keep data and models there.
    """

    paths: tuple[str, ...]  # without those in `hidden`
    hidden: tuple[str, ...] = ()
    own: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    memory_bytes: int = 0  # of this machine or its container


@dataclass(frozen=True)
class Held:
    """How many files are held in memory, their bytes, and why these are not all; "" when they are."""

    files: int = 0
    bytes: int = 0
    problem: str = ""


_CHANGED = "the files change at this moment"


class _Holder:
    """The process that holds what scorers are shown."""

    def __init__(self, shown: Shown) -> None:
        self.shown = shown
        command = [os.path.realpath(sys.executable), "-I", "-S", str(Path(__file__).with_name("hold_pages.py"))]
        env = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (as long as this object)
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, env=env, cwd="/",
            start_new_session=True,
        )  # fmt: skip
        self.close = weakref.finalize(self, _end, self._process)
        given = {"paths": shown.held, "code": shown.code, "hidden": shown.hidden}
        self._send(json.dumps(given | {"most_bytes": _most_bytes(shown.memory_bytes)}))

    def settle(self) -> Held:
        """What is held, with all pages in memory."""
        self._send("")
        assert self._process.stdout is not None
        said = json.loads(self._process.stdout.readline() or b"null")
        if said is None:
            self.close()
            self._errors.seek(0)
            lines = self._errors.read().decode(errors="replace").strip().splitlines()
            return Held(problem=lines[-1] if lines else f"hold_pages.py ended with {self._process.returncode}")
        return Held(said["files"], said["bytes"], _CHANGED if said["changed"] else said["problem"])

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended, and `settle` will say so
            self._process.stdin.write(f"{line}\n".encode())
            self._process.stdin.flush()


_lock = threading.Lock()
_holders: list[_Holder] = []  # at most one


def settle(shown: Shown) -> Held:
    """Bring all that is to be held into memory, and keep it there; call it before a sandbox starts.

    Where that is impossible, as while packages change, as much as possible is held: no study ends because of it.
    """
    if sys.platform != "linux":
        return Held()
    _read_all(shown.own)
    with _lock:
        try:
            return _settle(replace(shown, own=()))
        except BaseException:  # the process may have an answer left that belongs to no request
            release()
            raise


def _settle(shown: Shown) -> Held:
    found = Held()
    for pause in _PAUSES:
        time.sleep(pause)
        if pause or not (_holders and _holders[0].is_alive() and _holders[0].shown == shown):
            release()
            _holders.append(_Holder(shown))
        found = _holders[0].settle()
        if found.problem != _CHANGED:
            break
    return found


def _most_bytes(memory_bytes: int) -> int:
    """Bytes that may be held, of what is available now on this machine or in its container."""
    with open("/proc/meminfo") as file:
        available = next((1024 * int(line.split()[1]) for line in file if line.startswith("MemAvailable:")), 0)
    return int(_MOST_OF_MEMORY * min(available, memory_bytes))


def release() -> None:
    """Hold nothing any more; the next `settle` begins anew."""
    while _holders:
        _holders.pop().close()


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and those that it has started, which all end with their input."""
    for stream in (process.stdin, process.stdout):
        assert stream is not None
        with contextlib.suppress(BrokenPipeError):
            stream.close()
    process.kill()
    process.wait()


def _read_all(files: Iterable[str]) -> None:
    """Bring the pages of a few files into memory."""
    for file in files:
        with open(file, "rb") as opened:
            if os.fstat(opened.fileno()).st_size:
                with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as pages:
                    memoryview(pages)[:: mmap.PAGESIZE].tobytes()
