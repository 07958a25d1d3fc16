"""Damage that the way from the model to here does to a reply, and its undoing. Pure.

A repair may only be used where exactly this repair makes a block match train.py, or makes the result Python again.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable

from .typography import without_entities

Repair = Callable[[str], str]

_MOST_JSON_CHARS = 5_000_000
_LITERAL = re.compile(r"b?'(?:[^'\\]|\\.)*'\Z|b\"", re.DOTALL)
_FENCED = re.compile(r"\s*```(?:json)?\s*\n(.*)\n```\s*", re.DOTALL)
_ESCAPED_LINE = re.compile(
    r"[<\-]{5,9} ?SEARCH[^\n\\]{0,80}\\n"
    r"|(?:HYPOTHESIS[^\n]*?\\n *|^(?:\\n)+)(?:EXPECTED|REFUTED|<{5})",
    re.IGNORECASE,
)
_ESCAPE = re.compile(r"""\\(?:r\\n|[nrt"'\\/])""")
_CHARACTERS = {"n": "\n", "r": "\n", "t": "\t"}

# "12: x", "12 | x", "  12\tx", "L12 x", "12→x", "----> 12 x" as in a traceback,
# "train.py:12: x", "#12: x", "In [12]: x"
_NUMBER = re.compile(
    r"^[ \t]*(?:-*>[ \t]*)?(?:[Ll]|[Ll]ine |#|In |[\w./]{1,80}\.py:)?[\[(]?"
    r"\d{1,6}(?:[ \t]*(?:[:|\u2502\u2503\u2192\u27f6)\]]|->)|\.(?= )|[ \t]|$)"
)
_NUMBER_AND_BLANK = re.compile(rf"{_NUMBER.pattern}[ ]?")
_SURE_NUMBER = re.compile(r"^[ \t]*\d{1,6}[ \t]*[|\u2502\u2503\u2192][ ]?")
_QUOTE = re.compile(r"^[ \t]*[>|\u2502\u2192\u00bb](?: |$)?")


def whole_text(reply: str) -> str:
    """A reply that came as a JSON string, or with its newlines written as backslash and n, as plain text."""
    fenced = _FENCED.fullmatch(reply) if len(reply) <= _MOST_JSON_CHARS else None
    start = (fenced[1] if fenced else reply).strip()
    if inner := _only_string(start):
        return inner
    if start[:1] == '"' and start[-1:] == '"' and len(start) <= _MOST_JSON_CHARS:
        try:
            return str(json.loads(start, strict=False))
        except ValueError:
            reply = start[1:-1]
    if "\\n" not in reply:
        return reply
    return "\n".join(without_json_escapes(x) if _ESCAPED_LINE.search(x[:5000]) else x for x in reply.split("\n"))


def _only_string(text: str) -> str:
    """The one text in a JSON object such as {"response": "..."}, or in a literal of Python; "" for anything else."""
    is_object, is_literal = text[:1] == "{" and text[-1:] == "}", bool(_LITERAL.match(text))
    if not (is_object or is_literal) or len(text) > _MOST_JSON_CHARS:
        return ""
    try:
        value = json.loads(text, strict=False) if is_object else ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return ""
    values = [each for each in value.values() if isinstance(each, str)] if isinstance(value, dict) else [value]
    said = [each.decode("utf-8", "replace") if isinstance(each, bytes) else each for each in values]
    return said[0] if len(said) == 1 and isinstance(said[0], str) and "HYPOTHESIS" in said[0].upper() else ""


def without_json_escapes(text: str) -> str:
    """`text` with a backslash and n as a newline, and so on, as in a JSON string."""
    return _ESCAPE.sub(lambda found: _CHARACTERS.get(found[0][1], found[0][-1]), text)


def without_numbers(text: str) -> str:
    """`text` without the line numbers that its lines begin with, and the blank behind them.

    Where some lines have none, only those before a bar or an arrow are taken for line numbers.
    """
    return _without(_NUMBER_AND_BLANK, text) or "\n".join(
        _SURE_NUMBER.sub("", line, count=1) for line in text.split("\n")
    )


def without_numbers_alone(text: str) -> str:
    """The same where no blank stands between the number and the line."""
    return _without(_NUMBER, text) or text


def without_quote_marks(text: str) -> str:
    """`text` without the ">" or the like that each of its lines begins with; as it is when one line has none."""
    return _without(_QUOTE, text) or text


def is_numbered(line: str) -> bool:
    """Whether a line begins with a number and a bar or an arrow, as no line of Python does that stands alone."""
    return bool(_SURE_NUMBER.match(line))


def without_diff_marks(text: str) -> str:
    """`text` without the + that each of its changed lines begins with, or without the -, as in a diff."""
    marks = {line[0] for line in text.split("\n") if line.strip()}
    if marks not in ({"+"}, {"-"}, {"+", " "}, {"-", " "}):
        return text
    return "\n".join(line[1:] for line in text.split("\n"))


def without_line_mark(line: str) -> str:
    """One line without the number or the quote mark that it begins with."""
    return _QUOTE.sub("", _NUMBER_AND_BLANK.sub("", line, count=1), count=1) if line.strip() else line


def _without(mark: re.Pattern[str], text: str) -> str:
    """The lines without the mark; "" when one of them has none."""
    lines = text.split("\n")
    if not all(mark.match(line) for line in lines if line.strip()):
        return ""
    return "\n".join(mark.sub("", line, count=1) for line in lines)


def _all_of_them(text: str) -> str:
    return without_entities(without_numbers(without_quote_marks(text)))


REPAIRS: dict[str, Repair] = {
    "HTML entities such as &gt; in place of the characters": without_entities,
    "line numbers before its lines": without_numbers,
    "line numbers right before its lines": without_numbers_alone,
    "marks such as > before its lines": without_quote_marks,
    "the + and - of a diff before its lines": without_diff_marks,
    r"\n as two characters in place of new lines": without_json_escapes,
    "line numbers or marks, and HTML entities": _all_of_them,
}


def repairs_of(text: str) -> dict[str, Repair]:
    """What may have happened to a text, in words -> its undoing; only what changes the text."""
    return {name: repair for name, repair in REPAIRS.items() if repair(text) != text}
