"""MCM: how well an image fits the class name that fits it best."""

from dataclasses import dataclass

from torch import Tensor

from methods.base import Features, Method, Positive, register


@register("mcm")
@dataclass
class MCM(Method):
    """-max_c softmax(f / tau), f the cosines of an image and each class's name (the encoder `clip`), in float64.

    No training, no labels. tau 1 on the cosines themselves, as in the paper: 100 on what CLIP calls its logits.
    """

    title = "MCM"
    paper = (
        "Ming et al., Delving into Out-of-Distribution Detection with Vision-Language Representations, NeurIPS 2022, "
        "https://arxiv.org/abs/2211.13445"
    )
    reads = ("logits",)
    score_only = ("tau",)

    tau: Positive = 1.0

    def score(self, x: Features) -> Tensor:
        return -(x.need("logits").double() / self.tau).softmax(dim=1).amax(dim=1)
