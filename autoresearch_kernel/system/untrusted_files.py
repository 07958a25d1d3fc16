"""Reads and removes files in folders that untrusted code may write to.

Instead of a file, such code can leave a link, a pipe, a device or an enormous file. The functions raise OSError for all
of them, as for a missing file; they never wait and never follow a link.
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
    """Open a plain file for reading, unbuffered. Raises OSError for anything else, such as a link."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a plain file", str(path))
    return open(descriptor, "rb", buffering=0)


def read_plain_file(path: Path, most_bytes: int) -> bytes:
    """The content of a plain file. Raises OSError also when it has more than `most_bytes`."""
    with open_plain_file(path) as file:
        if os.fstat(file.fileno()).st_size > most_bytes:
            raise OSError(errno.EFBIG, f"more than {most_bytes:,} bytes", str(path))
        return file.read(most_bytes) or b""


def remove_tree(path: Path) -> None:
    """Remove a folder with its content, if it exists. A link is removed and not followed.

    Inner folders are first moved up to the top one by one, so neither their depth nor the length of a path matters.
    Raises OSError when something cannot be removed.
    """
    try:
        if not stat.S_ISDIR(path.lstat().st_mode):
            path.unlink()
            return
    except FileNotFoundError:
        return
    new_names = map(f"{secrets.token_hex(8)}-{{}}".format, count())  # the code cannot have used these names
    with opened_up(path) as top:
        while names := _empty_of_files(top):
            for name in names:
                with opened_up(name, top) as folder:
                    for inner in _empty_of_files(folder):
                        with opened_up(inner, folder):  # moving a folder requires write permission for it
                            os.rename(inner, next(new_names), src_dir_fd=folder, dst_dir_fd=top)
                os.rmdir(name, dir_fd=top)
    os.rmdir(path)


@contextmanager
def opened_up(folder: str | Path, parent: int | None = None) -> Iterator[int]:
    """Open a folder, after giving its owner all rights to it; yields a descriptor. Raises OSError for a link."""
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
    """Remove everything but folders from an open folder, and return the names of these."""
    with os.scandir(folder) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_folder in found:
        if not is_folder:
            os.unlink(name, dir_fd=folder)
    return [name for name, is_folder in found if is_folder]
