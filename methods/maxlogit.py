"""Maximum logit: confidence without the softmax's normalisation."""

from dataclasses import dataclass

from torch import Tensor

from methods.base import Features, Method, register


@register("maxlogit")
@dataclass
class MaxLogit(Method):
    """-max_c f_c."""

    title = "MaxLogit"
    paper = (
        "Hendrycks et al., Scaling Out-of-Distribution Detection for Real-World Settings, ICML 2022, "
        "https://arxiv.org/abs/1911.11132"
    )
    reads = ("logits",)

    def score(self, x: Features) -> Tensor:
        return -x.need("logits").amax(dim=1)
