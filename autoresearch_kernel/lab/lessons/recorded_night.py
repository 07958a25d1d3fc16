"""The night of lesson 4: a hundred changes that trained for six seconds each, on a machine that others used as well."""

from __future__ import annotations

from .data import recorded


def first_scores() -> list[float]:
    """The score of the first run of each change; that of the baseline, number 0, is the mean of its first three."""
    return list(recorded("4-night")["first"])


def kept_numbers() -> list[int]:
    """The changes that the study kept, without the baseline."""
    return list(recorded("4-night")["kept"])


def pairs_run_twice() -> list[tuple[float, float]]:
    """First and second score of each change that the rule let run again before it decided."""
    return [(first, second) for first, second in recorded("4-night")["pairs"]]
