"""A class-conditional diffusion of feature vectors, and outliers drawn from it by guidance away from a class."""

from collections.abc import Sequence
from itertools import pairwise
from math import sqrt
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.networks.lfdn import LFDN, sinusoidal
from methods.training import loop
from methods.training.recipe import Recipe
from methods.vectors import diffusion

Guidance = Literal["away", "mixed"]
STARTS = (30, 40, 50, 60)  # noise levels that seeds are brought to
STEPS = 20  # of DDIM, from there to clean features
WEIGHTS = (0.5, 2.0)  # guidance weights are uniform in between
DROPPED = 0.1  # share of training labels that are hidden


class ConditionalLFDN(LFDN):
    """LFDN whose time embedding is the sum of that of the noise level and one of the label, or of none."""

    def __init__(self, channels: int, classes: int, *, width: int | None = None, blocks: int = 16) -> None:
        super().__init__(channels, width=width, blocks=blocks)
        self.classes = classes
        self.labels = nn.Embedding(classes + 1, channels)  # the last one: no label

    def condition(self, labels: Tensor | None, count: int) -> Tensor:
        """Label embeddings (N, channels); None: `count` times that of no label."""
        if labels is None:
            labels = torch.full((count,), self.classes, device=self.labels.weight.device)
        embedding: Tensor = self.labels(labels)
        return embedding

    def forward(self, x: Tensor, level: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        """x (N, channels) at noise levels (N,) or (1,), under `condition` (N, channels); None: no label."""
        assert level is not None
        assert self.embed is not None
        condition = self.condition(None, len(x)) if condition is None else condition
        embedding = F.silu(self.embed(sinusoidal(level, self.width)) + condition)
        x = self.enter(F.silu(x))
        for block in self.blocks:
            x = block(x, embedding)
        clean: Tensor = self.leave(F.silu(self.norm(x)))
        return clean


def fit(
    network: ConditionalLFDN,
    z: Tensor,
    labels: Tensor,
    *,
    epochs: int,
    lr: float,
    seed: int,
    device: str,
    workdir: Path | None,
) -> list[float]:
    """Train on features z (N, channels) and their labels: x0-prediction, AdamW, EMA .999; the losses by epoch."""
    alphas = diffusion.alphas_cumprod().float().to(device)
    signal, spread = alphas.sqrt()[:, None], (1 - alphas).sqrt()[:, None]

    def batch(rows: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        clean = z[rows]
        level = torch.randint(diffusion.STEPS, rows.shape, generator=generator, device=clean.device)
        noise = torch.randn(clean.shape, generator=generator, device=clean.device)
        hidden = torch.rand(rows.shape, generator=generator, device=clean.device) < DROPPED
        return clean, level, noise, torch.where(hidden, network.classes, labels[rows])

    def loss(model: nn.Module, clean: Tensor, level: Tensor, noise: Tensor, shown: Tensor) -> Tensor:
        noisy = signal[level] * clean + spread[level] * noise
        error: Tensor = model(noisy, level, network.condition(shown, len(clean))) - clean
        return error.square().sum(1).mean()

    recipe = Recipe(epochs=epochs, batch_size=128, optimizer="adamw", lr=lr, weight_decay=1e-4, ema=0.999)
    return loop.train(
        network,
        batch,
        loss,
        len(z),
        recipe,
        seed=seed,
        device=device,
        name="feature diffusion",
        workdir=workdir,
        capture=True,
    )


@torch.no_grad()
def synthesise(
    network: ConditionalLFDN,
    seeds: Tensor,
    labels: Tensor,
    *,
    guidance: Guidance,
    generator: torch.Generator,
    weights: tuple[float, float] = WEIGHTS,
) -> Tensor:
    """New features (N, C): each seed noised to a level of STARTS, then denoised by STEPS of DDIM.

    "away": x0 = x0_uncond - w (x0_class - x0_uncond), the class that of the seed, w uniform in `weights`, one a
    sample (w = 0: no guidance; w = -1: plain sampling of the class). "mixed": x0 under the mean of the embeddings
    of the seed's class and of another one.
    """
    count, device = len(seeds), seeds.device
    starts = torch.randint(len(STARTS), (count,), generator=generator, device=device)
    low, high = weights
    w = low + (high - low) * torch.rand((count, 1), generator=generator, device=device)
    shift = torch.randint(1, max(2, network.classes), (count,), generator=generator, device=device)
    own = network.condition(labels, count)
    other = network.condition((labels + shift) % network.classes, count)
    noise = torch.randn(seeds.shape, generator=generator, device=device)
    out = torch.empty_like(seeds)
    for place, start in enumerate(STARTS):
        rows = (starts == place).nonzero().flatten()

        def predict(x: Tensor, level: int, rows: Tensor = rows) -> Tensor:
            at = torch.tensor([level], device=device)
            if guidance == "mixed":
                return network.forward(x, at, (own[rows] + other[rows]) / 2)
            free = network.forward(x, at)
            return free - w[rows] * (network.forward(x, at, own[rows]) - free)

        levels = torch.linspace(start, 0, STEPS).round().int().tolist()
        out[rows] = ddim(predict, diffusion.noised(seeds[rows], noise[rows], start), levels)
    return out


def ddim(network: diffusion.Network, x: Tensor, levels: Sequence[int]) -> Tensor:
    """Deterministic DDIM (Song et al., ICLR 2021) down the given noise levels, and from the last one to a = 1."""
    a = diffusion.alphas_cumprod().tolist()
    for level, following in pairwise(levels):
        clean = network(x, level)
        noise = (x - sqrt(a[level]) * clean) / sqrt(1 - a[level])
        x = sqrt(a[following]) * clean + sqrt(1 - a[following]) * noise
    return network(x, levels[-1])
