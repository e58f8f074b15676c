"""DICE: the energy from the weights that contribute most on ID data."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from methods.base import Features, Method, register
from methods.vectors.statistics import means


@register("dice")
@dataclass
class DICE(Method):
    """-logsumexp((W * M) z + b), M = V > the `percentile` of V, V = mean_train(z) * W.

    One threshold over all classes and features. Meant for ReLU features. ValueError where the percentile is
    outside [0, 100).
    """

    title = "DICE"
    paper = (
        "Sun and Li, DICE: Leveraging Sparsification for Out-of-Distribution Detection, ECCV 2022, "
        "https://arxiv.org/abs/2111.09805"
    )
    reads = ("embedding", "head")
    fitted = ("weight",)

    percentile: float = 90

    def __post_init__(self) -> None:
        if not 0 <= self.percentile < 100:
            raise ValueError(f"dice: percentile is {self.percentile}; it must be at least 0 and below 100")

    def fit(self, train: Features, *, seed: int = 0, device: str = "cpu", workdir: Path | None = None) -> Self:
        weight = train.need_head().weight.to(device)
        contribution = means(train.need("embedding"), device=device) * weight
        threshold = float(np.percentile(contribution.cpu().numpy(), self.percentile))
        self.weight = weight * (contribution > threshold)
        return self

    def score(self, x: Features) -> Tensor:
        logits = x.need("embedding") @ self.weight.T + x.need_head().bias
        return -torch.logsumexp(logits.double(), dim=1)
