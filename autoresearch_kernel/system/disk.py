"""Disk space: how much is free, how much a study uses, and a reserve for the last records when the disk is full."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .files import ensure_folder, rename, sync, sync_folder

RESERVE_BYTES = 16 * 2**20
BLOCK_BYTES = 512  # unit of st_blocks, on every file system
CHUNK_BYTES = 2**20


def free_bytes(folder: Path) -> int:
    """Bytes that this user may still write to the file system of `folder`, which need not exist yet.

    This does not consider a quota; a write that exceeds one fails with an error that `is_full` recognises.
    """
    folder = folder.absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def takes(folder: Path, num_bytes: int) -> bool:
    """Whether a file of this size can be made in a folder; unlike `free_bytes`, this considers a quota.

    True on macOS, where this cannot be asked. A file system that cannot reserve space, as old NFS, is written to.
    """
    if not hasattr(os, "posix_fallocate"):
        return True
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, num_bytes)
    except OSError as error:
        return not is_full(error)  # another error says nothing about space
    return True


def is_full(error: OSError) -> bool:
    """Whether a write failed because the disk is full or the user's quota is used up."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


class Reserve:
    """A file that occupies disk space until the study needs it."""

    def __init__(self, path: Path, size_bytes: int = RESERVE_BYTES) -> None:
        self.path, self.size_bytes = path, size_bytes

    def take(self) -> bool:
        """Make the file durably unless it exists; False when the disk has no space for it.

        It contains random bytes, because a file system may compress other contents or keep no blocks for zeros.
        """
        if self.is_taken:
            return True
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        try:
            if free_bytes(self.path.parent) < self.size_bytes:
                return False
            ensure_folder(self.path.parent)
            with open(temporary, "wb") as file:
                for start in range(0, self.size_bytes, CHUNK_BYTES):
                    file.write(os.urandom(min(CHUNK_BYTES, self.size_bytes - start)))
                file.flush()
                sync(file.fileno())
            rename(temporary, self.path)
        except OSError as error:
            if not is_full(error):
                raise
            return False
        finally:
            temporary.unlink(missing_ok=True)
        return True

    @property
    def is_taken(self) -> bool:
        """Whether the file exists and occupies its full size on the disk."""
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            return False
        return stat.st_size == self.size_bytes <= stat.st_blocks * BLOCK_BYTES

    def release(self) -> None:
        """Free the space; does nothing when the file does not exist."""
        if self.path.exists():
            self.path.unlink()
            sync_folder(self.path.parent)  # its blocks are free only after this


def footprint_bytes(folder: Path) -> int:
    """Bytes that all files below `folder` occupy on the disk; a file with several names counts once."""
    taken = {(stat.st_dev, stat.st_ino): stat.st_blocks * BLOCK_BYTES for stat in _stats(folder)}
    return sum(taken.values())


def _stats(folder: Path) -> Iterator[os.stat_result]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    yield entry.stat(follow_symlinks=False)
                except FileNotFoundError:  # it was removed meanwhile, as the temporary files of a run are
                    continue
                if entry.is_dir(follow_symlinks=False):
                    yield from _stats(Path(entry.path))
    except (FileNotFoundError, NotADirectoryError):
        return
