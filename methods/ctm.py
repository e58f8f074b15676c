"""CTM: cosine to the nearest class mean."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from methods.base import Features, Method, register
from methods.vectors.statistics import means, unit


@register("ctm")
@dataclass
class CTM(Method):
    """-max_c cos(z, mu_c), mu_c the mean training z of class c."""

    title = "CTM"
    paper = (
        "Ngoc-Hieu et al., A Cosine Similarity-based Method for Out-of-Distribution Detection, 2023, "
        "https://arxiv.org/abs/2306.14920"
    )
    reads = ("embedding", "labels")
    fitted = ("centres",)

    def fit(self, train: Features, *, seed: int = 0, device: str = "cpu", workdir: Path | None = None) -> Self:
        groups = torch.unique(train.need_labels(), return_inverse=True)[1]
        self.centres = unit(means(train.need("embedding"), device=device, groups=groups))
        return self

    def score(self, x: Features) -> Tensor:
        return -(unit(x.need("embedding")) @ self.centres.T).amax(dim=1)
