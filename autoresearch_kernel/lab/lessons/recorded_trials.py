"""Trials of lesson 6 as they were recorded, for a laptop that is too slow and for the tests of the checks."""

from __future__ import annotations

from .data import recorded
from .trial import Trial


def recorded_trial(name: str) -> Trial:
    """A trial of notebooks/lessons/data/6-trials.json.

    >>> recorded_trial("leak").status  # doctest: +SKIP
    'rejected'

    Raises KeyError, which names those that there are.
    """
    trials = recorded("6-trials")
    if name not in trials:
        raise KeyError(f"There is no recorded trial {name!r}. There are: {', '.join(trials)}.")
    return Trial.of(trials[name])
