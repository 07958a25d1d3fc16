"""What the bytes of a file are: a mark of Unicode, a known format that is no text, an encoding other than UTF-8."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable

from ..source.encoding import unicode_mark

COMPRESSED = "compressed with {0}: unpack it first, as with `{1} FILE`"
FORMATS = (
    (rb"version https://git-lfs\.github\.com/", "a Git LFS pointer, not the text: `git lfs pull` fetches the text"),
    (rb"[./]*annex/objects/", "a git-annex pointer, not the text: `git annex get` fetches the text"),
    (rb"\x89PNG\r\n", "a PNG image"),
    (rb"\xff\xd8\xff", "a JPEG image"),
    (rb"GIF8[79]a", "a GIF image"),
    (rb"(?:II\*\0|MM\0\*)", "a TIFF image"),
    (rb"RIFF....(?:WEBP|WAVE|AVI )", "an image, a sound or a film"),
    (rb"\0\0\0.ftyp", "a film"),
    (rb"(?:ID3[\x02-\x04]|OggS\0|fLaC\0)", "a sound file"),
    (rb"%PDF-", "a PDF file: extract its text first, as with `pdftotext FILE`"),
    (rb"%!PS", "a PostScript file"),
    (rb"\{\\rtf", "an RTF document: save it as plain text"),
    (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document: save it as plain text"),
    (rb"PK(?:\x03\x04|\x05\x06)", "a ZIP archive, as docx and epub files are: unpack it, or save its text as .txt"),
    (rb"\x1f\x8b", COMPRESSED.format("gzip", "gunzip")),
    (rb"BZh[1-9]1AY&SY", COMPRESSED.format("bzip2", "bunzip2")),
    (rb"\xfd7zXZ\0", COMPRESSED.format("xz", "unxz")),
    (rb"\x28\xb5\x2f\xfd", COMPRESSED.format("zstd", "unzstd")),
    (rb"7z\xbc\xaf\x27\x1c", COMPRESSED.format("7-Zip", "7z x")),
    (rb"Rar!\x1a\x07", COMPRESSED.format("RAR", "unrar x")),
    (rb"\x7fELF", "a program (ELF)"),
    (rb"MZ[\s\S]{0,200}\0", "a program (Windows)"),
    (rb"(?:\xfe\xed\xfa[\xce\xcf]|[\xce\xcf]\xfa\xed\xfe|\xca\xfe\xba\xbe)", "a program (macOS or Java)"),
    (rb"\0asm", "a program (WebAssembly)"),
    (rb"SQLite format 3\0", "an SQLite database"),
    (rb"\x93NUMPY", "a NumPy array"),
    (rb"\x89HDF\r\n", "an HDF5 file"),
    (rb"GGUF[\x01-\x09]\0", "the weights of a model (GGUF)"),
    (rb"\x80[\x02-\x05]", "a Python pickle"),
    (rb"PAR1\x15", "a Parquet file: name it .parquet"),
    (rb"ARROW1\0", "an Arrow file: save it as .parquet"),
)  # fmt: skip
_FORMATS = tuple((re.compile(mark, re.DOTALL), what) for mark, what in FORMATS)
_WEB_PAGE = re.compile(rb"\s*(?:<!--.*?-->\s*)?<(?:!doctype\s+html|html[\s>])", re.IGNORECASE | re.DOTALL)
_SERVER_ERROR = re.compile(
    rb"\s*(?:<\?xml[^>]*>\s*<Error>"
    rb"|(?:404: Not Found|Entry not found|Repository not found|Not Found|Invalid username or password\.)\s*\Z)"
)
_COMMON_CHINESE = frozenset("的一是不了在人有我他这這个個中来來上大为為和国國地到以说說时時要就出会會也你对對生能")


def what_is(head: bytes) -> str | None:
    """What a file is that begins with these bytes and is no text; None where it may be text."""
    if not head:
        return "empty"
    encoding, mark = unicode_mark(head)
    if encoding == "utf-8":
        if _WEB_PAGE.match(head, mark):
            return "a web page (HTML), such as the error page of a download: fetch it again, or save its text as .txt"
        if _SERVER_ERROR.match(head, mark):
            return "the error message of a server, not the text itself: fetch it again"
    if mark:
        return None
    return next((what for pattern, what in _FORMATS if pattern.match(head)), None) or _unmarked(head)


def _unmarked(head: bytes) -> str | None:
    """UTF-16 and UTF-32 text without a mark, by where its NUL bytes are."""
    if len(head) < 8:
        return None
    share = [head[place::4].count(0) / len(head[place::4]) for place in range(4)]
    zero = "".join("0" if part > 0.7 else "." if part < 0.2 else "?" for part in share)
    name = {".000": "UTF-32LE", "000.": "UTF-32BE", ".0.0": "UTF-16LE", "0.0.": "UTF-16BE"}.get(zero)
    if name is None:
        return None
    return f"{name} text without its mark: convert it with `iconv -f {name} -t UTF-8 FILE > NEW`"


def wrong_bytes(data: bytes, start: int, position: int, encoding: str) -> str:
    """What a file is whose byte `data[start]`, at `position` in the file, is not text in `encoding`."""
    where = f"byte 0x{data[start]:02x} at position {position:,}"
    if encoding != "utf-8":
        return f"not whole: its mark says {encoding.upper()}, and {where} is none of that encoding"
    begin = data.rfind(b"\n", 0, start) + 1
    sample = data[begin : begin + 2**16]
    decoded = sample.decode(errors="surrogateescape")
    wrong = sum("\udc80" <= character <= "\udcff" for character in decoded)
    right = sum(character > "\x7f" for character in decoded) - wrong
    if right > 4 * wrong:
        return f"UTF-8 with damaged bytes ({where}): `iconv -c -f UTF-8 -t UTF-8 FILE > NEW` leaves these bytes out"
    guess = guess_encoding(sample)
    if guess is None:
        return f"not UTF-8 ({where}), and its encoding is not recognised: save it as UTF-8 in the program that made it"
    name, convert = guess
    return f"not UTF-8 but probably {name} ({where}): convert it with `iconv -f {convert} -t UTF-8 FILE > NEW`"


def guess_encoding(sample: bytes) -> tuple[str, str] | None:
    """The likely encoding of text that is not UTF-8, in words and as iconv calls it; None where nothing fits well."""
    for name, codec, kind, least in (
        ("Shift-JIS (Japanese)", "cp932", _kana, 0.1),
        ("EUC-JP (Japanese)", "euc_jp", _kana, 0.1),
        ("EUC-KR (Korean)", "cp949", _hangul, 0.85),
    ):
        if _share(sample, codec, kind) >= least:
            return name, {"cp932": "SHIFT_JIS", "euc_jp": "EUC-JP", "cp949": "CP949"}[codec]
    best = max(
        (_share(sample, "gb18030", _chinese), "GB18030 (Chinese)", "GB18030"),
        (_share(sample, "big5", _chinese), "Big5 (Chinese)", "BIG5"),
    )
    if best[0] > 0.04:
        return best[1:]
    names = ("Windows-1251", "cp1251"), ("KOI8-R", "koi8-r"), ("IBM866", "cp866"), ("ISO-8859-5", "iso8859-5")
    share, name = max((_share(sample, codec, _cyrillic), name) for name, codec in names)
    if share > 0.8 and not _are_apart(sample):
        return f"{name} (Cyrillic)", name.upper()
    if _are_apart(sample):
        return "Latin-1 or Windows-1252 (Western European)", "WINDOWS-1252"
    return None


def _are_apart(sample: bytes) -> bool:
    """Whether most bytes beyond ASCII stand between ASCII letters, as those of letters with accents do."""
    runs = re.findall(rb"[\x80-\xff]+", sample)
    return 2 * sum(len(run) for run in runs if len(run) == 1) > sum(map(len, runs))


def _share(sample: bytes, codec: str, count: Callable[[list[str]], int]) -> float:
    """What share of the characters beyond ASCII is of a kind, where all of the sample is of that encoding; else 0."""
    try:
        text = codecs.getincrementaldecoder(codec)().decode(sample)
    except UnicodeDecodeError:
        return 0.0
    beyond = [character for character in text if character > "\x7f"]
    return count(beyond) / len(beyond) if beyond else 0.0


def _kana(characters: list[str]) -> int:
    return sum("\u3041" <= character <= "\u30fc" for character in characters)


def _hangul(characters: list[str]) -> int:
    return sum("\uac00" <= character <= "\ud7a3" for character in characters)


def _chinese(characters: list[str]) -> int:
    return sum(character in _COMMON_CHINESE for character in characters)


def _cyrillic(characters: list[str]) -> int:
    """Small letters; none where the most frequent ones of Russian, Ukrainian and Bulgarian are too rare."""
    frequent = sum(character in "оеаинт" for character in characters)
    letters = sum("\u0430" <= character <= "\u045f" for character in characters)
    return letters if frequent > 0.3 * len(characters) else 0
