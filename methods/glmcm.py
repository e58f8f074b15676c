"""GL-MCM: MCM, and the same of the best part of the image."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from methods.base import Features, Method, NotNegative, Positive, register


@register("glmcm")
@dataclass
class GLMCM(Method):
    """-max_c softmax(f / tau) - weight max over positions i and classes c of softmax(f_i / tau), in float64.

    f the cosines of the image and each class's name; of those f_i of each of its parts, `local` (the encoder `clip`,
    with its own tau) is the largest softmax. The authors' ImageNet script has a weight of .5,
    their parser of 1: preset `parser`.
    """

    title = "GL-MCM"
    paper = (
        "Miyai et al., GL-MCM: Global and Local Maximum Concept Matching for Zero-Shot Out-of-Distribution Detection, "
        "IJCV 2025, https://arxiv.org/abs/2304.04521"
    )
    reads = ("logits", "local")
    score_only = ("tau", "weight")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"parser": {"weight": 1.0}}

    tau: Positive = 1.0
    weight: NotNegative = 0.5

    def score(self, x: Features) -> Tensor:
        whole = (x.need("logits").double() / self.tau).softmax(dim=1).amax(dim=1)
        return -whole - self.weight * x.need("local")[:, 0].double()
