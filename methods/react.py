"""ReAct: the energy after clipping large activations."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

import numpy as np
import torch
from torch import Tensor

from methods.base import Features, Method, Range, combinations, register
from methods.vectors.shaping import reaches


@register("react")
@dataclass
class ReAct(Method):
    """-logsumexp(W min(z, c) + b); c is the `percentile` of all activations of the ID training set together.

    Meant for ReLU features. CannotRun where c is their smallest (0, where so many are), which leaves all images alike.
    """

    title = "ReAct"
    paper = (
        "Sun et al., ReAct: Out-of-distribution Detection With Rectified Activations, NeurIPS 2021, "
        "https://arxiv.org/abs/2111.12797"
    )
    reads = ("embedding", "head")
    fitted = ("clip",)
    grid = combinations(percentile=(85, 90, 95, 99))

    percentile: Annotated[float, Range(0, 100, "(]")] = 90

    def fit(self, train: Features, *, seed: int = 0, device: str = "cpu", workdir: Path | None = None) -> Self:
        # The one statistic here that is no sum: numpy copies the activations once, as kNN's index does.
        activations = train.need("embedding").cpu().numpy()
        clip = float(np.percentile(activations, self.percentile))
        reaches(activations, clip, f"the percentile {self.percentile:g}")
        self.clip = torch.tensor(clip, dtype=torch.float32, device=device)
        return self

    def score(self, x: Features) -> Tensor:
        logits = x.need_head()(torch.minimum(x.need("embedding"), self.clip))
        return -torch.logsumexp(logits.double(), dim=1)
