"""AdaSCALE: SCALE and LTS at a percentile of each image's own, by how far a small perturbation moves it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from methods.base import CannotRun, Features, Method, NotNegative, Range, combinations, register
from methods.vectors.head import energy
from methods.vectors.shaping import largest, ratio

Share = Annotated[float, Range(0, 1, "(]")]


@register("adascale")
@dataclass
class AdaSCALE(Method):
    """SCALE (variant "a", on z) or LTS ("l", on f) at pct = p_min + (1 - F(Q)) (p_max - p_min), on relu(z).

    Q = the sum of relu(z') over the k1 largest entries of z + weight times that of |z - z'| over the k2 largest of z,
    which are shares of D, one entry at least and of equal ones the first. z' is the embedding of the perturbed image
    (`perturbed`: the encoder of that kind with the rule "adascale"). F is the share of ID images whose Q is not above:
    of the calibration images, else of the training images. OpenOOD: 75 to 85, preset `imagenet`
    (a ResNet-50): 80 to 85; the authors tune p_max from a p_min of 60.
    """

    title = "AdaSCALE"
    paper = "Regmi, AdaSCALE: Adaptive Scaling for OOD Detection, 2025, https://arxiv.org/abs/2503.08023"
    reads = ("embedding", "head", "perturbed")
    calibrates = True
    score_only = ("variant", "p_min", "p_max")
    fitted = ("quantities",)
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"imagenet": {"p_min": 80.0}}
    grid = tuple(
        pair
        for pair in combinations(p_min=(60, 65, 70, 75, 80, 85, 90, 95), p_max=(65, 70, 75, 80, 85, 90, 95, 99))
        if pair["p_min"] < pair["p_max"]
    )

    variant: Literal["a", "l"] = "a"
    k1: Share = 0.05
    k2: Share = 0.01
    weight: NotNegative = 10.0
    p_min: Annotated[float, Range(0, 100, "[)")] = 75.0
    p_max: Annotated[float, Range(0, 100, "[)")] = 85.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.p_min > self.p_max:
            raise ValueError(f"AdaSCALE: p_min is {self.p_min}, above p_max, {self.p_max}")

    def fit(self, train: Features, *, seed: int = 0, device: str = "cpu", workdir: Path | None = None) -> Self:
        train.need_head()
        known = train if train.validation is None else train.validation
        blocks = (self._quantity(block.to(device)) for block in known.blocks(4096))
        self.quantities = torch.cat(list(blocks)).sort().values
        return self

    def _quantity(self, x: Features) -> Tensor:
        """Q (N,), float64."""
        z, moved = x.need("embedding").double(), x.need("perturbed").double()
        if z.shape != moved.shape:
            raise CannotRun("the perturbed embedding is not of the same size")
        first, second = (max(1, int(share * z.shape[1])) for share in (self.k1, self.k2))
        order = z.argsort(dim=1, descending=True, stable=True)
        shift = (z - moved).abs().gather(1, order[:, :second])
        return moved.relu().gather(1, order[:, :first]).sum(dim=1) + self.weight * shift.sum(dim=1)

    def score(self, x: Features) -> Tensor:
        head, z = x.need_head(), x.need("embedding")
        share = torch.searchsorted(self.quantities, self._quantity(x), right=True) / len(self.quantities)
        percentiles = self.p_min + (1 - share.double()) * (self.p_max - self.p_min)
        width = z.shape[1]
        scores = torch.empty(len(z), dtype=torch.float64, device=z.device)
        kept = torch.tensor([width - round(width * p / 100) for p in percentiles.tolist()], device=z.device)
        for count in sorted(set(kept.tolist())):  # images of one number of kept entries together
            rows = (kept == count).nonzero()[:, 0]
            r = ratio(z[rows].relu(), largest(z[rows].relu(), 100 * (1 - count / width))[0], otherwise=0)
            scores[rows] = self._energy(z[rows], head.weight, head.bias, r)
        return scores

    def _energy(self, z: Tensor, weight: Tensor, bias: Tensor, r: Tensor) -> Tensor:
        if self.variant == "a":
            return energy((z.relu() @ weight.T).double() * r.exp()[:, None] + bias)
        return energy((z @ weight.T + bias).double() * torch.where(r > 0, r, 1.0).square()[:, None])
