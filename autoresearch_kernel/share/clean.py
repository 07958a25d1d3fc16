"""What of a bundle is private, and the words that stand in its place.

`Cleaner` replaces in every text what is private for certain: names, folders, keys by their form, and values of the
user's environment. What may be private or may stand there by chance is a `Doubt`: the user decides about each one.
"""

from __future__ import annotations

import math
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.sanitize import STEERING, Private, Rule, is_distinct, is_telling, readable
from ..core.state import Event
from ..study.across import workers_named
from ..system.locations import originals
from ..system.privacy import environment_values, full_name, private_to
from ..system.temporary import PREFIX

KEY, VALUE = "removed-key", "removed-value"  # what stands in the place of a key and of a value
TEMPORARY = Rule(
    "temporary folder", re.compile(rf"(?<![\w.~/-])(?:/[\w.+-]+)+/{PREFIX}\w+"), "temporary-folder", (PREFIX,)
)
LEAST_DOUBTED_NAME = 2  # characters of a name that is searched for as a word
KNOWN_SERVERS = ("api.openai.com", "openrouter.ai", "localhost", "127.0.0.1")  # whose names say nothing about a person
CHOSEN = ("measured", "changes", "details", "parameters")  # fields of the record with names that others choose
OF_THE_PROGRAM = ("event", "status", "cause", "objection", "mode")  # fields whose values are words of this program
ON_WORKERS = ("note", "interrupted", "worker_lost", "stopped", "paused")  # events with sentences about workers
RANDOM_BITS = 3.7  # per character: the entropy from which a long word is taken for a possible key


def _key(needle: str, pattern: str) -> Rule:
    return Rule("key or token", re.compile(rf"(?<![\w-]){pattern}"), KEY, (needle.lower(),))


def _after(needle: str, words: str, key: str) -> Rule:
    """A key that is known by the words before it."""
    return Rule("key or token", re.compile(rf"(?i)({words}){key}"), rf"\1{KEY}", (needle,))


KEYS = (
    Rule("key or token", re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*KEY-----|\Z)"), KEY,
         ("private key-----",)),
    _key("sk-", r"sk-[A-Za-z0-9_-]{16,}"),
    _key("sk_", r"[rs]k_(?:live|test)_[A-Za-z0-9]{16,}"),
    _key("gh", r"gh[pousr]_[A-Za-z0-9]{20,}"),
    _key("github_pat_", r"github_pat_[A-Za-z0-9_]{20,}"),
    _key("glpat-", r"glpat-[A-Za-z0-9_-]{16,}"),
    _key("hf_", r"hf_[A-Za-z0-9]{20,}"),
    _key("gsk_", r"gsk_[A-Za-z0-9]{20,}"),
    _key("xai-", r"xai-[A-Za-z0-9]{20,}"),
    _key("r8_", r"r8_[A-Za-z0-9]{20,}"),
    _key("aiza", r"AIza[A-Za-z0-9_-]{30,}"),
    _key("ia", r"A[KS]IA[A-Z0-9]{16}\b"),
    _key("xox", r"xox[abeprs]-[A-Za-z0-9-]{10,}"),
    _key("npm_", r"npm_[A-Za-z0-9]{30,}"),
    _key("pypi-", r"pypi-[A-Za-z0-9_-]{30,}"),
    _key("ya29.", r"ya29\.[A-Za-z0-9_-]{20,}"),
    _key("eyj", r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+"),
    Rule("key or token", re.compile(r"(?i)(\bbearer\s+)(?!removed)[A-Za-z0-9._~+/=-]{12,}"), rf"\1{KEY}", ("bearer",)),
    _after("basic", r"authorization[\"']?\s*[:=]\s*[\"']?basic\s+", r"[A-Za-z0-9+/=]{8,}"),
    _after("key", r"(?:account|shared)[_-]?(?:access)?key[\"']?\s*=\s*[\"']?", r"[A-Za-z0-9+/=]{20,}"),
    _after("key", r"\bkey[\"']?\s*[:=]\s*[\"']?", r"[0-9a-f]{32,64}\b"),
    _after("token", r"\btoken[\"']?\s*[:=]\s*[\"']?", r"[0-9a-f]{32,64}\b"),
    Rule("key or token", re.compile(r"(://[^\s/:@]*:)(?!removed)[^\s/@]+(?=@)"), rf"\1{KEY}", ("://",)),
    Rule(
        "key or token",
        re.compile(
            r"(?i)((?:api[_-]?key|secret|passw(?:or)?d|(?:access|auth|api)[_-]?token)[\"']?\s*[:=]\s*[\"']?)(?!removed)"
            r"(?=[^\s\"']*\d)[A-Za-z0-9._~+/=-]{8,}(?![\w(\[])"
        ),
        rf"\1{KEY}",
        ("key", "secret", "pass", "token"),
    ),
)  # fmt: skip

