"""DICE: the energy from the weights that contribute most on ID data."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

import numpy as np
import torch
from torch import Tensor

from methods.base import CannotRun, Features, Method, Range, register
from methods.vectors.statistics import means


@register("dice")
@dataclass
class DICE(Method):
    """-logsumexp((W * M) z + b), M = V > the `percentile` of V, V = mean_train(z) * W.

    One threshold over all classes and features. Meant for ReLU features. CannotRun where no weight is above it.
    """

    title = "DICE"
    paper = (
        "Sun and Li, DICE: Leveraging Sparsification for Out-of-Distribution Detection, ECCV 2022, "
        "https://arxiv.org/abs/2111.09805"
    )
    reads = ("embedding", "head")
    fitted = ("weight",)

    percentile: Annotated[float, Range(0, 100, "[)")] = 90

    def fit(self, train: Features, *, seed: int = 0, device: str = "cpu", workdir: Path | None = None) -> Self:
        weight = train.need_head().weight.to(device)
        contribution = means(train.need("embedding"), device=device) * weight
        threshold = float(np.percentile(contribution.cpu().numpy(), self.percentile))
        if not bool((contribution > threshold).any()):
            raise CannotRun(f"no weight contributes more than percentile {self.percentile:g}: all images score alike")
        self.weight = weight * (contribution > threshold)
        return self

    def score(self, x: Features) -> Tensor:
        logits = x.need("embedding") @ self.weight.T + x.need_head().bias
        return -torch.logsumexp(logits.double(), dim=1)
