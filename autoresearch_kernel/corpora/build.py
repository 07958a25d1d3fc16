"""Building a corpus: under a lock, into temporary folders, which are renamed once both sides are whole.

A corpus has a training side, which an experiment reads, and a held-out side, which only scoring reads. Both carry the
same meta.json. `prepared_with` in it has the options of `prepare.py` that build this corpus again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import prepare
from prepare import FORMAT, SPECIAL_TOKENS, SPLIT_PATTERN, PrepareError, Tokenizer, home_dir, read_meta, say

from ..core.sanitize import shown
from ..sandbox.hidden_stdlib import copies_file
from ..system.corpus_command import corpus_command
from ..system.files import flock, write_array, write_atomic
from ..system.places import CHANGE_CACHE, NoPlace, require_folder
from ..system.shell import shell_command
from .copies import COUNTED, NEXT_STEP, readable_roots, settle_copies
from .downloads import CLIMBMIX_HELDOUT, climbmix_source, is_full_disk, tinystories_source
from .look import look
from .own_files import own_files_source
from .packages import packages_source
from .sources import Source, stdlib_source
from .tokens import LEAST_VAL_ROWS, check_enough, move_heldout, tokenizer_of, write_streams

CORPORA = ("packages", "stdlib", "tinystories", "climbmix", "files")
CLIMBMIX_SHARDS = 10  # to train on, unless a user asks for another number
EVAL_TOKENS = 2**17  # targets in val and in test; a paired comparison is then good to about 0.002 bpb
EVAL_TOKENS_LONG = 40 * 2**19  # the same from 2048 tokens of context on, as in the original


@dataclass(frozen=True)
class _Plan:
    """One corpus to build: its text, its sizes and its two folders."""

    source: Source
    folder: Path
    heldout: Path
    vocab_size: int
    sequence_length: int
    eval_tokens: int  # targets in val and in test, at most
    prepared_with: str  # options of prepare.py


def build_corpus(
    corpus: str = "packages",
    *,
    vocab_size: int = 2048,
    sequence_length: int = 256,
    eval_tokens: int | None = None,
    files_folder: str | Path | None = None,
    text_key: str | None = None,
    num_shards: int | None = None,
    home: str | Path | None = None,
    rebuild: bool = False,
    log: Callable[[str], None] = say,
) -> Path:
    """Make a corpus unless it is already there; its training-side folder.

    `eval_tokens` bounds the targets of val and of test; `text_key` is the key or column with the text, `text` when
    left out. Raises PrepareError, and then leaves nothing behind that could be taken for a corpus.
    """
    root = Path(home).expanduser().resolve() if home is not None else home_dir()
    _check_sizes(vocab_size, sequence_length, eval_tokens)
    name = corpus if corpus != "files" else f"files_{_short_hash(_folder_of(files_folder), text_key)}"
    key = f"{name}-v{vocab_size}-t{sequence_length}"
    plan = _Plan(
        source=_open_source(corpus, files_folder, text_key, num_shards, root, log),
        folder=root / "corpora" / key,
        heldout=root / "heldout" / key,
        vocab_size=vocab_size,
        sequence_length=sequence_length,
        eval_tokens=eval_tokens or (EVAL_TOKENS_LONG if sequence_length >= 2048 else EVAL_TOKENS),
        prepared_with=_options(corpus, files_folder, text_key, vocab_size, sequence_length, eval_tokens, num_shards),
    )
    with _explained(root), _lock(root, key):
        old = _other_format(plan.folder)
        if old is not None:
            log(f"Corpus {key} has format {old}, not {FORMAT}: it is made again")
        if not rebuild and old is None and _is_finished(plan):
            _describe_finished(plan, log)
            _refuse_copies(plan, plan.folder, plan.heldout, log)
        else:
            _build(plan, log)
    return plan.folder


def _options(
    corpus: str,
    files_folder: str | Path | None,
    text_key: str | None,
    vocab_size: int,
    sequence_length: int,
    eval_tokens: int | None,
    num_shards: int | None,
) -> str:
    """The options of prepare.py that build the same corpus, as a user types them in a shell."""
    options: dict[str, Any] = {"corpus": corpus}
    if corpus == "files":
        options["files-folder"] = _folder_of(files_folder)
        options |= {"text-key": text_key} if text_key else {}
    options |= {"vocab-size": vocab_size, "sequence-length": sequence_length}
    if eval_tokens:
        options["eval-tokens"] = eval_tokens
    if corpus == "climbmix" and num_shards is not None:
        options["num-shards"] = num_shards
    return shlex.join(word for name, value in options.items() for word in (f"--{name}", str(value)))


def _other_format(folder: Path) -> object:
    """The format of the corpus in a folder where it is not ours; None when there is none, or it is damaged."""
    try:
        found = json.loads((folder / "meta.json").read_text(encoding="utf-8"))["format"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return None if found == FORMAT else found


def _open_source(
    corpus: str,
    files_folder: str | Path | None,
    text_key: str | None,
    num_shards: int | None,
    root: Path,
    log: Callable[[str], None],
) -> Source:
    """Cheap: nothing is downloaded yet."""
    if corpus == "packages":
        return packages_source(log)
    if corpus == "stdlib":
        return stdlib_source()
    if corpus == "tinystories":
        return tinystories_source(root / "downloads", log)
    if corpus == "climbmix":
        shards = CLIMBMIX_SHARDS if num_shards is None else CLIMBMIX_HELDOUT if num_shards == -1 else num_shards
        return climbmix_source(root / "downloads", shards, log)
    if corpus == "files":
        return _own_text(files_folder, text_key, root, log)
    raise PrepareError(f"Corpus {corpus!r} is not known: choose {', '.join(CORPORA[:-1])} or {CORPORA[-1]}.")


def _own_text(files_folder: str | Path | None, text_key: str | None, root: Path, log: Callable[[str], None]) -> Source:
    """Raises PrepareError for texts that lie where each training may read."""
    folder = _folder_of(files_folder)
    readable = readable_roots(root / "corpora" / "files", Path(prepare.__file__).resolve().parent)
    return own_files_source(folder, text_key, log, readable)


def _folder_of(files_folder: str | Path | None) -> Path:
    if not files_folder:
        command = shell_command("prepare --corpus files --files-folder DIR")
        raise PrepareError(f"The corpus 'files' needs a folder, or one file: {command}")
    try:
        return Path(files_folder).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a link in a circle, no home, a NUL character
        raise PrepareError(
            f"There is no folder or file {shown(Path(files_folder))} ({error}). Name one with --files-folder."
        ) from error


def _short_hash(folder: Path, text_key: str | None) -> str:
    content = os.fsencode(folder) + (f"\0{text_key}".encode() if text_key else b"")
    return hashlib.sha256(content).hexdigest()[:8]


def _check_sizes(vocab_size: int, sequence_length: int, eval_tokens: int | None) -> None:
    least = 256 + len(SPECIAL_TOKENS)
    if not least <= vocab_size <= 2**20:
        raise PrepareError(f"Vocabulary of {vocab_size}: choose {least} (all bytes and the special tokens) to {2**20}.")
    if not 8 <= sequence_length <= 2**20:
        raise PrepareError(f"Sequence length {sequence_length}: choose 8 to {2**20}.")
    least = LEAST_VAL_ROWS * sequence_length
    if eval_tokens is not None and eval_tokens < least:
        raise PrepareError(
            f"--eval-tokens {eval_tokens}: choose {least} or more, which is {LEAST_VAL_ROWS} rows of {sequence_length} "
            "tokens."
        )


def _is_finished(plan: _Plan) -> bool:
    """Both sides are there and of one making."""
    if not (plan.folder / "meta.json").is_file() or not (plan.heldout / "meta.json").is_file():
        return False
    return read_meta(plan.folder) == read_meta(plan.heldout)


def _describe_finished(plan: _Plan, log: Callable[[str], None]) -> None:
    meta = read_meta(plan.folder)
    log(f"Corpus {plan.folder.name} is already there, made {meta['created_at']}: {plan.folder}")
    made = meta["options"] | {"eval_tokens": meta["eval_tokens"]}
    for name, value in (plan.source.options | {"eval_tokens": plan.eval_tokens}).items():
        if made.get(name) != value:
            was = "from other files: the folder has changed since"
            was = was if name == "listing_sha256" else f"with {name} {made.get(name)}, not {value}"
            again = corpus_command(plan.folder, {"prepared_with": plan.prepared_with})
            log(f"  It was made {was}. `{again}` makes it again.")
    for line in meta.get("left_out", ()):
        log(f"  {line}")


def look_at_files(
    files_folder: str | Path | None, text_key: str | None, sequence_length: int, log: Callable[[str], None] = say
) -> None:
    """Say what a corpus of a user's files would read, leave out and have in each split. Nothing is written."""
    source = _own_text(files_folder, text_key, home_dir(), log)
    look(source, shown(_folder_of(files_folder)), sequence_length, log)


