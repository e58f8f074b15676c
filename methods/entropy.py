"""Entropy of the prediction."""

from dataclasses import dataclass

from torch import Tensor

from methods.base import Features, Method, register


@register("entropy")
@dataclass
class Entropy(Method):
    """-sum_c p_c log p_c, p = softmax(f), in float64."""

    title = "Entropy"
    paper = (
        "Chan et al., Entropy Maximization and Meta Classification for Out-of-Distribution Detection in Semantic "
        "Segmentation, ICCV 2021, https://arxiv.org/abs/2012.06575"
    )
    reads = ("logits",)

    def score(self, x: Features) -> Tensor:
        log_p = x.need("logits").double().log_softmax(dim=1)
        return -(log_p.exp() * log_p).sum(dim=1)
