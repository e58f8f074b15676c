"""Nearest neighbours in each layer apart: what DLSR's reading layer by layer is worth without its network."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

import torch
from torch import Tensor

from methods.base import Count, Features, Method, register
from methods.knn import KNN
from methods.vectors.layers import check_layers, normalised, split


@register("layer_knn")
@dataclass
class LayerKNN(Method):
    """Mean over layers of the distance of z0^m / |z0^m| to its k-th nearest among the training images' (kNN).

    z0: the layers' channels, normalised within each layer as in DLSR. Every layer counts the same, as in MFsim.
    CannotRun where k is above the number of training images.
    """

    title: ClassVar[str] = "kNN by layer"
    paper: ClassVar[str] = KNN.paper
    reads: ClassVar[tuple[str, ...]] = ("layers",)

    k: Count = 50

    def fit(self, train: Features, *, seed: int = 0, device: str = "cpu", workdir: Path | None = None) -> Self:
        self._sizes = train.layer_sizes
        self._parts = [
            KNN(self.k).fit(Features(embedding=layer), device=device)
            for layer in split(normalised(train, device=device), self._sizes)
        ]
        return self

    def score(self, x: Features) -> Tensor:
        check_layers(x, self._sizes)
        layers = split(normalised(x, device=x.index.device), self._sizes)
        of_layers = [part.score(replace(x, embedding=z)) for part, z in zip(self._parts, layers, strict=True)]
        return torch.stack(of_layers).mean(dim=0).to(x.index.device)

    def state(self) -> dict[str, Tensor]:
        rows = [part.state()["rows"] for part in self._parts]
        return {"rows": torch.cat(rows, dim=1), "layer_sizes": torch.tensor(self._sizes)}

    def load_state(self, state: Mapping[str, Tensor], *, device: str = "cpu") -> Self:
        self._sizes = tuple(state["layer_sizes"].tolist())
        self._parts = [
            KNN(self.k).load_state({"rows": rows.contiguous()}, device=device)
            for rows in split(state["rows"], self._sizes)
        ]
        return self
