"""Gram: how far an image's Gram matrices leave the range of its class, over every map and power."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from methods.base import CannotRun, Features, Method, hold_out, register
from methods.vectors.statistics import row_blocks


@register("gram")
@dataclass
class Gram(Method):
    """sum over layers of delta_l / E delta_l, over max p; delta_l = sum relu(m - G) / |m + e| + relu(G - M) / |M + e|.

    G the `gram` of a layer (the encoder `inside`: every power), m and M its smallest and largest values over the
    training images of the predicted class, e = 1e-6. E delta_l is the mean over ID images that m and M are not of: the
    calibration images, or a hold-out of the training images. A layer in which none of these leaves the range counts as
    it is. group: the class of a training image is the one that it is "predicted" as (authors), or its "label"
    (OpenOOD); a class without images has the range of all.
    """

    title: ClassVar[str] = "Gram"
    paper: ClassVar[str] = (
        "Sastry and Oore, Detecting Out-of-Distribution Examples with Gram Matrices, ICML 2020, "
        "https://arxiv.org/abs/1912.12510"
    )
    reads: ClassVar[tuple[str, ...]] = ("gram", "logits")
    calibrates: ClassVar[bool] = True
    fitted: ClassVar[tuple[str, ...]] = ("low", "high", "usual", "sizes")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"openood": {"group": "label"}}

    group: Literal["predicted", "label"] = "predicted"

    def fit(self, train: Features, *, seed: int = 0, device: str = "cpu", workdir: Path | None = None) -> Self:
        if train.validation is None:
            if len(train) < 2:
                raise CannotRun("needs a training image to calibrate on beside those that it is fitted on")
            fitted, held = hold_out(len(train))
            train, held_out = train[fitted], train[held]
        else:
            held_out = train.validation
        self.sizes = torch.tensor([part.shape[1] for part in train.split_extra("gram")])
        values = train.need("gram")
        logits = train.need("logits").to(device)
        groups = logits.argmax(dim=1) if self.group == "predicted" else train.need_labels().to(device)
        count = max(logits.shape[1], int(groups.max()) + 1)
        low = torch.full((count, values.shape[1]), torch.inf, device=device)
        high, start = -low, 0
        for block in row_blocks(values, values.shape[1]):
            there = groups[start : start + len(block)]
            start += len(block)
            rows = there[:, None].expand(-1, values.shape[1])
            low.scatter_reduce_(0, rows, block.to(device), "amin")
            high.scatter_reduce_(0, rows, block.to(device), "amax")
        empty = groups.bincount(minlength=count) == 0
        self.low = torch.where(empty[:, None], low.amin(dim=0), low)
        self.high = torch.where(empty[:, None], high.amax(dim=0), high)
        self.usual = torch.ones(len(self.sizes), dtype=torch.float64, device=device)
        mean = torch.cat([self._deviations(block.to(device)) for block in held_out.blocks(256)]).mean(dim=0)
        self.usual = torch.where(mean > 0, mean, 1.0)
        return self

    def _deviations(self, x: Features) -> Tensor:
        """delta of each layer (N, L), float64."""
        values, predicted = x.need("gram").double(), x.need("logits").argmax(dim=1)
        low, high = self.low[predicted].double(), self.high[predicted].double()
        below, above = (low - values).relu() / (low + 1e-6).abs(), (values - high).relu() / (high + 1e-6).abs()
        layers = torch.split(below + above, self.sizes.tolist(), dim=1)
        return torch.stack([layer.sum(dim=1) for layer in layers], dim=1)

    def score(self, x: Features) -> Tensor:
        confidence = x.need("logits").double().softmax(dim=1).amax(dim=1)
        parts = [(self._deviations(block) / self.usual).sum(dim=1) for block in x.blocks(256)]
        return torch.cat(parts) / confidence
