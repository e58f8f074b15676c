"""GEN: the generalised entropy of the largest probabilities."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from methods.base import Count, Features, Method, Positive, combinations, register
from methods.vectors.head import probabilities


def generalised_entropy(logits: Tensor, gamma: float, m: int) -> Tensor:
    """sum over the m largest p of p^gamma (1 - p)^gamma (N,); m: all classes where there are fewer."""
    p, rest = probabilities(logits)
    largest, classes = p.topk(min(m, p.shape[1]), dim=1)
    return (largest * rest.gather(1, classes)).pow(gamma).sum(dim=1)


@register("gen")
@dataclass
class GEN(Method):
    """sum over the `m` largest p of p^gamma (1 - p)^gamma, p = softmax(f); `m`: all classes where there are fewer.

    The authors' sum (pytorch-ood has the mean: the same order). 1 - p of the largest p is the sum of the others in
    float64: 0 in float32 for confident images. Preset `cadref`: what CADRef's authors take for CIFAR.
    """

    title: ClassVar[str] = "GEN"
    paper: ClassVar[str] = (
        "Liu et al., GEN: Pushing the Limits of Softmax-Based Out-of-Distribution Detection, CVPR 2023, "
        "https://openaccess.thecvf.com/content/CVPR2023/html/Liu_GEN_CVPR_2023_paper.html"
    )
    reads: ClassVar[tuple[str, ...]] = ("logits",)
    score_only: ClassVar[tuple[str, ...]] = ("gamma", "m")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"cadref": {"m": 10}}
    grid = combinations(gamma=(0.01, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0), m=(10, 50, 100, 200, 500, 1000))

    gamma: Positive = 0.1
    m: Count = 100

    def score(self, x: Features) -> Tensor:
        return generalised_entropy(x.need("logits"), self.gamma, self.m)
