"""NCI: closeness of the centred embedding to the weights of its class, and the embedding's size."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from torch import Tensor

from methods.base import Features, Method, NotNegative, combinations, register
from methods.vectors.head import logits
from methods.vectors.statistics import TINY, length, means


@register("nci")
@dataclass
class NCI(Method):
    """-( w_k . (z - mu) / |z - mu| + alpha |z|_1 ), k = argmax f, mu the mean training z, w_k as it is.

    `alpha` is OpenOOD's default, which it searches in 1e-4 to .1; preset `pytorch-ood`: 0.
    """

    title: ClassVar[str] = "NCI"
    paper: ClassVar[str] = (
        "Liu and Qin, Detecting Out-of-Distribution through the Lens of Neural Collapse, CVPR 2025, "
        "https://arxiv.org/abs/2311.01479"
    )
    reads: ClassVar[tuple[str, ...]] = ("embedding", "head")
    score_only: ClassVar[tuple[str, ...]] = ("alpha",)
    fitted: ClassVar[tuple[str, ...]] = ("mean",)
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"pytorch-ood": {"alpha": 0.0}}
    grid = combinations(alpha=(0.0001, 0.001, 0.01, 0.1))

    alpha: NotNegative = 1e-4

    def fit(self, train: Features, *, seed: int = 0, device: str = "cpu", workdir: Path | None = None) -> Self:
        self.mean = means(train.need("embedding"), device=device)
        return self

    def score(self, x: Features) -> Tensor:
        z, head = x.need("embedding").double(), x.need_head()
        weight = head.weight.double()[logits(z, head).argmax(dim=1)]
        centred = z - self.mean
        closeness = (weight * centred).sum(dim=1) / length(centred).clamp(min=TINY)
        return -(closeness + self.alpha * z.abs().sum(dim=1))
