"""Cosine to the mean of the ID images' layer features: DLSR's MFsim with the same reconstruction for every image."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import torch
from torch import Tensor

from methods.base import Features, Method, register
from methods.vectors.layers import check_layers, normalised
from methods.vectors.reconstruction import mfsim
from methods.vectors.statistics import means


@register("cosine")
@dataclass
class Cosine(Method):
    """-mean over layers of cos(z0^m, mu^m); mu (C,) the mean of the ID images' z0, the channels normalised by layer.

    What is left of MFsim when nothing is learned but a mean: the least that a reconstruction must be better than.
    """

    title: ClassVar[str] = "Cosine to mean"
    paper: ClassVar[str] = (
        "A control of this project for DLSR (Yang et al., NeurIPS 2024), https://arxiv.org/abs/2411.10701"
    )
    reads: ClassVar[tuple[str, ...]] = ("layers",)
    fitted: ClassVar[tuple[str, ...]] = ("_mean", "_sizes")

    def fit(self, train: Features, *, seed: int = 0, device: str = "cpu", workdir: Path | None = None) -> Self:
        self._mean = means(normalised(train, device=device), device=device)[0].float()
        self._sizes = torch.tensor(train.layer_sizes)
        return self

    def score(self, x: Features) -> Tensor:
        sizes = tuple(self._sizes.tolist())
        check_layers(x, sizes)
        z = normalised(x, device=self._mean.device)
        return mfsim(z, self._mean.expand_as(z), sizes)
