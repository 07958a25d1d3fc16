"""The documents in one file, by its kind: text, JSON lines or Parquet. A file is read in parts, never as a whole.

What is no text is left out: a file by a FileLeftOut, which says what it is; a line or a row by an entry in `Skipped`.
"""

from __future__ import annotations

import codecs
import importlib.util
import io
import json
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from prepare import PrepareError

from ..core.format import count, thousands
from ..core.sanitize import one_line, shown
from ..source.encoding import unicode_mark
from .kinds import what_is, wrong_bytes

TEXT_KEY = "text"  # of a JSON object, or the column of a table, unless a user names another
BLOCK = 2**20  # bytes that are read at once
HEAD = 2**12  # bytes that say what a file is
LONGEST_LINE = 2**27  # characters of one line of JSON
LONGEST_RUN = 2**12  # of one character
LONG_RUN = re.compile(rf"(.)\1{{{LONGEST_RUN},}}", re.DOTALL)
MOST_KEYS = 12  # that a message names

Parts = Iterable[str]  # the text of a document


class FileLeftOut(PrepareError):
    """A file that cannot be read as text; `reason` says what it is and what to do."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{shown(path)}: {reason}")
        self.reason = reason


@dataclass
class Skipped:
    """What was left out of one file: its lines or rows that are no documents, counted by reason."""

    noun: str = "line"
    reasons: dict[str, tuple[int, int]] = field(default_factory=dict)  # how many, and the number of the first
    keys: dict[str, None] = field(default_factory=dict)  # in the order in which they came
    end: str = ""  # what is wrong with the end of the file

    def add(self, reason: str, number: int) -> None:
        before, first = self.reasons.get(reason, (0, number))
        self.reasons[reason] = before + 1, first

    def add_keys(self, keys: Iterable[Any]) -> None:
        if len(self.keys) <= MOST_KEYS:
            self.keys |= dict.fromkeys(one_line(str(key), 40) for key in keys)

    def text(self) -> str:
        """`2 lines with null under 'text' (the first is line 3)`; empty where nothing was left out."""
        parts = [
            f"{count(found, self.noun)} {reason} ({'the first is ' if found > 1 else ''}{self.noun} {thousands(first)})"
            for reason, (found, first) in self.reasons.items()
        ]
        parts += [self.end] if self.end else []
        return "; ".join(parts) + (key_advice(self.keys, "keys") if self.keys else "")


def key_advice(keys: Iterable[str], noun: str) -> str:
    """What is there where no text is under the key that was looked for."""
    names = [repr(key) for key in keys]
    more = ", ..." if len(names) > MOST_KEYS else ""
    return f"; its {noun} are {', '.join(names[:MOST_KEYS])}{more}: choose the one with the text by --text-key NAME"


def read_documents(path: Path, text_key: str, skipped: Skipped) -> Iterator[Parts]:
    """Each document of a file, to be consumed before the next one. Raises FileLeftOut."""
    reader = READERS.get(path.suffix.lower(), _text)
    try:
        with _open(path) as file:
            head = file.read(HEAD)
            reason = what_is(head)
            if reason is not None and not (reader is _parquet and head.startswith(b"PAR1")):
                raise FileLeftOut(path, reason)
            file.seek(0)
            yield from reader(file, path, text_key, skipped)
    except OSError as error:
        raise FileLeftOut(path, why_unreadable(error)) from error


def why_unreadable(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "it vanished while the corpus was read"
    if isinstance(error, PermissionError):
        return "it may not be read (permission denied): `chmod u+r FILE` allows it to its owner"
    return f"it cannot be read ({error.strerror or error})"


def _open(path: Path) -> BinaryIO:
    """A plain file, opened without waiting for whoever writes into a pipe."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileLeftOut(path, "no plain file")
    return open(descriptor, "rb")


