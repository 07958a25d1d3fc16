"""Room on the disk: how much there is, what a study takes, and a reserve that lets a full disk take a record's end."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from .files import ensure_folder, rename, sync, sync_folder

RESERVE_BYTES = 16 * 2**20
BLOCK_BYTES = 512  # the unit of st_blocks, whatever the file system's own
CHUNK_BYTES = 2**20


def free_bytes(folder: Path) -> int:
    """Bytes that this user may still write to the file system of `folder`, or of the folder it will be made in.

    A quota is not seen here; a write that meets it fails with an error that `is_full` knows.
    """
    folder = folder.absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def is_full(error: OSError) -> bool:
    """Whether a write failed for want of room: the disk is full, or the user's quota is used up."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


class Reserve:
    """A file that holds some room for the moment when there is none left."""

    def __init__(self, path: Path, size_bytes: int = RESERVE_BYTES) -> None:
        self.path, self.size_bytes = path, size_bytes

    def take(self) -> bool:
        """Make the file, durably, unless it is there; False when the disk has no room for it.

        Random bytes are written: a file system that compresses, or keeps no blocks for zeros, holds room for them only.
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
        """Whether the file is there in full, and takes the room that it should."""
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            return False
        return stat.st_size == self.size_bytes <= stat.st_blocks * BLOCK_BYTES

    def release(self) -> None:
        """Give the room back; without the file, nothing happens."""
        if self.path.exists():
            self.path.unlink()
            sync_folder(self.path.parent)  # only now are its blocks really free


def footprint_bytes(folder: Path) -> int:
    """Bytes that everything below `folder` takes on the disk; a file with several names counts once."""
    taken = {(stat.st_dev, stat.st_ino): stat.st_blocks * BLOCK_BYTES for stat in _stats(folder)}
    return sum(taken.values())


def _stats(folder: Path) -> Iterator[os.stat_result]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    yield entry.stat(follow_symlinks=False)
                except FileNotFoundError:  # it went while we looked, as a run's temporary files do
                    continue
                if entry.is_dir(follow_symlinks=False):
                    yield from _stats(Path(entry.path))
    except (FileNotFoundError, NotADirectoryError):
        return
