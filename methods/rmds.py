"""RMDS: the Mahalanobis distance to the nearest class, relative to that to all images together."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from torch import Tensor

from methods.base import Features, Method, register
from methods.mahalanobis import Mahalanobis


@register("rmds")
@dataclass
class RMDS(Method):
    """min_c (z - mu_c)^T P (z - mu_c) - (z - mu)^T P0 (z - mu).

    P: the pseudo-inverse of the covariance of the class-centred features, P0: of all features about their one
    mean. `normalise`: RMDS++, the same on z / |z|.
    """

    title = "RMDS"
    paper = (
        "Ren et al., A Simple Fix to Mahalanobis Distance for Improving Near-OOD Detection, 2021, "
        "https://arxiv.org/abs/2106.09022"
    )
    reads = ("embedding", "labels")

    normalise: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._classes = Mahalanobis(normalise=self.normalise)
        self._whole = Mahalanobis(normalise=self.normalise, per_class=False)

    def fit(self, train: Features, *, seed: int = 0, device: str = "cpu", workdir: Path | None = None) -> Self:
        train.need_labels()
        self._classes.fit(train, device=device)
        self._whole.fit(train, device=device)
        return self

    def score(self, x: Features) -> Tensor:
        return self._classes.score(x) - self._whole.score(x)

    def state(self) -> dict[str, Tensor]:
        parts = {"classes": self._classes.state(), "whole": self._whole.state()}
        return {f"{part}.{name}": value for part, state in parts.items() for name, value in state.items()}

    def load_state(self, state: Mapping[str, Tensor], *, device: str = "cpu") -> Self:
        for part, method in (("classes", self._classes), ("whole", self._whole)):
            method.load_state({name: state[f"{part}.{name}"] for name in method.fitted}, device=device)
        return self
