"""CombOOD: the Mahalanobis distance of what every activation's extremes are, and that of a neighbour, together."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from methods.base import CannotRun, Count, Features, Method, register
from methods.vectors.neighbours import Neighbours, neighbours


@register("combood")
@dataclass
class CombOOD(Method):
    """M^2 + n log d: M the Mahalanobis distance from 0 of t, d the squared distance to the k-th neighbour in z / |z|.

    t: the `extremes` of every activation's input (the encoder `inside`) and of the logits, transformed by Yeo-Johnson
    to look like a Gaussian, and standardised, both by the training images; covariance + I. n = D, the embedding's
    width: of the code's three combinations the first; "sqrt" has sqrt(D) in its place. A d of 0 is taken as the
    smallest that float64 has.
    """

    title = "CombOOD"
    paper = "Rajasekaran et al., CombOOD: A Semiparametric Approach for Detecting Out-of-distribution Data, SDM 2024"
    reads = ("embedding", "logits", "extremes")
    score_only = ("combination",)

    k: Count = 50
    combination: Literal["n", "sqrt"] = "n"

    def fit(self, train: Features, *, seed: int = 0, device: str = "cpu", workdir: Path | None = None) -> Self:
        from scipy.stats import yeojohnson_normmax

        if self.k > len(train):
            raise CannotRun(f"k is {self.k} but there are only {len(train)} training images: lower k")
        t = self._extremes(train).cpu()
        varies = t.std(dim=0) > 0
        found = [float(yeojohnson_normmax(column)) if v else 1.0 for column, v in zip(t.T.numpy(), varies, strict=True)]
        self.powers = torch.tensor(found, dtype=torch.float64)
        t = yeo_johnson(t, self.powers)
        self.mean, self.std = t.mean(dim=0), _above_0(t.std(dim=0, correction=0))
        t = (t - self.mean) / self.std
        covariance = t.T @ t / len(t) + torch.eye(t.shape[1], dtype=torch.float64)
        self.precision = torch.linalg.inv(covariance).contiguous()
        return self._placed(normalize(train.need("embedding"), dim=1), device)

    def _placed(self, bank: Tensor, device: str) -> Self:
        self._bank: Neighbours = neighbours(bank, device)
        for name in ("powers", "mean", "std", "precision"):
            setattr(self, name, getattr(self, name).to(device))
        return self

    def _extremes(self, x: Features) -> Tensor:
        f = x.need("logits").double()
        return torch.cat([x.need("extremes").double(), f.amax(1, keepdim=True), -f.amin(1, keepdim=True)], dim=1)

    def score(self, x: Features) -> Tensor:
        t = yeo_johnson(self._extremes(x), self.powers)
        t = (t - self.mean) / self.std
        z = x.need("embedding")
        d = self._bank.kth(normalize(z, dim=1), self.k).square()
        n = float(z.shape[1]) if self.combination == "n" else float(np.sqrt(z.shape[1]))
        return combined(((t @ self.precision) * t).sum(dim=1), d, n)

    def state(self) -> dict[str, Tensor]:
        names = ("powers", "mean", "std", "precision")
        return {"rows": self._bank.rows.cpu(), **{name: getattr(self, name).cpu() for name in names}}

    def load_state(self, state: Mapping[str, Tensor], *, device: str = "cpu") -> Self:
        for name in state.keys() - {"rows"}:
            setattr(self, name, state[name])
        return self._placed(state["rows"], device)


def combined(squared: Tensor, d: Tensor, n: float) -> Tensor:
    """M^2 + n log d."""
    return squared + n * d.double().clamp_min(torch.finfo(torch.float64).tiny).log()


def yeo_johnson(x: Tensor, powers: Tensor) -> Tensor:
    """((1 + x)^l - 1) / l for x >= 0, -((1 - x)^(2 - l) - 1) / (2 - l) below; logarithms where the divisor is 0."""
    above, below = x.clamp_min(0).log1p(), (-x).clamp_min(0).log1p()
    return torch.where(x >= 0, _over(above, powers), -_over(below, 2 - powers))


def _over(logarithm: Tensor, power: Tensor) -> Tensor:
    """(e^(l g) - 1) / l, and g where l is 0."""
    safe = torch.where(power == 0, 1.0, power)
    return torch.where(power == 0, logarithm, torch.expm1(safe * logarithm) / safe)


def _above_0(std: Tensor) -> Tensor:
    return torch.where(std > 0, std, 1.0)
