"""NNGuide: the energy, guided by the nearest training images."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from methods.base import CannotRun, Count, Features, Method, Share, register
from methods.vectors.drawing import by_class
from methods.vectors.head import classes, energy, logits, positive
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
        self.bank = unit(rows) * energies[:, None]
        return self

    def score(self, x: Features) -> Tensor:
        z, head = x.need("embedding"), x.need_head()
        guidance = [
            (unit(block) @ self.bank.T).topk(self.k, sorted=False).values.mean(dim=1)
            for block in row_blocks(z, sum(self.bank.shape))
        ]
        return energy(logits(z, head)) * torch.cat(guidance)
