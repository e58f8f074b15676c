"""KL matching: distance of the prediction from the typical prediction of each class."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from methods.base import Features, Method, register
from methods.vectors.statistics import float64_blocks


@register("klm")
@dataclass
class KLMatching(Method):
    """min_k sum_c p_c log(p_c / d_kc), p = softmax(f), d_k the mean p of the training images predicted as k.

    Classes that no training image is predicted as have no d_k and take no part. Fitted on the ID training
    set, as ViM's code does; the paper takes ID validation images.
    """

    title = "KL matching"
    paper = (
        "Hendrycks et al., Scaling Out-of-Distribution Detection for Real-World Settings, ICML 2022, "
        "https://arxiv.org/abs/1911.11132"
    )
    reads = ("logits",)
    fitted = ("log_typical",)

    def fit(self, train: Features, *, seed: int = 0, device: str = "cpu", workdir: Path | None = None) -> Self:
        logits = train.need("logits")
        total = torch.zeros(logits.shape[1], logits.shape[1], dtype=torch.float64, device=device)
        for block in float64_blocks(logits, device):
            p = block.softmax(dim=1)
            total.index_add_(0, p.argmax(dim=1), p)
        total = total[total.sum(dim=1) > 0]
        typical = total / total.sum(dim=1, keepdim=True)  # each p adds up to 1, so a row's sum is its count
        self.log_typical = typical.clamp(min=torch.finfo(torch.float64).tiny).log()
        return self

    def score(self, x: Features) -> Tensor:
        p = x.need("logits").double().softmax(dim=1)
        divergence = torch.xlogy(p, p).sum(dim=1, keepdim=True) - p @ self.log_typical.T
        return divergence.amin(dim=1)
