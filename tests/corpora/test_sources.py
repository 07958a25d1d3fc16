"""Which documents the corpus of the standard library has, and in which split each is."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import prepare
from autoresearch_kernel.corpora.build import build_corpus
from autoresearch_kernel.corpora.sources import stdlib_source


def test_stdlib_makes_four_splits_of_a_size_worth_training_on(stdlib: Path) -> None:
    meta = prepare.read_meta(stdlib)
    assert meta["key"] == stdlib.name == "stdlib-v2048-t256"
    assert meta["vocab_size"] == 2048
    assert 250 < meta["num_documents"] < 600
    assert meta["num_train_tokens"] > 1_500_000
    # 512 rows are 2**17 targets. Python 3.13 dropped a dozen of the modules that are held out.
    least = 400 if sys.version_info >= (3, 13) else 512
    assert least <= meta["num_val_rows"] <= 512 and least <= meta["num_test_rows"] <= 512
    assert 2.9 < meta["num_val_bytes"] / 2**17 < 3.5  # bytes a token on held-out code
    assert meta["num_dev_tokens"] >= prepare.DEV_TOKENS
    assert len(meta["content_sha256"]) == len(meta["tokenizer_sha256"]) == 64


def test_held_out_rows_lie_apart_and_the_training_side_has_none(stdlib: Path) -> None:
    heldout = prepare.heldout_dir(stdlib)
    assert heldout == stdlib.parent.parent / "heldout" / stdlib.name
    training_side = ["dev.bin", "meta.json", "token_bytes.npy", "tokenizer.tiktoken", "train.bin"]
    assert sorted(path.name for path in stdlib.iterdir()) == training_side
    assert sorted(path.name for path in heldout.iterdir()) == ["meta.json", "test.npy", "val.npy"]
    rows = np.load(heldout / "val.npy")
    assert rows.dtype == np.uint16 and rows.shape == (512, 257)
    assert (rows[:, 0] == prepare.read_meta(stdlib)["bos_token_id"]).all()


def test_no_document_of_stdlib_is_cut_or_lost(stdlib: Path) -> None:
    tokenizer = prepare.Tokenizer.from_directory(stdlib)
    stream = prepare.read_split(stdlib, "train")
    starts = np.flatnonzero(stream == tokenizer.get_bos_token_id())
    texts = [document.text for document in stdlib_source().documents() if document.split == "train"]
    assert len(starts) == len(texts)
    for i in (0, len(texts) // 2, len(texts) - 1):
        end = starts[i + 1] if i + 1 < len(starts) else len(stream)
        assert tokenizer.decode(stream[starts[i] + 1 : end]) == texts[i]


def test_stdlib_holds_no_document_twice() -> None:
    texts = [document.text for document in stdlib_source().documents()]
    assert len(set(texts)) == len(texts)
    assert not any("unittest.main()" in text and "class Test" in text[:200] for text in texts)


def test_a_finished_corpus_is_left_alone(stdlib: Path) -> None:
    before = (stdlib / "meta.json").stat().st_mtime_ns
    lines: list[str] = []
    assert build_corpus("stdlib", home=stdlib.parent.parent, log=lines.append) == stdlib
    assert (stdlib / "meta.json").stat().st_mtime_ns == before
    assert "already there" in lines[0]
