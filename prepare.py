"""Everything that is fixed: the corpus, the tokenizer, the batches, the clock, and the hand-over of the model.

`python prepare.py` makes a corpus; `from prepare import ...` gives train.py what it needs. Nobody edits this file
during a study: its hash is part of the record.

The names are those of the original autoresearch program (`MAX_SEQ_LEN`, `make_dataloader`, `evaluate_bpb`, ...).
What is different on purpose: tokens are made once and memory-mapped, where the original tokenised while it trained;
rows are cut from one stream of `BOS document BOS document ...`, so that no token of a long document is dropped;
`token_bytes` counts a token's raw bytes, where the original counted the replacement character's three for a piece of
a UTF-8 sequence; the probability of special tokens is removed before normalising, so that nothing is won by
never predicting BOS; a part of the training documents, `dev`, is for train.py to look at, and the held-out rows
(`val`, `test`) lie in a folder of their own, which an experiment neither reads nor needs; the tokenizer is stored as
data, not as a pickle; and inside an experiment `evaluate_bpb` hands the model over to be scored by another process.

This file refuses to know about notebooks, studies, agents and decisions.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import errno
import functools
import hashlib
import importlib.util
import io
import json
import math
import operator
import os
import pickle
import platform
import shutil
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

_IMPORTED_AT = time.monotonic()  # about when this process began; `_process_start` knows better where it can

# Read by OpenMP when torch loads it: idle threads that spin for long starve whoever shares the machine.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import numpy as np  # noqa: E402
import torch  # noqa: E402

FORMAT = 2  # of a corpus folder; meta.json carries it
TIME_BUDGET = float(os.environ.get("AUTORESEARCH_TIME_BUDGET") or 300)  # seconds of training
SPECIAL_TOKENS = tuple(f"<|reserved_{i}|>" for i in range(4))  # the last ids of the vocabulary; the first is BOS
DEV_TOKENS = 2**14  # targets that evaluate_bpb scores on dev: well under a second for a small model on two cores
HELDOUT_TOKENS = 2**17  # targets in val and in test; a paired comparison is then good to about 0.002 bpb
HELDOUT_TOKENS_LONG = 40 * 2**19  # the same from 2048 tokens of context on, as in the original
TOKENIZER_CHARACTERS = 250_000_000  # the tokenizer is trained on at most this much text

# How text is cut before pairs are merged: GPT-4's rule, but digits in groups of at most two.
SPLIT_PATTERN = "|".join(
    [
        r"'(?i:[sdmt]|ll|ve|re)",  # the ends of I'm, we'll, they've
        r"[^\r\n\p{L}\p{N}]?+\p{L}+",  # a word and the one sign before it, most often a space
        r"\p{N}{1,2}",
        r" ?[^\s\p{L}\p{N}]++[\r\n]*",  # punctuation to the end of the line
        r"\s*[\r\n]",
        r"\s+(?!\S)",  # indentation, but for the space that belongs to the next word
        r"\s+",
    ]
)


def _command(options: str = "") -> str:
    """How a person runs this file: by `python` where that is this interpreter, as in an active environment."""
    python = "python" if shutil.which("python") == sys.executable else sys.executable
    return f"{python} prepare.py {options}".rstrip()


class PrepareError(RuntimeError):
    """A corpus cannot be made or used. The message names the file, the value and the next step."""


# ---------------------------------------------------------------- where things are


def home_dir() -> Path:
    """The cache: $AUTORESEARCH_HOME, else ~/.cache/autoresearch."""
    return Path(os.environ.get("AUTORESEARCH_HOME") or Path.home() / ".cache" / "autoresearch")


def corpus_dir() -> Path:
    """The training side in use: $AUTORESEARCH_CORPUS, else the default stdlib corpus, else any stdlib corpus."""
    named = os.environ.get("AUTORESEARCH_CORPUS")
    if named:
        return Path(named)
    corpora = home_dir() / "corpora"
    for folder in (corpora / "stdlib-v2048-t256", *sorted(corpora.glob("stdlib-*"))):
        if (folder / "meta.json").is_file():
            return folder
    if _is_by_hand_in_jupyter():
        say(f"No corpus in {corpora} yet. Making the embedded one first, which takes about ten seconds.")
        return prepare()
    raise PrepareError(f"No corpus in {corpora}. Make one first (about ten seconds): {_command()}")


def heldout_dir(corpus_dir: str | Path) -> Path:
    """Where the held-out rows of a training-side folder lie: $AUTORESEARCH_HELDOUT, else beside `corpora`."""
    named = os.environ.get("AUTORESEARCH_HELDOUT")
    folder = Path(corpus_dir)
    return Path(named) if named else folder.parent.parent / "heldout" / folder.name


def read_meta(folder: str | Path) -> dict[str, Any]:
    """meta.json of a training-side or held-out folder. Raises PrepareError where there is none or another format."""
    path = Path(folder) / "meta.json"
    try:
        meta: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PrepareError(f"{path.parent} holds no finished corpus. Make one: {_command()}") from None
    except ValueError as error:
        raise PrepareError(f"{path} is damaged ({error}). Make it again: {_command('--rebuild')}") from error
    if meta.get("format") != FORMAT:
        raise PrepareError(f"{path} has format {meta.get('format')}, not {FORMAT}: {_command('--rebuild')}")
    return meta


def __getattr__(name: str) -> int:
    """MAX_SEQ_LEN and EVAL_TOKENS belong to the corpus: read when asked for, so that prepare imports without one."""
    if name == "MAX_SEQ_LEN":
        return int(read_meta(corpus_dir())["sequence_length"])
    if name == "EVAL_TOKENS":
        meta = read_meta(corpus_dir())
        return int(meta["num_val_rows"]) * int(meta["sequence_length"])
    raise AttributeError(f"module 'prepare' has no attribute {name!r}")


# ---------------------------------------------------------------- tokenizer


class Tokenizer:
    """Byte-pair encoding over raw bytes. The last ids are special tokens, which no text encodes to."""

    def __init__(self, ranks: dict[bytes, int], pattern: str = SPLIT_PATTERN, directory: Path | None = None) -> None:
        import tiktoken

        special_tokens = {name: len(ranks) + i for i, name in enumerate(SPECIAL_TOKENS)}
        self.directory = directory
        self.ranks = ranks
        self.enc = tiktoken.Encoding(
            "autoresearch", pat_str=pattern, mergeable_ranks=ranks, special_tokens=special_tokens
        )

    @classmethod
    def from_directory(cls, path: str | Path | None = None) -> Tokenizer:
        """The tokenizer of a corpus folder; by default of the corpus in use."""
        folder = Path(path) if path is not None else corpus_dir()
        pattern = read_meta(folder)["split_pattern"]
        lines = (folder / "tokenizer.tiktoken").read_bytes().splitlines()
        ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines)}
        return cls(ranks, pattern, folder)

    def to_bytes(self) -> bytes:
        """tiktoken's text format: one `base64(token) rank` a line."""
        lines = (
            base64.b64encode(token) + b" %d\n" % rank for token, rank in sorted(self.ranks.items(), key=lambda t: t[1])
        )
        return b"".join(lines)

    def get_vocab_size(self) -> int:
        return int(self.enc.n_vocab)

    def get_bos_token_id(self) -> int:
        return len(self.ranks)

    @functools.cached_property
    def token_bytes(self) -> np.ndarray:
        """Raw bytes of each token, int32 (vocab_size,); 0 for special tokens, which are never scored."""
        sizes = np.zeros(self.get_vocab_size(), dtype=np.int32)
        for token, rank in self.ranks.items():
            sizes[rank] = len(token)
        return sizes

    def encode(self, text: str | list[str], prepend: int | None = None, num_threads: int = 8) -> list[Any]:
        """Token ids of a text, or a list of them for a list of texts, each after `prepend` if given."""
        head = [] if prepend is None else [prepend]
        if isinstance(text, str):
            return head + self.enc.encode_ordinary(text)
        return [head + ids for ids in self.enc.encode_ordinary_batch(text, num_threads=num_threads)]

    def decode(self, ids: Iterable[int]) -> str:
        return self.enc.decode(list(ids))


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A tokenizer of `vocab_size` ids, special ones included; of fewer where the text has too few pairs to merge."""
    import rustbpe

    trainer = rustbpe.Tokenizer()
    trainer.train_from_iterator(iter(texts), vocab_size - len(SPECIAL_TOKENS), pattern=SPLIT_PATTERN)
    return Tokenizer({bytes(token): rank for token, rank in trainer.get_mergeable_ranks()})


def get_token_bytes(device: str | torch.device = "cpu") -> torch.Tensor:
    """Raw bytes of each token of the corpus in use, int32 (vocab_size,); 0 for special tokens."""
    return torch.from_numpy(np.load(corpus_dir() / "token_bytes.npy")).to(device)


# ---------------------------------------------------------------- documents

Document = tuple[str, str]  # split (train, dev, val or test) and text


@dataclass(frozen=True)
class Source:
    """Where a corpus comes from. `documents()` may be called again and gives the same documents in the same order."""

    name: str
    documents: Callable[[], Iterator[Document]]
    options: dict[str, Any]  # what makes two corpora of one name differ; kept in meta.json


# Folders of the standard library that are tests, data or absent from some distributions.
NOT_CORE = {
    "test", "tests", "idlelib", "encodings", "lib2to3", "distutils", "tkinter", "turtledemo", "msilib", "ensurepip",
    "pydoc_data", "site-packages", "dist-packages", "__pycache__",
}  # fmt: skip

# Modules and packages that no training imports: the held-out documents. A sandbox hides their files and compiled files
# (sandbox/hidden_stdlib.py has the same list), which it could not do with what torch or Jupyter import.
HELD_OUT = (
    "aifc", "asynchat", "asyncore", "cgi", "cgitb", "compileall", "dbm", "doctest", "fileinput", "ftplib", "graphlib",
    "imaplib", "mailbox", "modulefinder", "nntplib", "optparse", "poplib", "pyclbr", "sched", "shelve", "smtpd",
    "smtplib", "sunau", "symtable", "tabnanny", "telnetlib", "trace", "turtle", "venv", "wave", "webbrowser", "wsgiref",
    "zipapp",
)  # fmt: skip


def stdlib_source() -> Source:
    """Python's own library: the core's .py files and pydoc's topics, no duplicates, split by name and hash."""
    root = Path(sysconfig.get_paths()["stdlib"])
    return Source("stdlib", functools.partial(_stdlib_documents, root), {"python": platform.python_version()})


