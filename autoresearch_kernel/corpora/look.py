"""A look at a user's files before a corpus is built from them: what each split would hold. Nothing is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from ..core.format import count, thousands
from .sources import Progress, Source
from .tokens import LEAST_VAL_ROWS

BYTES_A_TOKEN = 3  # about as many has a token of a vocabulary of 2048
ROWS = {"val": LEAST_VAL_ROWS, "train": 1, "dev": 1, "test": 1}  # of tokens, at least


def look(source: Source, folder: str, sequence_length: int, log: Callable[[str], None]) -> None:
    """Log documents and bytes of each split, and which of them are too small. Raises PrepareError as a build does."""
    documents, sizes, files = Counter[str](), Counter[str](), set[str]()
    progress = Progress(log)
    for split, text, name in source.documents():
        progress.add(len(text))
        documents[split] += 1
        sizes[split] += len(text.encode())
        files.add(name)
    total = sizes.total()
    log(f"{folder}: {thousands(total)} bytes of text in {count(len(files), 'file')}")
    log(f"  {'split':<6}{'documents or pieces':>20}{'bytes':>16}{'share':>8}")
    for split in ("train", "dev", "val", "test"):
        log(f"  {split:<6}{thousands(documents[split]):>20}{thousands(sizes[split]):>16}{sizes[split] / total:>8.1%}")
    for split, rows in ROWS.items():
        least = rows * sequence_length
        if sizes[split] < least * BYTES_A_TOKEN:
            log(
                f"  {split} {'is' if sizes[split] < least else 'may be'} too small: it needs {thousands(least)} "
                f"tokens, and a token has about {BYTES_A_TOKEN} bytes. Add text, or choose a smaller --sequence-length."
            )
    log("Nothing was written. The same command without --look builds the corpus.")