_MAIL = re.compile(
    r"(?<![\w.+-])[\w.+-]{2,}@(?!self\.|localhost|example\.)(?:[a-z\d-]{2,}\.)+"
    r"(?:com|org|net|edu|gov|dev|info|[a-z]{2})(?![\w(.-]|\[)"
)
_ADDRESS = re.compile(r"(?<![\w.])(?!127\.|0\.0\.0\.0|255\.)(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}\d{1,3}(?![\w.])")
_LONG_WORD = re.compile(r"(?<![\w/+=.-])(?=[\w-]*[a-z])(?=[\w-]*[A-Z])(?=[\w-]*\d)[A-Za-z\d_-]{24,}(?![\w/+=.-])")


@dataclass(frozen=True)
class Doubt:
    """A word that may be private."""

    what: str  # "e-mail address"
    word: str
    count: int  # how often it stands in the texts
    where: str  # the first text that holds it


class Cleaner:
    """Replaces private words in texts, and counts how many of each kind there were."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = tuple(rules)
        self.counts: Counter[str] = Counter()

    def text(self, text: str) -> str:
        """The text without private words; also without what steers a terminal where that parts or hides such a word."""
        cleaned, counts = self._replaced(text)
        if (shown := as_shown(text)) != text:
            other, others = self._replaced(shown)
            if others.total() >= counts.total() and other != as_shown(cleaned):
                cleaned, counts = other, others
        self.counts += counts
        return cleaned

    def _replaced(self, text: str) -> tuple[str, Counter[str]]:
        counts: Counter[str] = Counter()
        for rule in self.rules:
            text, found = rule.replace(text)
            if found:
                counts[rule.what] += found
        return text, counts

    def all(self, value: Any, *, has_chosen_names: bool = False) -> Any:
        """`text` for every string in a value of JSON; names of fields stay as they are, but those that others choose.

        Args:
            has_chosen_names: a training or an agent chose the names in it, as it does in the fields CHOSEN.
        """
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list | tuple):
            return [self.all(part, has_chosen_names=has_chosen_names) for part in value]
        if isinstance(value, Mapping):
            return {
                self.text(str(name)) if has_chosen_names else name: self.all(
                    part, has_chosen_names=has_chosen_names or name in CHOSEN
                )
                for name, part in value.items()
            }
        return value

    def event(self, event: Event) -> Event:
        """`all` for an event, without the words of this program, which a user may have as a name."""
        kept = {name: event[name] for name in OF_THE_PROGRAM if name in event}
        cleaned: Event = self.all({name: None if name in kept else part for name, part in event.items()})
        return cleaned | kept

    def removed(self) -> list[dict[str, Any]]:
        """What was replaced, as the manifest lists it."""
        return [{"what": what, "count": count} for what, count in sorted(self.counts.items())]


def rules_for(project: Path, environ: Mapping[str, str] | None = None) -> tuple[Rule, ...]:
    """What is private for certain on this machine."""
    environ = os.environ if environ is None else environ
    return (*_of_environment(environ), *KEYS, TEMPORARY, *_of_user(private_to(project)), *_of_program())


def _of_program() -> Iterator[Rule]:
    """The folders of the environment and of the program, which name a user or a project where they lie elsewhere."""
    if sys.prefix != sys.base_prefix:
        yield _folder(sys.prefix, "environment")
    own = str(originals())
    if not own.startswith((f"{sys.prefix}/", "/usr/")):
        yield _folder(own, "program")


def _folder(path: str, put: str) -> Rule:
    return Rule("folder of the program", re.compile(rf"{re.escape(path)}(?![\w-])"), put, (path.lower(),))


def rules_for_workers(events: Iterable[Event]) -> tuple[Rule, ...]:
    """What removes the names of a cluster's workers, which are mostly those of machines: each gets a number."""
    found = (name for event in events for name in _workers_of(event))
    names = dict.fromkeys(re.sub(r"(?: #\d+)?(?: \(again\))?$", "", name) for name in found)
    numbered = {name: f"worker-{number}" for number, name in enumerate(names, 1) if is_telling(name)}
    longest_first = sorted(numbered, key=len, reverse=True)
    return tuple(Rule("name of a worker", _word(name), numbered[name], (name.lower(),)) for name in longest_first)