def _stdlib_documents(root: Path) -> Iterator[Document]:
    seen: set[bytes] = set()
    for path in _stdlib_files(root):
        data = path.read_bytes()
        digest = hashlib.sha256(data).digest()
        if data and digest not in seen:
            seen.add(digest)
            yield _split_of_path(path.relative_to(root).as_posix()), _decode(data, path)


def _stdlib_files(root: Path) -> list[Path]:
    files = [path for path in root.rglob("*.py") if not NOT_CORE & set(path.relative_to(root).parts)]
    files = [path for path in files if not path.name.startswith("_sysconfigdata")]  # differs from machine to machine
    topics = root / "pydoc_data" / "topics.py"
    files += [topics] if topics.is_file() else []
    return sorted(files, key=lambda path: path.relative_to(root).as_posix())


def _split_of_path(path: str) -> str:
    """What HELD_OUT names is val or test, as a hash of the path says; of the rest a fortieth is dev.

    The same on every machine and in every version of Python.
    """
    number = int(hashlib.sha256(path.encode()).hexdigest(), 16)
    if path.partition("/")[0].removesuffix(".py") in HELD_OUT:
        return "test" if number % 2 else "val"
    return "train" if number // 10 % 40 else "dev"


def _decode(data: bytes, path: Path) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PrepareError(
            f"{path} is not UTF-8: byte 0x{data[error.start]:02x} at position {error.start:,}. "
            f"Convert it (iconv -f latin1 -t utf-8) or move it out of the folder."
        ) from error


def parquet_texts(path: Path) -> Iterator[str]:
    """The `text` column, row by row; "" for a missing value. Raises PrepareError when there is no such table."""
    _need("pyarrow")
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            if "text" not in file.schema_arrow.names:
                raise PrepareError(f"{path} has no column 'text', only {', '.join(file.schema_arrow.names)}.")
            for batch in file.iter_batches(batch_size=2048, columns=["text"]):
                yield from (text or "" for text in batch.column(0).to_pylist())
    except (pyarrow.ArrowException, OSError) as error:
        raise PrepareError(f"{path} is not a whole parquet file ({error}). Remove it and run again.") from error


CLIMBMIX = "karpathy/climbmix-400b-shuffle"
CLIMBMIX_HELDOUT = 6542  # the last shard, held out by the original program too
TINYSTORIES = "karpathy/tinystories-gpt4-clean"


def climbmix_source(downloads: Path, num_shards: int, log: Callable[[str], None]) -> Source:
    """Web text in shards of about 90 MB: the first `num_shards` to train on, the original's pinned one held out."""

    def documents() -> Iterator[Document]:
        shards = (*range(num_shards), CLIMBMIX_HELDOUT)
        paths = [fetch(CLIMBMIX, f"shard_{shard:05d}.parquet", downloads, log) for shard in shards]
        for shard, path in zip(shards, paths, strict=True):
            for i, text in enumerate(parquet_texts(path)):
                if text:
                    yield _split_of_climbmix(shard, i), text

    if not 1 <= num_shards <= CLIMBMIX_HELDOUT:
        raise PrepareError(f"{num_shards} shards: choose 1 to {CLIMBMIX_HELDOUT}.")
    return Source("climbmix", documents, {"num_shards": num_shards})


def _split_of_climbmix(shard: int, row: int) -> str:
    if shard == CLIMBMIX_HELDOUT:
        return "test" if row % 5 == 4 else "val"
    return "dev" if row % 1000 == 0 else "train"


def tinystories_source(downloads: Path, log: Callable[[str], None]) -> Source:
    """Short stories, one file of 640 MB, split by row as its author suggests: 10,000 test, 10,000 val, then train."""

    def documents() -> Iterator[Document]:
        path = fetch(TINYSTORIES, "tinystories_gpt4_clean.parquet", downloads, log)
        for i, text in enumerate(parquet_texts(path)):
            if text:
                yield ("test" if i < 10_000 else "val" if i < 20_000 else "dev" if i % 1000 == 0 else "train"), text

    return Source("tinystories", documents, {})


