"""TempScale: the maximum softmax probability at the temperature that calibrates it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from methods.base import CannotRun, Features, Method, register
from methods.vectors.head import probabilities
from methods.vectors.statistics import float64_blocks


@register("tempscale")
@dataclass
class TempScale(Method):
    """-max_c softmax(f / T), T in [.1, 10] of the least negative log-likelihood of the labels.

    T is fitted on the ID validation images, or on the training images where there are none: a network that has
    learned those by heart gets a smaller T from them. Returned as (sum of the other p) - 1 in float64, so that
    confident images do not tie. CannotRun where every image of the fit is classified right: the likelihood then
    has no maximum.
    """

    title = "TempScale"
    paper = "Guo et al., On Calibration of Modern Neural Networks, ICML 2017, https://arxiv.org/abs/1706.04599"
    reads = ("logits", "labels")
    fitted = ("temperature",)
    calibrates = True

    def fit(self, train: Features, *, seed: int = 0, device: str = "cpu", workdir: Path | None = None) -> Self:
        from scipy.optimize import minimize_scalar

        held, of = (train, "training") if train.validation is None else (train.validation, "calibration")
        logits, labels = held.need("logits"), held.need_labels(of).to(device)
        if bool((logits.argmax(dim=1).to(device) == labels).all()):
            raise CannotRun(f"all {len(labels)} images of the fit are classified right: no temperature is the best")

        def loss(temperature: float) -> float:
            total, start = 0.0, 0
            for block in float64_blocks(logits, device):
                chosen = labels[start : start + len(block), None]
                total -= float((block / temperature).log_softmax(dim=1).gather(1, chosen).sum())
                start += len(block)
            return total / len(labels)

        found = minimize_scalar(loss, bounds=(0.1, 10), method="bounded", options={"xatol": 1e-7})
        self.temperature = torch.tensor(float(found.x), dtype=torch.float64, device=device)
        return self

    def score(self, x: Features) -> Tensor:
        _, rest = probabilities(x.need("logits").double() / self.temperature)
        return rest.amin(dim=1) - 1
