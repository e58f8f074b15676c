"""OptFS: the energy after a shaping of the activations that training images choose."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from methods.base import CannotRun, Count, Features, Method, register
from methods.vectors.head import energy, logits
from methods.vectors.statistics import float64_blocks


@register("optfs")
@dataclass
class OptFS(Method):
    """-logsumexp(W (z theta[bin of z]) + b), theta 1000 times the bins' importance, divided by its 2-norm.

    Importance of a bin: the mean over training images of the sum of w_kd z_d over the entries in it, k = argmax f.
    `bins` of equal width, [left, right), from the .001 to the .999 quantile of all training entries together;
    entries outside them become 0. CannotRun where no entry is in a bin, or none has weight.
    """

    title = "OptFS"
    paper = (
        "Zhao et al., Towards Optimal Feature-Shaping Methods for Out-of-Distribution Detection, ICLR 2024, "
        "https://arxiv.org/abs/2402.00865"
    )
    reads = ("embedding", "head")
    fitted = ("edges", "theta")

    bins: Count = 100

    def fit(self, train: Features, *, seed: int = 0, device: str = "cpu", workdir: Path | None = None) -> Self:
        z, head = train.need("embedding"), train.need_head().to(device)
        self.edges = self._edges(z).to(device)
        total = torch.zeros(self.bins + 2, dtype=torch.float64, device=device)
        for block in float64_blocks(z, device):
            used = block * head.weight.double()[logits(block, head).argmax(dim=1)]
            total += self._bin(block).flatten().bincount(used.flatten(), minlength=self.bins + 2)
        importance = total[1:-1]
        if not float(importance.norm()) > 0:
            raise CannotRun("needs embeddings that vary: no entry between their .001 and .999 quantiles has weight")
        self.theta = torch.zeros_like(total)
        self.theta[1:-1] = 1000 * importance / importance.norm()
        return self

    def _edges(self, z: Tensor) -> Tensor:
        # As ReAct's percentile: numpy copies the activations once.
        low, high = np.quantile(z.cpu().numpy(), (0.001, 0.999))
        return torch.linspace(float(low), float(high), self.bins + 1, dtype=torch.float64)

    def _bin(self, z: Tensor) -> Tensor:
        """1 to `bins`; 0 and `bins` + 1 are outside."""
        return torch.searchsorted(self.edges, z, right=True)

    def score(self, x: Features) -> Tensor:
        z = x.need("embedding").double()
        return energy(logits(z * self.theta[self._bin(z)], x.need_head()))
