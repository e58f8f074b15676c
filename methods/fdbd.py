"""fDBD: distance to the decision boundaries."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import torch
from torch import Tensor

from methods.base import CannotRun, Features, Method, combinations, register
from methods.vectors.head import logits, several
from methods.vectors.statistics import TINY, length, means


@register("fdbd")
@dataclass
class FDBD(Method):
    """-mean over c != k of (f_k - f_c) / |w_k - w_c|, over |z - mu|; k = argmax f, mu the mean training z.

    `norm` "origin": over |z|, between which OpenOOD chooses on its validation OOD. The mean as pytorch-ood; the
    authors and OpenOOD have the sum: the same order. CannotRun where two classes have the same weights.
    """

    title = "fDBD"
    paper = (
        "Liu and Qin, Fast Decision Boundary based Out-of-Distribution Detector, ICML 2024, "
        "https://arxiv.org/abs/2312.11536"
    )
    reads = ("embedding", "head")
    score_only = ("norm",)
    fitted = ("mean", "apart")
    grid = combinations(norm=("mean", "origin"))

    norm: Literal["mean", "origin"] = "mean"

    def fit(self, train: Features, *, seed: int = 0, device: str = "cpu", workdir: Path | None = None) -> Self:
        head = train.need_head().to(device)
        several(head)
        weight = head.weight.double()
        self.apart = torch.cdist(weight, weight, compute_mode="donot_use_mm_for_euclid_dist")
        self.apart.fill_diagonal_(1)  # f_k - f_k is 0
        if not bool(self.apart.all()):
            first, second = (self.apart == 0).nonzero()[0].tolist()
            raise CannotRun(f"needs a boundary between any two classes; {first} and {second} have the same weights")
        self.mean = means(train.need("embedding"), device=device)
        return self

    def score(self, x: Features) -> Tensor:
        z = x.need("embedding").double()
        f = logits(z, x.need_head())
        largest, k = f.max(dim=1, keepdim=True)
        distance = ((largest - f) / self.apart[k[:, 0]]).sum(dim=1) / (f.shape[1] - 1)
        centre = self.mean if self.norm == "mean" else 0
        return -distance / length(z - centre).clamp(min=TINY)
