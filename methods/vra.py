"""VRA: the energy after cutting activations off on both sides."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor

from methods.base import Features, Method, Range, combinations, register
from methods.vectors.head import energy, logits
from methods.vectors.shaping import reaches


@register("vra")
@dataclass
class VRA(Method):
    """-logsumexp(W v + b), v = 0 where z < a, c where z > c, else z (VRA-P).

    a and c: the `lower` and `upper` percentile of each feature (`per_channel`) or of all together, of the ID
    validation images, or of the training images where there are none. `below` "clip": a in the place of 0.
    CannotRun where no c is above the smallest activation (0, where so many are): all images score alike.
    Preset `openood` is its code: on ReLU features its a is 0, and the row equals ReAct at 90; `pytorch-ood` its.
    """

    title: ClassVar[str] = "VRA-P"
    paper: ClassVar[str] = (
        "Xu et al., VRA: Variational Rectified Activation for Out-of-distribution Detection, NeurIPS 2023, "
        "https://arxiv.org/abs/2302.11716"
    )
    reads: ClassVar[tuple[str, ...]] = ("embedding", "head")
    score_only: ClassVar[tuple[str, ...]] = ("below",)
    fitted: ClassVar[tuple[str, ...]] = ("low", "high")
    calibrates: ClassVar[bool] = True
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "openood": {"per_channel": False, "below": "clip"},
        "pytorch-ood": {"lower": 1.0, "upper": 99.0, "below": "clip"},
    }
    grid = combinations(upper=(85, 90, 95, 99), lower=(1, 5, 10, 15))

    lower: Annotated[float, Range(0, 100)] = 10
    upper: Annotated[float, Range(0, 100)] = 90
    per_channel: bool = True
    below: Literal["zero", "clip"] = "zero"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lower > self.upper:
            raise ValueError(f"VRA-P: lower is {self.lower}; it must be at most upper, {self.upper}")

    def fit(self, train: Features, *, seed: int = 0, device: str = "cpu", workdir: Path | None = None) -> Self:
        z = (train if train.validation is None else train.validation).need("embedding")
        # As ReAct's percentile: numpy copies the activations once.
        activations, axis = z.cpu().numpy(), 0 if self.per_channel else None
        found = np.percentile(activations, (self.lower, self.upper), axis=axis)
        reaches(activations, found[1], f"upper {self.upper:g}")
        self.low, self.high = torch.tensor(found, dtype=torch.float32, device=device)
        return self

    def score(self, x: Features) -> Tensor:
        z = x.need("embedding")
        shaped = torch.minimum(torch.maximum(z, self.low), self.high)
        if self.below == "zero":
            shaped = torch.where(z < self.low, 0.0, shaped)
        return energy(logits(shaped, x.need_head()))
