"""CoP and CoRP: what the principal components of ID images leave over, after a kernel's feature map."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from methods.base import CannotRun, Count, Features, Method, Positive, Range, register
from methods.vectors.noise import derive
from methods.vectors.statistics import covariance, float64_blocks, in_cache, length, means, spanning, unit


@register("kpca")
@dataclass
class KernelPCA(Method):
    """|(I - U U^T) (phi - m)|, m the mean training phi, U the leading eigenvectors of its covariance.

    `kernel` "cosine" (CoP): phi = z^ = z / |z|. "rff" (CoRP), random Fourier features of exp(-gamma |a - b|^2):
    phi = sqrt(2 / M) cos(w z^ + u), `features` M rows of w ~ N(0, 2 gamma I) and u ~ U(0, 2 pi), from the seed.
    U: the smallest number of eigenvectors whose `share` of the variance is reached (None: .85 of cosine, .80 of
    rff), with `floor` and the cosine kernel at least the number of classes of the labels - 1: fewer directions than
    classes span lose the classes themselves. Or `components` of them. CannotRun where U spans all of phi,
    or more than the images do.
    """

    title: ClassVar[str] = "Kernel PCA"
    paper: ClassVar[str] = (
        "Fang et al., Kernel PCA for Out-of-Distribution Detection, NeurIPS 2024, https://arxiv.org/abs/2402.02949"
    )
    reads: ClassVar[tuple[str, ...]] = ("embedding",)
    fitted: ClassVar[tuple[str, ...]] = ("frequencies", "phases", "mean", "leading")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "authors": {"floor": False},
        "imagenet": {"share": 0.99, "floor": False},
        "imagenet_contrastive": {"share": 0.7, "floor": False},
        "rff": {"kernel": "rff"},
        "rff_contrastive": {"kernel": "rff", "gamma": 1.0, "share": 0.7},
        "rff_imagenet": {"kernel": "rff", "gamma": 3.0, "features": 4096, "share": 0.5},
        "rff_imagenet_contrastive": {"kernel": "rff", "gamma": 1.0, "features": 4096, "share": 0.5},
    }

    kernel: Literal["cosine", "rff"] = "cosine"
    share: Annotated[float, Range(0, 1, "(]")] | None = None
    components: Count | None = None
    floor: bool = True
    gamma: Positive = 2.0
    features: Count = 2048

    def __post_init__(self) -> None:
        super().__post_init__()
        self.__dict__["random_fit"] = self.kernel == "rff"  # hides the class's, which is the default's

    def fit(self, train: Features, *, seed: int = 0, device: str = "cpu", workdir: Path | None = None) -> Self:
        z = train.need("embedding")
        self.frequencies, self.phases = (values.to(device) for values in self._draw(z.shape[1], seed))
        self.mean, variances, leading = self._principal(z, device)
        components = self.components or self._enough(variances.flip(0), train.labels)
        if components >= len(self.mean):
            raise CannotRun(f"needs more than {components} directions; there are {len(self.mean)}")
        spanned = len(spanning(variances, torch.finfo(torch.float64).eps))
        if components > spanned:  # beyond them a direction is arbitrary, and another on another device
            raise CannotRun(f"the training images span {spanned} directions, not {components}: lower components")
        self.leading = leading(components)
        return self

    def _principal(self, z: Tensor, device: str) -> tuple[Tensor, Tensor, Callable[[int], Tensor]]:
        """The mean phi (M,), the variances along the eigenvectors, ascending, and how to get those with the n largest.

        Of fewer images than features the matrix of their products has the same variances, and is the smaller one.
        """
        mean = means(z, device=device, change=self._map)
        if len(z) >= mean.shape[1]:
            variances, directions = torch.linalg.eigh(covariance(z, mean, device=device, change=self._map))
            return mean[0], variances, lambda n: directions[:, -n:].contiguous()
        centred = torch.cat([block - mean for block in float64_blocks(z, device, self._map)])
        variances, weights = torch.linalg.eigh(centred @ centred.T / len(z))
        return mean[0], variances, lambda n: torch.linalg.qr(centred.T @ weights[:, -n:]).Q

    def _draw(self, width: int, seed: int) -> tuple[Tensor, Tensor]:
        """w (M, D) and u (M,); M is 0 for the cosine kernel."""
        source = torch.Generator().manual_seed(derive(seed))
        size = self.features if self.kernel == "rff" else 0
        w = torch.randn(size, width, generator=source, dtype=torch.float64) * math.sqrt(2 * self.gamma)
        return w, torch.rand(size, generator=source, dtype=torch.float64) * 2 * math.pi

    def _map(self, z: Tensor) -> Tensor:
        if self.kernel == "cosine":
            return unit(z)
        return torch.addmm(self.phases, unit(z), self.frequencies.T).cos_().mul_(math.sqrt(2 / len(self.phases)))

    def _enough(self, variances: Tensor, labels: Tensor | None) -> int:
        share = self.share or (0.85 if self.kernel == "cosine" else 0.8)
        components = int((variances.cumsum(0) < share * variances.sum()).sum()) + 1
        if self.floor and self.kernel == "cosine" and labels is not None:
            components = max(components, len(torch.unique(labels[labels >= 0])) - 1)
        return components

    def score(self, x: Features) -> Tensor:
        z = x.need("embedding")
        return torch.cat([self._left_over(self._map(block) - self.mean) for block in in_cache(z, len(self.mean))])

    def _left_over(self, phi: Tensor) -> Tensor:
        return length(torch.addmm(phi, phi @ self.leading, self.leading.T, alpha=-1))
