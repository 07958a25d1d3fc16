"""Characters that look like others: what they look like, and where new code holds one. Pure.

Models and the programs between them and us replace ASCII by typographic characters. A line that quotes train.py is
compared without the difference. In new code such a character is an error that a person does not see.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterator
from itertools import chain

_LOOK_ALIKES = {
    "'": "\u2018\u2019\u201a\u201b\u2032\u02bc\u00b4",
    '"': "\u201c\u201d\u201e\u201f\u2033",
    "-": "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u2043",
    "/": "\u2044\u2215",
    "*": "\u2217\u204e",
    ":": "\u2236\ua789",
    "~": "\u223c",
}
_LETTERS = (
    dict(zip("\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u04bb\u0501", "aeopcyxijshd", strict=True))
    | dict(zip("\u0410\u0412\u0415\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0423\u0425", "ABEKMHOPCTYX", strict=True))
    | dict(zip("\u0406\u0408\u0405", "IJS", strict=True))  # to here Cyrillic, below Greek
    | dict(zip("\u0391\u0392\u0395\u0396\u0397\u0399\u039a\u039c\u039d\u039f", "ABEZHIKMNO", strict=True))
    | dict(zip("\u03a1\u03a4\u03a5\u03a7\u03bf", "PTYXo", strict=True))
)
_SIGNS = dict(zip("\u00d7\u00f7\u2264\u2265\u2260\u2190\u2192", ("*", "/", "<=", ">=", "!=", "=", "->"), strict=True))
_PLAIN = str.maketrans({char: plain for plain, chars in _LOOK_ALIKES.items() for char in chars} | _LETTERS)
_ENTITY = re.compile(r"&(?:lt|gt|amp|quot|apos|nbsp|#\d{1,6}|#x[0-9a-f]{1,5});", re.IGNORECASE)
_STRING_OR_COMMENT = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*(?:"""|\Z)'
    r"|'''(?:[^'\\]|\\.|'(?!''))*(?:'''|\Z)"
    r'|"(?:[^"\\\n]|\\.)*"?'
    r"|'(?:[^'\\\n]|\\.)*'?"
    r"|#[^\n]*",
    re.DOTALL,
)
_WORD = re.compile(r"\w+")


def in_ascii(text: str) -> str:
    """`text` in the characters that it looks like; those that cannot be seen are gone."""
    if text.isascii():
        return text
    text = unicodedata.normalize("NFKC", text.translate(_PLAIN)).translate(_PLAIN)
    return "".join(c for c in text if c.isascii() or unicodedata.category(c) != "Cf")


def without_entities(text: str) -> str:
    """`text` with the entities of HTML replaced by the characters that they stand for, also where they are nested."""
    for _ in range(2):  # &amp;lt;
        text = _ENTITY.sub(lambda found: html.unescape(found[0]).replace("\xa0", " "), text)
    return text


def damage(before: str, after: str) -> str | None:
    """A sentence on the first new line of `after` whose code holds a look-alike or an entity; None when none does.

    Strings and comments may hold anything.
    """
    if after.isascii() and not _ENTITY.search(after):
        return None
    code = _STRING_OR_COMMENT.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), after)
    known, names = set(before.split("\n")), set(_WORD.findall(before))
    lines = after.split("\n")
    for i, line in enumerate(code.split("\n")):
        if lines[i] in known:
            continue
        if found := next(chain(_ENTITY.findall(line), _look_alikes(line, names)), None):
            return f"Line {i + 1} of the new train.py, {lines[i].strip()[:160]!r}, {_named(found)}."
    return None


def _look_alikes(code: str, names: set[str]) -> Iterator[str]:
    """Characters of code that Python does not read, or reads as another name than a person does."""
    if code.isascii():
        return
    for char in code:
        if not char.isascii() and (not f"a{char}".isidentifier() or unicodedata.normalize("NFKC", char).isascii()):
            yield char
    for word in _WORD.findall(code):
        strange = next((char for char in word if char in _LETTERS), None)
        if strange and (re.search("[A-Za-z]", word) or in_ascii(word) in names):
            yield strange


def _named(found: str) -> str:
    if len(found) > 1:
        return f"holds the HTML entity {found}: write the character {html.unescape(found)!r}"
    instead = _SIGNS.get(found) or in_ascii(found)
    advice = f"write {instead!r}" if instead.isascii() and instead.strip() else "write a plain blank or nothing"
    return f"holds {character_name(found)} in its code: {advice}"


def character_name(char: str) -> str:
    return f"U+{ord(char):04X} ({unicodedata.name(char, 'a character without a name')})"
