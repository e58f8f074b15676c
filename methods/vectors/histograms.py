"""Histograms of the entries of each row, and how far apart two are."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import pad

from methods.vectors.statistics import in_cache


def spread(blocks: Iterator[Tensor]) -> Tensor:
    """The smallest and the largest of all entries (2,)."""
    ends = torch.stack([torch.stack(block.aminmax()) for block in blocks])
    return torch.stack([ends[:, 0].min(), ends[:, 1].max()])


def histogram(values: Tensor, ends: Tensor, bins: int) -> Tensor:
    """How many entries of each row (N, n) are in each of `bins` between `ends` [low, high): (N, bins), float64.

    The last bin has its end too.
    """
    return torch.cat([_histogram(part, ends, bins) for part in in_cache(values, values.shape[1])])


def _histogram(values: Tensor, ends: Tensor, bins: int) -> Tensor:
    low, high = ends
    place = (values - low).mul_(bins / (high - low)).add_(1).clamp_(0, bins)  # 0, which does not count: below
    place = place.masked_fill_(values > high, 0).long()  # and above
    counts = torch.zeros(values.shape[0], bins + 1, dtype=torch.float64, device=values.device)
    return counts.scatter_add_(1, place, counts.new_ones(()).expand_as(place))[:, 1:]


def smooth(histograms: Tensor, width: int) -> Tensor:
    """The mean of `width` bins, (width - 1) // 2 before and width // 2 after; the bins at the ends are repeated."""
    padded = pad(histograms[:, None], ((width - 1) // 2, width // 2), mode="replicate")
    return padded[:, 0].unfold(1, width, 1).mean(dim=2)


def divergence(p: Tensor, q: Tensor, epsilon: float) -> Tensor:
    """KL(p, q) + KL(q, p) (N,) of p (N, bins) and q (bins,), after epsilon is added to both."""
    p, q = p + epsilon, q + epsilon
    p, q = p / p.sum(dim=-1, keepdim=True), q / q.sum(dim=-1, keepdim=True)
    return ((p - q) * (p / q).log()).sum(dim=-1)
