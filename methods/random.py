"""A coin: AUROC .5 up to noise, whatever the data. A check of the harness."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from torch import Tensor

from methods.base import Features, Method, register
from methods.vectors.noise import uniform


@register("random")
@dataclass
class Random(Method):
    """Uniform in (0, 1), a function of the seed and the image's index alone."""

    title = "Random"
    paper = "control: AUROC .5 up to noise"
    fitted = ("seed",)
    random_fit = True

    def fit(self, train: Features, *, seed: int = 0, device: str = "cpu", workdir: Path | None = None) -> Self:
        self.seed = seed
        return self

    def score(self, x: Features) -> Tensor:
        return uniform(x.index, seed=int(self.seed))
