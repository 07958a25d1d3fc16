"""Which share of a corpus' held-out text stands in files that a sandbox shows?

Code in a sandbox may read every shown file, so a model could look held-out text up there instead of predicting it.
A gram (corpora/grams.py) is copied when it stands in a shown file and not in the training text, from which any model
may copy. Above LIMIT, `settle_copies` hides files that no training can import from all sandboxes, those with most
copied grams first.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..sandbox.hidden_stdlib import held_out_paths
from ..sandbox.policy import training_policy
from ..system.files import write_atomic
from ..system.machine import has_gpu
from .grams import Grams, compact, find, joined, shown_files

LIMIT = 0.002  # the largest share of copied grams
_AIM = 0.9 * LIMIT  # of hiding, so that a new package does not pass the limit at once
COUNTED = ("stdlib", "packages")  # corpora of text that comes with Python and its packages
_ROWS_TOKENS = 2**18  # of each split that are looked for, at most
_TRAINING_TOKENS = 2**26  # of the training text that are searched, at most
_SLICE = 2**20  # tokens at a time
_MOST_NAMED = 20  # files that are named
_MOST_HIDDEN = 300  # files and folders; each is a mount or a few rules of a sandbox
_PYTHON = {".py", ".pyi", ".pxi", ".whl", ".zip"}  # files that may be hidden alone; headers may not


@dataclass(frozen=True)
class Copies:
    """What was counted for one corpus."""

    shares: dict[str, float]  # of val and of test
    worst: list[tuple[str, int]]  # shown files and the number of copied grams in each, most first
    hidden: list[str]  # files and folders that sandboxes hide for it
    of: str  # a hash of the rows, of prepare.py and of the shown files with sizes and times; equal ones: equal counts

    @property
    def is_too_much(self) -> bool:
        return max(self.shares.values()) > LIMIT

    def words(self) -> str:
        shares = " and ".join(f"{100 * share:.2f} % of {split}" for split, share in self.shares.items())
        return f"{shares} stand in files that a sandbox shows"

    def too_much(self) -> str:
        """For a user: the share, the limit and the worst files."""
        files = ", ".join(path for path, _ in self.worst[:3])
        return f"{self.words()}, above the limit of {100 * LIMIT:.1f} %. Most of it stands in {files}"


NEXT_STEP = "Remove these files or their packages, or use an environment with this program's packages alone."


def readable_roots(folder: Path, project: Path) -> list[str]:
    """The files and folders that a training on the corpus in `folder` may read besides that corpus."""
    policy = training_policy(folder, project, folder, folder, seconds=0, gpu=has_gpu())
    return [path for path in policy.read_only if Path(path) != folder.resolve()]


def count_copies(folder: Path, heldout: Path, project: Path, known: Path) -> Copies:
    """The copied shares of a corpus. The file `known` has an earlier count, which is used where it still holds."""
    counted = _Count(folder, heldout, project, known)
    return counted.before or counted.result()


def settle_copies(folder: Path, heldout: Path, project: Path, known: Path) -> Copies:
    """Count, hide what has to be hidden, and write `known`, unless the corpus stays above LIMIT."""
    counted = _Count(folder, heldout, project, known)
    if counted.before is not None:
        return counted.before
    if counted.result().is_too_much:
        counted.hide()
    copies = counted.result()
    if not copies.is_too_much:
        write_atomic(known, json.dumps(asdict(copies), indent=1))
    return copies


class _Count:
    """The copied grams of each shown file, and what is hidden of these files."""

    def __init__(self, folder: Path, heldout: Path, project: Path, known: Path) -> None:
        meta = json.loads((heldout / "meta.json").read_text(encoding="utf-8"))
        roots = readable_roots(folder, project)
        self.rows_hash = str(meta["heldout_sha256"])
        earlier = _read_count(known)
        self.hidden = earlier.hidden if earlier is not None else []
        hidden = held_out_paths(roots, known.parent)  # another cache may hide other files
        shown = shown_files(roots, (*hidden, *self.hidden))
        self.files = {path: f"{at.st_size} {at.st_mtime_ns}" for path, at in shown}
        self.prepare = os.path.realpath(project / "prepare.py")  # each project has a copy, so its content counts
        if self.prepare in self.files:
            self.files[self.prepare] = hashlib.sha256(Path(self.prepare).read_bytes()).hexdigest()
        self.before = earlier if earlier is not None and earlier.of == self._hash() else None
        if self.before is not None:
            return
        tokens = _token_bytes(folder)
        self.grams = Grams.of({split: _rows(heldout / f"{split}.npy", tokens) for split in ("val", "test")})
        legal = _legal(self.grams, folder, meta, tokens)
        found = find(self.grams, self.files)
        self.found = {path: indices[~legal[indices]] for path, indices in found.items()}
        self.times = np.zeros(len(self.grams.hashes), np.int64)  # the number of files with each gram
        for indices in self.found.values():
            self.times[indices] += 1

    def _hash(self) -> str:
        named = {"prepare.py" if path == self.prepare else path: at for path, at in self.files.items()}
        lines = (f"{path} {at}\n" for path, at in sorted(named.items()))
        return hashlib.sha256("".join([self.rows_hash, *lines]).encode("utf-8", "surrogateescape")).hexdigest()

    def result(self) -> Copies:
        sizes = {path: len(indices) for path, indices in self.found.items() if len(indices)}
        worst = sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[:_MOST_NAMED]
        return Copies(self.grams.shares(self.times > 0), worst, self.hidden, self._hash())

    def hide(self) -> None:
        """Hide the units with the most copied grams until the shares are below _AIM."""
        folders = [os.path.realpath(folder) for folder in sys.path if os.path.isdir(folder)]
        units: dict[str, list[str]] = {}
        for path in self.found:
            if unit := _unit(path, folders):
                units.setdefault(unit, []).append(path)
        sizes = {unit: sum(len(self.found[path]) for path in paths) for unit, paths in units.items()}
        for unit in sorted(sizes, key=lambda unit: -sizes[unit])[:_MOST_HIDDEN]:
            if not sizes[unit] or max(self.grams.shares(self.times > 0).values()) <= _AIM:
                break
            for path in units[unit]:
                self.times[self.found.pop(path)] -= 1
            self.hidden = [*self.hidden, unit]
            self.files = {path: at for path, at in self.files.items() if not f"{path}/".startswith(f"{unit}/")}


def _read_count(known: Path) -> Copies | None:
    try:
        return Copies(**json.loads(known.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _token_bytes(folder: Path) -> list[bytes]:
    """The bytes of each token; none for special ones.

    The file is read here and not by prepare.py, which `doctor` cannot import where the project is no import folder.
    """
    found = [b""] * int(json.loads((folder / "meta.json").read_text(encoding="utf-8"))["vocab_size"])
    for line in (folder / "tokenizer.tiktoken").read_bytes().splitlines():
        token, rank = line.split()
        found[int(rank)] = base64.b64decode(token)
    return found


def _text(ids: np.ndarray, tokens: list[bytes]) -> bytes:
    return b"".join(map(tokens.__getitem__, ids.tolist()))


def _rows(path: Path, tokens: list[bytes]) -> list[bytes]:
    """The text of the rows; of every n-th row where there are many."""
    rows = np.load(path, mmap_mode="r")
    return [_text(row[1:], tokens) for row in rows[:: -(-rows.size // _ROWS_TOKENS) or 1]]


def _legal(grams: Grams, folder: Path, meta: dict[str, Any], tokens: list[bytes]) -> np.ndarray:
    """Which grams stand in the training text, bool (number of grams,)."""
    legal = np.zeros(len(grams.hashes), np.bool_)
    for split in ("dev", "train"):
        stream = np.memmap(folder / f"{split}.bin", dtype=np.dtype(meta["token_dtype"]), mode="r")
        for start in range(0, min(len(stream), _TRAINING_TOKENS), _SLICE):
            ids = stream[max(0, start - 2**8) : start + _SLICE]  # a gram may begin in the slice before
            legal[grams.found_in(joined([compact(_text(ids, tokens))]))[1]] = True
    return legal


def _unit(path: str, folders: Sequence[str]) -> str | None:
    """What to hide so that a file is hidden, when no import from the `folders` can need it; else None.

    Of a package these are stubs and tests; of the system a program's folder in /usr/lib or /usr/share.
    """
    parts = Path(path).parts
    if any(path.startswith(f"{folder}/") for folder in folders):
        return path if path.endswith(".pyi") or "tests" in parts else None
    for name in ("site-packages", "dist-packages"):
        if name in parts:
            return path[: path.index(f"/{name}/") + len(name) + 1]
    folder = Path(*parts[:4])
    if parts[:2] == ("/", "usr") and len(parts) > 4 and parts[2] in ("lib", "share") and not _has_libraries(folder):
        return str(folder)
    return path if Path(path).suffix in _PYTHON or parts[:3] == ("/", "usr", "bin") else None


@functools.cache
def _has_libraries(folder: Path) -> bool:
    """Whether programs outside may need the folder, as those of compilers and of the system's own libraries."""
    return any(next(folder.glob(pattern), None) for pattern in ("*.so*", "*/*.so*", "*/*/*.so*"))
