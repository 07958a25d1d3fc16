"""A picture from a notebook: a PNG is kept, without the texts that it may carry, and anything else is not. Pure."""

from __future__ import annotations

import base64
import binascii
import io
import struct
import zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"
KEPT = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"sRGB", b"pHYs"}  # chunks; the others may hold text
MOST_PIXELS = 20_000_000
NUM_COLOURS = 32  # of a small picture: two lines, their labels, and their edges against white


def plain_png(data: bytes) -> bytes | None:
    """The picture made of the chunks that draw it; None where it is no whole PNG, or one that is far too large."""
    if not data.startswith(SIGNATURE):
        return None
    kept, place, kind = [SIGNATURE], len(SIGNATURE), b""
    while kind != b"IEND":
        if place + 12 > len(data):
            return None
        (length,), kind = struct.unpack(">I", data[place : place + 4]), data[place + 4 : place + 8]
        chunk = data[place : place + 12 + length]
        if len(chunk) != 12 + length or struct.unpack(">I", chunk[-4:])[0] != zlib.crc32(chunk[4:-4]):
            return None
        if (kind == b"IHDR") != (place == len(SIGNATURE)) or (kind == b"IHDR" and not _is_sensible(chunk)):
            return None
        if kind in KEPT:
            kept.append(chunk)
        place += len(chunk)
    return b"".join(kept)


def plain_base64(text: str) -> str | None:
    """The same for a picture in base64, as notebooks hold it."""
    try:
        picture = plain_png(base64.b64decode("".join(text.split()), validate=True))
    except (binascii.Error, ValueError):
        return None
    return None if picture is None else base64.b64encode(picture).decode("ascii")


def _is_sensible(header: bytes) -> bool:
    if len(header) != 25:
        return False
    width, height = struct.unpack(">II", header[8:16])
    return 0 < width * height <= MOST_PIXELS


def small_base64(text: str) -> str | None:
    """A picture of ours in few colours, a third of the size, in base64; None where it is no PNG."""
    if (plain := plain_base64(text)) is None:
        return None
    from PIL import Image

    buffer = io.BytesIO()
    Image.open(io.BytesIO(base64.b64decode(plain))).convert("RGB").quantize(NUM_COLOURS).save(
        buffer, "PNG", optimize=True
    )
    return min(plain, base64.b64encode(buffer.getvalue()).decode("ascii"), key=len)
