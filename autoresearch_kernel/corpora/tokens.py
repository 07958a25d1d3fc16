"""Documents into tokens: the tokenizer is trained, each split becomes a stream, val and test become fixed rows."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from prepare import SPECIAL_TOKENS, SPLIT_PATTERN, PrepareError, Tokenizer, cut_rows

from ..core.sanitize import one_line, shown
from ..system.files import write_array
from .sources import Document, Source

SPLITS = ("train", "dev", "val", "test")
LEAST_VAL_ROWS = 4  # a mean of fewer has no usable standard error
TOKENIZER_CHARACTERS = 250_000_000  # the tokenizer is trained on at most this much text
BATCH_CHARACTERS = 8_000_000  # of text that is encoded at once, in threads
LONGEST_BLANKS = 2**16  # characters; at 600,000 the regular expressions of rustbpe and tiktoken overflow their stack
LONG_BLANKS = re.compile(rf"\s(?<!\s\s)\s{{{LONGEST_BLANKS},}}")


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A tokenizer of `vocab_size` ids, special ones included; of fewer where the text has too few pairs to merge."""
    import rustbpe

    trainer = rustbpe.Tokenizer()
    trainer.train_from_iterator(iter(texts), vocab_size - len(SPECIAL_TOKENS), pattern=SPLIT_PATTERN)
    return Tokenizer({bytes(token): rank for token, rank in trainer.get_mergeable_ranks()})


def tokenizer_of(source: Source, vocab_size: int) -> Tokenizer:
    """A tokenizer for the training documents of a source. Raises PrepareError that names a text it fails on."""
    with _naming(_training_documents(source), lambda text: train_tokenizer(between_blanks(text), 2**9)):
        texts = (part for document in _training_documents(source) for part in between_blanks(document.text))
        return train_tokenizer(texts, vocab_size)


def _training_documents(source: Source) -> Iterator[Document]:
    """Documents that the tokenizer is trained on, whole, until enough was read."""
    characters = 0
    for document in source.documents():
        if document.split == "train":
            yield document
            characters += len(document.text)
        if characters >= TOKENIZER_CHARACTERS:
            return


def between_blanks(text: str) -> list[str]:
    """The text, cut within every run of blanks that is too long for the tokenizers' regular expressions."""
    if len(text) <= LONGEST_BLANKS:
        return [text]
    parts, start = [], 0
    for run in LONG_BLANKS.finditer(text):
        for end in range(run.start() + LONGEST_BLANKS, run.end(), LONGEST_BLANKS):
            parts.append(text[start:end])
            start = end
    return [*parts, text[start:]]


@contextlib.contextmanager
def _naming(documents: Iterable[Document], attempt: Callable[[str], object]) -> Iterator[None]:
    """Turn a panic of a tokenizer, which is written in Rust, into a PrepareError that names the document."""
    try:
        yield
    except BaseException as error:
        if not _is_panic(error):
            raise
        name = next((document.name for document in documents if _panics(attempt, document.text)), "a document")
        raise PrepareError(
            f"The tokenizer cannot process {name}: {one_line(str(error))}. Take this file out of the folder, and "
            "report its text as a defect of this program."
        ) from error


def _is_panic(error: BaseException) -> bool:
    return type(error).__name__ == "PanicException"  # of pyo3; no Exception, and no module has it


def _panics(attempt: Callable[[str], object], text: str) -> bool:
    try:
        attempt(text)
    except BaseException as error:
        if not _is_panic(error):
            raise
        return True
    return False


def write_streams(source: Source, tokenizer: Tokenizer, folder: Path, log: Callable[[str], None]) -> dict[str, Any]:
    """Tokenize every document into `<split>.bin`, each after a BOS; counts, and a hash of all that was read."""
    dtype = _token_dtype(tokenizer)
    content, num_documents, num_bytes, tokens = hashlib.sha256(), 0, 0, dict.fromkeys(SPLITS, 0)
    started = said_at = time.monotonic()
    with contextlib.ExitStack() as stack:
        files = {split: stack.enter_context(open(folder / f"{split}.bin", "wb")) for split in SPLITS}
        for batch in _batched(source.documents()):
            for (split, text, _), ids in zip(batch, _encode_batch(tokenizer, batch), strict=True):
                data = text.encode()
                content.update(f"{split} {hashlib.sha256(data).hexdigest()}\n".encode())
                files[split].write(np.asarray(ids, dtype=dtype).tobytes())
                tokens[split] += len(ids)
                num_documents, num_bytes = num_documents + 1, num_bytes + len(data)
            if time.monotonic() - said_at > 5:
                said_at = time.monotonic()
                rate = num_bytes / 1e6 / (said_at - started)
                log(f"  {num_documents:,} documents, {num_bytes / 1e6:,.0f} MB at {rate:.1f} MB/s")
        for file in files.values():
            file.flush()
            os.fsync(file.fileno())
    counts = {f"num_{split}_tokens": count for split, count in tokens.items()}
    sizes = {"num_documents": num_documents, "num_bytes": num_bytes, "token_dtype": np.dtype(dtype).name}
    return {"content_sha256": content.hexdigest(), **sizes, **counts}


def _token_dtype(tokenizer: Tokenizer) -> type[np.unsignedinteger[Any]]:
    return np.uint16 if tokenizer.get_vocab_size() <= 2**16 else np.uint32


def _batched(documents: Iterator[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document.text)
        if size >= BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _encode_batch(tokenizer: Tokenizer, batch: list[Document]) -> list[list[int]]:
    parts = [between_blanks(document.text) for document in batch]
    with _naming(batch, lambda text: tokenizer.encode(between_blanks(text))):
        flat = tokenizer.encode([part for text in parts for part in text], num_threads=os.cpu_count() or 1)
    encoded = iter(flat)
    bos = tokenizer.get_bos_token_id()
    return [[bos, *itertools.chain.from_iterable(next(encoded) for _ in text)] for text in parts]


def move_heldout(tokenizer: Tokenizer, folder: Path, heldout: Path, sequence_length: int, limit: int) -> dict[str, Any]:
    """Cut the val and test streams into fixed rows in the held-out folder, and remove the streams."""
    facts: dict[str, Any] = {}
    digest = hashlib.sha256()
    for split in ("val", "test"):
        stream = np.memmap(folder / f"{split}.bin", dtype=_token_dtype(tokenizer), mode="r")
        rows = cut_rows(stream, sequence_length, limit, tokenizer.get_bos_token_id())
        write_array(heldout / f"{split}.npy", rows)
        digest.update(rows.tobytes())
        facts[f"num_{split}_rows"] = len(rows)
        facts[f"num_{split}_bytes"] = int(tokenizer.token_bytes[rows[:, 1:]].sum())
        (folder / f"{split}.bin").unlink()
    return facts | {"heldout_sha256": digest.hexdigest()}


def check_enough(facts: dict[str, Any], source: Source, sequence_length: int) -> None:
    """Raise PrepareError when a split has fewer tokens than the rows that it needs."""
    sizes = {split: facts[f"num_{split}_tokens"] for split in SPLITS}
    if min(sizes.values()) >= sequence_length and sizes["val"] >= LEAST_VAL_ROWS * sequence_length:
        return
    listed = ", ".join(f"{split} {size:,}" for split, size in sizes.items())
    where = shown(Path(source.options.get("folder", source.name)))
    words = f"Too little text in {where} for its four splits: {listed} tokens. Each needs a row of {sequence_length}, "
    words += "and val four. Add documents, or choose a smaller --sequence-length."
    raise PrepareError("\n  ".join([words, *source.left_out()]))
