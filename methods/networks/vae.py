"""The network of the Likelihood Regret paper: a DCGAN encoder and decoder, each sub-pixel one of 256 classes.

Xiao et al., NeurIPS 2020; layers, biases and first weights as in its released code.
"""

import itertools
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.base import CannotRun

LEVELS = 256  # the values of a sub-pixel


class Encoder(nn.Module):
    """Images (N, channels, size, size) in [0, 1] -> mu and logvar of q(z | x), each (N, nz)."""

    def __init__(self, size: int, channels: int, width: int, nz: int) -> None:
        super().__init__()
        bottom, widths = _shape(size, width)
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise((channels, *widths)):
            layers += [nn.Conv2d(before, after, 4, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.mu, self.logvar = nn.Conv2d(widths[-1], nz, bottom), nn.Conv2d(widths[-1], nz, bottom)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.body(x)
        return self.mu(hidden).flatten(1).float(), self.logvar(hidden).flatten(1).float()


class Decoder(nn.Module):
    """Codes (N, nz) -> logits (N, size, size, channels, 256) of p(x | z)."""

    def __init__(self, size: int, channels: int, width: int, nz: int) -> None:
        super().__init__()
        bottom, widths = _shape(size, width)
        layers: list[nn.Module] = [nn.ConvTranspose2d(nz, widths[-1], bottom, bias=False)]
        for before, after in itertools.pairwise(reversed(widths)):
            layers += [nn.BatchNorm2d(before), nn.ReLU(), nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False)]
        self.body = nn.Sequential(*layers, nn.BatchNorm2d(width), nn.ReLU())
        self.final = nn.ConvTranspose2d(width, channels * LEVELS, 4, 2, 1, bias=False)

    def forward(self, z: Tensor) -> Tensor:
        logits: Tensor = self.final(self.body(z[:, :, None, None])).permute(0, 2, 3, 1)
        return logits.reshape(*logits.shape[:3], -1, LEVELS)


class VAE(nn.Module):
    """Both halves for images of `size` x `size`: 8, 12, 16, 24, 28, 32, ...; CannotRun where halving ends above 8.

    2.30 M + 2.26 M parameters at size 32, 3 channels, width 64, nz 200.
    """

    def __init__(self, size: int, width: int, nz: int, channels: int = 3) -> None:
        super().__init__()
        self.encoder = Encoder(size, channels, width, nz)
        self.decoder = Decoder(size, channels, width, nz)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(layer.weight, 0.0, 0.02)
            elif isinstance(layer, nn.BatchNorm2d):
                nn.init.normal_(layer.weight, 1.0, 0.02)
        self.to(memory_format=torch.channels_last)  # the 256 classes of a sub-pixel lie together

    def posterior(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """mu and logvar (N, nz) of images (N, H, W, C), uint8."""
        return cast(tuple[Tensor, Tensor], self.encoder(scaled(pixels)))

    def log_likelihood(self, z: Tensor, pixels: Tensor) -> Tensor:
        """log p(x | z) in nats, (N,) float64, of images (N, H, W, C), uint8, each under its own z (N, nz)."""
        logits = self.decoder(z).reshape(-1, LEVELS)
        nats = F.cross_entropy(logits, pixels.reshape(-1).long(), reduction="none")
        # Summed in float64: a regret of a few nats is the difference of two sums of thousands.
        return -nats.view(len(pixels), -1).sum(dim=1, dtype=torch.float64)


def scaled(pixels: Tensor) -> Tensor:
    """Images (N, H, W, C), uint8, as the encoder takes them: (N, C, H, W) in [0, 1]."""
    return pixels.permute(0, 3, 1, 2).float() / 255


def divergence(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(q(z | x) || N(0, 1)) in nats, (N,), float64, of Gaussians (N, nz)."""
    return 0.5 * (mu.square() + logvar.exp() - 1 - logvar).sum(dim=1, dtype=torch.float64)


def _shape(size: int, width: int) -> tuple[int, list[int]]:
    """The side of the smallest maps (4, as published, where the size allows it), and the channels of each halving."""
    bottom, widths = size, list[int]()
    while bottom % 2 == 0 and bottom > 4:
        bottom //= 2
        widths.append(width << len(widths))
    if not widths or bottom > 8:
        raise CannotRun(
            f"vae: images of {size} x {size} cannot be halved down to 8 or less: "
            "set the resolution of the pixels encoder, e.g. to 32"
        )
    return bottom, widths