class ShortRuns:
    """Shortens runs of one character, which are no text and which tokenizers fail on, to `LONGEST_RUN` characters."""

    def __init__(self) -> None:
        self.removed = 0  # characters

    def of(self, document: Parts) -> Parts:
        """A document without long runs."""
        is_short = isinstance(document, tuple) and len(document[0]) <= LONGEST_RUN
        return document if is_short else self._parts(document)

    def _parts(self, document: Parts) -> Iterator[str]:
        """The run at the end of a part is kept for the next one."""
        kept = ""
        for part in document:
            text = kept + part
            if not text:
                continue
            run = len(text) - len(text.rstrip(text[-1]))
            kept = text[-1] * min(run, LONGEST_RUN)
            self.removed += run - len(kept)
            if run < len(text):
                yield self._shortened(text[: len(text) - run])
        if kept:
            yield kept

    def _shortened(self, text: str) -> str:
        half = LONGEST_RUN // 2  # a run that is too long has a whole window of this size
        if not any(text[at] * half == text[at : at + half] for at in range(0, len(text), half)):
            return text
        short = LONG_RUN.sub(lambda run: run[0][:LONGEST_RUN], text)
        self.removed += len(text) - len(short)
        return short


# --- text


def _text(file: BinaryIO, path: Path, text_key: str, skipped: Skipped) -> Iterator[Parts]:
    yield _blocks(file, path, skipped)


def _blocks(file: BinaryIO, path: Path, skipped: Skipped) -> Iterator[str]:
    """The text of a file in parts: UTF-8, or what its mark says. A character that the file's end cuts is left out."""
    encoding, position = unicode_mark(file.read(4))
    file.seek(position)
    decoder = codecs.getincrementaldecoder(encoding)()
    characters = 0
    while data := file.read(BLOCK):
        try:
            text = decoder.decode(data)
        except UnicodeDecodeError as error:
            kept = len(error.object) - len(data)  # bytes of a character that the last part began
            place = position - kept + error.start
            raise FileLeftOut(path, wrong_bytes(error.object, error.start, place, encoding)) from error
        if "\0" in text:
            place = characters + text.index("\0") + 1
            raise FileLeftOut(path, f"no text, or UTF-16 without its mark: character {place:,} is NUL")
        position, characters = position + len(data), characters + len(text)
        if text:
            yield text
    if decoder.getstate()[0]:
        skipped.end = "its last character is cut off"


# --- JSON lines


def _json_lines(file: BinaryIO, path: Path, text_key: str, skipped: Skipped) -> Iterator[Parts]:
    """Each line an object with a text under `text_key`, or a string."""
    number = 0
    for number, line in enumerate(_lines(file), start=1):
        if line is None:
            skipped.add(f"longer than {LONGEST_LINE:,} characters", number)
        elif line.strip():
            text, reason = _text_of_line(line, text_key, skipped)
            if reason:
                cut_off = reason == NOT_JSON and not line.endswith("\n")
                skipped.add(f"{reason}, where the file ends" if cut_off else reason, number)
            else:
                yield (text,)


def _lines(file: BinaryIO) -> Iterator[str | None]:
    """The lines of a file, and None for one that is too long. Bytes that are no text become halves of characters."""
    encoding, mark = unicode_mark(file.read(4))
    file.seek(mark)
    errors = "surrogateescape" if encoding == "utf-8" else "replace"
    with io.TextIOWrapper(file, encoding=encoding, errors=errors, newline=None) as lines:
        while line := lines.readline(LONGEST_LINE):
            if len(line) < LONGEST_LINE or line.endswith("\n"):
                yield line
                continue
            while line and not line.endswith("\n"):
                line = lines.readline(BLOCK)
            yield None


NOT_JSON = "without JSON"


def _text_of_line(line: str, text_key: str, skipped: Skipped) -> tuple[str, str]:
    """The text of a line of JSON and "", or "" and why the line has none."""
    if not is_unicode(line):
        return "", "with bytes that are not UTF-8"
    try:
        value = json.loads(line)
    except RecursionError:
        return "", "nested too deeply"
    except ValueError:
        return "", NOT_JSON
    if isinstance(value, dict):
        if text_key not in value:
            skipped.add_keys(value)
            return "", f"without {text_key!r}"
        value = value[text_key]
    elif not isinstance(value, str):
        return "", f"with {kind_of(value)} instead of an object"
    return _checked(value, text_key)


