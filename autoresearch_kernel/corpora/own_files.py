"""A user's own files as a corpus: which documents there are, where long ones are cut, and which split each is in.

A document longer than a fortieth of all text is cut into contiguous pieces of that size, at the end of a paragraph or
line. In the order of a hash of their content, the first pieces and documents are val (a tenth of the text), the next
test (a twentieth) and dev (a fortieth), the rest train. So the same content gives the same splits under any name.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from prepare import PrepareError

from ..core.format import count, thousands
from ..core.sanitize import shown
from .folder import Listing, list_texts
from .readers import LONGEST_RUN, TEXT_KEY, FileLeftOut, Parts, ShortRuns, Skipped, read_documents
from .sources import Document, Progress, Source

SHARES = (("val", 0.1), ("test", 0.15), ("dev", 0.175))  # where each ends in the ordered text; the rest is train
LONGEST_SHARE = 1 / 40  # of all text: a longer document is cut
LONGEST_PIECE = 2**24  # characters; pieces are held in memory
MOST_NAMED = 20  # files that a message names


def own_files_source(
    path: Path, text_key: str | None, log: Callable[[str], None], readable: Sequence[str] = ()
) -> Source:
    """A folder of texts, or one file. Cheap: no file is read before the documents are asked for.

    Raises PrepareError for a file that lies below one of the `readable` paths, which each training may read.
    """
    listing = list_texts(path)
    _refuse_readable(listing, readable)
    own = _OwnFiles(listing, text_key or TEXT_KEY, log)
    files = [(listing.name_of(file), *_size_and_time(file)) for file in listing.files]
    options = {
        "folder": str(path),
        "listing_sha256": hashlib.sha256(json.dumps(files).encode()).hexdigest(),
        "splits": "by content",
    }
    return Source("files", own.documents, options | ({"text_key": text_key} if text_key else {}), own.left_out)


def _refuse_readable(listing: Listing, readable: Sequence[str]) -> None:
    """Raise PrepareError for a file that each training may read: a model could look up held-out text there."""
    roots = [os.path.realpath(root) for root in readable]
    below = tuple(f"{root}/" for root in roots)
    real_folder = functools.cache(os.path.realpath)
    for file in listing.files:
        real = os.path.realpath(file) if file.is_symlink() else f"{real_folder(file.parent)}/{file.name}"
        if f"{real}/".startswith(below):
            root = next(root for root in roots if f"{real}/".startswith(f"{root}/"))
            raise PrepareError(
                f"{shown(file)} cannot be in a corpus, because each training may read {root}, and so the held-out "
                "texts there: copy your texts to a folder of their own below your home, and name that."
            )


def _size_and_time(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


@dataclass(frozen=True)
class _Splits:
    """Where documents are cut, and the splits by hash of content."""

    longest: int  # characters of a piece
    ends: tuple[int, ...]  # the last hash of val, test and dev
    repeated: frozenset[int]  # hashes that come more than once

    def split_of(self, digest: int) -> str:
        names = (name for (name, _), end in zip(SHARES, self.ends, strict=True) if digest <= end)
        return next(names, "train")


@dataclass
class _Sizes:
    """Hash and characters of each document or piece: 16 bytes for each, however many there are."""

    digests: array[int] = field(default_factory=lambda: array("Q"))
    characters: array[int] = field(default_factory=lambda: array("Q"))

    def add(self, digest: int, characters: int) -> None:
        self.digests.append(digest)
        self.characters.append(characters)

    def cut_to(self, count: int) -> None:
        del self.digests[count:], self.characters[count:]

    def unique(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Hashes in rising order, characters of each, and how often each came."""
        digests, first, counts = np.unique(
            np.frombuffer(self.digests, dtype=np.uint64), return_index=True, return_counts=True
        )
        return digests, np.frombuffer(self.characters, dtype=np.uint64)[first], counts


