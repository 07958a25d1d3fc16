"""Documents into tokens: the tokenizer is trained, each split becomes a stream, val and test become fixed rows."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from prepare import SPECIAL_TOKENS, SPLIT_PATTERN, PrepareError, Tokenizer, cut_rows

from ..system.files import write_array
from .sources import Document, Source

SPLITS = ("train", "dev", "val", "test")
TOKENIZER_CHARACTERS = 250_000_000  # the tokenizer is trained on at most this much text
BATCH_CHARACTERS = 8_000_000  # of text that is encoded at once, in threads


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A tokenizer of `vocab_size` ids, special ones included; of fewer where the text has too few pairs to merge."""
    import rustbpe

    trainer = rustbpe.Tokenizer()
    trainer.train_from_iterator(iter(texts), vocab_size - len(SPECIAL_TOKENS), pattern=SPLIT_PATTERN)
    return Tokenizer({bytes(token): rank for token, rank in trainer.get_mergeable_ranks()})


def tokenizer_texts(source: Source) -> Iterator[str]:
    """Training documents alone, whole, until enough was read."""
    characters = 0
    for split, text in source.documents():
        if split == "train":
            yield text
            characters += len(text)
        if characters >= TOKENIZER_CHARACTERS:
            return


def write_streams(source: Source, tokenizer: Tokenizer, folder: Path, log: Callable[[str], None]) -> dict[str, Any]:
    """Tokenize every document into `<split>.bin`, each after a BOS; counts, and a hash of all that was read."""
    dtype = _token_dtype(tokenizer)
    content, num_documents, num_bytes, tokens = hashlib.sha256(), 0, 0, dict.fromkeys(SPLITS, 0)
    started = said_at = time.monotonic()
    with contextlib.ExitStack() as stack:
        files = {split: stack.enter_context(open(folder / f"{split}.bin", "wb")) for split in SPLITS}
        for batch in _batched(source.documents()):
            for (split, text), ids in zip(batch, _encode_batch(tokenizer, batch), strict=True):
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
        size += len(document[1])
        if size >= BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _encode_batch(tokenizer: Tokenizer, batch: list[Document]) -> list[list[int]]:
    texts = [text for _, text in batch]
    return tokenizer.encode(texts, prepend=tokenizer.get_bos_token_id(), num_threads=os.cpu_count() or 1)


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


def check_enough(facts: dict[str, Any], name: str, sequence_length: int) -> None:
    """Raise PrepareError when a split has fewer tokens than the rows that it needs."""
    sizes = {split: facts[f"num_{split}_tokens"] for split in SPLITS}
    if min(sizes.values()) >= sequence_length and sizes["val"] >= 4 * sequence_length:
        return
    listed = ", ".join(f"{split} {size:,}" for split, size in sizes.items())
    raise PrepareError(
        f"Too little text in {name} for its four splits: {listed} tokens. Each needs a row of {sequence_length}, and "
        "val four. Add documents, or choose a smaller --sequence-length."
    )
