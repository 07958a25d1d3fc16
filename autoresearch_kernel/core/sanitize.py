"""Reduces values that untrusted code wrote: to numbers of sensible size, short printable texts, and plain JSON objects.

A training may write anything into its hand-over and its curve. Values that are removed here reach no reader.
"""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeGuard

LARGEST = 1e15  # far above every number that is counted or measured here
MOST_FACTS = 100  # of one object
NAME_LIMIT = 100  # characters of a fact's name; an exception's name is cut to as many
TEXT_LIMIT = 200

_ESCAPES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_].*?(?:\x07|\x1b\\|$)|[ -/]*[0-~])|\x9b[0-?]*[ -/]*[@-~]", re.M
)

# Control characters except tab and ends of lines, and marks that turn the direction of text or end a line.
STEERING = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")

_KEPT = "\n\t\u200c\u200d"  # Persian and joined emoji need the last two, which turn no direction


def is_number(value: Any) -> TypeGuard[int | float]:
    """Whether the value is a finite number of sensible size; a boolean is not."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST


def without_escapes(text: str) -> str:
    """Without the sequences that steer a terminal."""
    return _ESCAPES.sub("", text)


def visible(line: str) -> str:
    """Without characters that have no glyph; blanks of all kinds become plain ones, tabs stay."""
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() or c == "\t" else " " if c.isspace() else "" for c in line)


def readable(text: str) -> str:
    """Text of several lines without control characters, marks that turn its direction, and terminal sequences.

    Line feeds, tabs, blanks of all kinds and joiners of letters stay; other ends of lines become line feeds.
    """
    if text.isprintable():
        return text
    lines = without_escapes(text).replace("\r\n", "\n").replace("\r", "\n")
    return "".join(c for c in lines if c.isprintable() or c in _KEPT or unicodedata.category(c) == "Zs")


def all_readable(value: Any) -> Any:
    """`readable` for every string in a value of JSON."""
    if isinstance(value, str):
        return readable(value)
    if isinstance(value, Mapping):
        return {all_readable(name): all_readable(part) for name, part in value.items()}
    return [all_readable(part) for part in value] if isinstance(value, list | tuple) else value


def flat(text: str) -> str:
    """All visible characters on one line."""
    return " ".join(visible(without_escapes(text)).split())


def one_line(text: str, most: int = TEXT_LIMIT) -> str:
    r"""At most `most` printable characters on one line, without the sequences that steer a terminal.

    Example:
        >>> one_line("\x1b[31mred\x1b[0m\n\x07alert")
        'red alert'
    """
    return flat(text[: 20 * most])[:most]


def shown(path: str | bytes | os.PathLike[str]) -> str:
    r"""A path as a message names it: `caf\xe9.txt` where the name is not UTF-8."""
    return escaped(os.fsencode(path).decode("utf-8", "backslashreplace"), kept="")


def escaped(line: str, kept: str = "\t") -> str:
    r"""The line with `\x1b` or `\u202e` in place of each character that has no glyph, except those in `kept`."""
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() or c in kept else c.encode("unicode_escape").decode() for c in line)


def parse_object(text: str | bytes) -> dict[str, Any] | None:
    """A JSON object; None for anything else, also for brackets that are nested too deep."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def plain_facts(
    content: Mapping[str, Any], *, texts: Collection[str] = (), without: Collection[str] = ()
) -> dict[str, Any]:
    """The sensible numbers of an object, and one short line of each fact in `texts`; everything else is left out."""
    facts: dict[str, Any] = {}
    for name, value in content.items():
        if len(facts) == MOST_FACTS:
            break
        if name in without or len(name) > NAME_LIMIT or not name.isprintable():
            continue
        if name in texts:
            if isinstance(value, str):
                facts[name] = one_line(value)
        elif is_number(value):
            facts[name] = value
    return facts


# --- what tells who and where the user is

