"""Reads a bundle, a zip or its unpacked folder, into memory. Nothing is unpacked to the disk, and no file is executed.

ValueError
  NotABundle    a file or folder that is no bundle, or one that is too large to be one
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ..core.errors import Plain
from ..system.untrusted_files import read_plain_file
from .manifest import HISTORY, MANIFEST

MOST_BYTES = 400_000_000  # of all files together; a bundle of 100 experiments has 20 MB
NOT_UNPACKED, CHANGED, TWICE = "it cannot be unpacked", "its content was changed", "it stands twice in the zip"


class NotABundle(Plain, ValueError):
    """What was given is no bundle; the message says why and what to do."""


@dataclass(frozen=True)
class Bundle:
    """The files of a bundle by their path below its folder, and what is wrong with those that cannot be read."""

    files: dict[str, bytes] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)  # path -> problem, for those that are not in `files`

    def text(self, path: str) -> str | None:
        """The text of a file, with a mark for what is no UTF-8; None where the file is not there."""
        data = self.files.get(path)
        return None if data is None else data.decode(errors="replace")


def read_bundle(path: str | Path) -> Bundle:
    """The bundle in a zip or in the folder that it was unpacked to. Raises NotABundle, or OSError."""
    path = Path(path)
    if path.is_dir():
        found = list(_of_folder(path))
    else:
        try:
            with zipfile.ZipFile(path) as opened:
                found = list(_of_zip(opened, path))
        except (zipfile.BadZipFile, UnicodeDecodeError) as error:
            raise NotABundle(
                f"{path} cannot be read as a zip ({error}). Give the file that `share` wrote, or copy it "
                "again: a download that was cut off looks like this."
            ) from error
    top = _top([name for name, _ in found])
    bundle = Bundle()
    for name, content in found:
        name = name.removeprefix(top)
        if name in bundle.files or name in bundle.broken:
            bundle.files.pop(name, None)
            content = TWICE
        if isinstance(content, bytes):
            bundle.files[name] = content
        else:
            bundle.broken[name] = content
    if MANIFEST not in bundle.files and MANIFEST not in bundle.broken:
        raise NotABundle(
            f"{path} holds no {MANIFEST}, so it is no bundle of a study, or its manifest was removed. Give the zip "
            "that `share` wrote."
        )
    return bundle


def names_in(path: Path) -> set[str]:
    """The names of the files in a zip; none of a file that is no zip, or a damaged one."""
    try:
        with zipfile.ZipFile(path) as opened:
            return set(opened.namelist())
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError):
        return set()


def is_bundle(path: Path) -> bool:
    """Whether a file is a zip that has the names of a bundle's files."""
    names = names_in(path)
    folders = {name.removesuffix(MANIFEST) for name in names if name.count("/") <= 1 and name.endswith(MANIFEST)}
    return any(f"{folder}{HISTORY}" in names for folder in folders)


def _of_zip(opened: zipfile.ZipFile, path: Path) -> Iterator[tuple[str, bytes | str]]:
    """Name and content of each file, or what is wrong with it."""
    total = 0
    for entry in opened.infolist():
        if entry.is_dir():
            continue
        total += entry.file_size
        _check_size(total, path)
        try:
            with opened.open(entry) as file:
                yield entry.filename, file.read(entry.file_size)
        except zipfile.BadZipFile as error:
            yield entry.filename, CHANGED if str(error).startswith("Bad CRC") else NOT_UNPACKED
        except (zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError, UnicodeDecodeError):
            yield entry.filename, NOT_UNPACKED


def _of_folder(folder: Path) -> Iterator[tuple[str, bytes | str]]:
    total = 0
    for path in sorted(folder.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            continue
        name = (PurePosixPath(folder.name) / path.relative_to(folder).as_posix()).as_posix()
        try:
            data = read_plain_file(path, MOST_BYTES)
        except OSError:
            yield name, "it cannot be read"
            continue
        total += len(data)
        _check_size(total, folder)
        yield name, data


def _check_size(total: int, path: Path) -> None:
    if total > MOST_BYTES:
        raise NotABundle(
            f"The files in {path} have more than {MOST_BYTES // 10**6} MB, so it is no bundle: one of 100 experiments "
            "has 20 MB. Give the zip that `share` wrote."
        )


def _top(names: list[str]) -> str:
    """The folder of the bundle, with a slash: that of its manifest, else that of its first file."""
    manifests = sorted((n for n in names if n.endswith(f"/{MANIFEST}") or n == MANIFEST), key=lambda n: n.count("/"))
    first = manifests[0] if manifests else names[0] if names else ""
    folder = first.removesuffix(MANIFEST) if manifests else first.partition("/")[0] + "/"
    return folder if folder != "/" else ""
