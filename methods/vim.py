"""ViM: a virtual logit from what the principal directions of the embedding leave over."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from methods.base import Count, Features, Method, combinations, register
from methods.vectors.residual import residual
from methods.vectors.statistics import float64_blocks, length


@register("vim")
@dataclass
class ViM(Method):
    """alpha |R^T (z - u)| - logsumexp(W z + b).

    u = -pinv(W) b; R the eigenvectors of mean((z - u)(z - u)^T) beyond the `dim` largest; alpha =
    mean max_c f / mean |R^T (z - u)|; all means over the ID training set. `dim` None: 1000 for D >= 2048, 512
    for D >= 768, else D // 2, as published. CannotRun where `dim` is not below D or leaves no residual
    (too few images).
    """

    title = "ViM"
    paper = (
        "Wang et al., ViM: Out-Of-Distribution with Virtual-logit Matching, CVPR 2022, https://arxiv.org/abs/2203.10807"
    )
    reads = ("embedding", "head")
    fitted = ("origin", "residual", "alpha")
    grid = combinations(dim=(256, 1000))

    dim: Count | None = None

    def fit(self, train: Features, *, seed: int = 0, device: str = "cpu", workdir: Path | None = None) -> Self:
        z, head = train.need("embedding"), train.need_head().to(device)
        weight, bias = head.weight.double(), head.bias.double()
        self.origin, self.residual = residual(z, head, self.dim, device)
        largest_logit = residual_norm = torch.zeros((), dtype=torch.float64, device=device)
        for block in float64_blocks(z, device):
            largest_logit = largest_logit + (block @ weight.T + bias).amax(dim=1).sum()
            residual_norm = residual_norm + self._residual_norm(block).sum()
        self.alpha = largest_logit / residual_norm
        return self

    def _residual_norm(self, z: Tensor) -> Tensor:
        return length((z - self.origin) @ self.residual)

    def score(self, x: Features) -> Tensor:
        z = x.need("embedding")
        energy = -torch.logsumexp(x.need_head()(z).double(), dim=1)
        return self.alpha * self._residual_norm(z.double()) + energy
