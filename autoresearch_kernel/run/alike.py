"""Whether two machines are of one kind: so alike that the scores of their runs may be compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MEMORY_TOLERANCE, SPEED_TOLERANCE = 0.1, 0.2  # by which the memory and the speed of machines of one class may differ
OF_A_STUDY = {"device": "device", "dtype": "number format"}  # facts that all machines of one study share
OF_A_CLASS = {"device": "device", "device_name": "device", "dtype": "number format"}  # facts, with words for them


def name_of_kind(facts: Mapping[str, Any]) -> str:
    """`NVIDIA A100, 80 GB, 19500 GFLOP/s`: a kind of machine, for users.

    Example:
        >>> name_of_kind({"device_name": "Xeon", "memory_mb": 8192, "flops": 1.04e11})
        'Xeon, 8 GB, 104 GFLOP/s'
    """
    return f"{facts['device_name']}, {facts['memory_mb'] / 1024:.0f} GB, {facts['flops'] / 1e9:.0f} GFLOP/s"


def unlike(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """In what two machines differ too much for their scores to be compared, in words; "" where they are alike.

    Both have the facts of `remote.describe`: `memory_mb`, `flops` in FLOP/s, `versions` by package, ...

    Example:
        >>> mine = {"device": "cpu", "device_name": "Xeon", "dtype": "float32", "memory_mb": 8192, "flops": 1e11}
        >>> mine |= {"versions": {"torch": "2.13.0"}, "sandbox": "bubblewrap"}
        >>> unlike(mine, mine | {"flops": 5e10})
        'speed 100 and 50 GFLOP/s, as measured now'
    """
    for fact, words in OF_A_CLASS.items():
        if one[fact] != other[fact]:
            return f"{words} {one[fact]} and {other[fact]}"
    for package in one["versions"] | other["versions"]:
        mine, theirs = (machine["versions"].get(package, "missing") for machine in (one, other))
        if mine != theirs:
            return f"{package} {mine} and {theirs}"
    if (one["sandbox"] == "none") != (other["sandbox"] == "none"):
        return f"sandbox {one['sandbox']} and {other['sandbox']}"
    if apart(one["memory_mb"], other["memory_mb"]) > MEMORY_TOLERANCE:
        return f"memory {one['memory_mb'] / 1024:.1f} GB and {other['memory_mb'] / 1024:.1f} GB"
    if apart(one["flops"], other["flops"]) > SPEED_TOLERANCE:
        return f"speed {one['flops'] / 1e9:.0f} and {other['flops'] / 1e9:.0f} GFLOP/s, as measured now"
    return ""


def apart(one: float, other: float) -> float:
    """By which share of the larger number two numbers differ, which are not both 0."""
    return abs(one - other) / max(one, other)
