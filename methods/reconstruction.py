"""What methods that reconstruct layer features share: the normalisation, and the errors they score by."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.base import Features

Std = Literal["biased", "unbiased"]
BLOCK = 4096  # images at a time: bounds the memory of normalising and reconstructing
_DELTA = 1e-5


def normalise(layers: Tensor, sizes: Sequence[int], std: Std) -> Tensor:
    """Each image's channels (N, sum(sizes)) to mean 0 and deviation 1 within each layer (DLSR, eq. 1).

    "biased": (f - mean) / sqrt(variance + 1e-5), the paper's form; its delta is not printed, so layer norm's
    is used. "unbiased": (f - mean) / (std + 1e-5) with n - 1, the released code's.
    """
    blocks = []
    for layer in _layers(layers, sizes):
        if std == "biased":
            blocks.append(F.layer_norm(layer, layer.shape[1:], eps=_DELTA))
        else:
            deviation, mean = torch.std_mean(layer, dim=1, keepdim=True)
            blocks.append((layer - mean) / (deviation + _DELTA))
    return torch.cat(blocks, dim=1)


def normalised(x: Features, std: Std, device: str | torch.device) -> Tensor:
    """`x.layers` normalised, (N, C) float32 on `device`; read in blocks, for they may be a memory map."""
    layers = x.need("layers")
    z = torch.empty(layers.shape, device=device)
    for start in range(0, len(layers), BLOCK):
        rows = slice(start, start + BLOCK)
        z[rows] = normalise(layers[rows].to(device), x.layer_sizes, std)
    return z


def check_layers(x: Features, sizes: Sequence[int]) -> None:
    """ValueError where the layers are not those of the fit."""
    if x.layer_sizes != tuple(sizes):
        raise ValueError(f"fitted on layers of {tuple(sizes)} channels; these have {x.layer_sizes}")


def mse(z: Tensor, reconstructed: Tensor) -> Tensor:
    """Mean over an image's features of the squared error (N,); the released code has the sum."""
    return (z - reconstructed).square().mean(dim=1)


def mfsim(z: Tensor, reconstructed: Tensor, sizes: Sequence[int], *, first: int = 0) -> Tensor:
    """Minus the mean over the layers from `first` on of the cosine between layer and reconstruction (N,)."""
    pairs = list(zip(_layers(z, sizes), _layers(reconstructed, sizes), strict=True))[first:]
    if not pairs:
        raise ValueError(f"mfsim without its first {first} of {len(sizes)} layers has none left")
    return -torch.stack([F.cosine_similarity(a, b, dim=1) for a, b in pairs]).mean(dim=0)


def _layers(z: Tensor, sizes: Sequence[int]) -> tuple[Tensor, ...]:
    return torch.split(z, list(sizes), dim=1)
