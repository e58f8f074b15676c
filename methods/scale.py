"""SCALE: the energy after scaling each image's activations as a whole."""

from dataclasses import dataclass
from typing import Annotated

from torch import Tensor

from methods.base import Features, Method, Range, combinations, register
from methods.vectors.head import energy
from methods.vectors.shaping import largest, ratio


@register("scale")
@dataclass
class SCALE(Method):
    """-logsumexp(W z e^r + b), r the sum of z over the sum of its k largest entries; no entry is removed (ASH-S).

    k = D - round(D percentile / 100), half to even. Meant for ReLU features: as in ASH, e^r is 1 where the k
    largest do not add up to more than 0, and r stops at 600.
    """

    title = "SCALE"
    paper = (
        "Xu et al., Scaling for Training Time and Post-hoc Out-of-distribution Detection Enhancement, ICLR 2024, "
        "https://arxiv.org/abs/2310.00227"
    )
    reads = ("embedding", "head")
    score_only = ("percentile",)
    grid = combinations(percentile=(65, 70, 75, 80, 85, 90, 95))

    percentile: Annotated[float, Range(0, 100, "[)")] = 85

    def score(self, x: Features) -> Tensor:
        z, head = x.need("embedding"), x.need_head()
        kept, _ = largest(z, self.percentile)
        factor = ratio(z, kept, otherwise=0).exp()
        return energy(factor[:, None] * (z @ head.weight.T).double() + head.bias)
