"""Reads files that foreign code may have laid where a file of ours belongs: a link, a pipe, a device, a giant.

What is no plain file, or too large, is an OSError like a file that is not there, and nothing waits or follows.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import BinaryIO


def open_plain_file(path: Path) -> BinaryIO:
    """Open a plain file for reading, unbuffered. Raises OSError for a link or anything that is not a plain file.

    Example:
        >>> open_plain_file(Path(__file__)).read(3)
        b'\"\"\"'
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a plain file", str(path))
    return open(descriptor, "rb", buffering=0)


def read_plain_file(path: Path, most_bytes: int) -> bytes:
    """All of a plain file. Raises OSError also when it has more than `most_bytes`."""
    with open_plain_file(path) as file:
        if os.fstat(file.fileno()).st_size > most_bytes:
            raise OSError(errno.EFBIG, f"more than {most_bytes:,} bytes", str(path))
        return file.read(most_bytes) or b""


def remove_tree(path: Path) -> None:
    """Remove a folder and all in it; nothing where nothing is. A link is removed, never followed.

    Folders inside are first moved up to the top one by one, so neither the depth nor a path's length matters.
    Raises OSError when something cannot be removed.
    """
    try:
        if not stat.S_ISDIR(path.lstat().st_mode):
            path.unlink()
            return
    except FileNotFoundError:
        return
    new_names = map(f"{secrets.token_hex(8)}-{{}}".format, count())  # which nothing in there can have guessed
    with opened_up(path) as top:
        while names := _empty_of_files(top):
            for name in names:
                with opened_up(name, top) as folder:
                    for inner in _empty_of_files(folder):
                        with opened_up(inner, folder):  # to move a folder, one must be allowed to write to it
                            os.rename(inner, next(new_names), src_dir_fd=folder, dst_dir_fd=top)
                os.rmdir(name, dir_fd=top)
    os.rmdir(path)


@contextmanager
def opened_up(folder: str | Path, parent: int | None = None) -> Iterator[int]:
    """A descriptor of a folder, which its owner may now read, write and search. Raises OSError for a link."""
    if hasattr(os, "O_PATH"):
        handle = os.open(folder, os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent)
        try:
            if os.fstat(handle).st_mode & stat.S_IRWXU != stat.S_IRWXU:
                os.chmod(f"/proc/self/fd/{handle}", stat.S_IRWXU)
        finally:
            os.close(handle)
    else:
        os.chmod(folder, stat.S_IRWXU, dir_fd=parent, follow_symlinks=False)
    descriptor = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _empty_of_files(folder: int) -> list[str]:
    """Remove all but the folders in an open folder, and name those."""
    with os.scandir(folder) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_folder in found:
        if not is_folder:
            os.unlink(name, dir_fd=folder)
    return [name for name, is_folder in found if is_folder]
