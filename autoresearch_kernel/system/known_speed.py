"""The fastest speed that was measured on this machine, kept in the cache for the choice of a preset.

A busy machine can only be measured too slow, so the largest measurement counts. A study and `python train.py` then
choose the same sizes. Another processor, number format or number of threads is another machine here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from .files import ensure_folder, write_atomic
from .locations import cache_dir


def known_flops(machine: Mapping[str, Any]) -> float | None:
    """FLOP/s of the fastest measurement so far; None without one, or where its file cannot be read."""
    flops = _read(_path()).get(_key(machine))
    is_speed = isinstance(flops, (int, float)) and not isinstance(flops, bool) and 0 < flops < math.inf
    return float(flops) if is_speed else None  # type: ignore[arg-type]


def remember_flops(machine: Mapping[str, Any], flops: float) -> float:
    """Keep a measurement that is faster than those before; the fastest of all. A full or read-only disk keeps none."""
    fastest = max(flops, known_flops(machine) or 0.0)
    if fastest == flops:
        with suppress(OSError):
            ensure_folder(_path().parent)
            write_atomic(_path(), json.dumps(_read(_path()) | {_key(machine): flops}, indent=1) + "\n")
    return fastest


def _path() -> Path:
    return cache_dir() / "speed.json"


def _key(machine: Mapping[str, Any]) -> str:
    return f"{machine['device_name']}, {machine['dtype']}, {machine.get('num_threads')} threads"


def _read(path: Path) -> dict[str, Any]:
    try:
        known = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
