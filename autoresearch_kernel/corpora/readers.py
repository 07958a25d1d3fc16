"""The documents in one file, by its kind: text, JSON lines or Parquet. An error names the file and the place in it."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from prepare import PrepareError


def decode(data: bytes, path: Path) -> str:
    """UTF-8 text, with or without a byte order mark. Raises PrepareError that names the first wrong byte."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PrepareError(
            f"{path} is not UTF-8: byte 0x{data[error.start]:02x} at position {error.start:,}. "
            f"Convert it (iconv -f latin1 -t utf-8) or move it out of the folder."
        ) from error


def parquet_texts(path: Path) -> Iterator[str]:
    """The `text` column, row by row; "" for a missing value. Raises PrepareError when there is no such table."""
    need("pyarrow")
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


def need(*packages: str) -> None:
    """Raise PrepareError when packages of the extra `corpora` are not installed."""
    if missing := [package for package in packages if importlib.util.find_spec(package) is None]:
        raise PrepareError(
            f"This corpus is read with {' and '.join(missing)}, not installed here. In the project's folder: "
            f"make setup EXTRAS=corpora. In another environment: pip install {' '.join(missing)}"
        )


def _whole_file(path: Path) -> Iterator[str]:
    yield decode(path.read_bytes(), path)


def _json_lines(path: Path) -> Iterator[str]:
    """Each line an object with a `text`, or a string."""
    for number, line in enumerate(decode(path.read_bytes(), path).split("\n"), start=1):
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
