"""OpenMax: the probability of an unknown class, from the extreme distances of each known one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from methods.base import CannotRun, Count, Features, Method, Range, register
from methods.vectors.head import rightly
from methods.vectors.statistics import means

SHIFT = 10_000.0  # libmr's translate_amount
PRECISION = 1e-12  # of a Weibull shape; scipy.optimize takes a third of a second to import


@register("openmax")
@dataclass
class OpenMax(Method):
    """log-odds of P(unknown): u - logsumexp g; g_c = f_c (1 - w_c omega_c), u = sum_c f_c - g_c.

    omega_c = (alpha + 1 - rank) / alpha for the `alpha` largest logits (all of fewer classes), 0 for the others;
    negative logits are multiplied as well. w_c: a Weibull distribution function, at the Euclidean distance of f to
    the mean f of the training images of class c that are predicted right. It is that of the `tail` largest
    distances of these (all of a smaller class): two parameters, location 0, maximum likelihood, after a shift of the
    tail's smallest to 10,000, as libmr. CannotRun, with the class, where a class has no two different distances.
    """

    title: ClassVar[str] = "OpenMax"
    paper: ClassVar[str] = (
        "Bendale and Boult, Towards Open Set Deep Networks, CVPR 2016, https://arxiv.org/abs/1511.06233"
    )
    reads: ClassVar[tuple[str, ...]] = ("logits", "labels")
    score_only: ClassVar[tuple[str, ...]] = ("alpha",)
    fitted: ClassVar[tuple[str, ...]] = ("centres", "smallest", "shape", "log_scale")

    tail: Annotated[int, Range(2)] = 20
    alpha: Count = 3

    def fit(self, train: Features, *, seed: int = 0, device: str = "cpu", workdir: Path | None = None) -> Self:
        f, labels = train.need("logits").to("cpu"), train.need_labels().to("cpu")
        right = rightly(f.argmax(dim=1), labels, f.shape[1])
        f, labels = f[right], labels[right]
        self.centres = means(f, device="cpu", groups=labels)
        found = []
        for label, centre in enumerate(self.centres):
            distances = (f[labels == label].double() - centre).norm(dim=1)
            tail = distances.topk(min(self.tail, len(distances))).values
            if len(tail) < 2 or tail[0] == tail[-1]:
                raise CannotRun(f"needs different distances in each class; class {label} has {len(tail)} right images")
            found.append((float(tail[-1]), *weibull(tail - tail[-1] + SHIFT)))
        self.smallest, self.shape, self.log_scale = (
            torch.tensor(values, dtype=torch.float64, device=device) for values in zip(*found, strict=True)
        )
        self.centres = self.centres.to(device)
        return self

    def score(self, x: Features) -> Tensor:
        f = x.need("logits").double()
        distance = torch.cdist(f, self.centres, compute_mode="use_mm_for_euclid_dist")
        above = (distance - self.smallest + SHIFT).clamp(min=0).log() - self.log_scale
        return unknown(f, -torch.expm1(-(self.shape * above).exp()), self.alpha)


def weibull(values: Tensor) -> tuple[float, float]:
    """Shape and log scale of the most likely Weibull distribution (location 0) of `values`, which differ."""
    logs = values.log().numpy()
    largest = logs.max()
    logs = logs - largest

    def slope(shape: float) -> float:
        """Of the likelihood by 1 / shape, up to a factor: it rises through 0 once."""
        weights = np.exp(shape * logs)
        return float(weights @ logs / weights.sum() - logs.mean() - 1 / shape)

    low, high = 0.0, 1.0
    while slope(high) < 0:
        low, high = high, 2 * high
    while high - low > PRECISION * high:
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return high, float(largest + np.log(np.exp(high * logs).mean()) / high)


def unknown(f: Tensor, w: Tensor, alpha: int) -> Tensor:
    """u - logsumexp g (N,) for logits f and Weibull values w (N, K)."""
    alpha = min(alpha, f.shape[1])
    omega = torch.arange(alpha, 0, -1, dtype=f.dtype, device=f.device) / alpha
    order = f.argsort(dim=1, descending=True, stable=True)[:, :alpha]
    g = f - f * w * torch.zeros_like(f).scatter(1, order, omega.expand(f.shape[0], -1))
    return (f - g).sum(dim=1) - g.logsumexp(dim=1)
