"""GradNorm: the size of the gradient that pulls the prediction towards uniform."""

from dataclasses import dataclass

from torch import Tensor

from methods.base import Features, Method, register


@register("gradnorm")
@dataclass
class GradNorm(Method):
    """-|d/dW sum_c -log p_c|_1 = -|z|_1 sum_c |C p_c - 1|, p = softmax(f): the gradient is (C p - 1) z^T.

    The closed form, for a whole block, of the official code's gradient of the last layer's weights
    (temperature 1).
    """

    title = "GradNorm"
    paper = (
        "Huang et al., On the Importance of Gradients for Detecting Distributional Shifts in the Wild, "
        "NeurIPS 2021, https://arxiv.org/abs/2110.00218"
    )
    reads = ("embedding", "logits")

    def score(self, x: Features) -> Tensor:
        z, logits = x.need("embedding").double(), x.need("logits").double()
        p = logits.softmax(dim=1)
        return -z.abs().sum(dim=1) * (p.shape[1] * p - 1).abs().sum(dim=1)
