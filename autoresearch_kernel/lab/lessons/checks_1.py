"""Checks of lesson 1, bits per byte."""

from __future__ import annotations

import math
from typing import Any

from .exercise import Exercise, is_near, number_of, require, result_of


def _surprise(answer: Any) -> str:
    """A function from a probability to bits."""
    at_half, at_eighth = (number_of(result_of(answer, p), "A surprise") for p in (1 / 2, 1 / 8))
    require(at_eighth >= 0, f"The surprise is negative: {at_eighth:.2f} for 1/8. The logarithm needs a minus before it.")
    require(
        not is_near(at_eighth, -math.log(1 / 8)),
        f"This is {at_eighth:.2f} for 1/8, which is in nats: math.log counts in powers of e. Bits need math.log2.",
    )
    require(
        not is_near(at_eighth, -math.log10(1 / 8)),
        f"This is {at_eighth:.2f} for 1/8, in powers of ten. Bits need math.log2.",
    )
    require(
        at_eighth > at_half, "A rare letter must surprise more than a common one, and here 1/8 does not beat 1/2."
    )
    require(is_near(at_half, 1.0), f"A fair coin holds 1 bit, and your function gives {at_half:.4g} for p = 1/2.")
    require(is_near(at_eighth, 3.0), f"1/8 is three halvings, so 3 bits; your function gives {at_eighth:.4g}.")
    return "A letter of probability 1/2 costs 1 bit, one of 1/8 costs 3: each halving of the probability adds a bit."


EXERCISES = (Exercise("surprise", "The surprise of one letter", _surprise),)
