"""Energy (EBO): the free energy of the logits."""

from dataclasses import dataclass

import torch
from torch import Tensor

from methods.base import Features, Method, Positive, register


@register("ebo")
@dataclass
class EBO(Method):
    """E = -T logsumexp(f / T)."""

    title = "Energy (EBO)"
    paper = "Liu et al., Energy-based Out-of-distribution Detection, NeurIPS 2020, https://arxiv.org/abs/2010.03759"
    reads = ("logits",)
    score_only = ("temperature",)

    temperature: Positive = 1.0

    def score(self, x: Features) -> Tensor:
        logits = x.need("logits").double()
        return -self.temperature * torch.logsumexp(logits / self.temperature, dim=1)
