"""Means, covariances and whitening of features that may be larger than memory: float64 sums over blocks."""

from collections.abc import Iterator

import torch
from torch import Tensor

from methods.base import CannotRun

BLOCK = 1 << 25  # bytes of float64 that a fit has in hand at a time: 32 MiB


def float64_blocks(values: Tensor, device: str) -> Iterator[Tensor]:
    """`values` (N, D), possibly memory-mapped, as float64 blocks on `device`, in order."""
    for block in torch.split(values, max(1, BLOCK // (8 * values.shape[1]))):
        yield block.to(device, torch.float64)


def means(values: Tensor, *, device: str, groups: Tensor | None = None) -> Tensor:
    """The mean of each group of rows (G, D), float64; `groups` (N,) holds 0 to G - 1, None: one group.

    CannotRun where a group has no rows.
    """
    groups = _groups(values, groups, device)
    count = groups.bincount()
    if not bool(count.all()):
        raise CannotRun(f"class {int((count == 0).nonzero()[0])} has no training images")
    total = torch.zeros(len(count), values.shape[1], dtype=torch.float64, device=device)
    start = 0
    for block in float64_blocks(values, device):
        total.index_add_(0, groups[start : start + len(block)], block)
        start += len(block)
    return total / count[:, None]


def covariance(values: Tensor, centres: Tensor, *, device: str, groups: Tensor | None = None) -> Tensor:
    """sum (x - c)(x - c)^T / N (D, D), float64, c the row of `centres` (G, D) of x's group.

    A second pass over the data: sums of x x^T less the mean's would cancel where the mean is large.
    ValueError where the features are not finite.
    """
    groups = _groups(values, groups, device)
    total = torch.zeros(values.shape[1], values.shape[1], dtype=torch.float64, device=device)
    start = 0
    for block in float64_blocks(values, device):
        centred = block - centres[groups[start : start + len(block)]]
        total.addmm_(centred.T, centred)
        start += len(block)
    if not bool(total.isfinite().all()):
        raise ValueError("the training features hold NaN or infinity")
    return total / len(values)


def whitening(covariance: Tensor) -> Tensor:
    """V (D, r) with V V^T = pinv(covariance): |(x - y) V| is the Mahalanobis distance of x and y.

    r is the rank: directions in which the training data do not vary (D > N, constant dimensions, the sum of a
    normalised layer) are left out. Features are float32, and rounding alone gives them a variance of epsilon^2:
    the cut is D times that, relative to the largest eigenvalue.
    CannotRun where no direction is left.
    """
    variances, directions = torch.linalg.eigh(covariance)
    kept = variances > variances[-1] * len(variances) * torch.finfo(torch.float32).eps ** 2
    if not bool(kept.any()):
        raise CannotRun("the training features do not vary: they have no covariance to measure distances by")
    white: Tensor = directions[:, kept] / variances[kept].sqrt()
    return white.contiguous()


def _groups(values: Tensor, groups: Tensor | None, device: str) -> Tensor:
    return torch.zeros(len(values), dtype=torch.int64, device=device) if groups is None else groups.to(device)
