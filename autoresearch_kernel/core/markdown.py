"""Markdown that an agent wrote, rewritten so that no reader makes anything live of it.

Viewers differ in what they take for HTML, a link, an image, a formula or a diagram. So nothing here depends on how one
of them parses: outside of fenced code, every character that can begin such a thing becomes an entity, which all of them
show as that character and as nothing else. Headings, lists, quotations, emphasis and code stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from .sanitize import readable

LANGUAGES = {"python", "py", "diff", "bash", "sh", "json", "toml", "yaml", "text"}  # of fences; others may be diagrams
_LIVE = re.compile(r"[&<\[\]\\$`|@]|:(?=//)|(?<=www)\.", re.IGNORECASE)
_IN_CODE = re.compile(rf"[*_~]|{_LIVE.pattern}", re.IGNORECASE)
_CODE = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)")
_WORD = re.compile(r"[^\s`]+")
_FENCE = re.compile(r"\s*(`{3,}|~{3,})\s*([^`]*)")
_LIST_ITEM = re.compile(r"\s*(?:[-*+]|\d{1,9}[.)])\s")


def inert_markdown(text: str) -> str:
    """Markdown in which only headings, lists, quotations, emphasis and code have an effect; control characters go."""
    lines = iter(readable(text).split("\n"))
    written: list[str] = []
    for line in lines:
        if opening := _FENCE.fullmatch(line):
            written += ["", *fenced(_until_closed(lines, opening[1]), opening[2].strip()), ""]
        else:
            written.append(inert(line if _LIST_ITEM.match(line) else line.lstrip()))  # four spaces would make it code
    return "\n".join(written).strip("\n")


def inert(line: str) -> str:
    """One line of it. Words with a dollar or a backslash are set as code, where no viewer looks for formulas."""
    written, end = [], 0
    line = " ".join(readable(line).split("\n"))
    for code in _CODE.finditer(line):
        written += [_WORD.sub(_word, line[end : code.start()]).replace("`", "&#96;"), _code(code[2].strip())]
        end = code.end()
    return "".join(written) + _WORD.sub(_word, line[end:]).replace("`", "&#96;")


def fenced(lines: Iterable[str], language: str = "") -> list[str]:
    """Lines as a block of code, between fences that are longer than any run of backticks in it."""
    lines = list(lines)
    longest = max((len(run) for line in lines for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return [fence + (language if language in LANGUAGES else ""), *lines, fence]


def _until_closed(lines: Iterable[str], opening: str) -> Iterable[str]:
    for line in lines:
        closing = line.strip()
        if closing.startswith(opening) and not closing.strip(opening[0]):
            return
        yield line


def _word(found: re.Match[str]) -> str:
    word = found[0]
    return _code(word) if "$" in word or "\\" in word else _LIVE.sub(_entity, word)


def _code(text: str) -> str:
    return f"<code>{_IN_CODE.sub(_entity, text)}</code>" if text else ""


def _entity(found: re.Match[str]) -> str:
    return {"&": "&amp;", "<": "&lt;"}.get(found[0], f"&#{ord(found[0])};")
