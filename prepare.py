"""Everything that is fixed: the tokenizer, the rows and batches of a corpus, the clock, and the hand-over of the model.

`from prepare import ...` gives train.py what it needs; `python prepare.py` makes a corpus, which the package
autoresearch_kernel does. A study records the hash of this file and ends when a user edits it.

The names are those of the original autoresearch program (`MAX_SEQ_LEN`, `make_dataloader`, `evaluate_bpb`, ...).
What is different on purpose: tokens are made once and memory-mapped, where the original tokenised while it trained;
rows are cut from one stream of `BOS document BOS document ...`, so that no token of a long document is dropped;
`token_bytes` counts a token's raw bytes, where the original counted the replacement character's three for a piece of
a UTF-8 sequence; the probability of special tokens is removed before normalising, so that nothing is won by
never predicting BOS; a part of the training documents, `dev`, is for train.py to look at, and the held-out rows
(`val`, `test`) lie in a folder of their own, which an experiment neither reads nor needs; the tokenizer is stored as
data, not as a pickle; and inside an experiment `evaluate_bpb` hands the model over to be scored by another process.

This file knows no study, agent or decision. What training and scoring call here never imports the package.
"""

from __future__ import annotations

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    sys.path.append(sys.path.pop(0))  # a random.py beside this file must not hide Python's own

import base64
import contextlib
import functools
import importlib
import json
import math
import mmap
import operator
import os
import pickle
import platform
import re
import shlex
import shutil
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

_IMPORTED_AT = time.monotonic()  # about when this process began; `_process_start` knows better where it can

# Read by OpenMP when torch loads it: idle threads that spin for long starve whoever shares the machine.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import numpy as np  # noqa: E402
import torch  # noqa: E402

FORMAT = 4  # of a corpus folder; meta.json carries it
SPECIAL_TOKENS = tuple(f"<|reserved_{i}|>" for i in range(4))  # the last ids of the vocabulary; the first is BOS
DEV_TOKENS = 2**14  # targets that evaluate_bpb scores on dev: well under a second for a small model on two cores

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
    """How a user runs this file: by `python` where that is this interpreter, as in an active environment."""
    python = "python" if shutil.which("python") == sys.executable else sys.executable
    return f"{python} prepare.py {options}".rstrip()


def _command_again(folder: Path, meta: dict[str, Any]) -> str:
    """What builds the corpus of a folder again: as it was made, or without any meta.json as far as its name says."""
    known = _meta_of_other_side(folder) | meta
    options = known.get("prepared_with") or _options_in_name(folder.name, known.get("options") or {})
    options, folder = f"{options} --rebuild".strip(), folder.absolute()
    if folder.parent.name in ("corpora", "heldout") and folder.parents[1].resolve() != home_dir().resolve():
        options += f" --home {shlex.quote(str(folder.parents[1]))}"
    return _command(options)


def _meta_of_other_side(folder: Path) -> dict[str, Any]:
    """meta.json of the held-out side of a training side, or the other way round; empty where it cannot be read."""
    side = "heldout" if folder.parent.name == "corpora" else "corpora"
    try:
        return dict(json.loads((folder.absolute().parent.parent / side / folder.name / "meta.json").read_bytes()))
    except (OSError, ValueError, TypeError):
        return {}


def _options_in_name(key: str, known: dict[str, Any]) -> str:
    """Options of this file that give a corpus the name `key`, as in `climbmix-v8192-t2048`."""
    found = re.fullmatch(r"([a-z]+)(?:_\w+)?-v(\d+)-t(\d+)", key)
    if found is None:
        return ""
    options = f"--corpus {found[1]}"
    if found[1] == "files":
        options += f" --files-folder {shlex.quote(known.get('folder', 'DIR'))}"
    options += f" --vocab-size {found[2]} --sequence-length {found[3]}"
    return options + (f" --num-shards {known['num_shards']}" if "num_shards" in known else "")


def say(line: str) -> None:
    print(line, flush=True)


class PrepareError(RuntimeError):
    """A corpus cannot be made or used. The message names the file, the value and the next step."""


