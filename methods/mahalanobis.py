"""Mahalanobis distance to the nearest class centre, or to the one centre of all images."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import torch
from torch import Tensor

from methods.base import Features, Method, register
from methods.vectors.layers import vectors
from methods.vectors.statistics import ROUNDING, covariance, means, unit, whitening


@register("mahalanobis")
@dataclass
class Mahalanobis(Method):
    """min_c (z - mu_c)^T P (z - mu_c), P the pseudo-inverse of one covariance of the class-centred features.

    A labelled training set: one Gaussian for each class in it, one shared covariance (Lee et al., last layer,
    no input noise). `per_class` False, or an image without a label: one Gaussian (Sehwag et al., SSD, who
    also normalise z). P ignores directions in which the training set does not vary. z: the `feature`; of
    "layers" their channels, normalised within each layer as in DLSR. `normalise`: Mahalanobis++, on z / |z|.
    CannotRun where the features are all alike.
    """

    title = "Mahalanobis"
    paper = (
        "Lee et al., A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial "
        "Attacks, NeurIPS 2018, https://arxiv.org/abs/1807.03888"
    )
    reads = ("embedding",)
    fitted = ("mean", "whitening", "centres")

    per_class: bool = True
    feature: Literal["embedding", "logits", "layers"] = "embedding"
    normalise: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.__dict__["reads"] = (self.feature,)  # hides the class's, which is the default's

    def fit(self, train: Features, *, seed: int = 0, device: str = "cpu", workdir: Path | None = None) -> Self:
        z, labels = vectors(train, self.feature), train.labels
        groups = None
        if self.per_class and labels is not None and bool((labels >= 0).all()):
            groups = labels.unique(return_inverse=True)[1]
        change, rounding = (unit, torch.finfo(torch.float64).eps) if self.normalise else (None, ROUNDING)
        centres = means(z, device=device, groups=groups, change=change)
        self.whitening = whitening(covariance(z, centres, device=device, groups=groups, change=change), rounding)
        self.mean = centres.mean(dim=0)
        self.centres = (centres - self.mean) @ self.whitening
        return self

    def score(self, x: Features) -> Tensor:
        z = vectors(x, self.feature, x.index.device)
        white = ((unit(z) if self.normalise else z.double()) - self.mean) @ self.whitening
        # One form for every block: cdist's own choice depends on the number of rows.
        distances = torch.cdist(white, self.centres, compute_mode="use_mm_for_euclid_dist")
        return distances.amin(dim=1).square()