class _OwnFiles:
    """The documents of a listing. They are read anew each time; what is left out is kept by name."""

    def __init__(self, listing: Listing, text_key: str, log: Callable[[str], None]) -> None:
        self.listing, self.text_key, self.log = listing, text_key, log
        self.splits: _Splits | None = None
        self.in_part: dict[str, str] = {}  # what is left out of a file that is read
        self.blank = self.copies = 0

    def documents(self) -> Iterator[Document]:
        """Each document or piece with its split, without blank ones and copies. Raises PrepareError."""
        if self.splits is None:
            self.splits = self._survey()
            for line in self.left_out():
                self.log(line)
        seen: set[int] = set()
        for name, text in self._pieces(self.splits.longest):
            digest = _digest(hashlib.sha256(text.encode()))
            if text.isspace() or digest in seen:
                continue
            if digest in self.splits.repeated:
                seen.add(digest)
            yield Document(self.splits.split_of(digest), text, name)

    def left_out(self) -> list[str]:
        """All that is not in the corpus, a line each: files, parts of files, kinds of files, blanks and copies."""
        lines = _headed("Left out", self.listing.left_out)
        lines += _headed("Left out in part", self.in_part)
        if self.listing.other_kinds:
            lines.append(self.listing.other_kinds_in_words())
        for found, what in (
            (self.listing.hidden, "hidden files or folders"),
            (self.blank, "blank documents or pieces"),
            (self.copies, "copies of other documents or pieces"),
        ):
            if found:
                lines.append(f"Left out: {what}: {thousands(found)}")
        return lines

    def _survey(self) -> _Splits:
        """Read everything once, and once more where documents have to be cut: the splits. Raises PrepareError."""
        documents = self._documents_by_size()
        if not documents.digests:
            nothing = f"No text can be read in {shown(self.listing.root)}."
            raise PrepareError("\n  ".join([nothing, *self.left_out()]))
        _, characters, _ = documents.unique()
        longest = max(1, min(LONGEST_PIECE, int(characters.sum() * LONGEST_SHARE)))
        pieces = documents if characters.max() <= longest else self._pieces_by_size(longest)
        digests, characters, counts = pieces.unique()
        self.copies = int((counts - 1).sum())
        return _Splits(longest, self._ends(digests, characters), frozenset(digests[counts > 1].tolist()))

    def _documents_by_size(self) -> _Sizes:
        """Hash and size of each document that is not blank. Files that cannot be read are left out from here on."""
        sizes, progress = _Sizes(), Progress(self.log)
        for path in self.listing.files:
            before, blank = len(sizes.digests), self.blank
            try:
                for document in self._of_file(path):
                    self._measure(document, sizes, progress)
            except FileLeftOut as error:
                sizes.cut_to(before)
                self.blank = blank
                self.listing.left_out[self.listing.name_of(path)] = error.reason
        return sizes

    def _measure(self, document: Parts, sizes: _Sizes, progress: Progress) -> None:
        hashed, characters, is_blank = hashlib.sha256(), 0, True
        for part in document:
            hashed.update(part.encode())
            characters += len(part)
            is_blank = is_blank and (not part or part.isspace())
            progress.add(len(part))
        if is_blank:
            self.blank += 1
        else:
            sizes.add(_digest(hashed), characters)

    def _pieces_by_size(self, longest: int) -> _Sizes:
        sizes, progress = _Sizes(), Progress(self.log)
        self.blank = 0
        for _, text in self._pieces(longest):
            progress.add(len(text))
            if text.isspace():
                self.blank += 1
            else:
                sizes.add(_digest(hashlib.sha256(text.encode())), len(text))
        return sizes

    def _pieces(self, longest: int) -> Iterator[tuple[str, str]]:
        """Name of the file and text of each piece of at most `2 * longest` characters, in the order of the files.

        A file that cannot be read any more is left out from where it fails.
        """
        for path in self.listing.files:
            name = self.listing.name_of(path)
            if name in self.listing.left_out:
                continue
            try:
                for document in self._of_file(path):
                    yield from ((name, text) for text in cut_in_pieces(document, longest))
            except FileLeftOut as error:
                self.listing.left_out[name] = f"{error.reason} (it could be read before)"

    def _of_file(self, path: Path) -> Iterator[Parts]:
        skipped, runs, is_empty = Skipped(), ShortRuns(), True
        for document in read_documents(path, self.text_key, skipped):
            is_empty = False
            yield runs.of(document)
        what = skipped.text()
        if runs.removed:
            words = f"{runs.removed:,} characters of runs of one character longer than {LONGEST_RUN:,}"
            what = f"{what}; {words}" if what else words
        if is_empty:
            raise FileLeftOut(path, f"no text in it{': ' if what else ''}{what}")
        if what:
            self.in_part[self.listing.name_of(path)] = what

    def _ends(self, digests: np.ndarray, characters: np.ndarray) -> tuple[int, ...]:
        """The last hash of val, test and dev; each has at least one piece. Raises PrepareError."""
        ends, so_far, last = [], np.cumsum(characters), -1
        for _, share in SHARES:
            last = max(last + 1, int(np.searchsorted(so_far, share * int(so_far[-1]))))
            if last + 1 >= len(digests) or so_far[last] > so_far[-1] / 2:
                too_little = (
                    f"Too little text in {shown(self.listing.root)} for its four splits: without copies it has "
                    f"{int(so_far[-1]):,} characters in pieces: {len(digests):,}. Add text that does not repeat itself."
                )
                raise PrepareError("\n  ".join([too_little, *self.left_out()]))
            ends.append(int(digests[last]))
        return tuple(ends)


def cut_in_pieces(document: Parts, longest: int) -> Iterator[str]:
    """A document whole where it has at most `longest` characters, else contiguous pieces of at most as many."""
    kept = ""
    for part in document:
        kept += part
        while len(kept) > 2 * longest:
            end = _end_of_piece(kept, longest - longest // 4, longest)
            yield kept[:end]
            kept = kept[end:]
    if len(kept) > longest:
        half = (len(kept) + 1) // 2
        end = _end_of_piece(kept, max(half - half // 4, len(kept) - longest), half)
        yield kept[:end]
        kept = kept[end:]
    if kept:
        yield kept


def _end_of_piece(text: str, least: int, most: int) -> int:
    """Where a piece of `least` to `most` characters ends: after a paragraph, else a line, else a word."""
    for mark in ("\n\n", "\n", " "):
        found = text.rfind(mark, least, most)
        if found != -1:
            return found + len(mark)
    return most


def _digest(hashed: hashlib._Hash) -> int:
    return int.from_bytes(hashed.digest()[:8])


def _headed(words: str, reasons: dict[str, str]) -> list[str]:
    """`Left out: 3 files` and a line for each of the first ones."""
    if not reasons:
        return []
    lines = [f"  {name}: {reason}" for name, reason in list(reasons.items())[:MOST_NAMED]]
    more = len(reasons) - MOST_NAMED
    heading = f"{words}: {count(len(reasons), 'file')}{'' if len(reasons) == 1 else ' or folders'}"
    return [heading, *lines, *([f"  and {thousands(more)} more"] if more > 0 else [])]