def _show_error(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """Instead of a traceback: what a PrepareError says, and the line of the script where it was raised."""
    if not isinstance(error, PrepareError) or os.environ.get("AUTORESEARCH_DEBUG"):
        sys.__excepthook__(kind, error, trace)
        return
    script = Path(sys.argv[0]).name
    print(f"{script}, line {trace.tb_lineno}: {error}" if trace else f"{script}: {error}", file=sys.stderr)


if sys.excepthook is sys.__excepthook__:
    sys.excepthook = _show_error
for _stream in (sys.stdout, sys.stderr):  # a character that the output cannot hold ends no training
    with contextlib.suppress(AttributeError, OSError, ValueError):  # another kind of stream, or a closed one
        _stream.reconfigure(errors="replace")  # type: ignore[union-attr]


def _number_named(variable: str, otherwise: float, least: float = 0) -> float:
    """A variable of the environment that is a number, `least` or more. Raises PrepareError."""
    named = os.environ.get(variable) or otherwise
    try:
        value = float(named)
    except ValueError:
        value = math.nan
    if not least <= value < math.inf:
        raise PrepareError(f"{variable} is {named!r}: use a number such as 30, or unset it.")
    return value


TIME_BUDGET = _number_named("AUTORESEARCH_TIME_BUDGET", 300, least=0.001)  # seconds of training


# ---------------------------------------------------------------- where things are


def home_dir() -> Path:
    """The cache: $AUTORESEARCH_HOME, else ~/.cache/autoresearch; without links, as the package finds it."""
    named = os.environ.get("AUTORESEARCH_HOME") or str(Path.home() / ".cache" / "autoresearch")
    return Path(os.path.expanduser(named)).resolve()


def corpus_dir() -> Path:
    """The training side in use: $AUTORESEARCH_CORPUS, else the embedded corpus `packages`, else `stdlib`."""
    named = os.environ.get("AUTORESEARCH_CORPUS")
    if named:
        return Path(os.path.expanduser(named))
    corpora = home_dir() / "corpora"
    for name in ("packages", "stdlib"):
        for folder in (corpora / f"{name}-v2048-t256", *sorted(corpora.glob(f"{name}-*"))):
            if (folder / "meta.json").is_file():
                return folder
    if _is_users_notebook():
        say(f"No corpus in {corpora} yet. Making the embedded one first, which takes about a minute.")
        return prepare()
    raise PrepareError(f"No corpus in {corpora}. Make one first (about a minute): {_command()}")


def heldout_dir(corpus_dir: str | Path) -> Path:
    """Where the held-out rows of a training-side folder lie: $AUTORESEARCH_HELDOUT, else beside `corpora`."""
    named = os.environ.get("AUTORESEARCH_HELDOUT")
    folder = Path(corpus_dir)
    return Path(os.path.expanduser(named)) if named else folder.parent.parent / "heldout" / folder.name


def read_meta(folder: str | Path) -> dict[str, Any]:
    """meta.json of a training-side or held-out folder. Raises PrepareError where no such file can be used."""
    path = Path(folder) / "meta.json"
    try:
        meta: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError) as error:
        missing = isinstance(error, FileNotFoundError)
        words = f"{path.parent} holds no finished corpus. Make one" if missing else f"{path} is damaged ({error})"
        raise PrepareError(f"{words}: {_command_again(path.parent, {})}") from (None if missing else error)
    except OSError as error:  # the folder is a file, or closed to this user
        raise PrepareError(
            f"{path} cannot be read ({error.strerror}): set AUTORESEARCH_CORPUS to a corpus folder that you may read."
        ) from None
    if meta.get("format") != FORMAT:
        again = _command_again(path.parent, meta)
        raise PrepareError(f"{path} has format {meta.get('format')}, not {FORMAT}: {again}")
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


def get_token_bytes(device: str | torch.device = "cpu") -> torch.Tensor:
    """Raw bytes of each token of the corpus in use, int32 (vocab_size,); 0 for special tokens."""
    return torch.from_numpy(np.load(corpus_dir() / "token_bytes.npy")).to(device)


# ---------------------------------------------------------------- batches

Batch = tuple[torch.Tensor, torch.Tensor, int]  # x (B, T), y (B, T), epoch

_tokens_handed_out = 0  # training tokens since the import; TrainingClock reads it
_epoch = 0  # of the last training batch


