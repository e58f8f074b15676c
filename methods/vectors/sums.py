"""Fits that are sums over the training images: of whatever parts these come in, added in order, to the last bit."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from methods.base import Features, Method

BLOCK = 1024  # images
SHARD = 20 * BLOCK  # images whose sums may be taken apart from all others: a number that no flag changes
Sums = Mapping[str, Tensor]


class Summed(Method):
    """A method whose fit is sums in float64: `sums` of blocks, added in order, those of each shard apart (`over`), then
    all of these, then `fit_sums`.

    So it is the same to the bit wherever the sums of a shard are taken, and no features are gathered. Not for
    covariances about a mean that may be large: they cancel (see `statistics.covariance`).
    """

    @abstractmethod
    def sums(self, block: Features) -> dict[str, Tensor]:
        """What at most BLOCK training images add, where they are: float64, of one shape for all blocks."""

    @abstractmethod
    def fit_sums(self, sums: Sums) -> Self:
        """Learn from the sums over all training images."""

    def over(self, shard: Features, device: str) -> dict[str, Tensor]:
        """What a shard adds: rows k SHARD to (k + 1) SHARD of the training images, for some k."""
        return added(self.sums(block.to(device)) for block in replace(shard, validation=None).blocks(BLOCK))

    def fit(self, train: Features, *, seed: int = 0, device: str = "cpu", workdir: Path | None = None) -> Self:
        return self.fit_sums(added(self.over(shard, device) for shard in train.blocks(SHARD)))


def added(sums: Iterable[Sums]) -> dict[str, Tensor]:
    """All `sums`, added in order."""
    total: dict[str, Tensor] = {}
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
