"""Training images drawn at random, as evenly over classes as there are images."""

import torch
from torch import Tensor

from methods.vectors.noise import derive


def permutation(count: int, seed: int) -> Tensor:
    """0 to count - 1 in an order of the seed's, the same on every device."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(derive(seed)))


def by_class(classes: Tensor, wanted: Tensor, *, least: int = 0, seed: int) -> Tensor:
    """Rows, ascending: of class c `wanted[c]` or all that it has, then one more of each until there are `least`.

    `classes` (N,) int64, `wanted` (number of classes,) int64; rows on the CPU.
    """
    classes, wanted = classes.cpu(), wanted.cpu()
    order = permutation(len(classes), seed)
    order = order[classes[order].argsort(stable=True)]  # class by class, each in random order
    sizes = classes.bincount(minlength=len(wanted))
    place = torch.arange(len(order)) - (sizes.cumsum(0) - sizes)[classes[order]]  # within its class
    beyond = (place - wanted[classes[order]]).clamp(min=-1)
    taken = max(int((beyond < 0).sum()), min(least, len(order)))
    return order[beyond.argsort(stable=True)[:taken]].sort().values
