"""Fits that are sums over the training images: of whatever parts these come in, added in order, to the last bit."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from methods.base import Features, Method

BLOCK = 1024  # images; shards are whole ones, so that no block lies in two
Sums = Mapping[str, Tensor]


class Summed(Method):
    """A method whose fit is sums in float64: `sums` of each block of BLOCK images, added in order, then `fit_sums`.

    So it is the same to the bit for features in one piece and in shards, and nothing is gathered. Not for covariances
    about a mean that may be large: they cancel (see `statistics.covariance`).
    """

    @abstractmethod
    def sums(self, block: Features) -> dict[str, Tensor]:
        """What at most BLOCK training images add, where they are: float64, of one shape for all blocks."""

    @abstractmethod
    def fit_sums(self, sums: Sums) -> Self:
        """Learn from the sums over all training images."""

    def fit(self, train: Features, *, seed: int = 0, device: str = "cpu", workdir: Path | None = None) -> Self:
        return self.fit_sums(
            added(self.sums(block.to(device)) for block in replace(train, validation=None).blocks(BLOCK))
        )


def added(sums: Iterable[Sums], start: Sums | None = None) -> dict[str, Tensor]:
    """`start` and all `sums`, added in order: as of one shard after the other, each going on where the last ended."""
    total = dict(start or {})
    for more in sums:
        total = {name: total[name] + values if total else values for name, values in more.items()}
    return total


def moments(values: Tensor) -> dict[str, Tensor]:
    """What rows (N, D) add to their mean and covariance."""
    values = values.double()
    count = torch.tensor(len(values), dtype=torch.float64, device=values.device)
    return {"count": count, "sum": values.sum(dim=0), "products": values.T @ values}


def mean_and_covariance(sums: Sums) -> tuple[Tensor, Tensor]:
    """(D,) and (D, D), out of `moments`."""
    mean = sums["sum"] / sums["count"]
    return mean, sums["products"] / sums["count"] - mean[:, None] * mean
