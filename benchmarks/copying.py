"""What a model would gain in val_bpb by copying from the files that a sandbox shows.

python -m benchmarks.copying STUDY          some minutes; the baseline of that study, its corpus in the cache

A model that copies looks for the tokens just before a place in some text and takes what follows there. Here it has
three contexts, of 16, 8 and 5 tokens; the longest that is found anywhere counts, and each token that followed it there
gets its share of the occurrences. Its probabilities are mixed with those of the study's baseline. The weight of each
context, and of a context all of whose occurrences had the same continuation, is fitted on one half of the rows, and the
gain is that on the other half, both ways. Copying from the training text is legal; what the shown files add to that is
not. The error is the standard error over rows.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from autoresearch_kernel.corpora.copies import _read_count
from autoresearch_kernel.corpora.grams import _read, shown_files
from autoresearch_kernel.record.study import Study, open_study
from autoresearch_kernel.sandbox.hidden_stdlib import held_out_paths
from autoresearch_kernel.sandbox.policy import training_policy
from prepare import Tokenizer

CONTEXTS = (16, 8, 5)  # tokens, the longest first
SLICE = 2**20  # tokens at a time
FACTOR = np.uint64(0x9E3779B97F4A7C15)
WEIGHTS = np.concatenate([[0.0], np.geomspace(0.001, 0.999, 60)])  # of the copy, tried for each kind of context


@dataclass
class Found:
    """For each place and context length: occurrences of the context, those followed by the target, and by the first
    continuation that was seen; int64 (context lengths, places)."""

    times: np.ndarray
    right: np.ndarray


class Places:
    """The places of the val rows, and what follows their contexts in a text."""

    def __init__(self, rows: np.ndarray, vocab_size: int) -> None:
        self.vocab_size = vocab_size
        self.targets = rows[:, 1:].astype(np.uint64)  # (rows, T)
        self.keys = []
        for length in CONTEXTS:
            keys = np.zeros(self.targets.shape, np.uint64)
            keys[:, length - 1 :] = _windows(rows[:, :-1].astype(np.uint64), length)
            keys[:, : length - 1] = np.uint64(0)  # no such context
            self.keys.append(keys.ravel())
        self.sorted = [np.unique(keys[keys > 0]) for keys in self.keys]
        self.pairs = [np.unique(_pair(keys, self.targets.ravel())[keys > 0]) for keys in self.keys]

    def search(self, texts: Iterator[np.ndarray]) -> Found:
        """Count in texts, each uint (tokens,)."""
        times = [np.zeros(len(keys), np.int64) for keys in self.sorted]
        right = [np.zeros(len(pairs), np.int64) for pairs in self.pairs]
        for text in texts:
            for i, length in enumerate(CONTEXTS):
                if len(text) > length:
                    keys = _windows(text[None, :].astype(np.uint64), length)[0, :-1]
                    _count(self.sorted[i], keys, times[i])
                    _count(self.pairs[i], _pair(keys, text[length:].astype(np.uint64)), right[i])
        return Found(
            np.stack([_at(self.sorted[i], times[i], self.keys[i]) for i in range(len(CONTEXTS))]),
            np.stack(
                [
                    _at(self.pairs[i], right[i], _pair(self.keys[i], self.targets.ravel())) * (self.keys[i] > 0)
                    for i in range(len(CONTEXTS))
                ]
            ),
        )


def _windows(tokens: np.ndarray, length: int) -> np.ndarray:
    """A hash of the `length` tokens up to each place, uint64 (rows, tokens - length + 1); never 0."""
    found = np.zeros((tokens.shape[0], tokens.shape[1] - length + 1), np.uint64)
    for i in range(length):
        found = (found + tokens[:, i : tokens.shape[1] - length + 1 + i] + np.uint64(1)) * FACTOR
        found ^= found >> np.uint64(29)
    return found | np.uint64(1)


def _pair(keys: np.ndarray, following: np.ndarray) -> np.ndarray:
    mixed = (keys + following + np.uint64(1)) * FACTOR
    return mixed ^ (mixed >> np.uint64(31))


def _count(known: np.ndarray, keys: np.ndarray, into: np.ndarray) -> None:
    index = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    np.add.at(into, index[known[index] == keys], 1)


def _at(known: np.ndarray, counts: np.ndarray, keys: np.ndarray) -> np.ndarray:
    index = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    return np.where(known[index] == keys, counts[index], 0)


def gain(nats: np.ndarray, found: Found) -> np.ndarray:
    """By how many nats each place gets better, (rows, T); the weights are those of the other half of the rows."""
    model = np.exp(-nats.ravel().astype(np.float64))
    longest = np.argmax(found.times > 0, axis=0)
    at = np.arange(len(model))
    times, right = found.times[longest, at], found.right[longest, at]
    copied = np.divide(right, times, out=np.zeros(len(model)), where=times > 0)
    kind = np.where(times > 0, longest * 2 + (times > 1), -1)
    half = (at // nats.shape[1]) % 2
    gained = np.zeros(len(model))
    for which in range(2 * len(CONTEXTS)):
        for mine in (0, 1):
            fit, use = (kind == which) & (half != mine), (kind == which) & (half == mine)
            if fit.any() and use.any():
                tried = [np.log((1 - w) * model[fit] + w * copied[fit] + 1e-300).sum() for w in WEIGHTS]
                w = WEIGHTS[int(np.argmax(tried))]
                gained[use] = np.log((1 - w) * model[use] + w * copied[use] + 1e-300) - np.log(model[use])
    return gained.reshape(nats.shape)


def joined(one: Found, other: Found) -> Found:
    return Found(one.times + other.times, one.right + other.right)


def training_text(folder: Path, meta: dict[str, object]) -> Iterator[np.ndarray]:
    for split in ("dev", "train"):
        stream = np.memmap(folder / f"{split}.bin", dtype=np.dtype(str(meta["token_dtype"])), mode="r")
        for start in range(0, len(stream), SLICE):
            yield np.asarray(stream[max(0, start - max(CONTEXTS)) : start + SLICE])


def shown_text(study: Study, tokenizer: Tokenizer) -> Iterator[np.ndarray]:
    """The tokens of each file that a training is shown, but for the corpus."""
    folder = study.corpus_dir
    policy = training_policy(folder, study.project, folder, folder, seconds=0, gpu=False)
    known = study.heldout_dir / "copies.json"
    count = _read_count(known)
    hidden = (*held_out_paths(policy.read_only, study.heldout_dir), *(count.hidden if count else []))
    roots = [path for path in policy.read_only if Path(path) != folder.resolve()]
    size = 0
    for number, (path, _) in enumerate(shown_files(roots, hidden)):
        text = _read(path)
        size += len(text)
        if number % 2000 == 0:
            print(f"\r{number} files, {size / 1e6:.0f} MB ", end="", file=sys.stderr, flush=True)
        if text:
            yield np.asarray(tokenizer.encode(text.decode("utf-8", "replace")), dtype=np.uint32)
    print(file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("study", help="whose baseline and corpus are taken")
    study = open_study(parser.parse_args().study, Path.cwd())
    meta = json.loads((study.heldout_dir / "meta.json").read_text())
    tokenizer = Tokenizer.from_directory(study.corpus_dir)
    nats = np.load(study.experiment(0).nll(0)).reshape(-1)
    rows = np.load(study.heldout_dir / "val.npy")
    width = rows.shape[1] - 1
    rows = rows[: nats.size // width]
    nats = nats.reshape(len(rows), width)
    num_bytes = np.load(study.corpus_dir / "token_bytes.npy")[rows[:, 1:]].sum(axis=1)
    places = Places(rows, tokenizer.get_vocab_size())
    train = places.search(training_text(study.corpus_dir, meta))
    shown = places.search(shown_text(study, tokenizer))
    gains = {name: gain(nats, found) for name, found in
             (("training text", train), ("shown files", shown), ("both", joined(train, shown)))}  # fmt: skip
    gains["what the shown files add to the training text"] = gains["both"] - gains["training text"]
    print(f"val_bpb of the baseline {nats.sum() / math.log(2) / num_bytes.sum():.4f}, {rows[:, 1:].size} tokens\n")
    print("| copied from | gain, bits per byte |\n|---|---|")
    for name, of_place in gains.items():
        of_row = of_place.sum(axis=1) / math.log(2)
        total = num_bytes.sum()
        error = np.std(of_row - of_row.sum() / total * num_bytes, ddof=1) * math.sqrt(len(rows)) / total
        print(f"| {name} | {of_row.sum() / total:.4f} ± {error:.4f} |")


if __name__ == "__main__":
    main()
