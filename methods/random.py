"""A coin: AUROC .5 up to noise, whatever the data. A check of the harness."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import torch
from torch import Tensor

from methods.base import Features, Method, register
from methods.vectors.noise import hashed, uniform


@register("random")
@dataclass
class Random(Method):
    """Uniform in (0, 1), a function of the seed and of the image's pixels alone, or of another `feature` of it.

    Not of its index: two sets of one size would get the same scores, and an AUROC of exactly .5 whatever the harness
    did with them. Images that are the same, number for number, get one score.
    """

    title = "Random"
    paper = "control: AUROC .5 up to noise"
    reads = ("pixels",)
    fitted = ("seed",)
    random_fit = True

    feature: Literal["pixels", "embedding", "logits", "layers"] = "pixels"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.__dict__["reads"] = (self.feature,)  # hides the class's, which is the default's

    def fit(self, train: Features, *, seed: int = 0, device: str = "cpu", workdir: Path | None = None) -> Self:
        self.seed = seed
        return self

    def score(self, x: Features) -> Tensor:
        rows = x.need(self.feature).contiguous()
        return uniform(hashed(rows.view(torch.uint8)), seed=int(self.seed))
