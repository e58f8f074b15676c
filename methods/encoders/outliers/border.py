"""Outliers near the ID features: found by k-NN at the border of a class (OAL, after NPOS), and sifted by distance."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from methods.vectors.neighbours import neighbours

PER_CLASS = 500  # features of a class that distances are taken to: its first ones
BOUNDARY = 50  # features of a class, the farthest, that outliers start from
CANDIDATES = 1500  # a boundary feature, of which the farthest KEPT stay
KEPT = 2
ROUNDS = 200  # of drawing, at most
FIRST_ROUNDS = 10  # after which it is clear whether those will do
_BLOCK = 1 << 24  # distances in hand at a time: 64 MiB


def kth_distance(x: Tensor, bank: Tensor, k: int) -> Tensor:
    """(N,): Euclidean distance of each x (N, D) to its k-th nearest row of `bank` (M, D), k from 1 to M."""
    if x.is_cuda:
        return neighbours(bank).kth(x, k).to(x.dtype)
    blocks = torch.split(x, max(1, _BLOCK // len(bank)))
    return torch.cat([torch.cdist(block, bank).kthvalue(k, dim=1).values for block in blocks])


def distinct(labels: Tensor) -> list[int]:
    """The classes that there are, ascending."""
    return labels.bincount().nonzero().flatten().tolist()


def first_of_each(labels: Tensor, count: int = PER_CLASS) -> Tensor:
    """Rows of the first `count` of every class, ascending."""
    rows = [(labels == label).nonzero().flatten()[:count] for label in distinct(labels)]
    return torch.cat(rows).sort().values


@dataclass(frozen=True, eq=False)
class Shell:
    """Where an outlier may lie: its distance to the k-th neighbour in `bank` is from `low` to `high`."""

    bank: Tensor
    k: int
    low: float
    high: float

    @classmethod
    def around(cls, bank: Tensor, held: Tensor, k: int) -> "Shell":
        """Between the 95th and the 99.9th percentile of the distances of `held`, ID features not in `bank`."""
        distances = kth_distance(held, bank, k)
        low, high = torch.quantile(distances, distances.new_tensor((0.95, 0.999))).tolist()
        return cls(bank, k, low, high)

    def outside(self, x: Tensor) -> Tensor:
        """(N,) bool: not inside the radius that holds 95 % of ID."""
        return kth_distance(x, self.bank, self.k) >= self.low

    def holds(self, x: Tensor) -> Tensor:
        """(N,) bool: outside that radius, and not far off either."""
        distances = kth_distance(x, self.bank, self.k)
        return (distances >= self.low) & (distances <= self.high)


def boundary_outliers(
    z: Tensor, labels: Tensor, *, k: int, sigma: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """One round of OAL's k-NN outliers from features z (N, D): them (M, D), and the class that each starts from.

    For each class, on the unit sphere: the BOUNDARY features that are farthest from their k-th neighbour of the
    class, min(k, n - 1); for each of them CANDIDATES u' = normalise(u + sigma / sqrt(D) noise), of which the KEPT
    with the greatest such distance stay, at the feature's own norm. (OAL's code keeps arbitrary ones: it reads a
    point-major list as candidate-major.) ValueError where a class has one image.
    """
    found: list[Tensor] = []
    classes: list[Tensor] = []
    for label in distinct(labels):
        own = z[(labels == label).nonzero().flatten()[:PER_CLASS]]
        if len(own) < 2:
            raise ValueError(f"class {label} has one image: outliers need at least 2 of each class")
        found.append(_outliers_of_class(own, min(k, len(own) - 1), sigma, generator))
        classes.append(torch.full((len(found[-1]),), label, device=z.device))
    return torch.cat(found), torch.cat(classes)


def _outliers_of_class(own: Tensor, k: int, sigma: float, generator: torch.Generator) -> Tensor:
    unit = functional.normalize(own, dim=1)
    reach = kth_distance(unit, unit, k + 1)  # + 1: each is its own nearest
    found = []
    for point in reach.topk(min(BOUNDARY, len(own))).indices.tolist():
        noise = torch.randn((CANDIDATES, own.shape[1]), generator=generator, device=own.device)
        candidates = functional.normalize(unit[point] + sigma / own.shape[1] ** 0.5 * noise, dim=1)
        farthest = kth_distance(candidates, unit, k).topk(KEPT).indices
        found.append(candidates[farthest] * own[point].norm())
    return torch.cat(found)


def gather(draw: Callable[[], Tensor], accept: Callable[[Tensor], Tensor], count: int, what: str) -> Tensor:
    """The first `count` of what `draw` gives, round after round, and `accept` lets through (count, D).

    RuntimeError where ROUNDS would not bring enough.
    """
    found: list[Tensor] = []
    drawn = kept = 0
    for number in range(1, ROUNDS + 1):
        batch = draw()
        drawn += len(batch)
        found.append(batch[accept(batch)])
        kept += len(found[-1])
        if kept >= count:
            return torch.cat(found)[:count]
        if number >= FIRST_ROUNDS and kept * ROUNDS < count * number:
            break
    raise RuntimeError(
        f"{kept} of {drawn:,} {what} outliers lie where outliers should, {count} are needed: "
        "lower n_out, or change k, sigma or diffusion_epochs"
    )


def gaussian_like(outliers: Tensor, generator: torch.Generator) -> Tensor:
    """Gaussian directions with the norms of `outliers` (N, D)."""
    noise = torch.randn(outliers.shape, generator=generator, device=outliers.device)
    scaled: Tensor = functional.normalize(noise, dim=1) * outliers.norm(dim=1, keepdim=True)
    return scaled