@contextlib.contextmanager
def _explained(root: Path) -> Iterator[None]:
    """Turn the error of a full disk into a PrepareError that says what to do."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        if not is_full_disk(error):
            raise
        reason = getattr(error, "strerror", None) or error
        raise PrepareError(
            f"No room to write under {root}: {reason}. The unfinished corpus was removed. Free some space, "
            "or choose another disk with --home."
        ) from error


@contextlib.contextmanager
def _lock(root: Path, key: str) -> Iterator[None]:
    """One builder per corpus; the second waits and finds it finished. The system frees the lock of a killed one."""
    import fcntl

    try:
        require_folder(root, "corpora", f"{CHANGE_CACHE} Or choose one with --home.")
    except NoPlace as error:
        raise PrepareError(str(error)) from error
    root.mkdir(parents=True, exist_ok=True)
    with open(root / f".{key}.lock", "w") as file:
        flock(file.fileno(), fcntl.LOCK_EX, root)
        yield


def _build(plan: _Plan, log: Callable[[str], None]) -> None:
    """Write both sides into temporary siblings, then rename: held-out first, the training side last."""
    key = plan.folder.name
    with _temporary_sibling(plan.folder) as new, _temporary_sibling(plan.heldout) as new_heldout:
        log(f"Corpus {key}: training the tokenizer")
        tokenizer = tokenizer_of(plan.source, plan.vocab_size)
        log(f"Corpus {key}: tokenizing")
        facts = write_streams(plan.source, tokenizer, new, log)
        check_enough(facts, plan.source, plan.sequence_length)
        facts |= move_heldout(tokenizer, new, new_heldout, plan.sequence_length, plan.eval_tokens)
        write_atomic(new / "tokenizer.tiktoken", tokenizer.to_bytes())
        write_array(new / "token_bytes.npy", tokenizer.token_bytes)
        meta = _meta(plan, tokenizer, facts)
        for side in (new_heldout, new):
            write_atomic(side / "meta.json", json.dumps(meta, indent=1))
        _refuse_copies(plan, new, new_heldout, log)
        _put_in_place(new_heldout, plan.heldout)
        _put_in_place(new, plan.folder)
    log(f"Corpus {key}: {meta['num_train_tokens']:,} tokens to train on, {meta['num_val_rows']:,} rows of val")
    log(f"  {plan.folder}\n  {plan.heldout}")


def _refuse_copies(plan: _Plan, folder: Path, heldout: Path, log: Callable[[str], None]) -> None:
    """Raise PrepareError when too much held-out text of an embedded corpus stands in files that a sandbox shows."""
    if plan.source.name not in COUNTED:
        return
    log(f"Corpus {plan.folder.name}: looking for its held-out text in the files that a sandbox shows")
    known = copies_file(plan.folder.parent.parent, plan.folder.name)
    copies = settle_copies(folder, heldout, Path(prepare.__file__).resolve().parent, known)
    if copies.is_too_much:
        raise PrepareError(f"Corpus {plan.folder.name}: {copies.too_much()}. {NEXT_STEP}")
    log(f"  {copies.words()}" + (f"; {len(copies.hidden)} more are hidden" if copies.hidden else ""))


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


def _meta(plan: _Plan, tokenizer: Tokenizer, facts: dict[str, Any]) -> dict[str, Any]:
    from importlib.metadata import version

    return {
        "format": FORMAT,
        "corpus": plan.source.name,
        "key": plan.folder.name,
        "prepared_with": plan.prepared_with,
        "tokenizer_sha256": hashlib.sha256(tokenizer.to_bytes()).hexdigest(),
        "split_pattern": SPLIT_PATTERN,
        "vocab_size": tokenizer.get_vocab_size(),
        "bos_token_id": tokenizer.get_bos_token_id(),
        "sequence_length": plan.sequence_length,
        "eval_tokens": plan.eval_tokens,
        **facts,
        "left_out": plan.source.left_out(),
        "options": plan.source.options,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("torch", "numpy", "tiktoken", "rustbpe")},
    }
