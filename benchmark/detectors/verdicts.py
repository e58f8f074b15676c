"""From scores to p-values and verdicts, by the scores of the ID calibration images."""

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]
ACCEPT = "95"  # percent


def share(accept: str | float, n: int) -> Fraction:
    """The share that `accept`, in percent, stands for; ValueError where it cannot be, or n images are too few for it.

    One more image lies above all n as often as once in n + 1.
    """
    try:
        percent = Fraction(str(accept))
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"{accept!s:.20} is no percentage") from None
    if not 0 < percent < 100:
        raise ValueError(f"{accept!s:.20} is no percentage between 0 and 100")
    if percent * (n + 1) > 100 * n:
        needed = -(-percent // (100 - percent))
        raise ValueError(
            f"{float(percent):g} % needs {needed} calibration images; there are {n}, enough for {100 * n // (n + 1)} %"
        )
    return percent / 100


def p_values(calibration: Scores, scores: Scores) -> Scores:
    """(1 + calibration scores >= score) / (n + 1) of each score (N,); NaN of NaN. calibration: (n,) ascending."""
    return np.where(np.isnan(scores), np.nan, (1 + _as_high(calibration, scores)) / (len(calibration) + 1))


def accepted(calibration: Scores, scores: Scores, accept: str | float) -> NDArray[np.bool_]:
    """Whether the p-value of each score (N,) is above 1 - accept / 100, without rounding."""
    left = 1 - share(accept, len(calibration))
    found: NDArray[Any] = (1 + _as_high(calibration, scores)) * left.denominator > left.numerator * (
        len(calibration) + 1
    )
    return found & ~np.isnan(scores)


def _as_high(calibration: Scores, scores: Scores) -> NDArray[np.int64]:
    return len(calibration) - np.searchsorted(calibration, scores, side="left")
