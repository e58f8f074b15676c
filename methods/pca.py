"""PCA reconstruction: the linear control beside the methods that reconstruct layer features."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from methods.base import CannotRun, Count, Features, Method, register
from methods.vectors.layers import BLOCK, Std, check_layers, normalise, normalised
from methods.vectors.reconstruction import mfsim, mse
from methods.vectors.statistics import covariance, means, spanning


@register("pca")
@dataclass
class PCA(Method):
    """Error of z~ = m + V V^T (z0 - m); z0: the layers' channels, normalised within each layer as in DLSR.

    m is the mean of the ID images' z0, V (C, components) the leading eigenvectors of their covariance. Scores:
    "mfsim", -mean over layers of cos(z0^m, z~^m), as DLSR's; "mse", mean (z0 - z~)^2. CannotRun where the
    components span all that normalised layers can be: one direction less than channels in each layer;
    or where they are more than the ID images span.
    """

    title: ClassVar[str] = "PCA"
    paper: ClassVar[str] = (
        "Pearson, On lines and planes of closest fit to systems of points in space, Philosophical Magazine 1901, "
        "https://doi.org/10.1080/14786440109462720"
    )
    reads: ClassVar[tuple[str, ...]] = ("layers",)
    score_only: ClassVar[tuple[str, ...]] = ("components", "measure")
    fitted: ClassVar[tuple[str, ...]] = ("_mean", "_directions", "_sizes", "_spanned")

    components: Count = 64
    measure: Literal["mfsim", "mse"] = "mfsim"
    std: Std = "biased"

    def fit(self, train: Features, *, seed: int = 0, device: str = "cpu", workdir: Path | None = None) -> Self:
        z = normalised(train, self.std, device)
        self._sizes = torch.tensor(train.layer_sizes)
        centre = means(z, device=device)
        variances, directions = torch.linalg.eigh(covariance(z, centre, device=device))
        self._mean, self._directions = centre[0], directions.flip(1).contiguous()
        self._spanned = torch.tensor(len(spanning(variances)))
        self._check_components()
        return self

    def score(self, x: Features) -> Tensor:
        self._check_components()
        sizes = tuple(self._sizes.tolist())
        check_layers(x, sizes)
        leading = self._directions[:, : self.components]
        scores = []
        for block in x.blocks(BLOCK):
            z = normalise(block.need("layers"), sizes, self.std).double()
            reconstructed = self._mean + (z - self._mean) @ leading @ leading.T
            scores.append(mse(z, reconstructed) if self.measure == "mse" else mfsim(z, reconstructed, sizes))
        return torch.cat(scores)

    def _check_components(self) -> None:
        layers, spanned = int(self._sizes.sum()) - len(self._sizes), int(self._spanned)
        if self.components >= layers:
            raise CannotRun(f"needs more than {self.components} directions in the layers; there are {layers}")
        if self.components > spanned:  # beyond them a direction is arbitrary, and another on another device
            raise CannotRun(f"the training images span {spanned} directions, not {self.components}: lower components")
