"""CARef: distance from the mean of the class that an image is predicted as."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from methods.base import Features, Method, register
from methods.vectors.statistics import TINY, means


def reference(z: Tensor, predicted: Tensor, classes: int, device: str) -> Tensor:
    """The mean z of the training images predicted as each class (K, D); of all images where nobody is."""
    present, groups = torch.unique(predicted, return_inverse=True)
    centres = means(z, device=device).repeat(classes, 1)
    centres[present.to(device)] = means(z, device=device, groups=groups)
    return centres


@register("caref")
@dataclass
class CARef(Method):
    """|z - m_k|_1 / |z|_1, k = argmax f, m_c the mean z of the training images **predicted** as c.

    A class that no training image is predicted as takes the mean of all.
    """

    title = "CARef"
    paper = (
        "Ling et al., CADRef: Robust Out-of-Distribution Detection via Class-Aware Decoupled Relative Feature "
        "Leveraging, CVPR 2025, https://arxiv.org/abs/2503.00325"
    )
    reads = ("embedding", "logits")
    fitted = ("centres",)

    def fit(self, train: Features, *, seed: int = 0, device: str = "cpu", workdir: Path | None = None) -> Self:
        z, f = train.need("embedding"), train.need("logits")
        self.centres = reference(z, f.argmax(dim=1), f.shape[1], device)
        return self

    def score(self, x: Features) -> Tensor:
        z, k = x.need("embedding").double(), x.need("logits").argmax(dim=1)
        return (z - self.centres[k]).abs().sum(dim=1) / z.abs().sum(dim=1).clamp(min=TINY)
