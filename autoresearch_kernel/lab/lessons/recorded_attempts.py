"""Attempts of lesson 6 as they were recorded, for a laptop that is too slow and for the tests of the checks."""

from __future__ import annotations

from .data import recorded
from .attempt import Attempt


def recorded_attempt(name: str) -> Attempt:
    """An attempt of notebooks/lessons/data/6-attempts.json.

    >>> recorded_attempt("leak").status  # doctest: +SKIP
    'rejected'

    Raises KeyError, which names those that there are.
    """
    attempts = recorded("6-attempts")
    if name not in attempts:
        raise KeyError(f"There is no recorded attempt {name!r}. There are: {', '.join(attempts)}.")
    return Attempt.of(attempts[name])