def _checked(value: Any, text_key: str) -> tuple[str, str]:
    """A value that is a text and "", or "" and why it is none."""
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError:
            return "", "with bytes that are not UTF-8"
    if not isinstance(value, str):
        return "", f"with {kind_of(value)} under {text_key!r}"
    if "\0" in value:
        return "", "with a NUL character"
    return (value, "") if is_unicode(value) else ("", "with half of a surrogate pair (as \\ud800)")


def kind_of(value: Any) -> str:
    """What JSON calls a value that is no text."""
    kinds = {type(None): "null", dict: "an object", list: "a list", bool: "true or false"}
    return kinds.get(type(value), "a number")


def is_unicode(text: str) -> bool:
    """Whether UTF-8 can hold a text; half of a surrogate pair it cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# --- Parquet


def _parquet(file: BinaryIO, path: Path, text_key: str, skipped: Skipped) -> Iterator[Parts]:
    skipped.noun = "row"
    for number, value in enumerate(_column(file, path, text_key), start=1):
        text, reason = _checked(value, text_key)
        if reason:
            skipped.add(reason, number)
        else:
            yield (text,)


def parquet_texts(path: Path) -> Iterator[str]:
    """The `text` column, row by row; "" for a value that is no text. Raises PrepareError without such a table."""
    need("pyarrow")
    with _open(path) as file:
        for value in _column(file, path, TEXT_KEY):
            yield _checked(value, TEXT_KEY)[0]


def _column(file: BinaryIO, path: Path, name: str) -> Iterator[str | bytes | None]:
    """A column of strings or bytes. Raises FileLeftOut where there is no such table."""
    try:
        need("pyarrow")
    except PrepareError as error:
        raise FileLeftOut(path, str(error)) from error
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(file) as table:
            schema = table.schema_arrow
            columns = [key for key in schema.names if _holds_text(schema.field(schema.names.index(key)).type)]
            if name not in columns:
                found = f"{schema.field(name).type} in" if schema.names.count(name) == 1 else "no"
                others = ", ".join(repr(one_line(key)) for key in schema.names[:8])
                advice = (
                    key_advice(map(one_line, columns), "columns of text")
                    if columns
                    else f"; its columns, {others}, hold no text: write the text into a column of strings"
                )
                raise FileLeftOut(path, f"{found} column {name!r}, where text is needed{advice}")
            for batch in table.iter_batches(batch_size=1024, columns=[name]):
                yield from _values(batch.column(0))
    except (pyarrow.ArrowException, OSError, ValueError, NotImplementedError) as error:
        words = one_line(str(error))
        raise FileLeftOut(path, f"no whole Parquet file ({words}): fetch or write it again") from error


def _holds_text(kind: Any) -> bool:
    import pyarrow.types as is_

    if is_.is_dictionary(kind):
        return _holds_text(kind.value_type)
    tests = is_.is_string, is_.is_large_string, is_.is_string_view, is_.is_binary, is_.is_large_binary, is_.is_null
    return any(test(kind) for test in tests)


def _values(column: Any) -> list[str | bytes | None]:
    """The values of a column; strings that are not UTF-8, which pyarrow does not notice before, as bytes."""
    import pyarrow

    try:
        values: list[str | bytes | None] = column.to_pylist()
    except UnicodeDecodeError:
        if pyarrow.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        values = column.cast(pyarrow.large_binary()).to_pylist()
    return values


def need(*packages: str) -> None:
    """Raise PrepareError when packages of the extra `corpora` are not installed."""
    if missing := [package for package in packages if importlib.util.find_spec(package) is None]:
        raise PrepareError(
            f"This corpus is read with {' and '.join(missing)}, not installed here. In the project's folder: "
            f"make setup EXTRAS=corpora. In another environment: pip install {' '.join(missing)}"
        )


Reader = Callable[[BinaryIO, Path, str, Skipped], Iterator[Parts]]
READERS: dict[str, Reader] = {
    **dict.fromkeys((".txt", ".text", ".md", ".markdown", ".rst", ".tex", ".py"), _text),
    **dict.fromkeys((".jsonl", ".ndjson"), _json_lines),
    ".parquet": _parquet,
}
