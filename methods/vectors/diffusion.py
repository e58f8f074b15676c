"""The diffusion of DLSR (NeurIPS 2024): its schedule, and its ways from noised features back to clean ones.

Noise levels are indices 0 .. 99 into `alphas_cumprod()`, written a[i] here:
x = sqrt(a[i]) z0 + sqrt(1 - a[i]) noise. `network(x, level)` predicts the clean features z0;
`draw(step)` gives fresh standard normal noise of x's shape.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from math import sqrt

import torch
from torch import Tensor

STEPS = 100
Network = Callable[[Tensor, int], Tensor]
Draw = Callable[[int], Tensor]


def betas() -> Tensor:
    """(100,) float64, from .0015 to .0195 with even steps of the square root, as in latent diffusion."""
    return torch.linspace(sqrt(0.0015), sqrt(0.0195), STEPS, dtype=torch.float64) ** 2


def alphas_cumprod() -> Tensor:
    """(100,) float64: the products of 1 - beta, .9985 down to .41175."""
    return (1 - betas()).cumprod(0)


@lru_cache(maxsize=1)
def _levels() -> Sequence[float]:
    """`alphas_cumprod` as plain numbers."""
    return alphas_cumprod().tolist()


def noised(z: Tensor, noise: Tensor, level: int) -> Tensor:
    """`z` (N, C) brought to one noise level."""
    a = _levels()[level]
    return sqrt(a) * z + sqrt(1 - a) * noise


def ddim(network: Network, x: Tensor, k: int, draw: Draw, *, eta: float = 0.0) -> Tensor:
    """DDIM (Song et al., ICLR 2021, eq. 12) with stride 1 from level k through 0 to a = 1.

    That is k + 1 network calls. At a = 1 DDIM's answer is the network's last prediction itself.
    """
    a = _levels()
    for level in range(k, 0, -1):
        clean = network(x, level)
        noise = (x - sqrt(a[level]) * clean) / sqrt(1 - a[level])
        sigma = eta * sqrt((1 - a[level - 1]) / (1 - a[level]) * (1 - a[level] / a[level - 1]))
        x = sqrt(a[level - 1]) * clean + sqrt(1 - a[level - 1] - sigma**2) * noise
        if sigma:
            x = x + sigma * draw(level)
    return network(x, 0)


def released(network: Network, x: Tensor, k: int, draw: Draw) -> Tensor:
    """The sampler of the released code: DDIM with eta 1 whose update is one level behind its network.

    The network and the noise estimate are of level i + 1, the update is that of level i, and the end is a[0],
    not 1. Its last step (i = 0) changes nothing, whatever the network says, so that this call is left out:
    k - 1 calls. Hence k = 1 returns x itself, and k = 3 returns
    .4108 x + .1757 network(x, 3) + .4133 network(x', 2) + .0193 noise + .0278 noise.
    """
    a = _levels()
    for i in range(k - 1, 0, -1):
        predicted = network(x, i + 1)
        noise = (x - sqrt(a[i + 1]) * predicted) / sqrt(1 - a[i + 1])
        sigma = sqrt((1 - a[i - 1]) / (1 - a[i]) * (1 - a[i] / a[i - 1]))
        clean = (x - sqrt(1 - a[i]) * noise) / sqrt(a[i])
        x = sqrt(a[i - 1]) * clean + sqrt(1 - a[i - 1] - sigma**2) * noise + sigma * draw(i)
    return x


def single(network: Network, x: Tensor, k: int) -> Tensor:
    """The network's prediction at level k: one call."""
    return network(x, k)
