"""Files that the supervisors of other machines have sent to this one, a worker of a Dask cluster.

They lie below the cache of this machine, which no sandbox shows, and each is known by its SHA-256. The functions are
coroutines, so that a slow disk does not stop the worker from answering others.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import platform
import secrets
from collections.abc import Callable, Coroutine, Mapping
from functools import wraps
from pathlib import Path, PurePosixPath
from typing import Any, ParamSpec, TypeVar

from ..core.errors import MachineFailed
from ..system.explain import explain
from ..system.files import rename
from ..system.locations import cache_dir
from ..system.untrusted_files import remove_tree

OF_THIS_PROCESS = secrets.token_hex(4)  # several workers of one machine may receive the same file at once
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


def keep_newest(folder: Path, most: int) -> None:
    """Remove the oldest entries of a folder, down to `most`."""
    if folder.is_dir():
        entries = sorted(folder.iterdir(), key=lambda entry: entry.stat().st_mtime)
        for entry in entries[: max(0, len(entries) - most)]:
            remove_tree(entry)


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
            os.utime(path)  # it is in use, so `keep_newest` keeps it
            _hashes[str(path), path.stat().st_size, path.stat().st_mtime_ns] = digest
        else:
            lacks.append(name)
    return lacks


@_in_a_thread
def put(name: str, offset: int, data: bytes, size: int, digest: str) -> None:
    """Write a part of a file; with the last one it gets its name, if it is `size` bytes with this SHA-256."""
    path = below_root(name)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = path.with_name(f".{path.name}.{OF_THIS_PROCESS}.{digest[:8]}.part")
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
