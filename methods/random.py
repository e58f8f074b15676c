"""A coin: AUROC .5 up to noise, whatever the data. A check of the harness."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from methods.base import Features, Method, register
from methods.vectors.noise import hashed, uniform


@register("random")
@dataclass
class Random(Method):
    """Uniform in (0, 1), a function of the seed and of the image's pixels alone; of its features where there are none.

    Not of its index: two sets of one size would get the same scores, and an AUROC of exactly .5 whatever the harness
    did with them. Images that are the same, bit for bit, get one score.
    """

    title = "Random"
    paper = "control: AUROC .5 up to noise"
    reads = ("pixels", "embedding", "logits", "layers")
    reads_any = True
    fitted = ("seed",)
    random_fit = True

    def fit(self, train: Features, *, seed: int = 0, device: str = "cpu", workdir: Path | None = None) -> Self:
        self.seed = seed
        return self

    def score(self, x: Features) -> Tensor:
        name = next((name for name in self.reads if getattr(x, name) is not None), self.reads[0])
        return uniform(hashed(x.need(name).contiguous().view(torch.uint8)), seed=int(self.seed))
