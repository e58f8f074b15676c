"""LTS: the energy of logits that are scaled by what the embedding's largest entries hold of it."""

from dataclasses import dataclass
from typing import Annotated

from torch import Tensor

from methods.base import Features, Method, Range, register
from methods.vectors.head import energy
from methods.vectors.shaping import largest, ratio


@register("lts")
@dataclass
class LTS(Method):
    """-logsumexp(f r^2), r the sum of relu(z) over the sum of its k largest entries, 1 where no entry is above 0.

    k = D - round(D percentile / 100), half to even.
    """

    title = "LTS"
    paper = "Djurisic et al., Logit Scaling for Out-of-Distribution Detection, 2024, https://arxiv.org/abs/2409.01175"
    reads = ("embedding", "logits")
    score_only = ("percentile",)

    percentile: Annotated[float, Range(0, 100, "[)")] = 95

    def score(self, x: Features) -> Tensor:
        z = x.need("embedding").relu()
        kept, _ = largest(z, self.percentile)
        return energy(x.need("logits") * ratio(z, kept, otherwise=1).square()[:, None])