def fetch(
    repository: str, name: str, downloads: Path, log: Callable[[str], None], attempts: int = 5, wait: float = 1.0
) -> Path:
    """One parquet file of a dataset on the Hugging Face hub ($HF_ENDPOINT), downloaded once; resumed, and retried.

    Waits `wait` seconds after the first failure and doubles it after each. Raises PrepareError in the end, or at once
    for what no retry helps. A full disk passes through as OSError.
    """
    _need("huggingface_hub", "pyarrow")
    from huggingface_hub import errors as hub
    from huggingface_hub import hf_hub_download

    folder = downloads / repository.replace("/", "--")
    hub_url = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    for attempt in range(1, attempts + 1):
        try:
            if not (folder / name).is_file():
                log(f"  downloading {name} of {repository}")
                hf_hub_download(repository, name, repo_type="dataset", local_dir=folder, endpoint=hub_url)
            _check_parquet(folder / name)
            return folder / name
        except (hub.RepositoryNotFoundError, hub.RevisionNotFoundError, hub.RemoteEntryNotFoundError) as error:
            raise PrepareError(f"{hub_url} has no {name} in {repository}: {_first_line(error)}") from error
        except (hub.HTTPError, OSError, ValueError) as error:  # type: ignore[attr-defined]
            if _is_full_disk(error):
                raise
            if attempt == attempts:
                raise PrepareError(
                    f"Could not download {name} of {repository} from {hub_url} in {attempts} attempts: "
                    f"{_first_line(error)} Check the network and run again: what has arrived is kept."
                ) from error
            log(f"  attempt {attempt} of {attempts} failed ({_first_line(error)}); again in {wait:.0f} s")
            time.sleep(wait)
            wait *= 2
    raise AssertionError("unreachable")


def _need(*packages: str) -> None:
    """Raise PrepareError when packages of the extra `corpora` are not installed."""
    if missing := [package for package in packages if importlib.util.find_spec(package) is None]:
        raise PrepareError(
            f"This corpus is read with {' and '.join(missing)}, not installed here. In the project's folder: "
            f"make setup EXTRAS=corpora. In another environment: pip install {' '.join(missing)}"
        )


