"""Small corpora of made-up stories, for the tests of the room that builds corpora."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import prepare
from autoresearch_kernel.corpora.build import build_corpus

SENTENCES = [f"{name} has {number} apples.\n" for number in range(40) for name in ("Ann", "Bo", "Cy", "Dee")]


def story(number: int, sentences: int = 30) -> str:
    order = np.random.default_rng(number).permutation(len(SENTENCES))[:sentences]
    return f"Story {number}.\n" + "".join(SENTENCES[i] for i in order)


def write_stories(folder: Path, count: int = 60) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / f"story{number}.txt").write_text(story(number))
    return folder


def make_files_corpus(home: Path, folder: Path, **options: object) -> Path:
    settings = {"vocab_size": 300, "sequence_length": 32, "log": lambda line: None} | options
    return build_corpus("files", files_folder=folder, home=home, **settings)  # type: ignore[arg-type]


def read_back(corpus: Path) -> dict[str, str]:
    """The text of every split; of val and test, of the rows alone."""
    tokenizer = prepare.Tokenizer.from_directory(corpus)
    texts = {split: tokenizer.decode(prepare.read_split(corpus, split)) for split in ("train", "dev")}
    return texts | {
        split: tokenizer.decode(prepare.read_heldout(corpus, split)[:, 1:].flatten()) for split in ("val", "test")
    }


def folders_left(home: Path) -> list[str]:
    return sorted(path.name for side in ("corpora", "heldout") for path in home.glob(f"{side}/*"))
