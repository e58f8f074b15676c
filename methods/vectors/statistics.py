"""Means, covariances and whitening of features that may be larger than memory: float64 sums over blocks."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn.functional import normalize

from methods.base import CannotRun

BLOCK = 1 << 25  # bytes of float64 that a fit has in hand at a time: 32 MiB
CACHE = 1 << 20  # bytes of float64 that several steps in a row go over faster: 1 MiB
ROUNDING = torch.finfo(torch.float32).eps ** 2  # the variance that rounding to float32 gives a constant feature
TINY = torch.finfo(torch.float32).tiny  # in the place of a length of 0: what is divided by it stays finite
Change = Callable[[Tensor], Tensor]


def unit(z: Tensor) -> Tensor:
    """z / |z| (N, D) in float64; a row of zeros stays one."""
    return normalize(z.double(), dim=1)


def length(z: Tensor) -> Tensor:
    """|z| (N,)."""
    lengths: Tensor = torch.linalg.vector_norm(z, dim=1)
    return lengths


def row_blocks(values: Tensor, width: int) -> tuple[Tensor, ...]:
    """`values` in blocks of so many rows that `width` float64 numbers a row fill BLOCK."""
    if torch.compiler.is_exporting():  # a graph of any number of rows
        return (values,)
    return torch.split(values, max(1, BLOCK // (8 * width)))


def in_cache(values: Tensor, width: int) -> tuple[Tensor, ...]:
    """`values` in parts of so many rows that `width` numbers a row fill CACHE; whole on a GPU and in a graph."""
    if torch.compiler.is_exporting() or values.device.type != "cpu":
        return (values,)
    return torch.split(values, max(1, CACHE // (8 * width)))


def float64_blocks(values: Tensor, device: str, change: Change | None = None) -> Iterator[Tensor]:
    """`values` (N, D), possibly memory-mapped, as float64 blocks on `device`, in order; `change` is applied to each."""
    change = change or (lambda block: block)
    for block in row_blocks(values, max(values.shape[1], _width(values, device, change))):
        yield change(block.to(device, torch.float64))


def means(values: Tensor, *, device: str, groups: Tensor | None = None, change: Change | None = None) -> Tensor:
    """The mean of each group of rows (G, D), float64; `groups` (N,) holds 0 to G - 1, None: one group.

    `change`: what is done to the rows first. CannotRun where a group has no rows.
    """
    groups = _groups(values, groups, device)
    count = groups.bincount()
    if not bool(count.all()):
        raise CannotRun(f"class {int((count == 0).nonzero()[0])} has no training images")
    total = torch.zeros(len(count), _width(values, device, change), dtype=torch.float64, device=device)
    start = 0
    for block in float64_blocks(values, device, change):
        total.index_add_(0, groups[start : start + len(block)], block)
        start += len(block)
    return total / count[:, None]


def covariance(
    values: Tensor,
    centres: Tensor,
    *,
    device: str,
    groups: Tensor | None = None,
    change: Change | None = None,
) -> Tensor:
    """sum (x - c)(x - c)^T / N (D, D), float64, c the row of `centres` (G, D) of x's group; `change` as in `means`.

    A second pass over the data: sums of x x^T less the mean's would cancel where the mean is large.
    ValueError where the features are not finite.
    """
    groups = _groups(values, groups, device)
    total = torch.zeros(centres.shape[1], centres.shape[1], dtype=torch.float64, device=device)
    start = 0
    for block in float64_blocks(values, device, change):
        centred = block - centres[groups[start : start + len(block)]]
        total.addmm_(centred.T, centred)
        start += len(block)
    if not bool(total.isfinite().all()):
        raise ValueError("the training features hold NaN or infinity")
    return total / len(values)


def whitening(covariance: Tensor, rounding: float = ROUNDING) -> Tensor:
    """V (D, r) with V V^T = pinv(covariance): |(x - y) V| is the Mahalanobis distance of x and y.

    r is the rank: directions in which the training data do not vary (D > N, constant dimensions, the sum of a
    normalised layer) are left out. Features are float32, and rounding alone gives them a variance of epsilon^2:
    the cut is D times that, relative to the largest eigenvalue. `rounding`: of features normalised in float64,
    which may be small and still mean something, that of the eigenvalues themselves.
    CannotRun where no direction is left.
    """
    variances, directions = torch.linalg.eigh(covariance)
    kept = spanning(variances, rounding)
    if not len(kept):
        raise CannotRun("the training features do not vary: they have no covariance to measure distances by")
    white: Tensor = directions[:, kept] / variances[kept].sqrt()
    return white.contiguous()


def spanning(variances: Tensor, rounding: float = ROUNDING) -> Tensor:
    """Which eigenvalues of a covariance, ascending, are more than rounding (see `whitening`)."""
    return (variances > variances[-1] * len(variances) * rounding).nonzero()[:, 0]


def _width(values: Tensor, device: str, change: Change | None) -> int:
    return values.shape[1] if change is None else change(values[:1].to(device, torch.float64)).shape[1]


def _groups(values: Tensor, groups: Tensor | None, device: str) -> Tensor:
    return torch.zeros(len(values), dtype=torch.int64, device=device) if groups is None else groups.to(device)
