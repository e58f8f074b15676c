"""ASH: the energy after pruning and rescaling each image's activations."""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor

from methods.base import Features, Method, Range, combinations, register
from methods.vectors.shaping import largest, ratio


@register("ash")
@dataclass
class ASH(Method):
    """-logsumexp(W z' + b), z' the pooled embedding with all but its k largest entries set to 0, and these

    "p": left as they are; "b": all set to s1 / k; "s": multiplied by exp(s1 / s2), with s1 and s2 the sums
    before and after pruning, k = D - round(D percentile / 100), half to even.

    Meant for ReLU features, where 1 <= s1 / s2 <= D / k. Where s2 <= 0 (SiLU and GELU features, or an image
    without a positive activation) the ratio means nothing and "s" scales by 1; the exponent stops at 600,
    beyond D / k of every published percentile: so scores are finite (in float64, which they are).
    CannotRun for a percentile that leaves no entry (k = 0).
    """

    title = "ASH"
    paper = (
        "Djurisic et al., Extremely Simple Activation Shaping for Out-of-Distribution Detection, ICLR 2023, "
        "https://arxiv.org/abs/2209.09858"
    )
    reads = ("embedding", "head")
    score_only = ("variant", "percentile")
    grid = combinations(percentile=(65, 70, 75, 80, 85, 90, 95))

    variant: Literal["s", "b", "p"] = "s"
    percentile: Annotated[float, Range(0, 100, "[)")] = 90

    def score(self, x: Features) -> Tensor:
        z, head = x.need("embedding"), x.need_head()
        shaped, scale = self.shape(z)
        logits = scale[:, None] * (shaped @ head.weight.T).double() + head.bias
        return -torch.logsumexp(logits, dim=1)

    def shape(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The pruned embedding (N, D) and the factor of each row (N,), float64: z' is their product."""
        values, kept = largest(z, self.percentile)
        scale = torch.ones(z.shape[0], dtype=torch.float64, device=z.device)
        shaped = z
        if self.variant == "b":
            mean = z.sum(dim=1, dtype=torch.float64) / values.shape[1]
            shaped = mean.to(z.dtype)[:, None]
        elif self.variant == "s":
            scale = ratio(z, values, otherwise=0).exp()
        return torch.where(kept, shaped, 0), scale
