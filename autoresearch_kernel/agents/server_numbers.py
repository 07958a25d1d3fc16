"""The numbers in what a server says: the length of its context, of the prompt, and how long to wait. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime

LEAST_CONTEXT = 100  # tokens: smaller numbers in a message mean something else

_LIMITS = (
    r"n_ctx\D{0,6}(\d+)",
    r"(?:max_?(?:imum)?[ _]?model[ _]?len(?:gth)?|max_seq_len|max_context_length|context_length)\D{0,6}(\d+)",
    r"context[ _-](?:length|size|window)(?: limit)? ?(?:is |of |only |\()*(\d+)",
    r"context(?: window)? limit(?: of|:)? \(?(?:\d+ \+ \d+ > )?(\d+)",
    r"context \((\d+)\)",
    r"maximum (?:prompt|input|sequence) length (?:is |of )?(\d+)",
    r"tokens? allowed \((\d+)\)",
    r"(?:token )?limit(?: for this model)?(?: of| is|:)? (\d+)",
    r"max size: (\d+)",
    r"range of input length should be \[\d+, ?(\d+)\]",
    r"> (\d+)",
    r"<= (\d+)",
    r"(\d+)(?: tokens?)? maximum",
    r"limited to (\d+)",
)
_PROMPTS = (
    r"n_prompt_tokens\D{0,4}(\d+)",
    r"(\d+)(?: tokens)? (?:in|of|from|for) (?:the |your )?(?:text |chat )?(?:input|messages|prompt)\b",
    r"(\d+) `?(?:inputs?|prompt)`? tokens",
    r"(?:request|prompt|input) \((?:length )?(\d+)(?: tokens)?\)",
    r"(?:prompt|request|input)s?(?: is| was)?(?: has| contains| length(?: is)?| too long:| size:?)+ (\d+)",
    r"input[ _]tokens?(?: count)? ?\(?(\d+)",
    r"(?:messages|prompt|input) resulted in (\d+)",
    r"context limit: (\d+) \+ \d+ > \d+",
    r"n_keep: (\d+)",
    r"first (\d+) tokens when context",
)
_TOTALS = (
    r"requested (?:a total of |about )?\(?(\d+)",
    r"requested tokens? \(?(\d+)",
    r"requested:? (\d+)",
    r"input and maximum output tokens \((\d+)\)",
)
_EXCESS = re.compile(r"at least 1, got -(\d+)|exceeded by (\d+) tokens", re.IGNORECASE)
_WAIT = re.compile(
    r"(?:retry|try again|wait|available|resets?|retrydelay|retry_after|estimated_time|cooldown_time)\w*[\"']?"
    r"(?: in| after| for|[:=])? ?(?:about |at least )?[\"']?"
    r"((?:\d+(?:\.\d+)? ?(?:ms|milliseconds?|h|hrs?|hours?|m|mins?|minutes?|s|secs?|seconds?|d|days?|w|weeks?)(?![a-z])"
    r"(?:,? and |, | )?)+"
    r"|\d++(?:\.\d++)?+(?! ?[A-Za-z]|[:/-]))",  # a bare number is one of seconds, unless it begins a date or a time
    re.IGNORECASE,
)
_PART = re.compile(r"(\d+(?:\.\d+)?) ?(ms|milli|h|m|s|d|w)?", re.IGNORECASE)
_UNITS = {"ms": 0.001, "milli": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0, "": 1.0}


@dataclass(frozen=True)
class Sizes:
    """What a server says of lengths, in its tokens; None where it says nothing."""

    limit: int | None = None  # of prompt and reply
    prompt: int | None = None
    excess: int | None = None  # of the prompt beyond the limit


def sizes_of(words: str, reply_tokens: int) -> Sizes:
    """Of a message that prompt and reply do not fit; `reply_tokens` were asked for."""
    words = re.sub(r"(?<=\d),(?=\d{3}\b)", "", words)
    limit, total = _first(_LIMITS, words), _first(_TOTALS, words)
    prompt = _first(_PROMPTS, words, unlike=limit)
    if prompt is None and total is not None and total > reply_tokens:
        prompt = total - reply_tokens
    excess = _EXCESS.search(words)
    if excess is not None:
        return Sizes(limit, None, int(excess[1] or excess[2]))
    return Sizes(limit, prompt)


def _first(patterns: tuple[str, ...], words: str, unlike: int | None = None) -> int | None:
    """The first number of the first pattern that finds one, neither a small one nor `unlike`."""
    for pattern in patterns:
        for found in re.finditer(pattern, words, re.IGNORECASE):
            if (number := int(found[1][:12])) >= LEAST_CONTEXT and number != unlike:
                return number
    return None


def seconds_to_wait(headers: Mapping[str, str], words: str, now: float) -> float | None:
    """Seconds that the server asks us to wait, from its headers or its words; None when it asks for none.

    Args:
        now: the time of day, seconds since 1970.
    """
    milliseconds = _number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return max(0.0, milliseconds / 1000)
    if (seconds := _moment(headers.get("retry-after", ""), now)) is not None:
        return seconds
    if said := _WAIT.search(words):
        return _duration(said[1])
    return _reset(headers, now)


def _reset(headers: Mapping[str, str], now: float) -> float | None:
    """The longest wait of the limits that are used up; of all where none says so."""
    resets: dict[str, float] = {}
    used_up = set()
    for name, value in headers.items():
        if not re.search(r"rate-?limit", name.lower()):
            continue
        if "reset" in name.lower() and (seconds := _moment(value, now)) is not None:
            resets[name.lower().replace("reset", "remaining")] = seconds
        elif "remaining" in name.lower() and value.strip() == "0":
            used_up.add(name.lower())
    return max((resets[name] for name in used_up & set(resets)), default=max(resets.values(), default=None))


def _moment(value: str, now: float) -> float | None:
    """Seconds until what a header names: a number of seconds, a duration, a date, seconds or ms since 1970."""
    value = value.strip()
    number = _number(value)
    if number is not None:
        number = number / 1000 if number > 1e11 else number
        return max(0.0, number - now if number > 1e9 else number)
    if re.fullmatch(r"(?:\d+(?:\.\d+)?(?:ms|[hmsd]))+", value):
        return _duration(value)
    with suppress(ValueError, OverflowError):
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    with suppress(ValueError, OverflowError):
        return max(0.0, datetime.fromisoformat(value).timestamp() - now)
    return None


def _number(value: str) -> float | None:
    with suppress(ValueError):
        return float(value) if math.isfinite(float(value)) else None
    return None


def _duration(text: str) -> float:
    """Seconds of `7m12.5s`, `34`, `20 seconds`."""
    parts = _PART.findall(text)
    return sum(float(number) * _UNITS[unit.lower()] for number, unit in parts)
