"""The terms of outlier-aware learning: distillation, energies of ID features and outliers, CLUB.

Formulae: OAL (Gao et al., arXiv 2406.16525), Energy (Liu et al., NeurIPS 2020), VOS (Du et al., ICLR 2022), OE
(Hendrycks et al., ICLR 2019). Outliers are feature vectors: they meet the head, never the convolutions.
"""

from typing import Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from methods.encoders.outliers.club import CLUB
from methods.encoders.outliers.student import Student

Kind = Literal["energy", "logistic", "uniform"]
WEIGHTS: dict[Kind, float] = {"energy": 0.1, "logistic": 2.5, "uniform": 0.5}
KD_LOGITS, KD_FEATURES, CLUB_KNN, CLUB_LATENTS = 4.0, 8.0, 0.1, 0.2
LR_TRANSFER, LR_CLUB, LR_LOGISTIC = 0.01, 1e-4, 0.01  # OAL's; the student has its own


def energy(logits: Tensor) -> Tensor:
    """E = -logsumexp of the logits (N, K): (N,), greater = more OOD."""
    return -torch.logsumexp(logits, dim=1)


def hinge(inside: Tensor, outside: Tensor, m_in: float, m_out: float) -> Tensor:
    """mean max(0, E(s) - m_in)^2 + mean max(0, m_out - E(o))^2 from logits of ID features and of outliers."""
    too_high = functional.relu(energy(inside) - m_in).square().mean()
    return too_high + functional.relu(m_out - energy(outside)).square().mean()


def uniform(outside: Tensor) -> Tensor:
    """Cross-entropy between the uniform distribution and the softmax of outliers' logits (N, K), mean over N."""
    return -torch.log_softmax(outside, 1).mean()


def distillation(teacher: Tensor, student: Tensor) -> Tensor:
    """KL(softmax(teacher), softmax(student)) of (N, K), mean over N."""
    target, log_q = torch.log_softmax(teacher, 1), torch.log_softmax(student, 1)
    return functional.kl_div(log_q, target, reduction="batchmean", log_target=True)


class Transfer(nn.Sequential):
    """OAL's DT, from the teacher's features to the student's: BN, linear, ReLU, BN."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.BatchNorm1d(width), nn.Linear(width, width), nn.ReLU(), nn.BatchNorm1d(width))


class Logistic(nn.Module):
    """Cross-entropy of telling ID from outliers by logistic regression on the energy of their logits."""

    def __init__(self) -> None:
        super().__init__()
        self.regression = nn.Linear(1, 2)

    def forward(self, inside: Tensor, outside: Tensor) -> Tensor:
        energies = energy(torch.cat((inside, outside)))
        known = (torch.arange(len(energies), device=energies.device) < len(inside)).long()
        return functional.cross_entropy(self.regression(energies[:, None]), known)


def learn_at(module: nn.Module, lr: float, *, of: float, weight_decay: float) -> None:
    """Have an SGD that runs at learning rate `of` train `module` as a group of learning rate `lr` would be.

    The gradient becomes r (g + weight_decay p) - weight_decay p, r = lr / of, to which SGD adds weight_decay p.
    """
    ratio = lr / of
    for parameter in module.parameters():

        def scale(gradient: Tensor, parameter: Tensor = parameter) -> Tensor:
            return ratio * gradient + (ratio - 1) * weight_decay * parameter.detach()

        parameter.register_hook(scale)  # type: ignore[no-untyped-call]


class OutlierTerm(nn.Module):
    """weight x L_out + .1 CLUB(o, s), for a batch of `outliers` (M, D), as many as there are features.

    m_in, m_out: the margins of `hinge`. `club`: whether that term is there.
    """

    def __init__(self, kind: Kind, weight: float, outliers: Tensor, *, club: bool, m_in: float, m_out: float) -> None:
        super().__init__()
        self.kind, self.weight, self.m_in, self.m_out = kind, weight, m_in, m_out
        self._outliers = outliers
        width = outliers.shape[1]
        self.logistic = Logistic() if kind == "logistic" else None
        self.club = CLUB(width, width) if club else None

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor]:
        return (pick(self._outliers, count, generator),)

    def forward(self, student: Student, features: Tensor, logits: Tensor, outliers: Tensor) -> Tensor:
        """features (N, D) and logits (N, K) are those of ID images; `outliers` (N, D) were drawn."""
        outside = student.head(student.at_outliers(outliers)).float()
        if self.logistic is not None:
            value = self.logistic(logits, outside)
        elif self.kind == "uniform":
            value = uniform(outside)
        else:
            value = hinge(logits, outside, self.m_in, self.m_out)
        value = self.weight * value
        if self.club is not None:
            value = value + CLUB_KNN * self.club(outliers, features)
        return value  # type: ignore[no-any-return]

    def at_rates(self, lr: float, weight_decay: float) -> Self:
        """With OAL's learning rates for its modules, in an SGD of learning rate `lr`."""
        for module, own in ((self.club, LR_CLUB), (self.logistic, LR_LOGISTIC)):
            if module is not None:
                learn_at(module, own, of=lr, weight_decay=weight_decay)
        return self


class PublishedTerm(nn.Module):
    """OAL's own: .1 CLUB(o, s) + .2 CLUB(v, s), o of the k-NN `outliers` (M, D), v of the `latents` (L, 64)."""

    def __init__(self, outliers: Tensor, latents: Tensor) -> None:
        super().__init__()
        self._outliers, self._latents = outliers, latents
        width = outliers.shape[1]
        self.club, self.latent_club = CLUB(width, width), CLUB(latents.shape[1], width)

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return pick(self._outliers, count, generator), pick(self._latents, count, generator)

    def forward(self, student: Student, features: Tensor, logits: Tensor, outliers: Tensor, latents: Tensor) -> Tensor:
        """features (N, D) are those of ID images; each is paired with what was drawn at random."""
        value: Tensor = CLUB_KNN * self.club(outliers, features) + CLUB_LATENTS * self.latent_club(latents, features)
        return value


def published(outliers: Tensor, latents: Tensor, *, lr: float, weight_decay: float) -> dict[str, nn.Module]:
    """What OAL's own loss is made of beside the student, with its learning rates in an SGD of learning rate `lr`."""
    term, transfer = PublishedTerm(outliers, latents), Transfer(outliers.shape[1])
    learn_at(term, LR_CLUB, of=lr, weight_decay=weight_decay)
    learn_at(transfer, LR_TRANSFER, of=lr, weight_decay=weight_decay)
    return {"outliers": term, "transfer": transfer}


def pick(values: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` rows of `values` at random, with replacement."""
    return values[torch.randint(len(values), (count,), generator=generator, device=values.device)]
