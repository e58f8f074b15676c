"""The errors that methods score a reconstruction of layer features by."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.base import CannotRun
from methods.vectors.layers import split


def mse(z: Tensor, reconstructed: Tensor) -> Tensor:
    """Mean over an image's features of the squared error (N,); the released code has the sum."""
    return (z - reconstructed).square().mean(dim=1)


def mfsim(z: Tensor, reconstructed: Tensor, sizes: Sequence[int], *, first: int = 0) -> Tensor:
    """Minus the mean over the layers from `first` on of the cosine between layer and reconstruction (N,).

    CannotRun where no layer is left.
    """
    pairs = list(zip(split(z, sizes), split(reconstructed, sizes), strict=True))[first:]
    if not pairs:
        raise CannotRun(f"mfsim without its first {first} of {len(sizes)} layers has none left")
    return -torch.stack([F.cosine_similarity(a, b, dim=1) for a, b in pairs]).mean(dim=0)
