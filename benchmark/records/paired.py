"""Tests of two rows on the same images, over images and trainings; and the correction of a family of tests."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist

import numpy as np

from benchmark.metrics import Floats

LEVEL = 0.05  # of a whole family of tests


@dataclass(frozen=True)
class Placements:
    """How a row orders ID against OOD images, as shares in float64.

    id (m,): the share of OOD images above each ID image, the mean over OOD sets. ood: of each set (n_k,) the share of
    ID images below each OOD image. Ties count half.
    """

    id: Floats
    ood: tuple[Floats, ...]

    @cached_property
    def auroc(self) -> float:
        """The mean AUROC over the OOD sets."""
        return float(np.mean([share.mean() for share in self.ood]))


def placements(id_scores: Floats, ood_scores: Sequence[Floats]) -> Placements:
    """From scores (m,) of the ID set and (n_k,) of each OOD set: by ranks, as Sun & Xu 2014."""
    m, alone = len(id_scores), _ranks(id_scores)
    above, below = np.zeros(m), []
    for scores in ood_scores:
        together = _ranks(np.concatenate([id_scores, scores]))
        above += 1 - (together[:m] - alone) / len(scores)
        below.append((together[m:] - _ranks(scores)) / m)
    return Placements(above / len(ood_scores), tuple(below))


def _ranks(values: Floats) -> Floats:
    """From 1, ties at the mean of theirs; scipy.stats has it too, and takes half a second to import."""
    ordered = np.sort(values)
    below, not_above = (np.searchsorted(ordered, values, side) for side in ("left", "right"))
    ranks: Floats = (below + not_above + 1) / 2
    return ranks


def mean(seeds: Sequence[Placements]) -> Placements:
    """The placements of a row with several seeds, whose AUROC is the mean of theirs."""
    if len(seeds) == 1:
        return seeds[0]
    sets = zip(*(seed.ood for seed in seeds), strict=True)
    return Placements(np.mean([seed.id for seed in seeds], axis=0), tuple(np.mean(shares, axis=0) for shares in sets))


def paired_test(a: Sequence[Placements], b: Sequence[Placements]) -> float:
    """Two-sided p-value for equal mean AUROC over K OOD sets of two rows, on the same images in the same order.

    a, b: one a training, in pairs. DeLong et al. 1988: the ID images are shared by all sets and the OOD sets are
    independent, so that the variance of the difference over images is var(id_a - id_b) / m + sum over k of
    var(ood_a - ood_b) / (K^2 n_k), with sample variances, here of the means over trainings. Of S > 1 trainings the
    variance of their differences, / S, is added, and Student's t taken with Satterthwaite's degrees of freedom (1946;
    images count as infinitely many). For K = S = 1 it is `metrics.delong_test`, also where the variance is 0 (there:
    the sign test on as many disjoint pairs as the smallest set has images) or a set has one image (1). Lengths that
    differ: ValueError.
    """
    counts = [[len(row.id), *map(len, row.ood)] for row in (*a, *b)]
    if any(count != counts[0] for count in counts):
        raise ValueError(f"a paired test needs the same images: {counts[0]} scores against {counts[-1]}")
    differences = np.array([x.auroc - y.auroc for x, y in zip(a, b, strict=True)])
    difference = abs(float(differences.mean()))
    if difference == 0 or min(counts[0]) < 2:
        return 1.0
    x, y = mean(a), mean(b)
    images = _variance_of_mean(x.id - y.id)
    images += sum(_variance_of_mean(p - q) for p, q in zip(x.ood, y.ood, strict=True)) / len(x.ood) ** 2
    trainings = _variance_of_mean(differences) if len(a) > 1 else 0.0
    variance = images + trainings
    if variance == 0:
        return 2.0 ** (1 - min(counts[0]))
    if trainings == 0:
        return math.erfc(difference / math.sqrt(2 * variance))
    from scipy.special import stdtr

    return float(2 * stdtr((len(a) - 1) * (variance / trainings) ** 2, -difference / math.sqrt(variance)))


def _variance_of_mean(values: Floats) -> float:
    if np.ptp(values) == 0:  # exactly 0 then, which rounding in the mean would miss
        return 0.0
    return float(values.var(ddof=1)) / len(values)


def holm(p_values: Sequence[float], tests: int = 0) -> list[float]:
    """The p-values so adjusted that the chance of any false one below `LEVEL` is at most that (Holm 1979).

    tests: of the family, where that has more than are at hand.
    """
    order = np.argsort(p_values, kind="stable")
    factors = max(tests, len(p_values)) - np.arange(len(p_values))
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.maximum.accumulate(np.asarray(p_values)[order] * factors)
    return [float(p) for p in adjusted.clip(max=1)]


def above(auroc: float, low: float, bound: float) -> float:
    """One-sided p-value for an AUROC above `bound`, from the lower end of its 95 % interval; all fractions.

    On the arcsine scale, on which the width of an interval hardly depends on its place; .025 where `low` is `bound`.
    """
    value, low, bound = (math.asin(math.sqrt(min(max(share, 0), 1))) for share in (auroc, low, bound))
    if value == low:
        return float(value <= bound)
    return 1 - NormalDist().cdf(NormalDist().inv_cdf(0.975) * (value - bound) / (value - low))
