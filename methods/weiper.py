"""WeiPer+KLD: how unusual the values of the embedding and of many perturbed logits are, as histograms."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import torch
from torch import Tensor

from methods.base import CannotRun, Count, Features, Head, Method, NotNegative, Range, register
from methods.vectors.histograms import divergence, histogram, smooth, spread
from methods.vectors.noise import normal
from methods.vectors.statistics import BLOCK, float64_blocks, in_cache

EPSILONS = (0.01, 0.025)  # added to the histograms of z and of f~


@register("weiper")
@dataclass
class WeiPer(Method):
    """KL(z) + l1 KL(f~) - l2 MSP~.

    f~: the logits of `copies` heads, whose rows are w_c + delta |w_c| times a random unit vector of the seed's; MSP~
    the mean over copies of max softmax. KL(v): between the histogram of an image's entries of v, smoothed by a box of
    `smooth_z` or `smooth_f` bins, and the mean histogram of the training images. `bins` between the smallest and
    the largest of all training entries; entries outside are in no bin, but in the divisor. The seven values were
    searched by the authors on OOD validation sets. Presets: for other ID sets.
    """

    title: ClassVar[str] = "WeiPer+KLD"
    paper: ClassVar[str] = (
        "Granz et al., WeiPer: OOD Detection using Weight Perturbations of Class Projections, NeurIPS 2024, "
        "https://arxiv.org/abs/2405.17164"
    )
    reads: ClassVar[tuple[str, ...]] = ("embedding", "head")
    score_only: ClassVar[tuple[str, ...]] = ("l1", "l2", "smooth_z", "smooth_f")
    fitted: ClassVar[tuple[str, ...]] = ("seed", "range_z", "range_f", "typical_z", "typical_f")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "cifar100": {"delta": 2.4, "l1": 0.1, "l2": 1.0, "smooth_f": 40},
        "imagenet": {"delta": 2.4, "l2": 0.25, "smooth_z": 40},
        "imagenet_vit": {"delta": 2.0, "bins": 80, "smooth_z": 40},
    }
    random_fit: ClassVar[bool] = True
    remark: ClassVar[str] = "its seven hyper-parameters were searched by its authors on OOD validation sets"

    delta: NotNegative = 1.8
    copies: Count = 100
    bins: Annotated[int, Range(2, 10**6)] = 100
    l1: NotNegative = 2.5
    l2: NotNegative = 0.1
    smooth_z: Count = 4
    smooth_f: Count = 15

    def __post_init__(self) -> None:
        super().__post_init__()
        self._drawn: tuple[tuple[int, float, torch.device], Tensor, Tensor] | None = None

    def fit(self, train: Features, *, seed: int = 0, device: str = "cpu", workdir: Path | None = None) -> Self:
        z, head = train.need("embedding"), train.need_head().to(device)
        self.seed = seed
        self.range_z = spread(float64_blocks(z, device))
        self.range_f = spread(self._perturbed(head, lambda: float64_blocks(z, device)))
        if not all(float(high) > float(low) for low, high in (self.range_z, self.range_f)):
            raise CannotRun("needs embeddings and logits that vary")
        total_z, total_f = (torch.zeros(self.bins, dtype=torch.float64, device=device) for _ in range(2))
        for block in float64_blocks(z, device):
            total_z += histogram(block, self.range_z, self.bins).sum(dim=0)
        for f in self._perturbed(head, lambda: float64_blocks(z, device)):
            total_f += histogram(f, self.range_f, self.bins).sum(dim=0)
        self.typical_z, self.typical_f = total_z / total_z.sum(), total_f / total_f.sum()
        return self

    def _perturbed(self, head: Head, blocks: Callable[[], Iterator[Tensor]]) -> Iterator[Tensor]:
        """f~ (N, K x copies in hand) of every block, as many copies at a time as fit into one."""
        classes, size = head.weight.shape
        bias = head.bias.double()
        longest = max(len(block) for block in blocks()) if not torch.compiler.is_exporting() else size
        at_once = max(1, BLOCK // (8 * classes * max(size, longest)))  # a graph is of any number of rows
        for rows in torch.split(torch.arange(self.copies * classes, device=bias.device), at_once * classes):
            by_class = rows.view(-1, classes).T.flatten()  # then its copies add up as whole rows of memory
            heads = self._heads(by_class, head.weight)
            for z in blocks():
                yield torch.addmm(bias[by_class % classes], z, heads.T)

    def _heads(self, rows: Tensor, weight: Tensor) -> Tensor:
        """`_moved`, drawn once where one draw is all: that takes as long as the products of 1,000 images."""
        if len(rows) < self.copies * len(weight) or torch.compiler.is_exporting():
            return self._moved(rows, weight)
        of = int(self.seed), self.delta, weight.device
        if self._drawn is None or self._drawn[0] != of or not torch.equal(self._drawn[1], weight):
            self._drawn = of, weight.clone(), self._moved(rows, weight)
        return self._drawn[2]

    def _moved(self, rows: Tensor, weight: Tensor) -> Tensor:
        """These of the rows of all copies of the head, one copy after the other: w_c + delta |w_c| a unit vector."""
        weight = weight.double()
        length = self.delta * weight.norm(dim=1, keepdim=True)
        return torch.cat([self._of_one_draw(part, weight, length) for part in in_cache(rows, weight.shape[1])])

    def _of_one_draw(self, rows: Tensor, weight: Tensor, length: Tensor) -> Tensor:
        of = rows % len(weight)
        moved = normal(rows, weight.shape[1], seed=int(self.seed)).double()
        return moved.mul_(length[of] / moved.norm(dim=1, keepdim=True)).add_(weight[of])

    def score(self, x: Features) -> Tensor:
        z, head = x.need("embedding").double(), x.need_head()
        found = torch.zeros(z.shape[0], self.bins, dtype=torch.float64, device=z.device)
        confidence = torch.zeros(z.shape[0], dtype=torch.float64, device=z.device)
        for f in self._perturbed(head, lambda: iter([z])):
            parts = [
                (histogram(part, self.range_f, self.bins), _confidence(part, len(head.bias)))
                for part in in_cache(f, f.shape[1])
            ]
            counts, sure = (torch.cat(of) for of in zip(*parts, strict=True))
            found += counts
            confidence += sure
        found_z = histogram(z, self.range_z, self.bins) / z.shape[1]
        of_z = divergence(smooth(found_z, self.smooth_z), self.typical_z, EPSILONS[0])
        found_f = found / (self.copies * len(head.bias))
        of_f = divergence(smooth(found_f, self.smooth_f), self.typical_f, EPSILONS[1])
        return of_z + self.l1 * of_f - self.l2 * confidence / self.copies


def _confidence(f: Tensor, classes: int) -> Tensor:
    """The sum over copies of max softmax (N,), of logits (N, K x copies) that are changed."""
    f = f.view(f.shape[0], classes, -1)
    return f.sub_(f.amax(dim=1, keepdim=True)).exp_().sum(dim=1).reciprocal_().sum(dim=1)
