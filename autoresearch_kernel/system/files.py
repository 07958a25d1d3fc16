"""Durable operations on files (write, fsync, truncate, rename), and the lock of a study.

The record uses no other functions for them. Readers see a file of `write_atomic` whole or not at all, and after a power
cut its old or its new content is there. `record/git.py` makes git's own writes durable.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import json
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import Plain
from .shell import shell_command

if TYPE_CHECKING:
    import numpy as np

LOCK_TRIES = 5  # within a tenth of a second
WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)  # of a file system


def write(fd: int, data: bytes) -> None:
    """Write all of `data`, in one call unless the system takes less, as on a disk that is nearly full.

    The next call then raises OSError with the cause. What was written remains, for the caller to truncate or unlink.
    """
    written = os.write(fd, data)
    while written < len(data):
        more = os.write(fd, data[written:])
        if more == 0:
            raise OSError(errno.ENOSPC, f"only {written} of {len(data)} bytes were written")
        written += more


def sync(fd: int) -> None:
    """Wait until the device holds what was written. On macOS that takes a stronger call than fsync."""
    full_sync = getattr(fcntl, "F_FULLFSYNC", None)
    if full_sync is None:
        os.fsync(fd)
    else:
        fcntl.fcntl(fd, full_sync)


def sync_folder(folder: Path) -> None:
    """Make new names in `folder` survive a power cut."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # some network drives cannot do this for a folder
            raise
    finally:
        os.close(fd)


def truncate(fd: int, size: int) -> None:
    """Cut the file to `size` bytes, durably."""
    os.ftruncate(fd, size)
    sync(fd)


def rename(source: Path, target: Path) -> None:
    """Replace `target` by `source` in the same folder, durably."""
    os.replace(source, target)
    sync_folder(target.parent)


def ensure_folder(folder: Path) -> None:
    """Create `folder` and its missing parents, durably."""
    if folder.is_dir():
        return
    ensure_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def write_atomic(path: str | Path, data: bytes | str, mode: int = 0o666) -> None:
    """Write the whole file or nothing: temporary file beside it, fsync, rename, fsync of the folder.

    Text is encoded as UTF-8, and missing folders are created. `mode` has the rights of the file, less the umask. After
    an OSError the old file is unchanged, and the temporary one is removed.
    """
    path = Path(path)
    ensure_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    except OSError as error:
        error.filename = str(path)  # which users know
        raise
    try:
        try:
            write(fd, data.encode() if isinstance(data, str) else data)
            sync(fd)
        finally:
            os.close(fd)
        rename(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_array(path: Path, array: np.ndarray) -> None:
    """Write an .npy file atomically. Unlike np.save, the OSError for a full disk has an errno."""
    import numpy as np

    buffer = io.BytesIO()
    np.save(buffer, array)
    write_atomic(path, buffer.getvalue())


def remove_temporaries(folder: Path) -> None:
    """Remove temporary files that killed `write_atomic` calls left. The caller must hold the lock of the folder."""
    for path in folder.rglob(".*.tmp"):
        path.unlink(missing_ok=True)


class StudyInUse(Plain, BlockingIOError):
    """Another process holds the study; `pid` is its number, or None when it did not say.

    `for_panel` is the message for a notebook with the panel `lab`: it names buttons and methods, no shell command.
    """

    def __init__(self, message: str, pid: int | None, for_panel: str = "") -> None:
        super().__init__(message)
        self.pid, self.for_panel = pid, for_panel or message


class NoLocks(Plain, OSError):
    """The file system of a folder has no locks, without which two processes could write one study."""


def flock(fd: int, operation: int, folder: Path) -> None:
    """`fcntl.flock` of a file in `folder`. Raises BlockingIOError when it is locked, NoLocks where nothing can be."""
    try:
        fcntl.flock(fd, operation)
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise
        raise NoLocks(
            f"{folder} is on a file system without locks ({error.strerror}), as some network drives are. Use a folder "
            "on a local disk: move the project there, or set AUTORESEARCH_HOME when it is the folder of the corpora."
        ) from error


def take_lock(path: Path) -> int:
    """Lock `path` and return its descriptor; the lock ends when the descriptor is closed or the process ends.

    The file says who holds it (pid, host, boot, since). Raises StudyInUse, which names the holder, when it is locked.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _lock(fd, path.parent)
    except BlockingIOError as error:
        holder = _facts(fd)
        os.close(fd)
        raise study_in_use(path, holder) from error
    except BaseException:
        os.close(fd)
        raise
    try:
        os.ftruncate(fd, 0)
        facts = {"pid": os.getpid(), "host": os.uname().nodename, "boot_id": boot_id(), "since": utc_now()}
        facts["program"] = Path(sys.argv[0]).name
        write(fd, json.dumps(facts).encode() + b"\n")
    except BaseException:  # as on a full disk: the caller gets no descriptor, so it cannot release the lock
        os.close(fd)
        raise
    return fd


def _lock(fd: int, folder: Path) -> None:
    """Try several times, because `lock_holder` takes the lock for an instant to see whether it is free."""
    for _ in range(LOCK_TRIES):
        with contextlib.suppress(BlockingIOError):
            return flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, folder)
        time.sleep(0.02)
    flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, folder)


def lock_holder(path: Path) -> dict[str, Any] | None:
    """Who holds the lock now (pid, host, boot_id, since), or None. Empty when the holder has not written that yet.

    The function asks the system, so a process that has ended holds no lock.
    """
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB, path.parent)
        return None
    except NoLocks:
        return None  # no process can hold a lock there
    except BlockingIOError:
        return _facts(fd)
    finally:
        os.close(fd)


def _facts(fd: int) -> dict[str, Any]:
    try:
        facts = json.loads(os.read(fd, 4096))
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}


def utc_now() -> str:
    """ISO 8601 in UTC to the millisecond: `2026-11-23T02:14:07.251Z`."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def seconds_of(utc: str) -> float:
    """Unix time of what `utc_now` wrote."""
    return datetime.fromisoformat(utc).timestamp()


def study_in_use(path: Path, holder: Any) -> StudyInUse:
    """The error that names the holder, from the answer of `lock_holder`."""
    try:
        pid, who = int(holder["pid"]), f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (ValueError, KeyError, TypeError):  # the holder has just taken the lock and not written yet
        pid, who = None, "another process"
    name = path.parent.name
    failed = f"The study {name!r} is being run by {who}."
    watch, stop = shell_command(f"attach --name {name}"), shell_command(f"stop --name {name}")
    in_panel = f"{failed} The panel shows it; press Stop after this or run `lab.stop()` to end it."
    return StudyInUse(f"{failed} `{watch}` watches it, `{stop}` ends it.", pid, in_panel)


def boot_id() -> str | None:
    """Distinguishes a pid of this boot from the same pid of an earlier one; None where the system has no such id."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
