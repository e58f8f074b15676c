"""NAC: how well the training images cover an image's neuron activations, of the last layer."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import torch
from torch import Tensor

from methods.base import Count, Features, Head, Method, Positive, Range, register
from methods.vectors.drawing import by_class
from methods.vectors.head import classes, logits


@register("nac")
@dataclass
class NAC(Method):
    """-mean_d C_d[bin of s_d], s = sigmoid(a z * g), g = W^T (p - 1/K): the gradient of KL(uniform | p) by z.

    C_d[bin] = min(count / O, 1), the count over `images` / K training images of each class, drawn from the seed (of
    an image without a label: the predicted class); O (`full`) is for `images` and scales with how many there are.
    M (`edges`) edges that crowd around .5, M - 1 bins [left, right): a ReLU's 0 is in the bin that begins at .5.
    Presets: the authors' values for the last layer. (pytorch-ood has other bins.)
    """

    title: ClassVar[str] = "NAC"
    paper: ClassVar[str] = (
        "Liu et al., Neuron Activation Coverage: Rethinking Out-of-distribution Detection and Generalization, ICLR "
        "2024, https://arxiv.org/abs/2306.02879"
    )
    reads: ClassVar[tuple[str, ...]] = ("embedding", "head")
    fitted: ClassVar[tuple[str, ...]] = ("coverage",)
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "cifar100": {"slope": 50.0},
        "imagenet": {"full": 10.0, "slope": 3000.0},
    }
    random_fit: ClassVar[bool] = True

    edges: Annotated[int, Range(4)] = 50
    full: Positive = 50.0
    slope: Positive = 100.0
    images: Count = 1000

    def fit(self, train: Features, *, seed: int = 0, device: str = "cpu", workdir: Path | None = None) -> Self:
        z, head, groups = train.need("embedding"), train.need_head().to(device), classes(train, device)
        count = max(len(head.bias), int(groups.max()) + 1)
        rows = by_class(groups, torch.full((count,), max(1, round(self.images / count))), seed=seed)
        bins = self._bins(z[rows.to(z.device)].to(device), head).T
        counts = torch.zeros(len(bins), self.edges - 1, dtype=torch.float64, device=device)
        counts.scatter_add_(1, bins, torch.ones_like(bins, dtype=torch.float64))
        self.coverage = (counts / (self.full * len(rows) / self.images)).clamp(max=1)
        return self

    def _bins(self, z: Tensor, head: Head) -> Tensor:
        f = logits(z, head)
        gradient = (f.softmax(dim=1) - 1 / f.shape[1]) @ head.weight.double()
        return torch.searchsorted(self._edges().to(z.device), (self.slope * z * gradient).sigmoid(), right=True) - 1

    def _edges(self) -> Tensor:
        half = torch.linspace(1, math.sqrt(1000), self.edges // 2, dtype=torch.float64).log() / math.log(1000)
        upper = 1 - half.flip(0)
        upper[0] = 0.5  # exactly
        upper[-1] += 0.01
        return torch.cat([half[:-1], upper, torch.tensor([1.2], dtype=torch.float64)])

    def score(self, x: Features) -> Tensor:
        bins = self._bins(x.need("embedding"), x.need_head())
        return -self.coverage.gather(1, bins.T).mean(dim=0)
