"""pNML: the regret of the predictive normalised maximum likelihood learner of the last layer."""

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from methods.base import Features, register
from methods.vectors.head import logits, probabilities, several
from methods.vectors.statistics import unit, whitening
from methods.vectors.sums import Summed, Sums, moments


@register("pnml")
@dataclass
class PNML(Summed):
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

    def sums(self, block: Features) -> dict[str, Tensor]:
        several(block.need_head())
        return moments(unit(block.need("embedding")))

    def fit_sums(self, sums: Sums) -> Self:
        scatter, n = sums["products"] / sums["count"], float(sums["count"])
        self.projection = whitening(scatter, torch.finfo(torch.float64).eps) / math.sqrt(n)
        return self

    def score(self, x: Features) -> Tensor:
        z = unit(x.need("embedding"))
        h = (z @ self.projection).square().sum(dim=1, keepdim=True)
        f = logits(z, x.need_head())
        log_p, (_, rest) = f.log_softmax(dim=1), probabilities(f)
        # p / (p + (1 - p) p^g) = 1 / (1 + (1 - p) p^(g - 1)) in a form that knows no 0 / 0
        terms = (log_p / (1 + h) - rest.log()).sigmoid()
        return terms.sum(dim=1).log() / math.log(f.shape[1])
