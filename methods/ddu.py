"""DDU, and the mixture of Gaussians: the density of the embedding, one Gaussian with its own covariance a class."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from methods.base import CannotRun, Features, Method, NotNegative, register
from methods.vectors.statistics import covariance, means

JITTERS = (0.0, *(10.0**power for power in range(-308, 0)))
LARGEST = 3 << 30  # bytes of the classes' factors: with what stands beside them, 4 GiB
FARTHEST = 1e300  # a squared distance: float64 ends at 1e308


@register("ddu")
@dataclass
class DDU(Method):
    """-logsumexp_c log N(z; mu_c, S_c), S_c each class's own covariance, / (n_c - 1), + `jitter` I; float64.

    `jitter` None: the smallest of 0, 1e-308, 1e-307, .., .1 for which every class's Cholesky factor exists; one for
    all classes. CannotRun where a class has no image, or, unless a jitter is given (which then decides the score),
    no more than D; and where the factors (K, D, D) would take more than 3 GiB.
    Preset `pytorch-ood` is its GMM: `prior` n_c / N, S_c / n_c (`unbiased` False), jitter 1e-6.
    """

    title: ClassVar[str] = "DDU"
    paper: ClassVar[str] = (
        "Mukhoti et al., Deep Deterministic Uncertainty: A New Simple Baseline, CVPR 2023, "
        "https://arxiv.org/abs/2102.11582"
    )
    reads: ClassVar[tuple[str, ...]] = ("embedding", "labels")
    fitted: ClassVar[tuple[str, ...]] = ("centres", "factors", "log_weights")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "pytorch-ood": {"prior": True, "unbiased": False, "jitter": 1e-6}
    }

    jitter: NotNegative | None = None
    prior: bool = False
    unbiased: bool = True

    def fit(self, train: Features, *, seed: int = 0, device: str = "cpu", workdir: Path | None = None) -> Self:
        z, labels = train.need("embedding"), train.need_labels().cpu()
        count, size = labels.bincount(), z.shape[1]
        if (needed := 8 * len(count) * size**2) > LARGEST:
            raise CannotRun(f"the covariances of {len(count)} classes in {size} dimensions take {needed:,} bytes")
        least = size if self.jitter is None else int(self.unbiased)
        fewest = int(count.argmin())
        if int(count[fewest]) <= least:
            raise CannotRun(f"needs more than {least} images of each class; class {fewest} has {int(count[fewest])}")
        self.centres = torch.empty(len(count), size, dtype=torch.float64, device=device)
        covariances = torch.empty(len(count), size, size, dtype=torch.float64, device=device)
        for label, n in enumerate(count.tolist()):
            rows = z[labels == label]
            centre = means(rows, device=device)
            self.centres[label] = centre[0]
            covariances[label] = covariance(rows, centre, device=device) * (n / (n - int(self.unbiased)))
        jitter = _smallest_jitter(covariances) if self.jitter is None else self.jitter
        for own in covariances:  # in place: they are large
            own.diagonal().add_(jitter)
            own.copy_(torch.linalg.cholesky(own))
        self.factors = covariances
        weights = count / len(z) if self.prior else torch.ones(len(count))
        self.log_weights = weights.to(device, torch.float64).log()
        return self

    def before_export(self) -> Self:
        method = super().before_export()
        method._invert()
        return method

    def _invert(self) -> None:
        """What `score` multiplies by in a graph, where there is no triangular solve."""
        eye = torch.eye(self.factors.shape[1], dtype=torch.float64, device=self.factors.device)
        self.inverses = torch.linalg.solve_triangular(self.factors, eye.expand_as(self.factors), upper=False)

    def score(self, x: Features) -> Tensor:
        z = x.need("embedding").double()
        densities = []
        for number, (centre, factor) in enumerate(zip(self.centres, self.factors, strict=True)):
            if torch.compiler.is_exporting():
                white = self.inverses[number] @ (z - centre).T
            else:
                white = torch.linalg.solve_triangular(factor, (z - centre).T, upper=False)
            distance = white.square().sum(dim=0).clamp(max=FARTHEST)
            densities.append(-distance / 2 - factor.diagonal().log().sum() - len(factor) / 2 * math.log(2 * math.pi))
        return -torch.logsumexp(torch.stack(densities, dim=1) + self.log_weights, dim=1)


def _smallest_jitter(covariances: Tensor) -> float:
    """The smallest of JITTERS with which each of `covariances` (K, D, D) has a Cholesky factor."""
    smallest = 0.0
    for number, own in enumerate(covariances):
        if _has_factor(own, 0.0):  # and with any jitter
            continue
        enough = next((jitter for jitter in JITTERS if jitter >= smallest and _has_factor(own, jitter)), None)
        if enough is None:
            raise CannotRun(
                f"the covariance of class {number} has no Cholesky factor with a jitter of .1: give a larger one"
            )
        smallest = enough
    return smallest


def _has_factor(covariance: Tensor, jitter: float) -> bool:
    diagonal = covariance.diagonal()
    if jitter and bool((diagonal + jitter == diagonal).all()):
        return False  # it changes nothing, and 0 was not enough
    jittered = covariance.clone()
    jittered.diagonal().add_(jitter)
    return int(torch.linalg.cholesky_ex(jittered).info) == 0