def make_dataloader(
    tokenizer: Tokenizer, B: int, T: int, split: str, device: str | torch.device | None = None, seed: int = 0
) -> Iterator[Batch]:
    """Batches without end: x (B, T), y (B, T), both int64 on `device` (default: get_device()), and the epoch, from 1.

    A row is BOS and T tokens of the stream. Each epoch shifts the cuts, shuffles the rows, and makes every token of
    the split a target; a batch may straddle two epochs. `dev`, and `val` outside an experiment, come in order.
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
        raise ValueError(f"Split {split!r}: choose 'train', 'dev' or, outside an experiment, 'val'.")
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
        raise PrepareError(
            f"{path} has {size:,} bytes, not {expected:,}. Make it again: {_command_again(folder, meta)}"
        )
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
    heldout, meta = heldout_dir(folder), read_meta(folder)
    if read_meta(heldout)["content_sha256"] != meta["content_sha256"]:
        raise PrepareError(f"{heldout} belongs to another making of {folder}: {_command_again(folder, meta)}")
    rows: np.ndarray = np.load(heldout / f"{split}.npy", mmap_mode="r")
    return rows


def cut_rows(stream: np.ndarray, sequence_length: int, limit: int, bos: int) -> np.ndarray:
    """At most `limit` targets of a token stream as rows, spread evenly over it: (rows, T+1), column 0 always BOS."""
    available = len(stream) // sequence_length
    count = min(available, max(1, limit // sequence_length))
    chosen = np.arange(count) * available // max(1, count)
    rows = np.full((count, sequence_length + 1), bos, dtype=stream.dtype)
    rows[:, 1:] = stream[: available * sequence_length].reshape(available, sequence_length)[chosen]
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
        return _device_named(named)
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    if torch.xpu.is_available():
        return torch.device("xpu")
    return torch.device("cpu")


def _device_named(named: str) -> torch.device:
    """A device as torch calls it. Raises PrepareError for one that this machine does not have; starts no GPU."""
    try:
        device = torch.device(named)
        is_there = (device.index or 0) < torch.get_device_module(device).device_count()
    except (RuntimeError, AttributeError):
        is_there = False
    if not is_there:
        raise PrepareError(f"AUTORESEARCH_DEVICE is {named!r}, which torch does not find here: use cpu, or unset it.")
    return device


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


# Dense bfloat16 peak in FLOP/s, from the makers' data sheets, by the words of the device's name.
PEAK_FLOPS = {
    "B300": 2.25e15, "B200": 2.25e15, "GB200": 2.5e15, "GH200": 989e12, "H200 NVL": 835e12, "H200": 989e12,
    "H100 PCIe": 756e12, "H100 NVL": 835e12, "H100": 989e12, "H800 PCIe": 756e12, "H800": 989e12, "H20": 148e12,
    "A100": 312e12, "A800": 312e12, "A40": 150e12, "A10": 125e12, "L40S": 362e12, "L4": 121e12, "RTX 5090": 210e12,
    "RTX 4090": 165e12, "RTX 3090": 71e12, "MI355X": 2.5e15, "MI325X": 1.307e15, "MI300X": 1.307e15,
    "MI250X": 383e12, "MI250": 362e12, "MI250X MI250": 362e12,
}  # fmt: skip
# Words of a device's name that say who made it, its memory or its socket; any other word makes it another device.
_NOT_OF_THE_MODEL = re.compile(r"NVIDIA|TESLA|GEFORCE|AMD|INSTINCT|SXM\d?|PCIE|OAM|\d+GB?|HBM\w+")


def peak_flops(device_name: str) -> float | None:
    """Dense bfloat16 peak of a GPU by its whole name, FLOP/s; None when the table does not have it."""
    words = set(re.findall(r"\w+", device_name.upper()))
    for name, flops in PEAK_FLOPS.items():
        more = words - (model := set(name.upper().split()))
        if model <= words and all(_NOT_OF_THE_MODEL.fullmatch(word) for word in more):
            return flops
    return None


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


def preset_parameters(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Sizes for this machine and budget, by parameter of a train.py that a user runs; {} inside an experiment.

    `name` is a preset: `auto`, a file in presets/, or `none` for no sizes. $AUTORESEARCH_PRESET overrides it. `values`
    are the present values: a size that the user changed stays. Raises PrepareError.
    """
    named = os.environ.get("AUTORESEARCH_PRESET") or name
    if named == "none" or _handover_dir() is not None:
        return {}
    try:
        by_hand = importlib.import_module("autoresearch_kernel.study.by_hand")
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("autoresearch_kernel"):
            raise
        say("The sizes are those of train.py: presets are in the package autoresearch-kernel, which is not installed.")
        return {}
    device = get_device()
    machine = _machine(device)
    meta = read_meta(corpus_dir())
    try:
        changed: dict[str, Any] = by_hand.parameters_by_hand(
            named,
            values,
            project=Path(__file__).resolve().parent,
            machine=machine,
            budget_seconds=TIME_BUDGET,
            corpus_tokens=int(meta["num_train_tokens"]),
            say=say,
        )
    except ValueError as error:
        raise PrepareError(f"{error} (preset {named}, from AUTORESEARCH_PRESET or from PRESET in train.py)") from None
    return changed


