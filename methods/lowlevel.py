"""The control: what brightness, contrast, saturation, sharpness and compressed size give away."""

import zlib
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from methods.base import Features, register
from methods.vectors.statistics import whitening
from methods.vectors.sums import Summed, Sums, mean_and_covariance, moments

ROWS = 256  # images whose pixels are in float32 at a time


@register("lowlevel")
@dataclass
class LowLevel(Summed):
    """(s - mu)^T P (s - mu), mu and P^-1 the mean and covariance of nine statistics s of ID training images:

    mean and variance of each channel, mean saturation (max - min) / max, mean squared Laplacian of the grey
    image, and bits per value after lossless compression (PNG's Sub filter, then zlib).

    A method that does not beat this one has not shown that it reads content. After Serra et al. for the
    compressed size and Lee et al. for the distance.
    """

    title = "Low-level statistics"
    paper = (
        "control; compressed size: Serra et al., Input Complexity and Out-of-distribution Detection with "
        "Likelihood-based Generative Models, ICLR 2020, https://arxiv.org/abs/1909.11480"
    )
    reads = ("pixels",)
    fitted = ("mean", "whitening")

    def sums(self, block: Features) -> dict[str, Tensor]:
        return moments(describe(block.need("pixels")))

    def fit_sums(self, sums: Sums) -> Self:
        self.mean, covariance = mean_and_covariance(sums)
        self.whitening = whitening(covariance)
        return self

    def score(self, x: Features) -> Tensor:
        white = (describe(x.need("pixels")) - self.mean) @ self.whitening
        return white.square().sum(dim=1)


def describe(pixels: Tensor) -> Tensor:
    """The nine statistics (N, 9), float64, of images (N, H, W, 3), uint8."""
    return torch.cat([_describe(block) for block in torch.split(pixels, ROWS)])


def _describe(pixels: Tensor) -> Tensor:
    values = pixels.float() / 255
    channels = values.flatten(1, 2)
    brightest, darkest = values.amax(dim=3), values.amin(dim=3)
    saturation = torch.where(brightest > 0, (brightest - darkest) / brightest, 0.0)
    grey = pad(values.mean(dim=3)[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    middle = grey[:, 1:-1, 1:-1]
    laplacian = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:] - 4 * middle
    columns = (
        channels.mean(dim=1),
        channels.var(dim=1, correction=0),
        saturation.mean(dim=(1, 2))[:, None],
        laplacian.square().mean(dim=(1, 2))[:, None],
        _bits_per_value(pixels)[:, None],
    )
    return torch.cat([column.double() for column in columns], dim=1)


def _bits_per_value(pixels: Tensor) -> Tensor:
    images = pixels.cpu().numpy()
    filtered = np.diff(images, axis=2, prepend=np.uint8(0))  # uint8 wraps around, as PNG's does
    sizes = [8 * len(zlib.compress(image.tobytes())) / image.size for image in filtered]
    return torch.tensor(sizes, dtype=torch.float64, device=pixels.device)
