"""Relation: how many training images an image is related to, by embedding and prediction."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.nn.functional import threshold

from methods.base import Features, Method, Positive, Share, combinations, register
from methods.vectors.statistics import float64_blocks, in_cache, row_blocks, unit

BANK = 4096  # training images whose relations are in hand at a time


@register("relation")
@dataclass
class Relation(Method):
    """-sum over training images i of [r_i > threshold] r_i^power, r_i = max(0, z^ . z^_i) (p . p_i).

    z^ = z / |z|, p = softmax(f). The whole training set is kept, float32; the power is that of the product.
    Preset `label_noise`: the power with which the authors look for wrong labels.
    """

    title: ClassVar[str] = "Relation"
    paper: ClassVar[str] = (
        "Kim et al., Neural Relation Graph: A Unified Framework for Identifying Label Noise and Outlier Data, "
        "NeurIPS 2023, https://arxiv.org/abs/2301.12321"
    )
    reads: ClassVar[tuple[str, ...]] = ("embedding", "logits")
    score_only: ClassVar[tuple[str, ...]] = ("power", "threshold")
    fitted: ClassVar[tuple[str, ...]] = ("directions", "predictions")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"label_noise": {"power": 4.0}}
    grid = combinations(power=(1.0, 2.0, 4.0, 6.0, 8.0))

    power: Positive = 1.0
    threshold: Share = 0.03

    def fit(self, train: Features, *, seed: int = 0, device: str = "cpu", workdir: Path | None = None) -> Self:
        z, f = train.need("embedding"), train.need("logits")
        self.directions = torch.cat([unit(block).float() for block in float64_blocks(z, device)])
        self.predictions = torch.cat([block.softmax(dim=1).float() for block in float64_blocks(f, device)])
        return self

    def score(self, x: Features) -> Tensor:
        z, p = unit(x.need("embedding")), x.need("logits").double().softmax(dim=1)
        blocks = zip(row_blocks(z, 2 * BANK), row_blocks(p, 2 * BANK), strict=True)
        return -torch.cat([self._related(*pair) for pair in blocks])

    def _related(self, z: Tensor, p: Tensor) -> Tensor:
        total = torch.zeros(z.shape[0], dtype=torch.float64, device=z.device)
        for directions, predicted in zip(
            torch.split(self.directions, BANK), torch.split(self.predictions, BANK), strict=True
        ):
            r = (z @ directions.double().T).mul_(p @ predicted.double().T)  # float64: [r > ..] is a jump
            total += torch.cat([self._sum(part) for part in in_cache(r, r.shape[1])])
        return total

    def _sum(self, r: Tensor) -> Tensor:
        """Of each row (N,); r below 0 is below every threshold. It is changed."""
        threshold(r, self.threshold, 0.0, inplace=True)
        return (r if self.power == 1 else r.pow_(self.power)).sum(dim=1)
