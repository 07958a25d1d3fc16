"""Where documents come from and which split each belongs to; here Python's own library."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import platform
import sysconfig
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..system.standard_library import TEST, VAL
from .grams import WIDTH, Grams, compact, joined

PROGRESS_SECONDS = 5.0  # between two lines of progress


class Document(NamedTuple):
    """A text of a corpus, whole or a piece."""

    split: str  # train, dev, val or test
    text: str
    name: str  # of its file or row


@dataclass(frozen=True)
class Source:
    """Where a corpus comes from. `documents()` may be called again and gives the same documents in the same order."""

    name: str
    documents: Callable[[], Iterator[Document]]
    options: dict[str, Any]  # what makes two corpora of one name differ; kept in meta.json
    left_out: Callable[[], list[str]] = list  # what the documents lack, in words; complete once they were read


# Folders of the standard library that are tests, data or absent from some distributions.
NOT_CORE = {
    "test", "tests", "idlelib", "encodings", "lib2to3", "distutils", "tkinter", "turtledemo", "msilib", "ensurepip",
    "pydoc_data", "site-packages", "dist-packages", "__pycache__",
}  # fmt: skip


TWINS = {"_pydecimal.py": "_decimal", "_pydatetime.py": "_datetime"}  # held-out modules and what replaces them, in C


class Progress:
    """Says every few seconds how much text was read."""

    def __init__(self, log: Callable[[str], None]) -> None:
        self.log, self.characters, self.said_at = log, 0, 0.0

    def add(self, characters: int) -> None:
        self.said_at = self.said_at or time.monotonic()
        self.characters += characters
        if time.monotonic() - self.said_at > PROGRESS_SECONDS:
            self.said_at = time.monotonic()
            self.log(f"  read {self.characters / 1e6:,.0f} million characters")


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
            name = path.relative_to(root).as_posix()
            text = data.decode("utf-8-sig")
            yield Document(split_of_path(name), _without_docstrings(text, TWINS.get(name)), name)


def _without_docstrings(text: str, twin: str | None) -> str:
    """A held-out text without the lines that stand in docstrings of its compiled twin, which any code can read."""
    if twin is None or importlib.util.find_spec(twin) is None:
        return text
    named = [*vars(importlib.import_module(twin)).values()]
    members = [member for kind in named if isinstance(kind, type) for member in vars(kind).values()]
    docs = [doc for thing in (*named, *members) if isinstance(doc := getattr(thing, "__doc__", None), str)]
    grams = Grams.of({"docs": [doc.encode() for doc in docs]})
    lines = text.splitlines(keepends=True)
    begins = np.cumsum([0, *(len(compact(line.encode())) for line in lines)])
    copied = np.zeros(begins[-1], np.bool_)
    for start in grams.found_in(joined([compact(text.encode())]))[0].tolist():
        copied[start : start + WIDTH] = True
    return "".join(
        line for line, at, end in zip(lines, begins[:-1], begins[1:], strict=True) if not copied[at:end].any()
    )


def stdlib_files(root: Path) -> list[Path]:
    """The files of the standard library at `root` that become documents, in the order of their names."""
    files = [path for path in root.rglob("*.py") if not NOT_CORE & set(path.relative_to(root).parts)]
    files = [path for path in files if not path.name.startswith("_sysconfigdata")]  # differs from machine to machine
    topics = root / "pydoc_data" / "topics.py"
    files += [topics] if topics.is_file() else []
    return sorted(files, key=lambda path: path.relative_to(root).as_posix())


def split_of_path(path: str) -> str:
    """val or test for a module that VAL or TEST names; of the rest a hash of the path makes a fortieth dev.

    The same on every machine and in every version of Python.
    """
    module = path.removesuffix(".py").replace("/", ".")
    for split, names in (("val", VAL), ("test", TEST)):
        if any(f"{module}.".startswith(f"{name}.") for name in names):
            return split
    return "train" if int(hashlib.sha256(path.encode()).hexdigest(), 16) // 10 % 40 else "dev"