def _workers_of(event: Event) -> Iterator[str]:
    """The workers that an event names: where it lists slots or workers, and in its sentences about workers."""
    if event["event"] == "slots" and event.get("machines"):
        kinds = event.get("kinds") or [""] * len(event["names"])
        yield from (name.removesuffix(f" ({kind})") for name, kind in zip(event["names"], kinds, strict=True))
    elif event["event"] in ON_WORKERS:
        yield from map(str, event.get("workers") or ())
        yield from workers_named(str(event.get("text") or event.get("reason") or ""))


def doubts_in(
    texts: Iterable[tuple[str, str]],
    project: Path,
    environ: Mapping[str, str] | None = None,
    *,
    certain: Sequence[Rule] = (),
    server: str = "",
) -> tuple[Doubt, ...]:
    """The words in texts, each with its name, that may be private; those that are so for certain are left out.

    Args:
        certain: what removes further words for certain, besides `rules_for`.
        server: host and port of the language model's server; "" for none.
    """
    environ = os.environ if environ is None else environ
    cleaner, patterns = Cleaner((*rules_for(project, environ), *certain)), [*_doubted(private_to(project), environ)]
    if server and not server.startswith(KNOWN_SERVERS):
        patterns.append(("server of the language model", _word(server), server.lower()))
    counts: Counter[tuple[str, str]] = Counter()
    places: dict[tuple[str, str], str] = {}
    for place, text in texts:
        text = as_shown(cleaner.text(text))
        for what, pattern, needle in patterns:
            if needle not in text.lower():
                continue
            for found in pattern.finditer(text):
                if pattern is not _LONG_WORD or _looks_random(found[0]):
                    counts[what, found[0]] += 1
                    places.setdefault((what, found[0]), place)
    return tuple(Doubt(what, word, count, places[what, word]) for (what, word), count in counts.most_common())


def as_shown(text: str) -> str:
    """The text as pages and notebooks show it: without what steers a terminal."""
    is_plain = text.isascii() and not STEERING.search(text) and "\r" not in text
    return text if is_plain else readable(text)


def rules_of(doubts: Iterable[Doubt]) -> tuple[Rule, ...]:
    """What removes these words: one rule for each kind."""
    words: dict[str, list[str]] = {}
    for doubt in sorted(doubts, key=lambda doubt: -len(doubt.word)):
        words.setdefault(doubt.what, []).append(doubt.word)
    return tuple(
        Rule(what, re.compile("|".join(_word(word).pattern for word in found)), VALUE, tuple(map(str.lower, found)))
        for what, found in words.items()
    )


def _of_environment(environ: Mapping[str, str]) -> Iterator[Rule]:
    certain = {value.value for value in environment_values(environ) if value.is_certain}
    for value in sorted(certain, key=len, reverse=True):
        yield Rule("value of your environment", _word(value), VALUE, (value.lower(),))


def _of_user(private: Private) -> Iterator[Rule]:
    """Folders and names as in notebooks; a name that is no word of code or prose also in other letters."""
    yield from private.rules
    for name in private.names:
        if is_telling(name) and is_distinct(name):
            yield Rule("user name", _part(name), "user", (name.lower(),))
    if len(full_name().split()) > 1:
        yield Rule("user name", _word(full_name(), re.IGNORECASE), "user", (full_name().lower(),))


def _doubted(private: Private, environ: Mapping[str, str]) -> Iterator[tuple[str, re.Pattern[str], str]]:
    """Kind, pattern, and what stands in each text that it can match."""
    for what, names in (("user name", private.names), ("host name", private.hosts)):
        for name in names:
            if is_telling(name) or (len(name) == LEAST_DOUBTED_NAME and name.isalpha()):
                yield f"{what}, or a word like it", _word(name, re.IGNORECASE), name.lower()
    for value in environment_values(environ):
        if not value.is_certain:
            yield f"value of your environment variable {value.name}", _word(value.value), value.value.lower()
    yield "e-mail address", _MAIL, "@"
    yield "network address", _ADDRESS, "."
    yield "long random word, perhaps a key", _LONG_WORD, ""


def _word(text: str, flags: int = 0) -> re.Pattern[str]:
    """The text where it is not a part of a longer word."""
    before = r"(?<![\w-])" if text[0].isalnum() else ""
    after = r"(?![\w-])" if text[-1].isalnum() else ""
    return re.compile(before + re.escape(text) + after, flags)


def _part(name: str) -> re.Pattern[str]:
    """The name, in letters of either case, where no letter or digit is beside it: also in `cache_alice1`."""
    return re.compile(rf"(?<![^\W_]){re.escape(name)}(?![^\W_])", re.IGNORECASE)


def _looks_random(word: str) -> bool:
    counts = Counter(word)
    return -sum(n / len(word) * math.log2(n / len(word)) for n in counts.values()) >= RANDOM_BITS