def _check_parquet(path: Path) -> None:
    """Remove a download that is not parquet from end to end, and raise ValueError."""
    import pyarrow.parquet

    try:
        pyarrow.parquet.read_metadata(path)
    except (pyarrow.ArrowException, OSError) as error:
        path.unlink()
        raise ValueError(f"{path.name} arrived broken: {error}") from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def files_source(folder: Path) -> Source:
    """A person's folder: every .txt, .md and .py file, .jsonl line and .parquet row is a document.

    Hidden files are left out, and so are duplicates. In the order of a hash of their names, the first documents are
    val (a tenth of the text), the next test (a twentieth) and dev (a fortieth), the rest train.
    """
    if not folder.is_dir():
        raise PrepareError(f"There is no folder {folder}. Name one with --files-folder.")
    files = _text_files(folder)
    if not files:
        raise PrepareError(f"{folder} holds no {' '.join(sorted(READERS))} file, not even in its folders.")
    listing = [(path.relative_to(folder).as_posix(), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    splits: dict[str, str] = {}

    def documents() -> Iterator[Document]:
        if not splits:
            splits.update(_splits_of_names({name: len(text) for name, text in _file_documents(folder, files)}, folder))
        return ((splits[name], text) for name, text in _file_documents(folder, files))

    options = {"folder": str(folder), "listing_sha256": hashlib.sha256(json.dumps(listing).encode()).hexdigest()}
    return Source("files", documents, options)


def _text_files(folder: Path) -> list[Path]:
    names = {path: path.relative_to(folder).parts for path in folder.rglob("*") if path.suffix.lower() in READERS}
    return sorted(
        path
        for path, parts in names.items()
        if path.is_file() and "__pycache__" not in parts and not any(part.startswith(".") for part in parts)
    )


def _file_documents(folder: Path, files: list[Path]) -> Iterator[tuple[str, str]]:
    """Name and text of each document that is neither blank nor a duplicate."""
    seen: set[bytes] = set()
    for path in files:
        for i, text in enumerate(READERS[path.suffix.lower()](path)):
            digest = hashlib.sha256(_encoded(text, path)).digest()
            if text.strip() and digest not in seen:
                seen.add(digest)
                yield f"{path.relative_to(folder).as_posix()}#{i}", text


def _encoded(text: str, path: Path) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:  # "\ud800" in JSON is half a character
        raise PrepareError(f"{path} holds text that is not Unicode: {error}.") from error


def _splits_of_names(sizes: dict[str, int], folder: Path) -> dict[str, str]:
    """A split for each name, by the hash of the name and the size of what came before it."""
    total, splits, taken = sum(sizes.values()), {}, 0
    names = iter(sorted(sizes, key=lambda name: hashlib.sha256(name.encode()).digest()))
    for split, end in (("val", 0.1), ("test", 0.15), ("dev", 0.175)):
        for name in names:
            splits[name] = split
            taken += sizes[name]
            if taken >= end * total:
                break
    if taken > total / 2:
        raise PrepareError(
            f"Too little text in {folder} for its four splits: its {len(sizes)} documents are too few, or too uneven, "
            "to hold out a sixth of the text. Add documents, or cut long ones into several files."
        )
    return splits | dict.fromkeys(names, "train")


def _whole_file(path: Path) -> Iterator[str]:
    yield _decode(path.read_bytes(), path)


def _json_lines(path: Path) -> Iterator[str]:
    """Each line an object with a `text`, or a string."""
    for number, line in enumerate(_decode(path.read_bytes(), path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            raise PrepareError(f"{path}, line {number}, is not JSON: {error}.") from error
        text = value.get("text") if isinstance(value, dict) else value
        if not isinstance(text, str):
            raise PrepareError(f"{path}, line {number}, has no string under 'text'.")
        yield text


READERS: dict[str, Callable[[Path], Iterator[str]]] = {
    ".txt": _whole_file,
    ".md": _whole_file,
    ".py": _whole_file,
    ".jsonl": _json_lines,
    ".parquet": parquet_texts,
}


# ---------------------------------------------------------------- building a corpus

SPLITS = ("train", "dev", "val", "test")


def say(line: str) -> None:
    print(line, flush=True)


def prepare(
    corpus: str = "stdlib",
    *,
    vocab_size: int = 2048,
    sequence_length: int = 256,
    eval_tokens: int | None = None,
    files_folder: str | Path | None = None,
    num_shards: int | None = None,
    home: str | Path | None = None,
    rebuild: bool = False,
    log: Callable[[str], None] = say,
) -> Path:
    """Make a corpus unless it is already there; its training-side folder.

    `eval_tokens` bounds the targets of val and of test. Raises PrepareError, and then leaves nothing behind that
    could be taken for a corpus.
    """
    root = Path(home) if home is not None else home_dir()
    _check_sizes(vocab_size, sequence_length)
    name = corpus if corpus != "files" else f"files_{_short_hash(_folder_of(files_folder))}"
    key = f"{name}-v{vocab_size}-t{sequence_length}"
    folder, heldout = root / "corpora" / key, root / "heldout" / key
    source = _open_source(corpus, files_folder, num_shards, root, log)
    limit = eval_tokens or (HELDOUT_TOKENS_LONG if sequence_length >= 2048 else HELDOUT_TOKENS)
    with _explained(root), _lock(root, key):
        is_old = _is_of_another_format(folder)
        if is_old:
            log(f"Corpus {key} was made by a version that held out other text: it is made again")
        if not rebuild and not is_old and _is_finished(folder, heldout):
            _describe_finished(folder, source, log)
        else:
            _build(source, folder, heldout, vocab_size, sequence_length, limit, log)
    return folder


def _is_of_another_format(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / "meta.json").read_text(encoding="utf-8"))["format"] != FORMAT)
    except (OSError, ValueError, KeyError, TypeError):
        return False  # there is none, or it is damaged, which is told elsewhere


def _open_source(
    corpus: str, files_folder: str | Path | None, num_shards: int | None, root: Path, log: Callable[[str], None]
) -> Source:
    """Cheap: nothing is downloaded yet."""
    if corpus == "stdlib":
        return stdlib_source()
    if corpus == "tinystories":
        return tinystories_source(root / "downloads", log)
    if corpus == "climbmix":
        shards = 10 if num_shards is None else CLIMBMIX_HELDOUT if num_shards == -1 else num_shards
        return climbmix_source(root / "downloads", shards, log)
    if corpus == "files":
        return files_source(_folder_of(files_folder))
    raise PrepareError(f"Corpus {corpus!r} is not known: choose stdlib, tinystories, climbmix or files.")


def _folder_of(files_folder: str | Path | None) -> Path:
    if files_folder is None:
        raise PrepareError(f"The corpus 'files' needs a folder: {_command('--corpus files --files-folder DIR')}")
    return Path(files_folder).expanduser().resolve()


def _short_hash(folder: Path) -> str:
    return hashlib.sha256(str(folder).encode()).hexdigest()[:8]


def _check_sizes(vocab_size: int, sequence_length: int) -> None:
    least = 256 + len(SPECIAL_TOKENS)
    if not least <= vocab_size <= 2**20:
        raise PrepareError(f"Vocabulary of {vocab_size}: choose {least} (all bytes and the special tokens) to {2**20}.")
    if not 8 <= sequence_length <= 2**20:
        raise PrepareError(f"Sequence length {sequence_length}: choose 8 to {2**20}.")


def _is_finished(folder: Path, heldout: Path) -> bool:
    """Both sides are there and of one making."""
    if not (folder / "meta.json").is_file() or not (heldout / "meta.json").is_file():
        return False
    return read_meta(folder) == read_meta(heldout)


def _describe_finished(folder: Path, source: Source, log: Callable[[str], None]) -> None:
    meta = read_meta(folder)
    log(f"Corpus {folder.name} is already there, made {meta['created_at']}: {folder}")
    for name, value in source.options.items():
        if meta["options"].get(name) != value:
            log(f"  It was made with {name} {meta['options'].get(name)}, not {value}: --rebuild makes it again.")


@contextlib.contextmanager
def _explained(root: Path) -> Iterator[None]:
    """A full disk is the failure people meet here: say so."""
    try:
        yield
    except OSError as error:
        if not _is_full_disk(error):
            raise
        raise PrepareError(
            f"No room to write under {root}: {error.strerror}. The unfinished corpus was removed. Free some space, "
            "or choose another disk with --home."
        ) from error


def _is_full_disk(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def _lock(root: Path, key: str) -> Iterator[None]:
    """One builder per corpus; the second waits and finds it finished. The system frees the lock of a killed one."""
    import fcntl

    root.mkdir(parents=True, exist_ok=True)
    with open(root / f".{key}.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(
    source: Source,
    folder: Path,
    heldout: Path,
    vocab_size: int,
    sequence_length: int,
    limit: int,
    log: Callable[[str], None],
) -> None:
    """Write both sides into temporary siblings, then rename: held-out first, the training side last."""
    with _temporary_sibling(folder) as new, _temporary_sibling(heldout) as new_heldout:
        log(f"Corpus {folder.name}: training the tokenizer")
        tokenizer = train_tokenizer(_tokenizer_texts(source), vocab_size)
        log(f"Corpus {folder.name}: tokenizing")
        facts = _write_streams(source, tokenizer, new, log)
        _check_enough(facts, source.name, sequence_length)
        facts |= _move_heldout(tokenizer, new, new_heldout, sequence_length, limit)
        _write_bytes(new / "tokenizer.tiktoken", tokenizer.to_bytes())
        _write_array(new / "token_bytes.npy", tokenizer.token_bytes)
        meta = _meta(source, folder.name, tokenizer, sequence_length, facts)
        for side in (new_heldout, new):
            _write_bytes(side / "meta.json", json.dumps(meta, indent=1).encode())
        _put_in_place(new_heldout, heldout)
        _put_in_place(new, folder)
    log(f"Corpus {folder.name}: {meta['num_train_tokens']:,} tokens to train on, {meta['num_val_rows']:,} rows of val")
    log(f"  {folder}\n  {heldout}")


def _tokenizer_texts(source: Source) -> Iterator[str]:
    """Training documents alone, whole, until enough was read."""
    characters = 0
    for split, text in source.documents():
        if split == "train":
            yield text
            characters += len(text)
        if characters >= TOKENIZER_CHARACTERS:
            return


@contextlib.contextmanager
def _temporary_sibling(folder: Path) -> Iterator[Path]:
    """A new folder beside `folder`, gone afterwards. Call under the lock: leftovers of killed builders go first."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left_over in folder.parent.glob(f".{folder.name}.*"):
        shutil.rmtree(left_over, ignore_errors=True)
    new = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        new.chmod(0o755)
        yield new
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _put_in_place(new: Path, folder: Path) -> None:
    """Rename `new` to `folder`; an older one is moved aside first, so that no half of it is ever there."""
    aside = new.with_name(new.name + ".old")
    if folder.exists():
        os.rename(folder, aside)
    os.rename(new, folder)
    shutil.rmtree(aside, ignore_errors=True)


def _write_bytes(path: Path, data: bytes | memoryview) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _write_array(path: Path, array: np.ndarray) -> None:
    """np.save, but with an errno when the disk is full."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    _write_bytes(path, buffer.getbuffer())


def _write_streams(source: Source, tokenizer: Tokenizer, folder: Path, log: Callable[[str], None]) -> dict[str, Any]:
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


def _batched(documents: Iterator[Document], characters: int = 8_000_000) -> Iterator[list[Document]]:
    batch: list[Document] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document[1])
        if size >= characters:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _encode_batch(tokenizer: Tokenizer, batch: list[Document]) -> list[list[int]]:
    texts = [text for _, text in batch]
    return tokenizer.encode(texts, prepend=tokenizer.get_bos_token_id(), num_threads=os.cpu_count() or 1)


def _move_heldout(
    tokenizer: Tokenizer, folder: Path, heldout: Path, sequence_length: int, limit: int
) -> dict[str, Any]:
    """Cut the val and test streams into fixed rows in the held-out folder, and take the streams away."""
    facts: dict[str, Any] = {}
    digest = hashlib.sha256()
    for split in ("val", "test"):
        stream = np.memmap(folder / f"{split}.bin", dtype=_token_dtype(tokenizer), mode="r")
        rows = cut_rows(stream, sequence_length, limit, tokenizer.get_bos_token_id())
        _write_array(heldout / f"{split}.npy", rows)
        digest.update(rows.tobytes())
        facts[f"num_{split}_rows"] = len(rows)
        facts[f"num_{split}_bytes"] = int(tokenizer.token_bytes[rows[:, 1:]].sum())
        (folder / f"{split}.bin").unlink()
    return facts | {"heldout_sha256": digest.hexdigest()}


def cut_rows(stream: np.ndarray, sequence_length: int, limit: int, bos: int) -> np.ndarray:
    """At most `limit` targets of a token stream as rows, spread evenly over it: (rows, T+1), column 0 always BOS."""
    available = len(stream) // sequence_length
    count = min(available, max(1, limit // sequence_length))
    chosen = np.arange(count) * available // max(1, count)
    rows = np.full((count, sequence_length + 1), bos, dtype=stream.dtype)
    rows[:, 1:] = stream[: available * sequence_length].reshape(available, sequence_length)[chosen]
    return rows


def _check_enough(facts: dict[str, Any], name: str, sequence_length: int) -> None:
    sizes = {split: facts[f"num_{split}_tokens"] for split in SPLITS}
    if min(sizes.values()) >= sequence_length and sizes["val"] >= 4 * sequence_length:
        return
    listed = ", ".join(f"{split} {size:,}" for split, size in sizes.items())
    raise PrepareError(
        f"Too little text in {name} for its four splits: {listed} tokens. Each needs a row of {sequence_length}, and "
        "val four. Add documents, or choose a smaller --sequence-length."
    )


def _meta(
    source: Source, key: str, tokenizer: Tokenizer, sequence_length: int, facts: dict[str, Any]
) -> dict[str, Any]:
    from importlib.metadata import version

    return {
        "format": FORMAT,
        "corpus": source.name,
        "key": key,
        "tokenizer_sha256": hashlib.sha256(tokenizer.to_bytes()).hexdigest(),
        "split_pattern": SPLIT_PATTERN,
        "vocab_size": tokenizer.get_vocab_size(),
        "bos_token_id": tokenizer.get_bos_token_id(),
        "sequence_length": sequence_length,
        **facts,
        "options": source.options,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("torch", "numpy", "tiktoken", "rustbpe")},
    }


# ---------------------------------------------------------------- batches

Batch = tuple[torch.Tensor, torch.Tensor, int]  # x (B, T), y (B, T), epoch

_tokens_handed_out = 0  # training tokens since the import; TrainingClock reads it
_epoch = 0  # of the last training batch


def make_dataloader(
    tokenizer: Tokenizer, B: int, T: int, split: str, device: str | torch.device | None = None, seed: int = 0
) -> Iterator[Batch]:
    """Batches without end: x (B, T), y (B, T), both int64 on `device`, and the epoch, from 1.

    A row is BOS and T tokens of the stream. Each epoch shifts the cuts, shuffles the rows, and makes every token of
    the split a target; a batch may straddle two epochs. `dev` and `val` (by hand only) come in order.
    """
    _check_batch(tokenizer, B, T, split)
    where = torch.device(device) if device is not None else get_device()
    rows = _heldout_rows(tokenizer) if split == "val" else _stream_rows(tokenizer, T, split, seed)
    batches = _stacked(rows, B, T, tokenizer.get_bos_token_id(), where)
    if where.type == "cuda":
        batches = _one_ahead(batches)
    return _counted(batches) if split == "train" else batches


def _check_batch(tokenizer: Tokenizer, B: int, T: int, split: str) -> None:
    longest = int(read_meta(_directory(tokenizer))["sequence_length"])
    if split not in ("train", "dev", "val"):
        raise ValueError(f"Split {split!r}: choose 'train', 'dev' or, by hand, 'val'.")
    if B < 1 or not 1 <= T <= longest:
        raise ValueError(f"Batch of {B} rows of {T} tokens: at least one row, of 1 to MAX_SEQ_LEN = {longest} tokens.")
    if split == "val" and longest != T:
        raise ValueError(f"Validation rows are {longest} tokens long, not {T}.")


def _directory(tokenizer: Tokenizer) -> Path:
    return tokenizer.directory if tokenizer.directory is not None else corpus_dir()


def read_split(folder: Path, split: str) -> np.ndarray:
    """The token stream of `train` or `dev`, memory-mapped. Raises PrepareError when the file has another length."""
    meta = read_meta(folder)
    path, dtype = folder / f"{split}.bin", np.dtype(meta["token_dtype"])
    expected = meta[f"num_{split}_tokens"] * dtype.itemsize
    size = path.stat().st_size if path.is_file() else 0
    if size != expected:
        raise PrepareError(f"{path} has {size:,} bytes, not {expected:,}. Make it again: {_command('--rebuild')}")
    return np.memmap(path, dtype=dtype, mode="r")


def _stream_rows(tokenizer: Tokenizer, T: int, split: str, seed: int) -> Iterator[tuple[np.ndarray, int]]:
    """T tokens of the stream and their epoch, without end. The last row of an epoch runs on into the beginning."""
    stream = np.asarray(read_split(_directory(tokenizer), split))  # a plain array slices faster than a memmap
    generator = np.random.default_rng(seed)
    count = -(-len(stream) // T)
    epoch = 0
    while True:
        epoch += 1
        shift = int(generator.integers(T)) if split == "train" else 0
        order = generator.permutation(count) if split == "train" else np.arange(count)
        for start in ((order * T + shift) % len(stream)).tolist():
            row = stream[start : start + T]
            yield row if len(row) == T else np.concatenate([row, stream[: T - len(row)]]), epoch


def _heldout_rows(tokenizer: Tokenizer) -> Iterator[tuple[np.ndarray, int]]:
    rows = read_heldout(_directory(tokenizer), "val")
    epoch = 0
    while True:
        epoch += 1
        for row in rows:
            yield row[1:], epoch


def read_heldout(folder: Path, split: str) -> np.ndarray:
    """The fixed rows of `val` or `test` that belong to a training-side folder, (rows, T+1)."""
    heldout = heldout_dir(folder)
    if read_meta(heldout)["content_sha256"] != read_meta(folder)["content_sha256"]:
        raise PrepareError(f"{heldout} belongs to another making of {folder}: {_command('--rebuild')}")
    rows: np.ndarray = np.load(heldout / f"{split}.npy", mmap_mode="r")
    return rows


def _stacked(rows: Iterator[tuple[np.ndarray, int]], B: int, T: int, bos: int, device: torch.device) -> Iterator[Batch]:
    """x and y on `device`. The copy to a GPU goes from pinned memory and does not wait."""
    on_cuda = device.type == "cuda"
    while True:
        tokens = torch.empty((B, T + 1), dtype=torch.int64, pin_memory=on_cuda)
        array = tokens.numpy()
        array[:, 0] = bos
        for i in range(B):
            array[i, 1:], epoch = next(rows)
        tokens = tokens.to(device, non_blocking=on_cuda)
        yield tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous(), epoch


def _one_ahead(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The same batches, each made before the one in front of it is trained on."""
    upcoming = next(batches)
    for following in batches:
        yield upcoming
        upcoming = following


def _counted(batches: Iterator[Batch]) -> Iterator[Batch]:
    global _tokens_handed_out, _epoch
    for x, y, epoch in batches:
        _tokens_handed_out += y.numel()
        _epoch = epoch
        yield x, y, epoch


# ---------------------------------------------------------------- device


def get_device() -> torch.device:
    """The best device there is: cuda (NVIDIA, or AMD through ROCm), mps, xpu, cpu. $AUTORESEARCH_DEVICE overrides."""
    named = os.environ.get("AUTORESEARCH_DEVICE")
    if named:
        return torch.device(named)
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    if torch.xpu.is_available():
        return torch.device("xpu")
    return torch.device("cpu")


def autocast_dtype(device: torch.device | str) -> torch.dtype:
    """bfloat16 where the hardware multiplies it, else float32. $AUTORESEARCH_DTYPE overrides.

    Never float16, which needs loss scaling. Raises PrepareError for it, and for bfloat16 that would be emulated.
    """
    kind = torch.device(device).type
    probes: dict[str, Callable[[], bool]] = {
        "cuda": lambda: torch.cuda.is_bf16_supported(including_emulation=False),
        "xpu": lambda: torch.xpu.is_bf16_supported(),
        "cpu": lambda: torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported(),
    }  # mps: the first Apple chips only emulate it
    is_native = kind in probes and probes[kind]()
    named = os.environ.get("AUTORESEARCH_DTYPE") or ("bfloat16" if is_native else "float32")
    if named not in ("float32", "bfloat16"):
        raise PrepareError(f"AUTORESEARCH_DTYPE is {named!r}: use float32 or bfloat16, or unset it.")
    if named == "bfloat16" and not is_native:
        raise PrepareError(
            f"AUTORESEARCH_DTYPE is 'bfloat16', and torch finds no bfloat16 instructions on this machine's {kind}: "
            "training would be several times slower than in float32. Use float32, or unset it. A study keeps the "
            "format it began with: continue it on a machine that has these instructions."
        )
    return torch.bfloat16 if named == "bfloat16" else torch.float32


def autocast(device: torch.device | str) -> contextlib.AbstractContextManager[Any]:
    """The context a forward pass runs in on `device`: bfloat16 autocast, or nothing where it would not pay."""
    dtype = autocast_dtype(device)
    if dtype == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(torch.device(device).type, dtype=dtype)


# Dense bfloat16 peak in FLOP/s, from the makers' data sheets; the first name that the device's contains counts.
PEAK_FLOPS = {
    "B300": 2.25e15, "B200": 2.25e15, "GH200": 989e12, "H200": 989e12, "H100 PCIe": 756e12, "H100 NVL": 835e12,
    "H100": 989e12, "H800": 989e12, "H20": 148e12, "A100": 312e12, "A800": 312e12, "A40": 150e12, "A10": 125e12,
    "L40S": 362e12, "L4": 121e12, "RTX 5090": 210e12, "RTX 4090": 165e12, "RTX 3090": 71e12,
    "MI355": 2.5e15, "MI325": 1.307e15, "MI300X": 1.307e15, "MI250": 362e12,
}  # fmt: skip


def peak_flops(device_name: str) -> float | None:
    """Dense bfloat16 peak of a GPU by its name, FLOP/s; None when it is not in the table."""
    return next((flops for name, flops in PEAK_FLOPS.items() if name in device_name), None)


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "xpu":
        return torch.xpu.get_device_name(device)
    return f"{_processor_name()}, {os.cpu_count()} cores"


def _processor_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def peak_memory_mb(device: torch.device) -> float:
    """Most memory held so far, MiB: the allocator's on CUDA and XPU, the process's elsewhere."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if device.type == "xpu":
        return torch.xpu.max_memory_allocated(device) / 2**20
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


# ---------------------------------------------------------------- clock

_clock: TrainingClock | None = None  # the last one that ran; evaluate_bpb reads it


class TrainingClock:
    """Ends the training loop when the budget is spent, and keeps its curve.

        clock = TrainingClock()
        while clock.running():
            ...
            clock.report(train_loss=loss)

    `step` counts finished steps: 0 in the first turn of the loop, num_steps after it. `progress` runs from 0 to 1.
    The monotonic clock starts at the first `running()`. With $AUTORESEARCH_MAX_STEPS, steps are the budget.
    """

    points = 200  # of the curve in metrics.jsonl
    lines = 20  # of progress where each is kept, as in a notebook

    def __init__(self, time_budget_seconds: float | None = None, report_every_seconds: float = 1.0) -> None:
        self.time_budget_seconds = TIME_BUDGET if time_budget_seconds is None else float(time_budget_seconds)
        self.max_steps = int(os.environ.get("AUTORESEARCH_MAX_STEPS") or 0)
        self.step = -1
        self.train_loss: float | None = None  # of the last step
        self._started: float | None = None
        self._stopped: float | None = None
        self._tokens_before = 0
        self._curve = _Curve(self.points)
        self._screen: _Screen | _Picture
        if _is_by_hand_in_jupyter():
            self._screen = _Picture(self._curve, report_every_seconds)
        else:
            self._screen = _Screen(self.lines, report_every_seconds)

    def running(self) -> bool:
        """Whether there is time for another step."""
        global _clock
        if self._stopped is not None:
            return False
        if self._started is None:
            self._started, self._tokens_before, _clock = time.monotonic(), _tokens_handed_out, self
        self.step += 1
        if self.progress >= 1:
            self.stop()
        return self._stopped is None

    def stop(self) -> None:
        """End the count of seconds, and write the last point of the curve. `running()` and evaluate_bpb call it."""
        if self._stopped is None:
            if torch.cuda.is_initialized():
                torch.cuda.synchronize()  # steps that are still queued are training too
            self._stopped = time.monotonic()
            self._curve.flush()
            self._screen.flush()

    @property
    def elapsed(self) -> float:
        """Seconds of training so far."""
        if self._started is None:
            return 0.0
        return (time.monotonic() if self._stopped is None else self._stopped) - self._started

    @property
    def progress(self) -> float:
        """Share of the budget that is spent, 0 to 1: what schedules go by."""
        return self._spent(max(self.step, 0))

    def _spent(self, steps: int) -> float:
        return min(1.0, steps / self.max_steps if self.max_steps else self.elapsed / self.time_budget_seconds)

    @property
    def num_tokens(self) -> int:
        """Training tokens that make_dataloader gave since the clock started."""
        return _tokens_handed_out - self._tokens_before

    def report(self, train_loss: float | torch.Tensor, **more: float) -> None:
        """Take the loss of this step, in nats a token. Raises FloatingPointError once training has come apart."""
        self.train_loss = train_loss.item() if isinstance(train_loss, torch.Tensor) else float(train_loss)
        step, seconds = self.step + 1, self.elapsed
        if not self.train_loss <= _loss_limit():
            self._curve.flush()
            raise FloatingPointError(
                f"Training has come apart: train_loss is {self.train_loss:.6g} at step {step} (the limit is "
                f"{_loss_limit():.1f}, three times that of a uniform guess). Lower the learning rates."
            )
        point = {"step": step, "progress": round(self._spent(step), 5), "seconds": round(seconds, 3)}
        point |= {"train_loss": self.train_loss, "num_tokens": self.num_tokens}
        self._curve.add(point | more)
        self._screen.show(step, self._spent(step), self.train_loss, self.num_tokens / max(seconds, 1e-9))


@functools.cache
def _loss_limit() -> float:
    try:
        return 3 * math.log(read_meta(corpus_dir())["vocab_size"])
    except PrepareError:
        return 50.0  # no corpus, no vocabulary: still far above any guess


class _Curve:
    """metrics.jsonl in the hand-over folder: about `points` lines, each with the mean loss since the one before."""

    def __init__(self, points: int) -> None:
        self.folder = _handover_dir()
        self.points = points
        self.mode = "w"
        self.losses: list[float] = []
        self.seen: list[tuple[float, float]] = []  # seconds and train_loss of each line, for `_Picture`
        self.pending: dict[str, Any] | None = None
        self.last = {"progress": 0.0, "seconds": 0.0, "num_tokens": 0}

    def add(self, point: dict[str, Any]) -> None:
        self.losses.append(point["train_loss"])
        self.pending = point
        if self.mode == "w" or point["progress"] - self.last["progress"] >= 1 / self.points:
            self.flush()

    def flush(self) -> None:
        if self.pending is None:
            return
        point, self.pending = self.pending, None
        seconds = max(point["seconds"] - self.last["seconds"], 1e-9)
        point["tokens_per_second"] = round((point["num_tokens"] - self.last["num_tokens"]) / seconds, 1)
        point["train_loss"] = round(sum(self.losses) / len(self.losses), 6)
        self.losses, self.last = [], point
        self.seen.append((point["seconds"], point["train_loss"]))
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            with open(self.folder / "metrics.jsonl", self.mode, encoding="utf-8") as file:
                file.write(json.dumps(point) + "\n")
        self.mode = "a"


def _progress_line(step: int, progress: float, train_loss: float, tokens_per_second: float) -> str:
    return f"step {step:5d} | {progress:4.0%} | train_loss {train_loss:.4f} | {tokens_per_second:9,.0f} tokens/s"


class _Screen:
    """The progress line: one that is rewritten on a terminal, else about `lines` in all."""

    def __init__(self, lines: int, every_seconds: float) -> None:
        self.live = sys.stdout.isatty()
        self.least_progress = 0.0 if self.live else 1 / lines
        self.every_seconds = every_seconds
        self.shown_at, self.shown_progress = -math.inf, -1.0
        self.pending = ""

    def show(self, step: int, progress: float, train_loss: float, tokens_per_second: float) -> None:
        now = time.monotonic()
        self.pending = _progress_line(step, progress, train_loss, tokens_per_second)
        due = now - self.shown_at >= self.every_seconds and progress - self.shown_progress >= self.least_progress
        if due:
            self.shown_at, self.shown_progress = now, progress
            self._print(end="" if self.live else "\n")

    def flush(self) -> None:
        if self.pending or self.live:
            self._print(end="\n")

    def _print(self, end: str) -> None:
        print(("\r" if self.live else "") + self.pending, end=end, flush=True)
        self.pending = ""


# ---------------------------------------------------------------- the curve under a cell


def _is_by_hand_in_jupyter() -> bool:
    """Whether a person runs this in a notebook. In an experiment, also one, the harness draws the curve."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None and _handover_dir() is None


class _Picture:
    """The curve so far, under the cell that trains: one SVG, drawn anew at most every `every_seconds`.

    It is text, made by hand in about 3 ms: matplotlib's would take 70 ms of every second from the training.
    """

    def __init__(self, curve: _Curve, every_seconds: float) -> None:
        self.curve, self.every_seconds = curve, every_seconds
        self.shown_at = -math.inf
        self.words = ""
        self.handle: Any = None  # of the output that is updated in place

    def show(self, step: int, progress: float, train_loss: float, tokens_per_second: float) -> None:
        self.words = _progress_line(step, progress, train_loss, tokens_per_second)
        if time.monotonic() - self.shown_at >= self.every_seconds:
            self.shown_at = time.monotonic()
            seconds = (self.curve.pending or self.curve.last)["seconds"]
            self._display(seconds / progress if progress else seconds)

    def flush(self) -> None:
        if self.words:
            self._display(self.curve.last["seconds"])

    def _display(self, seconds: float) -> None:
        from IPython.display import display

        words = " ".join(self.words.split())
        bundle = {"image/svg+xml": curve_svg(self.curve.seen, seconds, words), "text/plain": words}
        if self.handle is None:
            self.handle = display(bundle, raw=True, display_id=True)
        else:
            self.handle.update(bundle, raw=True)


def curve_svg(points: list[tuple[float, float]], seconds: float, words: str) -> str:
    """train_loss over `seconds` of training, `words` above it. Its grey and green are legible on light and on dark.

    The axis fits the loss after a tenth of the time: the steep fall before leaves through the top.
    """
    left, right, top, bottom = 48.0, 622.0, 30.0, 190.0
    losses, seconds = [loss for _, loss in points], max(seconds, 1e-3)
    settled = [loss for at, loss in points if at >= points[-1][0] / 10] or [0.0]
    pad = 0.06 * (max(settled) - min(settled)) or 0.5
    low, high = min(settled) - pad, max(settled) + pad
    xs = [left + (right - left) * at / seconds for at, _ in points]

    def y(loss: float) -> float:
        return bottom - (bottom - top) * (loss - low) / (high - low)

    def line(values: list[float], style: str) -> str:
        corners = " ".join(f"{x:.1f},{y(loss):.1f}" for x, loss in zip(xs, values, strict=True))
        return f'<polyline clip-path="url(#plot)" points="{corners}" fill="none" stroke="#0a9a70" {style}/>'

    def tick(x: float, y: float, side: str, anchor: str, dx: float, dy: float, value: float) -> str:
        label = f'<text x="{x + dx:.1f}" y="{y + dy:.1f}" text-anchor="{anchor}">{value:g}</text>'
        return f'<path d="M{x:.1f} {y:.1f}{side}" stroke="#808080" stroke-width="0.8"/>{label}'

    across = [left + (right - left) * at / seconds for at in _ticks(0.0, seconds)]
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" width="640" height="226" viewBox="0 0 640 226" role="img" '
        f'font-family="system-ui, sans-serif" font-size="11" fill="#808080"><title>{words}</title>',
        f'<clipPath id="plot"><path d="M{left} {top}H{right}V{bottom}H{left}z"/></clipPath>',
        f'<path d="M{left} {top}V{bottom}H{right}" fill="none" stroke="#808080" stroke-width="0.8"/>',
        *(tick(x, bottom, "v4", "middle", 0, 16, at) for x, at in zip(across, _ticks(0.0, seconds), strict=True)),
        *(tick(left, y(loss), "h-4", "end", -7, 4, loss) for loss in _ticks(low, high)),
        f'<text x="{left}" y="16" font-size="12">{words}</text>',
        f'<text x="{right}" y="{bottom + 31}" text-anchor="end">train_loss (nats a token) over seconds</text>',
        line(losses, 'stroke-width="0.7" stroke-opacity="0.45"'),
        line(_smoothed(losses), 'stroke-width="1.8"'),
        "</svg>",
    ]
    return "".join(parts)


def _smoothed(losses: list[float]) -> list[float]:
    """Mean over a twentieth of the curve around each point: over less at the start, looking back at the end."""
    half = len(losses) // 40
    parts = [losses[max(0, i - half) : i + min(half, i) + 1] for i in range(len(losses))]
    return [sum(part) / len(part) for part in parts]


def _ticks(low: float, high: float) -> list[float]:
    """At most nine round numbers between the two."""
    rough = (high - low) / 8
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    return [round(i * step, 10) for i in range(math.ceil(low / step), math.floor(high / step + 0.01) + 1)]


# ---------------------------------------------------------------- evaluation and hand-over


def evaluate_bpb(model: torch.nn.Module, tokenizer: Tokenizer, batch_size: int) -> float:
    """Bits per byte, lower is better: the last line of a train.py.

    Inside an experiment, hand the model over to be scored elsewhere and return the figure of the dev split. By hand,
    score the validation rows, print the summary and return val_bpb. `model` maps token ids (B, T) to logits
    (B, T, vocab_size); at most `batch_size` rows are scored at a time.
    """
    if _clock is not None:
        _clock.stop()
    original, handover = _without_compile(model), _handover_dir()
    if handover is not None:
        save_model(original, handover / "model.pkl")
    started = time.monotonic()
    bpb = score_rows(original, _rows_to_score(tokenizer, handover), tokenizer.token_bytes, batch_size)
    measured = _measured(original, time.monotonic() - started)
    if handover is not None:
        _replace(handover / "handover.json", json.dumps(measured | {"dev_bpb": bpb}, indent=1).encode())
    _print_summary("val_bpb" if handover is None else "dev_bpb", bpb, original, measured)
    return bpb


def _rows_to_score(tokenizer: Tokenizer, handover: Path | None) -> np.ndarray:
    """All of val by hand; in an experiment, where val is out of reach, a part of dev."""
    folder = _directory(tokenizer)
    if handover is None:
        return read_heldout(folder, "val")
    T = int(read_meta(folder)["sequence_length"])
    return cut_rows(read_split(folder, "dev"), T, DEV_TOKENS, tokenizer.get_bos_token_id())


@torch.no_grad()
def score_rows(model: torch.nn.Module, rows: np.ndarray, token_bytes: np.ndarray, batch_size: int) -> float:
    """Bits per byte of `rows` (N, T+1) under `model`, on the device of its parameters."""
    device = next(model.parameters()).device
    sizes = torch.from_numpy(token_bytes).to(device)  # (vocab_size,)
    at_once = max(1, min(batch_size, 2**27 // (rows.shape[1] * len(token_bytes))))  # logits of 512 MiB at most
    nats, num_bytes, was_training = 0.0, 0, model.training
    model.eval()
    for start in range(0, len(rows), at_once):
        batch = torch.from_numpy(rows[start : start + at_once].astype(np.int64)).to(device)
        x, y = batch[:, :-1].contiguous(), batch[:, 1:].reshape(-1)
        with autocast(device):
            logits = model(x)  # (B, T, vocab_size)
        if logits.shape != (*x.shape, len(token_bytes)):
            raise ValueError(
                f"The model gave {tuple(logits.shape)} for token ids {tuple(x.shape)}, not logits for "
                f"{len(token_bytes)} tokens each."
            )
        scored = sizes[y] > 0
        nats += float(token_nll(logits, y, sizes)[scored].double().sum())
        num_bytes += int(sizes[y].sum())
    model.train(was_training)
    return nats / math.log(2) / num_bytes


def token_nll(logits: torch.Tensor, targets: torch.Tensor, token_bytes: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihood in nats, float32 (B*T,), with special tokens' share removed before normalising."""
    flat = logits.reshape(-1, logits.shape[-1]).float()
    flat = flat.masked_fill(token_bytes == 0, -math.inf)
    return torch.nn.functional.cross_entropy(flat, targets, reduction="none")


def _without_compile(model: torch.nn.Module) -> torch.nn.Module:
    original: torch.nn.Module = getattr(model, "_orig_mod", model)
    return original


def save_model(model: torch.nn.Module, path: Path) -> None:
    """Pickle `model` by value, on the CPU and in eval mode, so that it loads where its source file is unknown."""
    device, was_training = next(model.parameters()).device, model.training
    model.eval().to("cpu")
    partial = path.with_suffix(".tmp")
    try:
        with open(partial, "wb") as file:
            _pickle_by_value(model, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    model.to(device).train(was_training)


def _pickle_by_value(model: torch.nn.Module, file: BinaryIO) -> None:
    import cloudpickle

    class Pickler(cloudpickle.Pickler):
        def reducer_override(self, obj: Any) -> Any:
            """The original in the place of what torch.compile wrapped; on the CPU what `to` does not reach."""
            if isinstance(obj, torch.Tensor) and obj.device.type != "cpu":
                return operator.getitem, ((obj.detach().cpu(),), 0)
            original = getattr(obj, "_orig_mod", None) if isinstance(obj, torch.nn.Module) else None
            if original is None and callable(obj):
                original = getattr(obj, "_torchdynamo_orig_callable", None)
            if original is not None:
                return operator.getitem, ((original,), 0)
            return super().reducer_override(obj)

    names = {type(module).__module__ for module in model.modules()} | {__name__}
    for name in names:
        if name != "__main__" and name.partition(".")[0] != "torch":
            cloudpickle.register_pickle_by_value(sys.modules[name])
    try:
        Pickler(file, protocol=5).dump(model)
    except (pickle.PicklingError, TypeError, AttributeError, ValueError) as error:
        raise PrepareError(
            f"The model cannot be handed over: {error}. A model may hold tensors, numbers and modules, but no open "
            "files, generators, locks or processes."
        ) from error


def _replace(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    partial = path.with_suffix(".tmp")
    _write_bytes(partial, data)
    os.replace(partial, path)


def _handover_dir() -> Path | None:
    named = os.environ.get("AUTORESEARCH_HANDOVER")
    return Path(named) if named else None


def _measured(model: torch.nn.Module, evaluation_seconds: float) -> dict[str, Any]:
    """What this process can say about its training; the harness measures again from outside."""
    device = next(model.parameters()).device
    clock = _clock or TrainingClock()
    seconds = clock.elapsed
    return {
        "training_seconds": seconds,
        "start_up_seconds": (clock._started or time.monotonic()) - _process_start(),
        "evaluation_seconds": evaluation_seconds,
        "num_steps": max(0, clock.step),
        "num_tokens": clock.num_tokens,
        "tokens_per_second": clock.num_tokens / seconds if seconds else None,
        "epoch": _epoch,
        "num_params": sum(parameter.numel() for parameter in model.parameters()),
        "peak_memory_mb": peak_memory_mb(device),
        "device": str(device),
        "device_name": device_name(device),
        "dtype": str(autocast_dtype(device)).removeprefix("torch."),
        "mfu_percent": _mfu_percent(model, device, clock.num_tokens, seconds),
        "flops_per_token": _flops_per_token(model),
        "train_loss": clock.train_loss,
    }


def _mfu_percent(model: torch.nn.Module, device: torch.device, num_tokens: int, seconds: float) -> float | None:
    """Share of the device's peak that training used, by the model's own `estimate_flops()` (FLOPs a token)."""
    peak, flops = peak_flops(device_name(device)), _flops_per_token(model)
    if peak is None or flops is None or not seconds:
        return None
    return 100 * flops * num_tokens / seconds / peak


def _flops_per_token(model: torch.nn.Module) -> float | None:
    """What the model's own `estimate_flops()` says of one token's training, forward and back; None without one."""
    estimate = getattr(model, "estimate_flops", None)
    if estimate is None:
        return None
    try:
        flops = float(estimate())
    except Exception:  # an agent's code, and a mere figure of the summary: a trained model is not thrown away for it
        return None
    return flops if math.isfinite(flops) else None


def _process_start() -> float:
    """When this process began, on the monotonic clock; where /proc cannot say, when prepare was imported."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, ValueError, IndexError):
        return _IMPORTED_AT
    return time.monotonic() - age if age >= 0 else _IMPORTED_AT


def _print_summary(name: str, bpb: float, model: torch.nn.Module, measured: dict[str, Any]) -> None:
    """The block that the original program prints. peak_vram_mb is the process's memory where there is no GPU."""
    mfu = measured["mfu_percent"]
    summary = {
        name: f"{bpb:.6f}",
        "training_seconds": f"{measured['training_seconds']:.1f}",
        "total_seconds": f"{time.monotonic() - _process_start():.1f}",
        "peak_vram_mb": f"{measured['peak_memory_mb']:.1f}",
        "mfu_percent": "n/a" if mfu is None else f"{mfu:.2f}",
        "total_tokens_M": f"{measured['num_tokens'] / 1e6:.1f}",
        "num_steps": str(measured["num_steps"]),
        "num_params_M": f"{measured['num_params'] / 1e6:.1f}",
        "depth": str(_depth(model)),
    }
    print("---", *(f"{key + ':':<18}{value}" for key, value in summary.items()), sep="\n", flush=True)


def _depth(model: torch.nn.Module) -> int:
    """Blocks of a transformer: its longest list of modules."""
    return max((len(m) for m in model.modules() if isinstance(m, torch.nn.ModuleList)), default=0)


# ---------------------------------------------------------------- command line


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="prepare.py", description="Make a corpus: documents, tokenizer and splits.")
    parser.add_argument("--corpus", default="stdlib", choices=["stdlib", "tinystories", "climbmix", "files"])
    parser.add_argument("--files-folder", metavar="DIR", help="your folder, for --corpus files")
    parser.add_argument("--vocab-size", type=int, default=2048, metavar="N")
    parser.add_argument("--sequence-length", type=int, default=256, metavar="T")
    parser.add_argument("--eval-tokens", type=int, metavar="N", help="tokens in the validation rows, at most")
    parser.add_argument("--num-shards", type=int, metavar="N", help="training shards of climbmix; 10 by default")
    parser.add_argument("--home", metavar="DIR", help="where corpora go; ~/.cache/autoresearch by default")
    parser.add_argument("--rebuild", action="store_true", help="make it again though it is there")
    options = vars(parser.parse_args(arguments))
    try:
        prepare(**options)
    except PrepareError as error:
        print(f"prepare.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
