"""How long a piece of code takes, measured so that other work on a shared machine does not decide a test."""

from __future__ import annotations

import time
from collections.abc import Callable

RUNS = 3  # a host that takes a processor away makes single runs longer, hardly all of them


def processor_seconds(call: Callable[[], object], limit: float) -> float:
    """Processor seconds of the shortest of three runs of `call`; the first that is within `limit` ends the runs."""
    shortest = float("inf")
    for _ in range(RUNS):
        began = time.process_time()
        call()
        shortest = min(shortest, time.process_time() - began)
        if shortest < limit:
            break
    return shortest
