"""The bytes of a train.py as text, as Python reads them: with a byte order mark, in the declared encoding. Pure."""

from __future__ import annotations

import codecs
import io
import re
import tokenize

from .cell import SourceError

UNICODE_MARKS = (  # UTF-32 first: its little-endian mark begins as that of UTF-16 does
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_DECLARATION = re.compile(r"^([ \t\f]*#.*?coding[:=][ \t]*)([-\w.]+)")
_PACKED = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip"}


def unicode_mark(head: bytes) -> tuple[str, int]:
    """The encoding that the mark at the beginning of a file names, and the mark's length; UTF-8 and 0 without one."""
    return next(((name, len(mark)) for mark, name in UNICODE_MARKS if head.startswith(mark)), ("utf-8", 0))


def decode_source(content: bytes, name: str = "train.py") -> str:
    """The text, with newlines as line ends; a declaration of another encoding becomes one of UTF-8.

    Raises SourceError, which names the file and the byte, for what is no text.
    """
    marked, mark = unicode_mark(content)
    packed = next((kind for beginning, kind in _PACKED.items() if content.startswith(beginning)), None)
    if packed or marked != "utf-8":
        raise SourceError(f"{name} is {packed or marked[:6].upper()}, not Python text. Save it as UTF-8.")
    try:
        encoding = _encoding_of(content, mark)
        text = content[mark:].decode(encoding)
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise SourceError(
            f"{name} is not {error.encoding.upper()} text: byte {mark + error.start} is 0x{byte:02x}. "
            "Save it as UTF-8, or declare its encoding in the first line, as in # coding: latin-1"
        ) from error
    except (SyntaxError, LookupError) as error:
        raise SourceError(f"{name} cannot be read: {error}. Save it as UTF-8.") from error
    text = with_newlines(text)
    return text if encoding in ("utf-8", "utf-8-sig") else _declare_utf_8(text)


def _encoding_of(content: bytes, mark: int) -> str:
    """The encoding that one of the first two lines declares, UTF-8 without; a byte beyond ASCII is not looked at.

    Raises SyntaxError for an unknown encoding, and for one that contradicts a mark of UTF-8 of `mark` bytes.
    """
    head = b"\n".join(content[mark:].split(b"\n", 2)[:2])
    in_ascii = content[:mark] + re.sub(rb"[\x80-\xff]", b"?", head)
    return tokenize.detect_encoding(io.BytesIO(in_ascii).readline)[0]


def with_newlines(text: str) -> str:
    """Python text without a byte order mark, with newlines as line ends."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def _declare_utf_8(text: str) -> str:
    """The declaration stands in the first or second line."""
    lines = text.split("\n")
    for number, line in enumerate(lines[:2]):
        lines[number] = _DECLARATION.sub(r"\1utf-8", line)
    return "\n".join(lines)
