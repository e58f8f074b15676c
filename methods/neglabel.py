"""NegLabel: how much of an image's likeness to words belongs to the classes, and how much to words far from them."""

import functools
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from methods.base import CannotRun, Count, Features, Method, Positive, register


@register("neglabel")
@dataclass
class NegLabel(Method):
    """-mean over groups of P / (P + N_group): P = sum_c e^(f_c / tau), N the same of the group's negative words.

    Returned is its log-odds, log(m / (1 - m)) of the mean m over groups of N / (P + N), of the same order: near 0 and 1
    the mean itself has ties in float64 already where cosines differ by 36 tau.

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
        order = _permutation(words)[: words - words % groups].view(groups, -1).to(negatives.device)
        positive = (x.need("logits").double() / self.tau).logsumexp(dim=1)
        odds = torch.stack([negatives[:, one].logsumexp(dim=1) - positive for one in order])  # log N / P
        return logsigmoid(odds).logsumexp(dim=0) - logsigmoid(-odds).logsumexp(dim=0)


@functools.cache  # a graph, which cannot draw, takes what was drawn before
def _permutation(words: int) -> Tensor:
    return torch.randperm(words, generator=torch.Generator().manual_seed(0))