_BEGIN = r"((?:\x1b\[[\d;]*m)+|(?<![\w.~-]))"  # of a path; a colour may stand before it
_END = r"(?![\w-]|\.\w)"
_HOMES = re.compile(_BEGIN + r"/(?:home|Users)/[^/\s:'\"<>|\x1b]+")
_COMMON = {  # names of users and machines that say nothing about a person
    "admin", "app", "autoresearch", "build", "colab", "container", "debian", "default", "docker", "ec2-user", "guest",
    "home", "host", "jovyan", "kernel", "local", "localhost", "mambauser", "model", "node", "nobody", "notebook",
    "python", "root", "runner", "sandbox", "server", "student", "test", "torch", "train", "ubuntu", "user", "users",
    "vagrant", "vscode", "work", "worker", "workspace",
}  # fmt: skip
_DISTINCT = re.compile(r"(?=.*[-.\d])[\w.-]{6,}")  # a name that code and prose do not contain by chance


def is_telling(name: str) -> bool:
    """Whether the name of a user or a machine says anything about a person."""
    return len(name) >= 3 and name.lower() not in _COMMON


def is_distinct(name: str) -> bool:
    """Whether code and prose do not contain the name by chance, as they do `max`."""
    return _DISTINCT.fullmatch(name) is not None


@dataclass(frozen=True)
class Rule:
    """One kind of private words: how a text shows them, and what is put in their place."""

    what: str  # "user name"
    pattern: re.Pattern[str]
    put: str  # as `re.sub` takes it
    needles: tuple[str, ...] = ()  # in lower case; a text without any of them cannot match, and is not searched

    def replace(self, text: str) -> tuple[str, int]:
        """The text without such words, and how many there were."""
        if self.needles:
            lower = text.lower()
            if not any(needle in lower for needle in self.needles):
                return text, 0
        return self.pattern.subn(self.put, text)


@dataclass(frozen=True)
class Private:
    """Folders and names of a user that no notebook, record or prompt needs."""

    project: tuple[str, ...] = ()  # paths of one folder; what lies below it keeps its relative path
    homes: tuple[str, ...] = ()  # which become ~
    names: tuple[str, ...] = ()  # of the user
    hosts: tuple[str, ...] = ()  # names of the machine, which may be a model's or a package's as well

    @cached_property
    def rules(self) -> tuple[Rule, ...]:
        """What `clean` replaces, in this order.

        A host's name, and a user's that could be a word of code or prose, is replaced only where it is part of a path
        or of an address.
        """
        rules = []
        for folder in sorted(self.project, key=len, reverse=True):
            word, needles = re.escape(folder), (folder.lower(),)
            inside = re.compile(_BEGIN + word + r"/+(?=[\w.{<*])")
            rules.append(Rule("project path", inside, r"\1", needles))
            rules.append(Rule("project path", re.compile(_BEGIN + word + _END), r"\1.", needles))
        for folder in sorted(self.homes, key=len, reverse=True):
            pattern = re.compile(_BEGIN + re.escape(folder) + _END)
            rules.append(Rule("home path", pattern, r"\1~", (folder.lower(),)))
        rules.append(Rule("home path", _HOMES, r"\1~", ("/home/", "/users/")))
        for what, names in (("user name", self.names), ("host name", self.hosts)):
            rules += [Rule(what, self._name(name), "user", (name.lower(),)) for name in names if is_telling(name)]
        return tuple(rules)

    def _name(self, name: str) -> re.Pattern[str]:
        word = re.escape(name)
        pattern = rf"(?<=/){word}(?=/)|(?<=@){word}(?![\w-])|(?<![\w.-]){word}(?=@)"
        if name in self.hosts:
            pattern += rf"|(?<=//){word}(?![\w-])|(?<![\w.-]){word}(?=:\d)"
        elif is_distinct(name):
            pattern = rf"(?<![\w-]){word}(?![\w-])"
        return re.compile(pattern)

    def clean(self, text: str) -> str:
        """The text with paths below the project made relative, homes as ~, and names left out, as `rules` say."""
        for rule in self.rules:
            text, _ = rule.replace(text)
        return text

    def clean_all(self, value: Any) -> Any:
        """`clean` for every string in a message of a kernel; pictures are left as they are."""
        if isinstance(value, str):
            return self.clean(value)
        if isinstance(value, list):
            return [self.clean_all(part) for part in value]
        if isinstance(value, dict):
            return {k: part if str(k).startswith("image/") else self.clean_all(part) for k, part in value.items()}
        return value
