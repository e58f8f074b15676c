"""How a network is trained: epochs, rates, and torch's optimiser."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from methods.base import nearest


@dataclass(frozen=True)
class Recipe:
    """How to train. `ema`: cap of the decay min(ema, (1 + n) / (10 + n)) at update n, or None: no averaging.

    `schedule` is per step, after `warmup_epochs` of linear warm-up. `clip`: the gradient's largest norm.
    """

    epochs: int
    batch_size: int
    optimizer: Literal["adamw", "adam", "adamax", "sgd"]
    lr: float
    weight_decay: float = 0.0
    momentum: float = 0.0
    nesterov: bool = False
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_epochs: float = 0.0
    ema: float | None = None
    clip: float | None = None
    drop_last: bool = False

    def __post_init__(self) -> None:
        for name, valid in (("optimizer", ("adamw", "adam", "adamax", "sgd")), ("schedule", ("constant", "cosine"))):
            if getattr(self, name) not in valid:
                raise ValueError(f"{name} {getattr(self, name)!r}: {nearest(str(getattr(self, name)), valid)}")
        for name in ("epochs", "batch_size", "lr"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be greater than 0, not {getattr(self, name)}")

    def steps_per_epoch(self, n: int) -> int:
        """Batches in an epoch of n samples; with `drop_last` whole ones only, but never none."""
        return max(1, n // self.batch_size) if self.drop_last else math.ceil(n / self.batch_size)

    def lr_at(self, step: int, n: int) -> float:
        """The learning rate of step 0, 1, ...: linear warm-up, then constant or half a cosine down to 0."""
        per_epoch = self.steps_per_epoch(n)
        warmup, total = round(self.warmup_epochs * per_epoch), self.epochs * per_epoch
        if step < warmup:
            return self.lr * (step + 1) / warmup
        if self.schedule == "constant":
            return self.lr
        return self.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def optimizer(model: nn.Module, recipe: Recipe, *, capturable: bool = False) -> torch.optim.Optimizer:
    """torch's; `capturable`: a graph can hold its steps, and reads the learning rate, which changes, from a tensor."""
    kinds = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "adamax": torch.optim.Adamax, "sgd": torch.optim.SGD}
    parameters = [p for p in model.parameters() if p.requires_grad]
    how: dict[str, Any] = {"weight_decay": recipe.weight_decay, **flags(recipe.optimizer, capturable=capturable)}
    if recipe.optimizer == "sgd":
        how |= {"momentum": recipe.momentum, "nesterov": recipe.nesterov}
    how["lr"] = torch.tensor(recipe.lr, device=parameters[0].device) if capturable else recipe.lr
    made: Any = kinds[recipe.optimizer](parameters, **how)
    made._warned_capturable_if_run_uncaptured = True  # steps that warm a graph up run without it: that is no mistake
    return made  # type: ignore[no-any-return]


def flags(name: str, *, capturable: bool) -> dict[str, bool]:
    """How the optimiser of that name runs: as one kernel where torch has one, `capturable` where its steps are counted.

    SGD counts none.
    """
    how = {"foreach": True} if name == "adamax" else {"fused": True}
    return how | {"capturable": True} if capturable and name != "sgd" else how
