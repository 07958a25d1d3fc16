"""Two scores that were compared and their difference: the one source of every line that shows a difference.

A line shows the numbers that were compared and the difference of exactly these. An experiment is compared with its
incumbent once, when it is decided (`Experiment.compared`); means over all runs so far are another comparison with a
label of its own (`Experiment.so_far_against`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from .format import signed, with_error
from .student import as_known


@dataclass(frozen=True)
class Comparison:
    """Two scores in bits per byte, lower is better; None is what is not known.

    Example:
        >>> print(Comparison(1.4312, 1.4436, 0.0014, 0.0021, 0.002))
        1.4312 against 1.4436: −0.0124 ± 0.0025 (−6.2 σ)
    """

    mine: float
    theirs: float
    my_error: float | None = None  # standard errors
    their_error: float | None = None
    # Run-to-run standard deviation as it was known when the two were compared; of a duel the error of the difference.
    sigma: float | None = None
    known_error: float | None = None  # of the difference, where only that is known
    degrees_of_freedom: int | None = None  # behind sigma; None where that is not known

    @property
    def difference(self) -> float:
        """Negative is better."""
        return self.mine - self.theirs

    @property
    def error(self) -> float | None:
        """Standard error of the difference of two independent scores; None where the error of one is not known."""
        if self.my_error is None or self.their_error is None:
            return self.known_error
        return math.hypot(self.my_error, self.their_error)

    @property
    def sigmas(self) -> float | None:
        """The difference in sigma; None where sigma is not known, or zero.

        Where the other score is less certain than one run, it is the difference in that score's standard error. A
        sigma from few runs is uncertain: the figure is then that of a known sigma for which chance is as rare, so that
        3 sigma mean the same in each line.
        """
        if not self.sigma:
            return None
        return as_known(self.difference / max(self.sigma, self.their_error or 0.0), self.degrees_of_freedom)

    @property
    def in_sigmas(self) -> str:
        """`−6.2 σ`, "" where sigma is not known."""
        return "" if self.sigmas is None else f"{signed(self.sigmas, 1)} σ"

    @property
    def words(self) -> str:
        """`−0.0124 ± 0.0025 (−6.2 σ)`: for a table whose columns hold the two scores."""
        return with_error(self.difference, self.error) + (f" ({self.in_sigmas})" if self.in_sigmas else "")

    def __str__(self) -> str:
        return f"{self.mine:.4f} against {self.theirs:.4f}: {self.words}"
