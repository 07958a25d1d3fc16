"""Clocks: wall-clock time, time that no user can set, time during which the machine slept; and waiting."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from .files import utc_now


def real_seconds() -> float:
    """Seconds on a clock that no user can set and that continues while the machine sleeps (on Linux and macOS)."""
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    if sys.platform == "darwin":
        return time.clock_gettime(time.CLOCK_MONOTONIC_RAW)
    return time.monotonic()


def slept_seconds() -> float:
    """Seconds that this machine has slept since it started; 0.0 where the system does not say."""
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)
    if sys.platform == "darwin":  # CLOCK_MONOTONIC cannot be compared: the system adjusts its rate
        return time.clock_gettime(time.CLOCK_MONOTONIC_RAW) - time.clock_gettime(time.CLOCK_UPTIME_RAW)
    return 0.0


@dataclass(frozen=True)
class Clock:
    """The clocks that a session uses. A test passes one that does not wait."""

    sleep: Callable[[float], None] = time.sleep
    monotonic: Callable[[], float] = time.monotonic
    real_seconds: Callable[[], float] = real_seconds
    slept_seconds: Callable[[], float] = slept_seconds
    utc_now: Callable[[], str] = utc_now  # ISO 8601


SYSTEM_CLOCK = Clock()
