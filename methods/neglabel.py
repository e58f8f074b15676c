"""NegLabel: how much of an image's likeness to words belongs to the classes, and how much to words far from them."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from methods.base import CannotRun, Count, Features, Method, Positive, register


@register("neglabel")
@dataclass
class NegLabel(Method):
    """-mean over groups of P / (P + N_group): P = sum_c e^(f_c / tau), N the same of the group's negative words.

    f the cosines of an image and each class's name, `negatives` those of an image and each negative word, both from the
    encoder `clip`, which chooses the words. The words are split into `groups` of one size by a permutation of seed 0;
    what is left over is dropped, and fewer words than groups are a group each.
    """

    title: ClassVar[str] = "NegLabel"
    paper: ClassVar[str] = (
        "Jiang et al., Negative Label Guided OOD Detection with Pretrained Vision-Language Models, ICLR 2024, "
        "https://arxiv.org/abs/2403.20078"
    )
    reads: ClassVar[tuple[str, ...]] = ("logits", "negatives")
    score_only: ClassVar[tuple[str, ...]] = ("tau", "groups")

    tau: Positive = 0.01
    groups: Count = 100

    def score(self, x: Features) -> Tensor:
        negatives = x.need("negatives").double() / self.tau
        words = negatives.shape[1]
        if not words:
            raise CannotRun("needs negative words; there are none")
        groups = min(self.groups, words)
        order = torch.randperm(words, generator=torch.Generator().manual_seed(0)).to(negatives.device)
        order = order[: words - words % groups].view(groups, -1)
        positive = (x.need("logits").double() / self.tau).logsumexp(dim=1)
        return -torch.stack([(positive - negatives[:, one].logsumexp(dim=1)).sigmoid() for one in order]).mean(dim=0)
