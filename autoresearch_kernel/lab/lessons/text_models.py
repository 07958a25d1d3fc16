"""The text of lesson 1 and models of it that count: no training, no corpus that has to be built first."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from functools import cache

from ...corpora.sources import stdlib_source

TRAIN_BYTES = 1_000_000  # of the training text that a lesson counts; more would take longer and change little
VAL_BYTES = 120_000
ALPHA = 0.01  # added to every count: without it, a byte that never followed would have an infinite surprise
MOST_BEFORE = 5  # bytes that the longest model looks back
NUM_BYTES = 256  # that can come next


@dataclass(frozen=True)
class Texts:
    """Python's own library, split as the corpus `stdlib` is: whole modules are held out."""

    train: bytes = field(repr=False)
    val: bytes = field(repr=False)

    def __repr__(self) -> str:
        return f"train: {len(self.train):,} bytes, val: {len(self.val):,} bytes of Python code"


@cache
def lesson_text() -> Texts:
    """The text to count in, and the text to measure on. The test split stays sealed."""
    parts: dict[str, list[bytes]] = {"train": [], "val": []}
    for document in stdlib_source().documents():
        if document.split in parts:
            parts[document.split].append(document.text.encode())
    every_fifth = b"".join(parts["train"][::5])  # from the whole alphabet of modules
    return Texts(every_fifth[:TRAIN_BYTES], b"".join(parts["val"])[:VAL_BYTES])


class Counted:
    """A model that counts which byte follows which `before` bytes."""

    def __init__(self, data: bytes, before: int) -> None:
        self.before = before
        self.seen = Counter(data[i : i + before] for i in range(len(data) - before))
        self.followed = Counter(data[i : i + before + 1] for i in range(len(data) - before))

    def probability(self, context: bytes, following: bytes) -> float:
        """Of one byte after `context`, with ALPHA added to every count."""
        return (self.followed[context + following] + ALPHA) / (self.seen[context] + NUM_BYTES * ALPHA)

    def bits_per_byte(self, data: bytes) -> float:
        """The mean surprise of the bytes of `data`, without its first few, which have too little before them."""
        places = range(self.before, len(data))
        bits = -sum(math.log2(self.probability(data[i - self.before : i], data[i : i + 1])) for i in places)
        return bits / len(places)


@cache
def by_length(most_before: int = MOST_BEFORE) -> dict[int, tuple[float, float]]:
    """Bits per byte of counting models by the bytes that they look back: on the text they counted, and on val."""
    text = lesson_text()
    part = text.train[: len(text.val)]
    found = {}
    for before in range(most_before + 1):
        model = Counted(text.train, before)
        found[before] = model.bits_per_byte(part), model.bits_per_byte(text.val)
    return found
