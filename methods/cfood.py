"""CFOOD: the neighbourhood at which enough reference points have an image among their own."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

import torch
from torch import Tensor

from methods.base import CannotRun, Count, Features, Method, Range, register
from methods.vectors.drawing import permutation
from methods.vectors.statistics import row_blocks, unit

ROUNDING = 1e-12  # of a squared distance of unit vectors: an image that is a reference point's neighbour is as far


@register("cfood")
@dataclass
class CFOOD(Method):
    """kappa: the smallest k / n at which a `share` of the n reference points has z among its k nearest.

    That is, their k-th neighbour among the reference points is at least as far (z^ = z / |z|, squared L2; no point is
    its own neighbour); the share is ceil(share n) points; k from 1 to min(`neighbours`, n - 1), and kappa = 1 where
    no k is enough. Reference points: `alpha` of the training images, drawn from the seed without regard to class.
    One draw moves an AUROC by 2.4: take several. CannotRun where that is fewer than 2.
    """

    title = "CF-OOD"
    paper = (
        "Angiulli et al., CF-OOD: Concentration-Free Density Estimation for Reliable Out-of-Distribution Detection, "
        "SISAP 2025, https://doi.org/10.1007/978-3-032-06069-3_5"
    )
    reads = ("embedding",)
    score_only = ("share",)
    fitted = ("reference", "distances")
    random_fit = True
    remark = "its reference points are drawn: another draw moves an AUROC by 2.4, so take several seeds"

    alpha: Annotated[float, Range(0, 1, "(]")] = 0.1
    share: Annotated[float, Range(0, 1, "(]")] = 0.01
    neighbours: Count = 230

    def fit(self, train: Features, *, seed: int = 0, device: str = "cpu", workdir: Path | None = None) -> Self:
        z = train.need("embedding")
        n = round(self.alpha * len(z))
        if n < 2:
            raise CannotRun(f"needs 2 reference points; {self.alpha:g} of {len(z)} training images are {n}")
        self.reference = unit(z[permutation(len(z), seed)[:n].to(z.device)].to(device))
        self.distances = torch.cat([self._nearest(rows) for rows in torch.split(torch.arange(n, device=device), 1024)])
        return self

    def _nearest(self, rows: Tensor) -> Tensor:
        """Distances of these reference points to their nearest others, ascending."""
        distances = squared(self.reference[rows], self.reference)
        distances.scatter_(1, rows[:, None], math.inf)
        return distances.topk(min(self.neighbours, len(self.reference) - 1), largest=False).values

    def score(self, x: Features) -> Tensor:
        n, farthest = self.distances.shape
        enough = math.ceil(self.share * n - ROUNDING * n)
        kappas = []
        for z in row_blocks(x.need("embedding"), n):
            # of each reference point the k at which it first has the image among its k nearest
            k = torch.searchsorted(self.distances, squared(self.reference, unit(z)) - ROUNDING) + 1
            k = k.topk(max(1, enough), dim=0, largest=False).values[-1]  # 3 to 10 times as fast as kthvalue
            kappas.append(torch.where(k > farthest, 1.0, k.double() / n))
        return torch.cat(kappas)


def squared(a: Tensor, b: Tensor) -> Tensor:
    """|a_i - b_j|^2 (N, M)."""
    products = a.square().sum(dim=1, keepdim=True) + b.square().sum(dim=1) - 2 * a @ b.T
    return products.clamp(min=0)
