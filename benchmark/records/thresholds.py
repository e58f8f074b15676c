"""Thresholds for use: what accepts a share of the ID calibration images, and what it then does to the test images."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

PERCENT = (90, 95, 99)
Scores = NDArray[np.floating[Any]]


def threshold(calibration: Scores, percent: int) -> float:
    """The smallest score of the calibration images such that at least `percent` of them are <= it.

    ValueError where it cannot be had: n images place no threshold above 1 - 1 / (n + 1) (one more image lies above all
    of them as often as that), and an infinite one separates nothing.
    """
    n = len(calibration)
    if percent * (n + 1) > 100 * n:
        needed = -(-percent // (100 - percent))
        raise ValueError(f"{percent} % needs {needed} calibration images; there are {n}")
    found = float(np.sort(calibration)[-(-percent * n // 100) - 1])  # whole numbers: no rounding moves the rank
    if not math.isfinite(found):
        raise ValueError(f"{percent} %: the score at this rank is {found}")
    return found


def table(calibration: Scores, id_scores: Scores, ood_scores: Scores | None = None) -> dict[str, Any]:
    """`n` calibration images; by percent of them, the threshold, what it accepts of ID test and passes of an OOD set.

    As fractions; a score equal to the threshold is accepted, as in FPR95. What is absent is null, with its reason.
    """
    of_percent: dict[str, Any] = {}
    absent: dict[str, str] = {}
    for percent in PERCENT:
        try:
            t = threshold(calibration, percent)
        except ValueError as reason:
            of_percent[str(percent)], absent[str(percent)] = None, str(reason)
            continue
        sides = (("id", id_scores), ("ood", ood_scores))
        shares = {name: float(np.mean(scores <= t)) for name, scores in sides if scores is not None}
        of_percent[str(percent)] = {"threshold": t, **shares}
    return {"n": len(calibration), "accepting": of_percent, "absent": absent}
