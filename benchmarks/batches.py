"""What a batch costs: its time, the wait for the first one, and its share of a training step.

    python benchmarks/batches.py [--corpus FOLDER]

The small settings read a prepared corpus and are held against a step of a two-layer model, 128 wide, run here. The
large one reads a synthetic corpus of 200 million tokens and is held against the step of the original program on an
H100, 157 ms for 2^18 tokens, so that its share means something on a machine without a GPU too. The target is 1 %.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import prepare

H100_SECONDS_A_TOKEN = 300 / 499.6e6  # the original's 499.6 million tokens in 300 s


def median_seconds(act: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        act()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def step_seconds(vocab_size: int, B: int, T: int) -> float:
    """One update of a small causal transformer on this machine's CPU."""
    layer = torch.nn.TransformerEncoderLayer(128, 2, 512, dropout=0.0, batch_first=True, norm_first=True)
    body = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    embedding, head = torch.nn.Embedding(vocab_size, 128), torch.nn.Linear(128, vocab_size)
    parameters = [*body.parameters(), *embedding.parameters(), *head.parameters()]
    mask = torch.nn.Transformer.generate_square_subsequent_mask(T)
    x = torch.randint(vocab_size, (B, T))

    def step() -> None:
        logits = head(body(embedding(x), mask=mask, is_causal=True))
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), x.flatten()).backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            for parameter in parameters:
                assert parameter.grad is not None
                parameter -= 0.01 * parameter.grad
                parameter.grad = None

    return median_seconds(step, 8)


def synthetic_corpus(corpus: Path, folder: Path, num_tokens: int, sequence_length: int) -> Path:
    """A copy of `corpus` with `num_tokens` random training tokens and longer rows."""
    meta = prepare.read_meta(corpus) | {"num_train_tokens": num_tokens, "sequence_length": sequence_length}
    folder.mkdir()
    (folder / "tokenizer.tiktoken").write_bytes((corpus / "tokenizer.tiktoken").read_bytes())
    (folder / "meta.json").write_text(json.dumps(meta))
    tokens = np.random.default_rng(0).integers(0, meta["vocab_size"], num_tokens, dtype=np.uint16)
    tokens.tofile(folder / "train.bin")
    return folder


def measure(corpus: Path, B: int, T: int, repeats: int, step: float, where: str) -> None:
    tokenizer = prepare.Tokenizer.from_directory(corpus)
    started = time.perf_counter()
    loader = prepare.make_dataloader(tokenizer, B, T, "train", device="cpu")
    next(loader)
    first = time.perf_counter() - started
    batch = median_seconds(lambda: next(loader), repeats)
    sizes = f"{B:4d} x {T:<5d}{batch * 1e3:9.3f}{B * T / batch / 1e6:12,.0f}{first * 1e3:11.1f}"
    print(f"{sizes}{step * 1e3:10.1f}{100 * batch / step:9.2f} %   {where}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, help="a prepared training side; by default the one in use")
    corpus = parser.parse_args().corpus or prepare.corpus_dir()
    vocab_size = prepare.read_meta(corpus)["vocab_size"]
    print(f"{'B x T':>8}{'batch ms':>13}{'M tokens/s':>12}{'first ms':>11}{'step ms':>10}{'share':>9}")
    for B, T in ((16, 128), (8, 256), (32, 256)):
        measure(corpus, B, T, 500, step_seconds(vocab_size, B, T), "step measured here")
    with tempfile.TemporaryDirectory() as folder:
        large = synthetic_corpus(corpus, Path(folder) / "large", 200_000_000, 2048)
        measure(large, 128, 2048, 100, 128 * 2048 * H100_SECONDS_A_TOKEN, "step of the original on an H100")


if __name__ == "__main__":
    main()
