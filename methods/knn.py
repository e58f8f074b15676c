"""Distance to the k-th nearest training image, in the space of normalised features."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import torch
from torch import Tensor
from torch.nn.functional import normalize

from methods.base import CannotRun, Count, Features, Method, combinations, register
from methods.vectors.layers import vectors
from methods.vectors.neighbours import neighbours

ROWS = 4096  # training rows normalised at a time


@register("knn")
@dataclass
class KNN(Method):
    """|z' - its k-th nearest neighbour among the training set's z'|, z' = z / |z|: exact search.

    z: the `feature`; of "layers" their channels, normalised within each layer as in DLSR. CannotRun where k is above
    the number of training images.
    """

    title = "kNN"
    paper = (
        "Sun et al., Out-of-Distribution Detection with Deep Nearest Neighbors, ICML 2022, "
        "https://arxiv.org/abs/2204.06507"
    )
    reads = ("embedding",)
    grid = combinations(k=(50, 100, 200, 500, 1000))

    k: Count = 50
    feature: Literal["embedding", "logits", "layers"] = "embedding"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.__dict__["reads"] = (self.feature,)  # hides the class's, which is the default's

    def fit(self, train: Features, *, seed: int = 0, device: str = "cpu", workdir: Path | None = None) -> Self:
        rows = vectors(train, self.feature)
        bank = torch.empty(rows.shape)
        for start in range(0, len(rows), ROWS):
            bank[start : start + ROWS] = normalize(rows[start : start + ROWS], dim=1)
        return self._over(bank, device)

    def _over(self, bank: Tensor, device: str) -> Self:
        if self.k > len(bank):
            raise CannotRun(f"k is {self.k} but there are only {len(bank)} training images: lower k")
        self._bank = neighbours(bank, device)
        return self

    def score(self, x: Features) -> Tensor:
        return self._bank.kth(normalize(vectors(x, self.feature, x.index.device), dim=1), self.k)

    def state(self) -> dict[str, Tensor]:
        return {"rows": self._bank.rows.cpu()}

    def load_state(self, state: Mapping[str, Tensor], *, device: str = "cpu") -> Self:
        return self._over(state["rows"], device)
