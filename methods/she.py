"""SHE: likeness to the stored pattern of the predicted class."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import torch
from torch import Tensor

from methods.base import Features, Method, register
from methods.vectors.head import logits, predictions, rightly
from methods.vectors.statistics import length, means, unit


@register("she")
@dataclass
class SHE(Method):
    """-z . S_k, k = argmax f; S_c the mean z of the training images of class c that are predicted as c.

    `similarity` "cosine": -cos(z, S_k); "euclidean": |z - S_k|. CannotRun, with the class, where no image of a
    class is predicted right.
    """

    title = "SHE"
    paper = (
        "Zhang et al., Out-of-Distribution Detection based on In-Distribution Data Patterns Memorization with Modern "
        "Hopfield Energy, ICLR 2023, https://openreview.net/forum?id=KkazG4lgKL"
    )
    reads = ("embedding", "head", "labels")
    score_only = ("similarity",)
    fitted = ("patterns",)

    similarity: Literal["inner", "cosine", "euclidean"] = "inner"

    def fit(self, train: Features, *, seed: int = 0, device: str = "cpu", workdir: Path | None = None) -> Self:
        z, head, labels = train.need("embedding"), train.need_head(), train.need_labels()
        right = rightly(predictions(z, head, device), labels, len(head.bias)).to(z.device)
        self.patterns = means(z[right], device=device, groups=labels[right])
        return self

    def score(self, x: Features) -> Tensor:
        z = x.need("embedding").double()
        pattern = self.patterns[logits(z, x.need_head()).argmax(dim=1)]
        if self.similarity == "euclidean":
            return length(z - pattern)
        if self.similarity == "cosine":
            z, pattern = unit(z), unit(pattern)
        return -torch.sum(z * pattern, dim=1)
