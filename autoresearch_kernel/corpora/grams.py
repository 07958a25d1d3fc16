"""Which grams of some texts stand in which files? A gram is WIDTH bytes in a row, blanks not counted.

Files with a NUL byte are not text and are not searched, nor are compiled Python files: their names and docstrings stand
in the source beside them. Archives are searched. About 1 GB of text takes ten seconds on two cores.
"""

from __future__ import annotations

import collections
import functools
import os
import zipfile
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np

WIDTH = 48  # bytes of a gram, about one line of code: shorter ones are mostly idioms that any code has
_BLOCK = WIDTH // 2  # every gram of a file contains a block of this size at a multiple of it
_BLANKS = bytes(range(33))
_BETWEEN = b"\xff"  # stands between two texts and in no UTF-8 text
_FACTORS = np.array([
    0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0xD6E8FEB86659FD93, 0xA24BAED4963EE407, 0x9FB21C651E98DF25,
    0xC13FA9A902A6328F,
], np.uint64)  # fmt: skip
_KEY_BITS = 24  # of the table that sorts out most blocks
_BATCH_BYTES = 2**22
_NO_TEXT = {
    ".so", ".a", ".o", ".pyc", ".jar", ".jmod", ".jsa", ".mo", ".gz", ".xz", ".bz2", ".png", ".jpg", ".gif", ".ttf",
    ".woff", ".woff2", ".bc", ".npy", ".npz", ".dylib", ".dll", ".exe", ".pak",
}  # fmt: skip
_ZIPPED = {".zip", ".whl", ".egg", ".pyz"}


