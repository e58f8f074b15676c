"""pNML: the regret of the predictive normalised maximum likelihood learner of the last layer."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from methods.base import Features, Method, register
from methods.vectors.head import logits, probabilities, several
from methods.vectors.statistics import covariance, unit, whitening


@register("pnml")
@dataclass
class PNML(Method):
    """log sum_i p_i / (p_i + (1 - p_i) p_i^g) / log K; p = softmax(W z^ + b) of the **normalised** z^ = z / |z|.

    g = h / (1 + h), h = z^^T (X^T X)^+ z^, the rows of X the training z^. The pseudo-inverse is float64's, whose
    cut is D epsilon of the largest eigenvalue: float32's loses most directions (512 of a ResNet-18: 429).
    """

    title = "pNML"
    paper = (
        "Bibas et al., Single Layer Predictive Normalized Maximum Likelihood for Out-of-Distribution Detection, "
        "NeurIPS 2021, https://arxiv.org/abs/2110.09246"
    )
    reads = ("embedding", "head")
    fitted = ("projection",)

    def fit(self, train: Features, *, seed: int = 0, device: str = "cpu", workdir: Path | None = None) -> Self:
        z = train.need("embedding")
        several(train.need_head())
        origin = torch.zeros(1, z.shape[1], dtype=torch.float64, device=device)
        scatter = covariance(z, origin, device=device, change=unit)
        self.projection = whitening(scatter, torch.finfo(torch.float64).eps) / math.sqrt(len(z))
        return self

    def score(self, x: Features) -> Tensor:
        z = unit(x.need("embedding"))
        h = (z @ self.projection).square().sum(dim=1, keepdim=True)
        f = logits(z, x.need_head())
        log_p, (_, rest) = f.log_softmax(dim=1), probabilities(f)
        # p / (p + (1 - p) p^g) = 1 / (1 + (1 - p) p^(g - 1)) in a form that knows no 0 / 0
        terms = (log_p / (1 + h) - rest.log()).sigmoid()
        return terms.sum(dim=1).log() / math.log(f.shape[1])
