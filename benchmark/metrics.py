"""How well scores tell OOD from ID: AUROC, FPR95, AUPR, each as a fraction, with intervals and a paired test.

A greater score means more out-of-distribution. Scores are arrays, tensors or lists of shape (N,), one an
image; they are compared as float64, only by order: any strictly increasing map leaves every value here as it
is, and inf and -inf are scores like others. NaN, no scores at all, or another shape: ValueError naming the
argument. Inputs are never modified.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from benchmark.beta import quantile

if TYPE_CHECKING:  # figures are drawn without it
    from torch import Tensor

Floats = np.ndarray[Any, np.dtype[np.float64]]
Draws = np.ndarray[Any, np.dtype[np.int64]]
Scores: TypeAlias = "Tensor | np.ndarray[Any, Any] | Sequence[float]"
Interval = tuple[float, float]

_QUERIES = 1024  # of knn_accuracy at a time
_DRAWS = 4000  # of fpr_interval: its bounds are then steady to about 1 % of its width


def _checked(scores: Scores, name: str) -> Floats:
    """The scores as float64 (N,); the input itself where it is one, so not to be written to."""
    if hasattr(scores, "detach"):
        scores = scores.detach().cpu().double().numpy()
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"{name} must be one score an image, shape (N,), not {values.shape}")
    if not len(values):
        raise ValueError(f"{name} is empty: a metric needs at least one ID and one OOD score")
    if missing := int(np.isnan(values).sum()):
        raise ValueError(f"{name} holds {missing:,} NaN of {len(values):,} scores: the method returned no score")
    return values


def _sorted(id_scores: Scores, ood_scores: Scores) -> tuple[Floats, Floats]:
    return np.sort(_checked(id_scores, "id_scores")), np.sort(_checked(ood_scores, "ood_scores"))


def _placements(scores: Floats, others: Floats) -> Floats:
    """For each of `scores` (N,), the share of the sorted `others` that lie below it; ties count half."""
    twice = np.searchsorted(others, scores, "left") + np.searchsorted(others, scores, "right")
    return twice / (2 * len(others))


def _rank(tpr: float, n: int) -> int:
    """The least number of n images that is at least a share `tpr`: in decimal, as .07 * 100 > 7 in binary."""
    if not 0 < tpr <= 1:
        raise ValueError(f"tpr must be above 0 and at most 1, not {tpr}")
    return math.ceil(Fraction(repr(float(tpr))) * n)


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, not {level}")


def auroc(id_scores: Scores, ood_scores: Scores) -> float:
    """The probability that an OOD image scores above an ID image, a tie counting half."""
    id_sorted, ood_sorted = _sorted(id_scores, ood_scores)
    return float(_placements(ood_sorted, id_sorted).mean())


def threshold_at_tpr(id_scores: Scores, tpr: float = 0.95) -> float:
    """The smallest ID score such that at least a share `tpr` of the ID scores are at most it: accepted as ID."""
    id_sorted = np.sort(_checked(id_scores, "id_scores"))
    return float(id_sorted[_rank(tpr, len(id_sorted)) - 1])


def fpr_at_tpr(id_scores: Scores, ood_scores: Scores, tpr: float = 0.95) -> float:
    """The share of OOD images that pass as ID when at least `tpr` of the ID images are accepted.

    t = the smallest ID score such that at least `tpr` of the ID scores are <= t; the share of OOD scores <=
    t. A tie with the threshold counts against the method: constant scores give 1.
    """
    ood = _checked(ood_scores, "ood_scores")
    return float((ood <= threshold_at_tpr(id_scores, tpr)).mean())


def fpr95_ood(id_scores: Scores, ood_scores: Scores) -> float:
    """FPR95 with OOD as the positive class, as in OpenOOD 1.5 and pytorch-ood.

    t = the largest score such that at least 95 % of the OOD scores are >= t (flagged); the share of ID scores
    >= t. A tie with the threshold is flagged, which counts against the method: constant scores give 1.
    """
    id_sorted, ood_sorted = _sorted(id_scores, ood_scores)
    threshold = ood_sorted[len(ood_sorted) - _rank(0.95, len(ood_sorted))]
    return float((len(id_sorted) - np.searchsorted(id_sorted, threshold, "left")) / len(id_sorted))


def aupr(id_scores: Scores, ood_scores: Scores, positive: Literal["ood", "id"] = "ood") -> float:
    """Average precision with OOD (high scores) or ID (low scores) as the positive class.

    The sum over thresholds of precision times the step in recall, equal scores entering together: the
    definition of sklearn.average_precision_score. OpenOOD and pytorch-ood join the points by straight lines
    instead, which is optimistic (Davis & Goadrich 2006). It depends on the ratio of OOD to ID images. Other
    `positive`: ValueError.
    """
    id_sorted, ood_sorted = _sorted(id_scores, ood_scores)
    if positive == "ood":
        hits = len(ood_sorted) - np.searchsorted(ood_sorted, ood_sorted, "left")
        false = len(id_sorted) - np.searchsorted(id_sorted, ood_sorted, "left")
    elif positive == "id":
        hits = np.searchsorted(id_sorted, id_sorted, "right")
        false = np.searchsorted(ood_sorted, id_sorted, "right")
    else:
        raise ValueError(f"positive must be 'ood' or 'id', not {positive!r}")
    # Every positive is a step of 1/N in recall, so the sum is the mean precision at the positives' scores.
    return float((hits / (hits + false)).mean())


def delong(id_scores: Scores, ood_scores: Scores) -> tuple[float, float]:
    """AUROC and its variance (DeLong et al. 1988, by ranks as Sun & Xu 2014: O(N log N)).

    The variance is NaN with fewer than two images on either side, and 0 where all pairs of images agree.
    """
    id_sorted, ood_sorted = _sorted(id_scores, ood_scores)
    of_ood, of_id = _placements(ood_sorted, id_sorted), _placements(id_sorted, ood_sorted)
    return float(of_ood.mean()), _variance(of_ood, of_id)


def _variance(of_ood: Floats, of_id: Floats) -> float:
    if min(len(of_ood), len(of_id)) < 2:
        return math.nan
    return float(of_ood.var(ddof=1) / len(of_ood) + of_id.var(ddof=1) / len(of_id))


def delong_interval(id_scores: Scores, ood_scores: Scores, level: float = 0.95) -> Interval:
    """The confidence interval of AUROC: Clopper and Pearson's, for as many coin tosses as DeLong's variance is worth.

    As Korn and Graubard 1998 do for surveys: A (1 - A) / variance tosses, of which a share A came out right. A
    variance from few images is too small just where good detectors are, so that there are never more tosses than the
    4 n m / (n + m) of detectors whose scores are exponential (two Gaussians allow three quarters of that at .5).
    An interval on the logit scale covers 68 to 84 % there, this one 93 % and more: `tests/performance/coverage.py`.
    Where the variance is 0 (AUROC of 1, 0, or all tied) its width is not: min(n, m) disjoint, so independent, pairs
    all came out alike, so another outcome has at most the bound 1 - (alpha / 2) ** (1 / min) as its probability. One
    image on a side: (0, 1).
    """
    _check_level(level)
    value, variance = delong(id_scores, ood_scores)
    if math.isnan(variance):
        return 0.0, 1.0
    n, m, outside = len(id_scores), len(ood_scores), (1 - level) / 2
    if variance == 0:
        other = 1 - outside ** (1 / min(n, m))
        return value - other * value, value + other * (1 - value)
    tosses = min(value * (1 - value) / variance, 4 * n * m / (n + m))
    right, wrong = value * tosses, (1 - value) * tosses
    return quantile(outside, right, wrong + 1), quantile(1 - outside, right + 1, wrong)


def delong_test(id_a: Scores, ood_a: Scores, id_b: Scores, ood_b: Scores) -> float:
    """Two-sided p-value for equal AUROC of detectors a and b on the same images in the same order (paired).

    DeLong et al. 1988. Where all pairs of images agree and the variance is 0, the sign test on min(n_id,
    n_ood) disjoint pairs, 2 ** (1 - min): never 0 from a handful of images. Lengths that differ: ValueError.
    """
    a = _checked(id_a, "id_a"), _checked(ood_a, "ood_a")
    b = _checked(id_b, "id_b"), _checked(ood_b, "ood_b")
    for name, x, y in (("id", a[0], b[0]), ("ood", a[1], b[1])):
        if len(x) != len(y):
            raise ValueError(f"{name}_a has {len(x):,} scores, {name}_b {len(y):,}: both need the same images")
    of_ood = _placements(a[1], np.sort(a[0])) - _placements(b[1], np.sort(b[0]))
    of_id = _placements(a[0], np.sort(a[1])) - _placements(b[0], np.sort(b[1]))
    difference, variance = abs(float(of_ood.mean())), _variance(of_ood, of_id)
    if difference == 0 or math.isnan(variance):
        return 1.0
    if variance == 0:
        return 2.0 ** (1 - min(len(of_ood), len(of_id)))
    return math.erfc(difference / math.sqrt(2 * variance))


def fpr_interval(id_scores: Scores, ood_scores: Scores, tpr: float = 0.95, level: float = 0.95) -> Interval:
    """The confidence interval of `fpr_at_tpr`, with the noise of the threshold and of the share.

    How many of the N ID images the true threshold accepts is binomial (N, tpr): it lies between two neighbours among
    the ID scores, or, most likely where N is below 20, above all of them, and then any share may pass. Below the
    lower neighbour there are x of M OOD scores, so that the share is at least a Beta(x, M - x + 1); below the upper
    one at most a Beta(x + 1, M - x), as Clopper and Pearson bound a share. Fixed draws: the same scores always give
    the same interval. It contains the estimate, and covers with few images too: `tests/performance/coverage.py`.
    """
    _check_level(level)
    id_sorted, ood_sorted = _sorted(id_scores, ood_scores)
    n, m, rank = len(id_sorted), len(ood_sorted), _rank(tpr, len(id_sorted))
    accepted, rng = _accepted(n, tpr)
    below = np.concatenate([[0], np.searchsorted(ood_sorted, id_sorted, "right"), [m]])  # by the number accepted
    lower, upper = below[accepted], below[accepted + 1]
    least = np.where(lower > 0, rng.beta(np.maximum(lower, 1), m - lower + 1), 0.0)
    most = np.where(upper < m, rng.beta(upper + 1, np.maximum(m - upper, 1)), 1.0)
    value = below[rank] / m
    low, high = np.quantile(least, (1 - level) / 2), np.quantile(most, (1 + level) / 2)
    return float(min(low, value)), float(max(high, value))


def _accepted(n: int, tpr: float) -> tuple[Draws, np.random.Generator]:
    """How many of n ID images the true threshold accepts, and what the draws that follow come from."""
    accepted, state = _accepted_once(n, tpr)
    rng = np.random.default_rng(0)
    rng.bit_generator.state = state
    return accepted, rng


@lru_cache(maxsize=8)  # all cells of a row, and mostly all rows, have as many
def _accepted_once(n: int, tpr: float) -> tuple[Draws, Any]:
    rng = np.random.default_rng(0)
    return rng.binomial(n, tpr, _DRAWS), rng.bit_generator.state


def knn_accuracy(embedding: "Tensor", labels: "Tensor", k: int = 20) -> float:
    """Share of images (N, D) that most of their k nearest others (cosine; itself left out) label rightly.

    How well classes lie apart in an embedding that was learned without labels. Of classes with as many votes
    the lowest number wins, as in scikit-learn. ValueError where a label is missing (-1), or N is not above k.
    """
    if len(embedding) <= k:
        raise ValueError(f"kNN accuracy needs more than k = {k} images, not {len(embedding)}")
    if bool((labels < 0).any()):
        raise ValueError("kNN accuracy needs labels: some images have none")
    import torch

    from methods.vectors.neighbours import neighbours

    z = torch.nn.functional.normalize(embedding.float(), dim=1)
    bank, right = neighbours(z), 0
    for rows in torch.split(torch.arange(len(z)), _QUERIES):
        index = bank.search(z[rows.to(z.device)], k + 1)[1].cpu()
        itself = index == rows[:, None]
        itself[:, -1] |= ~itself.any(dim=1)  # of more than k others at the same place all may come before it
        voters = labels[index[~itself].view(-1, k)]
        votes = torch.zeros(len(rows), int(labels.max()) + 1).scatter_add_(1, voters, torch.ones(voters.shape))
        right += int((votes.argmax(1) == labels[rows]).sum())
    return right / len(z)


@dataclass(frozen=True)
class Metric:
    """One metric as data: `function` and `interval` take (id_scores, ood_scores) and return fractions.

    `worst` is the value of a detector that always errs; `format` is for the value in percent; `meaning` says what it
    is.
    """

    name: str
    title: str
    function: Callable[[Scores, Scores], float]
    higher_is_better: bool
    worst: float
    format: str = ".1f"
    interval: Callable[[Scores, Scores], Interval] | None = None
    meaning: str = ""

    @property
    def arrow(self) -> str:
        return "↑" if self.higher_is_better else "↓"


METRICS = (
    Metric(
        "auroc",
        "AUROC",
        auroc,
        True,
        0.0,
        interval=delong_interval,
        meaning="the probability that an OOD image scores above an ID image, a tie counting half; 50 is chance",
    ),
    Metric(
        "fpr95",
        "FPR95",
        fpr_at_tpr,
        False,
        1.0,
        interval=fpr_interval,
        meaning="the share of OOD images that pass as ID when at least 95 % of the ID images are accepted",
    ),
    Metric(
        "fpr95_ood",
        "FPR95 (OOD positive)",
        fpr95_ood,
        False,
        1.0,
        meaning="the share of ID images that are flagged when at least 95 % of the OOD images are, as OpenOOD counts",
    ),
    Metric("aupr_ood", "AUPR (OOD positive)", aupr, True, 0.0, meaning="average precision of what is flagged as OOD"),
    Metric(
        "aupr_id",
        "AUPR (ID positive)",
        partial(aupr, positive="id"),
        True,
        0.0,
        meaning="average precision of what passes as ID",
    ),
)


def measure(id_scores: Scores, ood_scores: Scores) -> dict[str, float]:
    """Every metric by name, as fractions."""
    ordered = _sorted(id_scores, ood_scores)  # sorting what is sorted costs little: one real sort for all
    return {metric.name: metric.function(*ordered) for metric in METRICS}


def intervals(id_scores: Scores, ood_scores: Scores) -> dict[str, Interval]:
    """The 95 % interval of every metric that has one, by name, as fractions."""
    ordered = _sorted(id_scores, ood_scores)
    return {metric.name: metric.interval(*ordered) for metric in METRICS if metric.interval}
