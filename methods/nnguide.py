"""NNGuide: the energy, guided by the nearest training images."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.nn.functional import pad

from methods.base import CannotRun, Count, Features, Method, Share, register
from methods.vectors.drawing import by_class
from methods.vectors.head import classes, energy, logits, positive
from methods.vectors.neighbours import neighbours
from methods.vectors.statistics import row_blocks, unit


@register("nnguide")
@dataclass
class NNGuide(Method):
    """-E mean over the `k` largest of (z^ . z^_i E_i), E = logsumexp f, z^ = z / |z|, i in a bank of training images.

    The bank: round(`share` of a class), at least 2 of each and max(10, `k`) in all, drawn by class (of an image
    without a label: the predicted one) from the seed; one draw of 50 moves an AUROC by .7, so take several. OpenOOD
    takes the first images of a list that is sorted by class; preset `openood` has its `k` alone. CannotRun where
    there are fewer than `k` images, or an energy of the bank is not above 0: the order by products would mean
    nothing.
    """

    title: ClassVar[str] = "NNGuide"
    paper: ClassVar[str] = (
        "Park et al., Nearest Neighbor Guidance for Out-of-Distribution Detection, ICCV 2023, "
        "https://arxiv.org/abs/2309.14888"
    )
    reads: ClassVar[tuple[str, ...]] = ("embedding", "head")
    fitted: ClassVar[tuple[str, ...]] = ("bank",)
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"openood": {"k": 100}}
    random_fit: ClassVar[bool] = True
    remark: ClassVar[str] = "its bank is drawn: another draw of 50 images moves an AUROC by .7, so take several seeds"

    k: Count = 10
    share: Share = 0.01

    def fit(self, train: Features, *, seed: int = 0, device: str = "cpu", workdir: Path | None = None) -> Self:
        z, head, groups = train.need("embedding"), train.need_head().to(device), classes(train, device)
        if len(z) < self.k:
            raise CannotRun(f"needs {self.k} training images; there are {len(z)}")
        wanted = (self.share * groups.bincount()).round().clamp(min=2).long()
        rows = z[by_class(groups, wanted, least=max(10, self.k), seed=seed).to(z.device)].to(device)
        energies = -energy(logits(rows, head))
        positive(energies)
        return self._over(unit(rows) * energies[:, None])

    def _over(self, bank: Tensor) -> Self:
        # With one more number a row all are as long as the longest, and the nearest has the largest product.
        squares = bank.square().sum(dim=1, keepdim=True)
        self.bank, self._nearest = bank, neighbours(torch.cat([bank, (squares.max() - squares).sqrt()], dim=1))
        return self

    def load_state(self, state: Mapping[str, Tensor], *, device: str = "cpu") -> Self:
        return self._over(state["bank"].to(device))

    def score(self, x: Features) -> Tensor:
        z, head = x.need("embedding"), x.need_head()
        guidance = []
        for block in row_blocks(z, self.k * z.shape[1]):
            directions = unit(block)
            index = self._nearest.search(pad(directions, (0, 1)), self.k)[1]
            guidance.append((self.bank[index] @ directions[:, :, None]).mean(dim=(1, 2)))
        return energy(logits(z, head)) * torch.cat(guidance)
