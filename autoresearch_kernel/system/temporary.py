"""Temporary folders of this program. What a killed process left is removed by the next process that runs a study.

The process that makes a folder holds a lock on it until it removes the folder. The system releases the lock however the
process ends, so a folder without a lock has no owner, also where containers share the folder for temporary files.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .untrusted_files import remove_tree

PREFIX = "arun-"  # short, because paths of sockets are
_locks: dict[Path, int] = {}  # descriptors


def make_folder() -> Path:
    """A new folder that only this user can open; `remove_folder` removes it. No part of its path is a link."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX)).resolve()
        with suppress(FileNotFoundError):  # `remove_abandoned` of another process was faster
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            with suppress(OSError):  # a file system without locks, where no abandoned folder is removed
                fcntl.flock(lock, fcntl.LOCK_EX)
            if folder.exists():
                _locks[folder] = lock
                return folder
            os.close(lock)


def remove_folder(folder: Path) -> None:
    """Remove a folder that `make_folder` made. Raises OSError when something in it cannot be removed."""
    try:
        remove_tree(folder)
    finally:
        if (lock := _locks.pop(folder, None)) is not None:
            os.close(lock)


@contextmanager
def own_folder() -> Iterator[Path]:
    """A folder for the time of a with statement."""
    folder = make_folder()
    try:
        yield folder
    finally:
        remove_folder(folder)


def remove_abandoned() -> int:
    """Remove the folders whose process was killed; returns their number. Other users' folders are left alone."""
    return sum(map(_remove_if_abandoned, Path(tempfile.gettempdir()).resolve().glob(f"{PREFIX}*")))


def _remove_if_abandoned(folder: Path) -> bool:
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:  # no folder, another user's, or gone meanwhile
        return False
    try:
        if os.fstat(lock).st_uid != os.geteuid():
            return False
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        remove_tree(folder)
    except OSError:  # its process lives
        return False
    finally:
        os.close(lock)
    return True
