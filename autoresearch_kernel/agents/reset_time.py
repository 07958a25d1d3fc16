"""When a usage limit ends, from the words in which tools state it: a moment, a time of day, or a duration. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

from .server_numbers import seconds_to_wait

LONGEST_SECONDS = 8 * 86_400.0  # a weekly limit; what lies further ahead was misread
MARGIN_SECONDS = 30.0  # after the stated moment, which tools round
JUST_PASSED = timedelta(minutes=30)  # a time of day so short ago is the one that was meant, and not that of tomorrow
AGAIN_AFTER = timedelta(minutes=5)  # then: this machine's clock may be ahead, or the tool rounds down
_EPOCH = re.compile(r"(?<!\d)(1[6-9]\d{8}|2\d{9})(\d{3})?(?!\d)")  # seconds or milliseconds since 1970
_ISO = re.compile(
    r"(20\d\d-\d\d-\d\d)(?:[T ]| at )(\d\d:\d\d(?::\d\d(?:\.\d+)?)?)(?:(Z|[+-]\d\d:?\d\d)"
    r"| ?\(?((?:UTC|GMT)(?:[+-]\d{1,2}(?::?\d\d)?)?)(?!\w))?"
)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_CLOCK = re.compile(
    r"(?:resets?|reset at|try again|available|until|again)\s+(?:on |at |after )?"
    r"(?:(?P<month>jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]* (?P<day>\d{1,2})(?:st|nd|rd|th)?"
    r"(?:,? 20\d\d)?(?:,| at)? ?(?:at )?)?"
    r"(?P<hour>\d{1,2})(?::(?P<minute>\d\d))? ?(?P<half>[ap]\.?m\b)?"
    r"(?: ?\(?(?P<zone>[A-Z][A-Za-z_]+/[A-Za-z_/+\d-]+"
    r"|(?:UTC|GMT)(?:[+-]\d{1,2}(?::?\d\d)?)?|(?-i:[A-Z]{1,4}T)\b)\)?)?",
    re.IGNORECASE,
)
_OFFSET = re.compile(r"(?:UTC|GMT)(?:([+-])(\d{1,2}):?(\d\d)?)?", re.IGNORECASE)
_ABBREVIATED = {
    "PT": "America/Los_Angeles", "PST": "America/Los_Angeles", "PDT": "America/Los_Angeles", "MST": "America/Denver",
    "MDT": "America/Denver", "CST": "America/Chicago", "CDT": "America/Chicago", "ET": "America/New_York",
    "EST": "America/New_York", "EDT": "America/New_York", "CET": "Europe/Berlin", "CEST": "Europe/Berlin",
}  # fmt: skip


def seconds_until_reset(words: str, now: datetime) -> float | None:
    """Seconds from `now`, which has a time zone, until the limit ends; None where the words name no time.

    A time of day without a zone is meant in the zone of `now`.
    """
    for moment in _moments(words, now):
        seconds = (moment - now).total_seconds()
        if 0 <= seconds <= LONGEST_SECONDS:
            return seconds + MARGIN_SECONDS
    if any(found["half"] or found["minute"] for found in _CLOCK.finditer(words)):
        return None  # a number of it is no duration
    seconds_said = seconds_to_wait({}, words, now.timestamp())
    return seconds_said + MARGIN_SECONDS if seconds_said is not None and seconds_said <= LONGEST_SECONDS else None


def _moments(words: str, now: datetime) -> Iterator[datetime]:
    for found in _EPOCH.finditer(words):
        yield datetime.fromtimestamp(int(found[1]), now.tzinfo)
    for found in _ISO.finditer(words):
        with suppress(ValueError):
            moment = datetime.fromisoformat(f"{found[1]}T{found[2]}{found[3] or ''}")
            yield moment if moment.tzinfo else moment.replace(tzinfo=_zone(found[4], now))
    if (moment_said := _time_of_day(words, now)) is not None:
        yield moment_said


def _time_of_day(words: str, now: datetime) -> datetime | None:
    """The next moment at which a clock shows the time that is named; None without one."""
    for found in _CLOCK.finditer(words):
        if not (found["half"] or found["minute"]):
            continue  # "again 3" is no time of day
        hour, minute = int(found["hour"]), int(found["minute"] or 0)
        if half := (found["half"] or "").lower():
            hour = hour % 12 + (12 if half.startswith("p") else 0)
        with suppress(ValueError, KeyError):
            local = now.astimezone(_zone(found["zone"], now))
            moment = local.replace(hour=hour, minute=minute, second=0, microsecond=0)
            if found["month"]:
                month = _MONTHS.index(found["month"][:3].lower()) + 1
                moment = moment.replace(month=month, day=int(found["day"]))
                return moment if moment >= local else moment.replace(year=moment.year + 1)
            if timedelta() < local - moment < JUST_PASSED:
                return local + AGAIN_AFTER
            return moment if moment >= local else moment + timedelta(days=1)
    return None


def _zone(name: str | None, now: datetime) -> tzinfo | None:
    """Raises KeyError for a zone that this machine does not know."""
    if not name:
        return now.tzinfo
    if offset := _OFFSET.fullmatch(name):
        sign, hours, minutes = offset.groups()
        return timezone((-1 if sign == "-" else 1) * timedelta(hours=int(hours or 0), minutes=int(minutes or 0)))
    if "/" in name:
        return ZoneInfo(name)
    is_here = name == now.tzname() or name not in _ABBREVIATED  # CST is China's as well
    return now.tzinfo if is_here else ZoneInfo(_ABBREVIATED[name])
