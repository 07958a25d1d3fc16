"""The folders that a study writes to: tried once, by writing and locking a file there, and named when that fails."""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from ..core.errors import Plain
from ..core.sanitize import shown
from .disk import is_full
from .explain import REASONS
from .files import NoLocks, flock
from .locations import cache_dir, home_folder

CLOSED = {number: REASONS[number][0] for number in (errno.EACCES, errno.EPERM, errno.EROFS)}
CLOSED[errno.ENOTDIR] = "is a file"
CHANGE_CACHE = "Set HOME to a folder of yours that exists, or AUTORESEARCH_HOME to one for them."


class NoPlace(Plain, OSError):
    """A folder cannot hold what it is for; the message names it, the reason and the next step."""


def require_places(project: Path) -> None:
    """Raise NoPlace unless studies, corpora, locks and temporary files can be written and locked."""
    require_folder(project / "studies", "studies", "Copy the project to a folder that you may write to.")
    require_cache()
    temporary_folder()


def require_cache() -> None:
    """Raise NoPlace unless corpora and locks can be kept in the folder of `cache_dir`."""
    cache = cache_dir()
    variable = "AUTORESEARCH_HOME" if os.environ.get("AUTORESEARCH_HOME") else "HOME"
    try:
        require_folder(cache, "corpora and locks", CHANGE_CACHE)
    except NoPlace as error:
        raise NoPlace(f"{variable} is {os.environ.get(variable) or home_folder()}: {error}") from error


def temporary_folder() -> Path:
    """The folder for temporary files, without links. Raises NoPlace where there is none."""
    try:
        folder = Path(tempfile.gettempdir()).resolve()
    except FileNotFoundError as error:
        named = os.environ.get("TMPDIR")
        what = f"TMPDIR is {named}, which" if named else "No TMPDIR is set, and /tmp"
        raise NoPlace(
            f"{what} cannot hold temporary files, as it is full, missing or not yours. Set TMPDIR to a folder that "
            "you may write to."
        ) from error
    require_folder(folder, "temporary files", "Set TMPDIR to a folder that you may write to.", is_locked=False)
    return folder


def require_folder(folder: Path, purpose: str, remedy: str, *, is_locked: bool = True) -> None:
    """Raise NoPlace unless a file in `folder`, or in the nearest folder above that exists, can be written and locked.

    A full disk passes: a study waits for space, and says so.
    """
    if os.path.islink(folder) and not os.path.exists(folder):
        raise NoPlace(f"{folder} is a link to {shown(os.readlink(folder))}, which does not exist. Create it.")
    nearest = next(path for path in (folder, *folder.parents) if os.path.exists(path))
    file = nearest / f".autoresearch-{os.getpid()}.tmp"
    try:
        fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if is_full(error):
            return
        reason = CLOSED.get(error.errno or 0, f"cannot be written ({error.strerror})")
        above = "" if nearest == folder else f": {nearest} {reason}"
        reason = "cannot be made" if above else reason
        raise NoPlace(f"{folder}, where {purpose} are kept, {reason}{above}. {remedy}") from error
    try:
        if is_locked:
            flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, folder)
    except NoLocks as error:
        raise NoPlace(str(error)) from error
    finally:
        os.close(fd)
        with suppress(OSError):
            file.unlink()
