"""The layers' channels as DLSR reads them, z0: normalised within each layer."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.base import Features

Std = Literal["biased", "unbiased"]
BLOCK = 4096  # images at a time: bounds the memory of normalising and reconstructing
_DELTA = 1e-5


def split(z: Tensor, sizes: Sequence[int]) -> tuple[Tensor, ...]:
    """(N, sum(sizes)) as one (N, c_m) a layer."""
    return torch.split(z, list(sizes), dim=1)


def normalise(layers: Tensor, sizes: Sequence[int], std: Std = "biased") -> Tensor:
    """Each image's channels (N, sum(sizes)) to mean 0 and deviation 1 within each layer (DLSR, eq. 1).

    "biased": (f - mean) / sqrt(variance + 1e-5), the paper's form; its delta is not printed, so layer norm's
    is used. "unbiased": (f - mean) / (std + 1e-5) with n - 1, the released code's.
    """
    blocks = []
    for layer in split(layers, sizes):
        if std == "biased":
            blocks.append(F.layer_norm(layer, layer.shape[1:], eps=_DELTA))
        else:
            deviation, mean = torch.std_mean(layer, dim=1, keepdim=True)
            blocks.append((layer - mean) / (deviation + _DELTA))
    return torch.cat(blocks, dim=1)


def normalised(x: Features, std: Std = "biased", device: str | torch.device = "cpu") -> Tensor:
    """`x.layers` normalised, (N, C) float32 on `device`; read in blocks, for they may be a memory map."""
    layers = x.need("layers")
    if torch.compiler.is_exporting():  # a graph of any number of images, which has no blocks
        return normalise(layers, x.layer_sizes, std)
    z = torch.empty(layers.shape, device=device)
    for start in range(0, len(layers), BLOCK):
        rows = slice(start, start + BLOCK)
        z[rows] = normalise(layers[rows].to(device), x.layer_sizes, std)
    return z


def vectors(x: Features, feature: str, device: str | torch.device = "cpu") -> Tensor:
    """The feature (N, D) that a detector on vectors is told to read; of `layers` z0, so that it sees what DLSR sees."""
    return normalised(x, device=device) if feature == "layers" else x.need(feature)


def check_layers(x: Features, sizes: Sequence[int]) -> None:
    """ValueError where the layers are not those of the fit."""
    if x.layer_sizes != tuple(sizes):
        raise ValueError(f"fitted on layers of {tuple(sizes)} channels; these have {x.layer_sizes}")
