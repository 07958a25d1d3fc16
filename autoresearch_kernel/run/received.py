"""Files that the supervisors of other machines have sent to this one, a worker of a Dask cluster.

They lie below the cache of this machine, which no sandbox shows, and each is known by its SHA-256. The functions are
coroutines, so that a slow disk does not stop the worker from answering others.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import platform
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from functools import wraps
from pathlib import Path, PurePosixPath
from typing import Any, ParamSpec, TypeVar

from ..core.errors import MachineFailed
from ..system.explain import explain
from ..system.files import rename
from ..system.locations import cache_dir
from ..system.untrusted_files import remove_tree

IN_USE_SECONDS = 600.0  # since a file or folder was touched last; a task touches what it uses once a minute
ABANDONED_SECONDS = 3600.0  # since the last part of a file arrived, after which its transfer is given up
_hashes: dict[tuple[str, int, int], str] = {}  # SHA-256 of a file, by path, size and time of change

P = ParamSpec("P")
T = TypeVar("T")


def root() -> Path:
    """Where this machine keeps what supervisors send."""
    return cache_dir() / "cluster"


def below_root(name: str) -> Path:
    """The path of a file or folder by its name. Raises MachineFailed for a name that leads elsewhere."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise MachineFailed(f"{name!r} is no name of a file of the cluster.")
    return root() / path


def sha256_of(path: Path) -> str:
    """Of a file; one that has not changed since is read once."""
    found = path.stat()
    key = str(path), found.st_size, found.st_mtime_ns
    if key not in _hashes:
        with open(path, "rb") as file:
            _hashes[key] = hashlib.file_digest(file, "sha256").hexdigest()
    return _hashes[key]


def touch(path: Path) -> None:
    """Mark a file or folder below root as in use for `IN_USE_SECONDS`, and so what it lies in."""
    for entry in (path, *path.parents):
        if entry == root():
            break
        with suppress(FileNotFoundError):
            os.utime(entry, follow_symlinks=False)


def keep_newest(folder: Path, most: int) -> None:
    """Remove the oldest entries of a folder, down to `most`, but none that is in use.

    What was touched lately is in use, by this process or by another one that has the same folder.
    """
    if not folder.is_dir():
        return
    os.utime(folder)
    now = folder.stat().st_mtime  # by the clock of the machine that holds the folder, as the times of its entries are
    entries = sorted((_touched(entry), entry) for entry in folder.iterdir())
    for _, entry in entries[: max(0, len(entries) - most)]:
        if now - _touched(entry) > IN_USE_SECONDS:
            with suppress(OSError):  # another process may be removing it
                remove_tree(entry)


def _touched(entry: Path) -> float:
    """When an entry was touched last; never for one that has been removed meanwhile."""
    try:
        return entry.lstat().st_mtime
    except FileNotFoundError:
        return 0.0


def _in_a_thread(function: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
    """The function as a coroutine that raises MachineFailed for an error of the disk."""

    @wraps(function)
    async def called(*arguments: P.args, **others: P.kwargs) -> T:
        try:
            return await asyncio.to_thread(function, *arguments, **others)
        except OSError as error:
            raise MachineFailed(f"{platform.node()}: {explain(error)}") from error

    return called


@_in_a_thread
def missing(files: Mapping[str, str]) -> list[str]:
    """Which of these files, by name with their SHA-256, are not here or have another content."""
    lacks = []
    for name, digest in files.items():
        path = below_root(name)
        if path.is_file() and sha256_of(path) == digest:
            touch(path)
            _hashes[str(path), path.stat().st_size, path.stat().st_mtime_ns] = digest
        else:
            lacks.append(name)
    return lacks


@_in_a_thread
def put(name: str, offset: int, data: bytes, size: int, digest: str, transfer: str) -> None:
    """Write a part of a file; with the last one it gets its name, if it is `size` bytes with this SHA-256.

    Args:
        transfer: a name for all parts together: several supervisors may send the same file, and several workers of one
            machine receive it, at the same time.
    """
    path = below_root(name)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = path.with_name(f".{path.name}.{digest[:8]}-{transfer}.part")
    if offset == 0:
        _remove_abandoned(path)
    with os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
        file.seek(offset)
        file.write(data)
        file.truncate(min(size, offset + len(data)))
    if offset + len(data) < size:
        return
    if sha256_of(part) != digest:
        part.unlink()
        raise MachineFailed(f"{path.name} arrived damaged at {platform.node()}.")
    rename(part, path)
    touch(path)


def _remove_abandoned(path: Path) -> None:
    """Remove what transfers of a file have left that were cut off."""
    for entry in path.parent.iterdir():
        if entry.name.startswith(f".{path.name}.") and entry.name.endswith(".part"):
            with suppress(FileNotFoundError):  # another process has removed it, or given it its name
                if time.time() - entry.stat().st_mtime > ABANDONED_SECONDS:
                    entry.unlink()


@_in_a_thread
def find_corpus(name: str, copy: str, files: Mapping[str, str]) -> str | None:
    """Folder of the corpus with exactly these files, by name with their SHA-256; None where it has to be sent.

    That is this machine's own corpus `name`, or else the `copy` that a supervisor has sent.
    """
    for folder in (cache_dir() / "corpora" / name, below_root(copy)):
        paths = {folder / file: digest for file, digest in files.items()}
        if all(path.is_file() and sha256_of(path) == digest for path, digest in paths.items()):
            return str(folder)
    return None