def _machine(device: torch.device) -> dict[str, Any]:
    """What the choice of a preset needs to know of this machine, but for its speed."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory
    return {
        "device": device.type,
        "device_name": device_name(device),
        "dtype": str(autocast_dtype(device)).removeprefix("torch."),
        "num_cores": os.cpu_count(),
        "num_threads": torch.get_num_threads(),
        "memory_mb": round(memory / 2**20),
    }


# ---------------------------------------------------------------- clock

_clock: TrainingClock | None = None  # the last one that ran; evaluate_bpb reads it
LEAST_RATE, MOST_RATE = 2 / 3, 1 / 0.7  # seconds that a steady clock counts in one: a budget takes 0.7 to 1.5 times it


def monotonic() -> float:
    """Seconds of the monotonic clock, without those for which the supervisor has stopped this process (in a duel)."""
    while True:
        stopped = _stopped_seconds()
        now = time.monotonic()
        if stopped == _stopped_seconds():  # else it was stopped between the two
            return now - stopped


def _stopped_seconds() -> float:
    pauses = _pauses()
    return struct.unpack("<d", pauses[:8])[0] if pauses else 0.0


@functools.cache
def _pauses() -> mmap.mmap | None:
    """The supervisor's file with the seconds of all stops so far; it writes to it while this process is stopped."""
    path = os.environ.get("AUTORESEARCH_PAUSES")
    if not path:
        return None
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 8, access=mmap.ACCESS_READ)


class TrainingClock:
    """Ends the training loop when the budget is spent, and keeps its curve.

        clock = TrainingClock()
        while clock.running():
            ...
            clock.report(train_loss=loss)

    `step` is the number of the turn in the loop, from 0; `num_steps` counts finished steps. `progress` runs from 0 to
    1. The monotonic clock starts at the first `running()`. With $AUTORESEARCH_MAX_STEPS, steps are the budget. With
    $AUTORESEARCH_CLOCK the budget is counted in seconds of the machine's normal speed, which the supervisor writes to
    that file; `elapsed` and the curve stay in seconds of the wall clock.

    Raises PrepareError for a budget that is not a finite number of seconds above 0.
    """

    points = 200  # of the curve in metrics.jsonl
    lines = 20  # of progress where each is kept, as in a notebook

    def __init__(self, time_budget_seconds: float | None = None, report_every_seconds: float = 1.0) -> None:
        self.time_budget_seconds = TIME_BUDGET if time_budget_seconds is None else float(time_budget_seconds)
        if not 0 < self.time_budget_seconds < math.inf:
            raise PrepareError(
                f"time_budget_seconds is {time_budget_seconds!r}: give a finite number of seconds above 0."
            )
        self.max_steps = int(_number_named("AUTORESEARCH_MAX_STEPS", 0))
        self.step = -1
        self._reported_steps = 0  # as of the last `report`
        self.train_loss: float | None = None  # of the last step
        self._started: float | None = None
        self._stopped: float | None = None
        self._tokens_before = 0
        self._steady = _SteadySeconds.of_supervisor()
        self._curve = _Curve(self.points)
        self._screen = _screen_for(self._curve, self.lines, report_every_seconds)

    def running(self) -> bool:
        """Whether there is time for another step."""
        global _clock
        if self._stopped is not None:
            return False
        if self._started is None:
            self._started, self._tokens_before, _clock = monotonic(), _tokens_handed_out, self
            if self._steady is not None:
                self._steady.start(self._started)
        self.step += 1
        if self.progress >= 1:
            self.stop()
        return self._stopped is None

    def stop(self) -> None:
        """End the count of seconds, and write the last point of the curve. `running()` and evaluate_bpb call it."""
        if self._stopped is None:
            if torch.cuda.is_initialized():
                torch.cuda.synchronize()  # steps that are still queued are training too
            self._stopped = monotonic()
            self._curve.flush()
            self._screen.flush()

    @property
    def elapsed(self) -> float:
        """Seconds of training so far."""
        if self._started is None:
            return 0.0
        return (monotonic() if self._stopped is None else self._stopped) - self._started

    @property
    def progress(self) -> float:
        """Share of the budget that is spent, 0 to 1: what schedules go by."""
        return self._spent(max(self.step, 0))

    def _spent(self, steps: int) -> float:
        return min(1.0, steps / self.max_steps if self.max_steps else self.counted_seconds / self.time_budget_seconds)

    @property
    def counted_seconds(self) -> float:
        """Seconds of the budget that are spent: those of the wall clock, or of the supervisor's steady clock."""
        elapsed = self.elapsed
        if self._steady is None or self._started is None:
            return elapsed
        return self._steady.since_start(self._started + elapsed)

    @property
    def num_steps(self) -> int:
        """Finished steps: the turns of the loop before this one, and this one once its loss was reported."""
        return max(self.step, self._reported_steps, 0)

    @property
    def num_tokens(self) -> int:
        """Training tokens that make_dataloader gave since the clock started."""
        return _tokens_handed_out - self._tokens_before

    def report(self, train_loss: float | torch.Tensor, **more: float) -> None:
        """Take the loss of this step, in nats a token. Raises FloatingPointError once training has come apart."""
        self.train_loss = train_loss.item() if isinstance(train_loss, torch.Tensor) else float(train_loss)
        self._reported_steps = step = self.step + 1
        seconds = self.elapsed
        if not self.train_loss <= _loss_limit():
            self._curve.flush()
            # Before the first update of the weights no learning rate can be the cause.
            advice = "Lower the learning rates." if step > 1 else "Look at the initialisation and the forward pass."
            raise FloatingPointError(
                f"Training has come apart: train_loss is {self.train_loss:.6g} at step {step} (the limit is "
                f"{_loss_limit():.1f}, three times that of a uniform guess). {advice}"
            )
        point = {"step": step, "progress": round(self._spent(step), 5), "seconds": round(seconds, 3)}
        point |= {"train_loss": self.train_loss, "num_tokens": self.num_tokens}
        self._curve.add(point | more)
        line = _progress_line(step, self._spent(step), self.train_loss, self.num_tokens / max(seconds, 1e-9))
        self._screen.show(line, self._spent(step))


