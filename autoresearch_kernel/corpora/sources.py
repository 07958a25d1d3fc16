"""Where documents come from and which split each belongs to: Python's own library, or a user's folder of files."""

from __future__ import annotations

import functools
import hashlib
import json
import platform
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prepare import PrepareError

from ..system.standard_library import HELD_OUT
from .readers import READERS, decode

Document = tuple[str, str]  # split (train, dev, val or test) and text


@dataclass(frozen=True)
class Source:
    """Where a corpus comes from. `documents()` may be called again and gives the same documents in the same order."""

    name: str
    documents: Callable[[], Iterator[Document]]
    options: dict[str, Any]  # what makes two corpora of one name differ; kept in meta.json


# --- Python's own library

# Folders of the standard library that are tests, data or absent from some distributions.
NOT_CORE = {
    "test", "tests", "idlelib", "encodings", "lib2to3", "distutils", "tkinter", "turtledemo", "msilib", "ensurepip",
    "pydoc_data", "site-packages", "dist-packages", "__pycache__",
}  # fmt: skip


def stdlib_source() -> Source:
    """Python's own library: the core's .py files and pydoc's topics, no duplicates, split by name and hash."""
    root = Path(sysconfig.get_paths()["stdlib"])
    return Source("stdlib", functools.partial(_stdlib_documents, root), {"python": platform.python_version()})


def _stdlib_documents(root: Path) -> Iterator[Document]:
    seen: set[bytes] = set()
    for path in stdlib_files(root):
        data = path.read_bytes()
        digest = hashlib.sha256(data).digest()
        if data and digest not in seen:
            seen.add(digest)
            yield split_of_path(path.relative_to(root).as_posix()), decode(data, path)


def stdlib_files(root: Path) -> list[Path]:
    """The files of the standard library at `root` that become documents, in the order of their names."""
    files = [path for path in root.rglob("*.py") if not NOT_CORE & set(path.relative_to(root).parts)]
    files = [path for path in files if not path.name.startswith("_sysconfigdata")]  # differs from machine to machine
    topics = root / "pydoc_data" / "topics.py"
    files += [topics] if topics.is_file() else []
    return sorted(files, key=lambda path: path.relative_to(root).as_posix())


def split_of_path(path: str) -> str:
    """What HELD_OUT names is val or test, as a hash of the path says; of the rest a fortieth is dev.

    The same on every machine and in every version of Python.
    """
    number = int(hashlib.sha256(path.encode()).hexdigest(), 16)
    if path.partition("/")[0].removesuffix(".py") in HELD_OUT:
        return "test" if number % 2 else "val"
    return "train" if number // 10 % 40 else "dev"


# --- a user's folder


def files_source(folder: Path) -> Source:
    """A user's folder: every .txt, .md and .py file, .jsonl line and .parquet row is a document.

    Hidden files are left out, and so are duplicates. In the order of a hash of their names, the first documents are
    val (a tenth of the text), the next test (a twentieth) and dev (a fortieth), the rest train.
    """
    if not folder.is_dir():
        raise PrepareError(f"There is no folder {folder}. Name one with --files-folder.")
    files = _text_files(folder)
    if not files:
        raise PrepareError(f"{folder} holds no {' '.join(sorted(READERS))} file, not even in its folders.")
    listing = [(path.relative_to(folder).as_posix(), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    splits: dict[str, str] = {}

    def documents() -> Iterator[Document]:
        if not splits:
            splits.update(_splits_of_names({name: len(text) for name, text in _file_documents(folder, files)}, folder))
        return ((splits[name], text) for name, text in _file_documents(folder, files))

    options = {"folder": str(folder), "listing_sha256": hashlib.sha256(json.dumps(listing).encode()).hexdigest()}
    return Source("files", documents, options)


def _text_files(folder: Path) -> list[Path]:
    names = {path: path.relative_to(folder).parts for path in folder.rglob("*") if path.suffix.lower() in READERS}
    return sorted(
        path
        for path, parts in names.items()
        if path.is_file() and "__pycache__" not in parts and not any(part.startswith(".") for part in parts)
    )


def _file_documents(folder: Path, files: list[Path]) -> Iterator[tuple[str, str]]:
    """Name and text of each document that is neither blank nor a duplicate."""
    seen: set[bytes] = set()
    for path in files:
        for i, text in enumerate(READERS[path.suffix.lower()](path)):
            digest = hashlib.sha256(_encoded(text, path)).digest()
            if text.strip() and digest not in seen:
                seen.add(digest)
                yield f"{path.relative_to(folder).as_posix()}#{i}", text


def _encoded(text: str, path: Path) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:  # "\ud800" in JSON is half a character
        raise PrepareError(f"{path} holds text that is not Unicode: {error}.") from error


def _splits_of_names(sizes: dict[str, int], folder: Path) -> dict[str, str]:
    """A split for each name, by the hash of the name and the size of what came before it."""
    total, splits, taken = sum(sizes.values()), {}, 0
    names = iter(sorted(sizes, key=lambda name: hashlib.sha256(name.encode()).digest()))
    for split, end in (("val", 0.1), ("test", 0.15), ("dev", 0.175)):
        for name in names:
            splits[name] = split
            taken += sizes[name]
            if taken >= end * total:
                break
    if taken > total / 2:
        raise PrepareError(
            f"Too little text in {folder} for its four splits: its {len(sizes)} documents are too few, or too uneven, "
            "to hold out a sixth of the text. Add documents, or cut long ones into several files."
        )
    return splits | dict.fromkeys(names, "train")
