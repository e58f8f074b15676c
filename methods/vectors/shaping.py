"""What shapes an embedding before an energy: the largest entries and how much of the sum they hold."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from methods.base import CannotRun

LARGEST_EXPONENT = 600.0  # e^600 times activations and weights is still finite in float64


def largest(z: Tensor, percentile: float) -> tuple[Tensor, Tensor]:
    """The n - round(n percentile / 100) largest entries of each row, half to even, and which they are (N, D) bool.

    Of equal entries at the cut the first are kept, on every device. CannotRun where that is none.
    """
    size = z.shape[1]
    kept = size - round(size * percentile / 100)
    if kept == 0:
        raise CannotRun(f"percentile {percentile} of {size} features leaves none: lower it")
    values = z.topk(kept, dim=1).values
    cut = values[:, -1:]
    above, at = z > cut, z == cut
    return values, above | (at & (at.cumsum(dim=1) <= kept - above.sum(dim=1, keepdim=True)))


def reaches(activations: NDArray[np.float32], clip: float | NDArray[np.float64], called: str) -> None:
    """CannotRun where a clip (one, or one a feature) leaves no training activation (N, D) above the smallest."""
    if not bool((clip > activations.min(axis=0 if np.ndim(clip) else None)).any()):
        raise CannotRun(f"{called} of the training activations is their smallest: clipped so, all images score alike")


def ratio(z: Tensor, kept: Tensor, otherwise: float) -> Tensor:
    """r (N,) float64: the sum of all entries over that of the kept ones; `otherwise` where that is not above 0."""
    whole, part = z.sum(dim=1, dtype=torch.float64), kept.sum(dim=1, dtype=torch.float64)
    return torch.where(part > 0, whole / part, otherwise).clamp(max=LARGEST_EXPONENT)