class _SteadySeconds:
    """Reads the supervisor's count of seconds of normal speed (`system/steady_clock.py` of the package writes it).

    The file holds two equal copies of three numbers: a moment on the monotonic clock, the count then, and how many
    seconds a second counts at present. While it is being written, the copies differ and the last known numbers stand.
    A second counts LEAST_RATE to MOST_RATE seconds, whatever the file says.
    """

    layout = struct.Struct("<6d")

    def __init__(self, file: int) -> None:
        self.file = file
        self.known = (0.0, 0.0, 1.0)
        self.started_at = self.count_at_start = 0.0

    @classmethod
    def of_supervisor(cls) -> _SteadySeconds | None:
        """For the file in $AUTORESEARCH_CLOCK; None without one, as for a training that a user starts."""
        named = os.environ.get("AUTORESEARCH_CLOCK")
        if not named:
            return None
        try:
            return cls(os.open(named, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            raise PrepareError(
                f"AUTORESEARCH_CLOCK is {named!r}, which cannot be read ({error.strerror}): unset it."
            ) from None

    def start(self, at: float) -> None:
        self.started_at, self.count_at_start = at, self._count(at)

    def since_start(self, at: float) -> float:
        """Seconds of normal speed from the start until the moment `at` of the monotonic clock."""
        elapsed = at - self.started_at
        return min(max(self._count(at) - self.count_at_start, LEAST_RATE * elapsed), MOST_RATE * elapsed)

    def _count(self, at: float) -> float:
        data = os.pread(self.file, self.layout.size, 0)
        if len(data) == self.layout.size:
            numbers = self.layout.unpack(data)
            if numbers[:3] == numbers[3:]:
                self.known = numbers[:3]
        then, count, rate = self.known
        return count + rate * (at - then)


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
        self.seen: list[tuple[float, float]] = []  # seconds and train_loss of each line
        self.pending: dict[str, Any] | None = None
        self.last = {"progress": 0.0, "seconds": 0.0, "num_tokens": 0}

    @property
    def seconds(self) -> float:
        """Of training, as of the last report."""
        return float((self.pending or self.last)["seconds"])

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


def _screen_for(curve: _Curve, lines: int, every_seconds: float) -> Any:
    """In a notebook that a user runs, the curve that the package draws; elsewhere, and without it, printed lines."""
    if _is_users_notebook():
        with contextlib.suppress(ImportError):
            return importlib.import_module("autoresearch_kernel.run.live_curve").LiveCurve(curve, every_seconds)
    return _Screen(lines, every_seconds)


def _is_users_notebook() -> bool:
    """Whether a user runs this in Jupyter. An experiment is a notebook too, but it has a hand-over folder."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None and _handover_dir() is None


class _Screen:
    """The progress line: one that is rewritten on a terminal, else about `lines` in all."""

    def __init__(self, lines: int, every_seconds: float) -> None:
        self.live = sys.stdout.isatty()
        self.least_progress = 0.0 if self.live else 1 / lines
        self.every_seconds = every_seconds
        self.shown_at, self.shown_progress = -math.inf, -1.0
        self.pending = ""

    def show(self, line: str, progress: float) -> None:
        now = time.monotonic()
        self.pending = line
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


# ---------------------------------------------------------------- evaluation and hand-over


def evaluate_bpb(
    model: torch.nn.Module, tokenizer: Tokenizer, batch_size: int, device: str | torch.device | None = None
) -> float:
    """Bits per byte, lower is better: the last line of a train.py.

    Inside an experiment, hand the model over to be scored by another process and return the figure of the dev split.
    Outside, score the validation rows, print the summary and return val_bpb. `model` maps token ids (B, T) to logits
    (B, T, vocab_size); at most `batch_size` rows are scored at a time. Rows are scored where the model's parameters
    are: `device` is accepted because forks of the original pass it, and changes nothing.
    """
    if _clock is not None:
        _clock.stop()
    original, handover = _without_compile(model), _handover_dir()
    if handover is not None:
        save_model(original, handover / "model.pkl")
    started = monotonic()
    bpb = score_rows(original, _rows_to_score(tokenizer, handover), tokenizer.token_bytes, batch_size)
    measured = _measured(original, monotonic() - started)
    if handover is not None:
        _replace(handover / "handover.json", json.dumps(measured | {"dev_bpb": bpb}, indent=1).encode())
    _print_summary("val_bpb" if handover is None else "dev_bpb", bpb, original, measured)
    return bpb


def _rows_to_score(tokenizer: Tokenizer, handover: Path | None) -> np.ndarray:
    """All of val outside an experiment; inside one, where val is out of reach, a part of dev."""
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
        nll = token_nll(logits, y, sizes)[scored].cpu()  # Apple's mps has no float64
        nats += float(nll.double().sum())
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


def _write_bytes(path: Path, data: bytes | memoryview) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _replace(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    partial = path.with_suffix(".tmp")
    _write_bytes(partial, data)
    os.replace(partial, path)


def _handover_dir() -> Path | None:
    named = os.environ.get("AUTORESEARCH_HANDOVER")
    return Path(named) if named else None


def _measured(model: torch.nn.Module, evaluation_seconds: float) -> dict[str, Any]:
    """What this process can say about its training; the supervisor measures again from outside."""
    device = next(model.parameters()).device
    clock = _clock or TrainingClock()
    seconds = clock.elapsed
    return {
        "training_seconds": seconds,
        "counted_seconds": clock.counted_seconds,
        "start_up_seconds": (clock._started or monotonic()) - _process_start(),
        "evaluation_seconds": evaluation_seconds,
        "num_steps": clock.num_steps,
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
        "total_seconds": f"{monotonic() - _process_start():.1f}",
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


# ---------------------------------------------------------------- building a corpus


def prepare(corpus: str = "packages", **options: Any) -> Path:
    """Make a corpus unless it is already there; its training-side folder. Raises PrepareError.

    `options` are those of `build_corpus` in autoresearch_kernel/corpora/build.py, which does it: vocab_size,
    sequence_length, eval_tokens, files_folder, text_key, num_shards, home, rebuild, log.
    """
    folder: Path = _corpora("build").build_corpus(corpus, **options)
    return folder


def main(arguments: list[str] | None = None) -> int:
    """The command line: `python prepare.py --help` lists its options."""
    try:
        command = _corpora("command")
    except PrepareError as error:
        print(f"prepare.py: {error}", file=sys.stderr)
        return 1
    return int(command.run(arguments))


def _corpora(module: str) -> ModuleType:
    """A module of the package's room that builds corpora."""
    try:
        return importlib.import_module(f"autoresearch_kernel.corpora.{module}")
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("autoresearch_kernel"):
            raise
        raise PrepareError(
            "Corpora are built by the package autoresearch-kernel, which this Python does not have: run `make setup` "
            "in the project's folder and use its Python, or install the package "
            f"({sys.executable} -m pip install autoresearch-kernel)."
        ) from None


if __name__ == "__main__":
    sys.modules["prepare"] = sys.modules["__main__"]  # so that the package imports this very file
    sys.exit(main())
