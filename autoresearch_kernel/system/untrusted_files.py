"""Reads files that foreign code may have laid where a file of ours belongs: a link, a pipe, a device, a giant.

What is no plain file, or too large, is an OSError like a file that is not there, and nothing waits or follows.
"""

from __future__ import annotations

import errno
import os
import stat
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