@dataclass(frozen=True)
class Grams:
    """The grams of the val and test rows: hashes, and for each split the index of the gram at each position."""

    hashes: np.ndarray  # sorted, each once
    blocks: np.ndarray  # hashes of all blocks of half a gram, sorted, each once
    positions: dict[str, np.ndarray]

    @classmethod
    def of(cls, texts: dict[str, list[bytes]]) -> Grams:
        """The grams within each text; the keys are the splits."""
        whole = {split: joined(map(compact, parts)) for split, parts in texts.items()}
        of_split = {split: _hashes(text, WIDTH)[_whole(text)] for split, text in whole.items()}
        hashes = np.unique(np.concatenate(list(of_split.values())))
        blocks = np.unique(np.concatenate([_hashes(text, _BLOCK) for text in whole.values()]))
        return cls(hashes, blocks, {split: np.searchsorted(hashes, of_split[split]) for split in texts})

    def shares(self, copied: np.ndarray) -> dict[str, float]:
        """The share of each split's positions whose gram is marked in `copied`, bool (number of grams,)."""
        return {split: float(copied[at].mean()) if len(at) else 0.0 for split, at in self.positions.items()}

    def found_in(self, text: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where grams begin in a compact text, uint8, and their indices."""
        count = len(text) // _BLOCK
        keys = _combined(text[: count * _BLOCK].view("<u8").reshape(count, _BLOCK // 8).T)
        near = np.flatnonzero(self._table[(keys >> np.uint64(64 - _KEY_BITS)).astype(np.int64)])
        near = near[_index_of(self.blocks, keys[near]) >= 0]
        starts = (near[:, None] * _BLOCK + np.arange(-_BLOCK, 1)).ravel()
        starts = np.unique(starts[(starts >= 0) & (starts <= len(text) - WIDTH)])
        words = _words(text)
        found = _index_of(self.hashes, _combined([words[starts + 8 * i] for i in range(WIDTH // 8)]))
        return starts[found >= 0], found[found >= 0]

    @cached_property
    def _table(self) -> np.ndarray:
        table = np.zeros(2**_KEY_BITS, np.bool_)
        table[(self.blocks >> np.uint64(64 - _KEY_BITS)).astype(np.int64)] = True
        return table


def compact(text: bytes) -> bytes:
    """A text without its blanks."""
    return text.translate(None, _BLANKS)


def joined(texts: Iterable[bytes]) -> np.ndarray:
    return np.frombuffer(_BETWEEN.join(texts), np.uint8)


def _words(text: np.ndarray) -> np.ndarray:
    """The eight bytes from each position on as one number, uint64 (bytes - 7,)."""
    return np.ndarray((max(0, len(text) - 7),), "<u8", text, 0, (1,))


def _combined(words: Iterable[np.ndarray]) -> np.ndarray:
    """One hash for each position, of all its words."""
    products = (word * factor for word, factor in zip(words, _FACTORS, strict=False))
    return functools.reduce(np.add, products)


def _hashes(text: np.ndarray, width: int) -> np.ndarray:
    """The hash of `width` bytes from each position on."""
    words, count = _words(text), max(0, len(text) - width + 1)
    return _combined([words[8 * i : 8 * i + count] for i in range(width // 8)])


def _whole(text: np.ndarray) -> np.ndarray:
    """The positions from which WIDTH bytes belong to one text."""
    ends = np.cumsum(np.concatenate([[0], text == _BETWEEN[0]]))
    return np.flatnonzero(ends[WIDTH:] == ends[:-WIDTH])


def _index_of(values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The index of each wanted number among the sorted values; -1 where it is not there."""
    index = np.minimum(np.searchsorted(values, wanted), len(values) - 1)
    return np.where(values[index] == wanted, index, -1) if len(values) else np.full(len(wanted), -1)


def shown_files(roots: Iterable[str], hidden: Iterable[str]) -> Iterator[tuple[str, os.stat_result]]:
    """The plain files below the roots that may hold text, without what is hidden; links are not followed.

    The entries of /sys and /proc are left out: the system makes their text and new times at each start.
    """
    real = {os.path.realpath(root) for root in roots}
    real = {path for path in real if not f"{path}/".startswith(("/sys/", "/proc/"))}
    waiting = [path for path in real if not any(path.startswith(f"{other}/") for other in real)]
    closed = {os.path.realpath(path) for path in hidden}
    for path in [path for path in waiting if os.path.isfile(path)]:
        yield from _with_status(path)
    while waiting:
        try:
            with os.scandir(waiting.pop()) as listing:
                entries = [entry for entry in listing if entry.path not in closed]
        except OSError:
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                waiting.append(entry.path)
            elif entry.is_file(follow_symlinks=False) and os.path.splitext(entry.name)[1] not in _NO_TEXT:
                yield from _with_status(entry.path)


def _with_status(path: str) -> list[tuple[str, os.stat_result]]:
    """A file and its status; nothing of one that has just been removed."""
    try:
        return [(path, os.stat(path, follow_symlinks=False))]
    except OSError:
        return []


def find(grams: Grams, paths: Iterable[str]) -> dict[str, np.ndarray]:
    """The grams that each of the files holds, as sorted indices; files that hold none are left out."""
    found: dict[str, np.ndarray] = {}
    running: collections.deque[Future[dict[str, np.ndarray]]] = collections.deque()
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for batch in _batches(paths):
            running.append(pool.submit(_search, grams, batch))
            if len(running) > 8:
                found |= running.popleft().result()
        for future in running:
            found |= future.result()
    return found


def _batches(paths: Iterable[str]) -> Iterator[list[tuple[str, bytes]]]:
    batch, size = [], 0
    for path in paths:
        text = compact(_read(path))
        batch.append((path, text))
        size += len(text)
        if size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _read(path: str) -> bytes:
    """The text of a file, or of all members of an archive; nothing of a file that is no text or cannot be read."""
    try:
        if os.path.splitext(path)[1] in _ZIPPED:
            return _read_archive(path)
        with open(path, "rb") as file:
            head = file.read(2**12)
            return b"" if b"\0" in head else head + file.read()
    except OSError:
        return b""


def _read_archive(path: str) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive:
            members = [name for name in archive.namelist() if os.path.splitext(name)[1] not in _NO_TEXT]
            return _BETWEEN.join(archive.read(name) for name in members)
    except Exception:  # each kind of compression has errors of its own for damaged data
        return b""


def _search(grams: Grams, batch: list[tuple[str, bytes]]) -> dict[str, np.ndarray]:
    starts, indices = grams.found_in(joined(text for _, text in batch))
    ends = np.cumsum([len(text) + 1 for _, text in batch])
    files = np.searchsorted(ends, starts, side="right")
    return {batch[number][0]: np.unique(indices[files == number]) for number in np.unique(files).tolist()}
