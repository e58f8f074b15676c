"""LFDN, the denoising network of DLSR (NeurIPS 2024, section 3.2): a residual MLP over feature vectors."""

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """x + W2 SiLU(norm(W1 SiLU(norm(x)) + We SiLU(e))), W2 zero at the start. (N, width) -> (N, width)."""

    def __init__(self, width: int, hidden: int, time: int) -> None:
        super().__init__()
        self.norm1, self.linear1 = nn.LayerNorm(width), nn.Linear(width, hidden)
        self.time = nn.Linear(time, hidden) if time else None
        self.norm2, self.linear2 = nn.LayerNorm(hidden), _zero(nn.Linear(hidden, width))

    def forward(self, x: Tensor, embedding: Tensor | None) -> Tensor:
        """`embedding`: SiLU of the time embedding (N or 1, time); None in the network without time."""
        h: Tensor = self.linear1(F.silu(self.norm1(x)))
        if self.time is not None:
            h = h + self.time(embedding)
        h = self.linear2(F.silu(self.norm2(h)))
        return x + h


class LFDN(nn.Module):
    """Predicts clean features (N, channels) from noisy ones and their noise level; exactly 0 before training.

    `width` of the residual stream (default 2 x channels), `hidden` width inside a block (default `width`),
    `time`: size of the time embedding (default channels), 0 for the network without time that the autoencoder
    is. The paper's 720 channels make 86,740,560 parameters, 68,572,080 without time. LayerNorm over a vector
    is the GroupNorm with one group of the released code.
    """

    def __init__(
        self,
        channels: int,
        *,
        width: int | None = None,
        hidden: int | None = None,
        blocks: int = 16,
        time: int | None = None,
    ) -> None:
        super().__init__()
        self.width = width = width or 2 * channels
        time = channels if time is None else time
        self.enter = nn.Linear(channels, width)
        self.embed = nn.Sequential(nn.Linear(width, time), nn.SiLU(), nn.Linear(time, time)) if time else None
        self.blocks = nn.ModuleList(Block(width, hidden or width, time) for _ in range(blocks))
        self.norm, self.leave = nn.LayerNorm(width), _zero(nn.Linear(width, channels))

    def forward(self, x: Tensor, level: Tensor | None = None) -> Tensor:
        """`level`: noise levels (N,) int64, or (1,) for one level that all share; None without time."""
        embedding = None
        if self.embed is not None:
            if level is None:
                raise ValueError("this LFDN needs the noise level of its input")
            embedding = F.silu(self.embed(sinusoidal(level, self.width)))
        x = self.enter(F.silu(x))
        for block in self.blocks:
            x = block(x, embedding)
        return self.leave(F.silu(self.norm(x)))  # type: ignore[no-any-return]


def sinusoidal(level: Tensor, width: int) -> Tensor:
    """(N, width): cosines, then sines, of level x 10000^(-2i / width), i < width / 2; a last odd one is 0."""
    half = width // 2
    frequencies = torch.exp(-math.log(10000) / half * torch.arange(half, device=level.device))
    angles = level[:, None].float() * frequencies
    return F.pad(torch.cat((angles.cos(), angles.sin()), dim=1), (0, width % 2))


def restore(
    state: Mapping[str, Tensor], channels: int, device: str | torch.device, *, prefix: str = "", **sizes: Any
) -> LFDN:
    """The network whose `state_dict` has its names behind `prefix` in `state`; `sizes` as for LFDN."""
    with torch.device("meta"):  # no time spent on weights that are replaced at once
        network = LFDN(channels, **sizes)
    own = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    network.load_state_dict(own, assign=True)
    return network.to(device).eval()


def _zero(linear: nn.Linear) -> nn.Linear:
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear
