"""Glow: Generative Flow with Invertible 1x1 Convolutions (Kingma and Dhariwal, NeurIPS 2018), multi-scale.

A bijection of images (N, C, H, W) onto latents that are standard normal: the learned priors are parts of it. Every
module maps x to (y, log |det dy/dx| an image), and back by `inverse`.
"""

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ActNorm(nn.Module):
    """exp(logs) (x + bias), a channel each. The first images that come by while it is `waiting` set both."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias, self.logs = nn.Parameter(torch.zeros(channels)), nn.Parameter(torch.zeros(channels))
        self.waiting = False

    def start(self, x: Tensor) -> None:
        """Give outputs for `x` mean 0 and variance 1 in every channel, if `waiting`."""
        if self.waiting:
            with torch.no_grad():
                variance, mean = torch.var_mean(x, (0, 2, 3), correction=0)
                self.bias.copy_(-mean)
                self.logs.copy_(-(variance.sqrt() + 1e-6).log())
            self.waiting = False

    def forward(self, x: Tensor) -> Tensor:
        self.start(x)
        return (x + self.bias[:, None, None]) * self.logs.exp()[:, None, None]

    def inverse(self, y: Tensor) -> Tensor:
        return y * (-self.logs).exp()[:, None, None] - self.bias[:, None, None]


class NormConv(nn.Module):
    """A convolution, then actnorm; computed as one convolution, so that nothing between them is kept in memory."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.05 * torch.randn(outputs, inputs, kernel, kernel))
        self.norm = ActNorm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        if self.norm.waiting:
            self.norm.start(F.conv2d(x, self.weight, padding="same"))
        gain = self.norm.logs.exp()
        return F.conv2d(x, gain[:, None, None, None] * self.weight, gain * self.norm.bias, padding="same")


class ZeroConv(nn.Module):
    """exp(3 logs) times a 3x3 convolution, all 0 at the start."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(outputs, inputs, 3, 3))
        self.bias, self.logs = nn.Parameter(torch.zeros(outputs)), nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        gain = (3 * self.logs).exp()
        return F.conv2d(x, gain[:, None, None, None] * self.weight, gain * self.bias, padding="same")


class InvertibleConv(nn.Module):
    """The 1x1 convolution W = P L (U + diag(s)), at the start a random rotation; P and the signs of s stay.

    L has ones on its diagonal, U zeros; what `lower` and `upper` hold on the other side is not used.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        rotation = torch.linalg.qr(torch.randn(channels, channels)).Q
        permutation, lower, upper = (factor.contiguous() for factor in torch.linalg.lu(rotation))
        diagonal = upper.diagonal()
        self.register_buffer("permutation", permutation)
        self.register_buffer("sign", diagonal.sign())
        self.lower, self.upper = nn.Parameter(lower), nn.Parameter(upper)
        self.logs = nn.Parameter(diagonal.abs().log())

    def matrix(self) -> Tensor:
        """W, (C, C)."""
        lower = self.lower.tril(-1) + torch.eye(len(self.lower), dtype=self.lower.dtype, device=self.lower.device)
        upper = self.upper.triu(1) + torch.diag(cast(Tensor, self.sign) * self.logs.exp())
        return cast(Tensor, self.permutation) @ lower @ upper

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.matrix()[:, :, None, None])

    def inverse(self, y: Tensor) -> Tensor:
        return F.conv2d(y, self.matrix().double().inverse().to(y.dtype)[:, :, None, None])


class Step(nn.Module):
    """One step of the flow: actnorm, 1x1 convolution, affine coupling.

    The coupling leaves the first half of the channels as it is and makes (second + shift) scale of the other;
    shift and scale = sigmoid(h + 2) come from the first by convolutions 3x3, 1x1, 3x3.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.norm, self.mix = ActNorm(channels), InvertibleConv(channels)
        self.coupling = nn.Sequential(
            NormConv(channels // 2, width, 3),
            nn.ReLU(inplace=True),
            NormConv(width, width, 1),
            nn.ReLU(inplace=True),
            ZeroConv(width, channels),
        )

    def _affine(self, first: Tensor) -> tuple[Tensor, Tensor]:
        """Shift and log scale of the second half."""
        shift, h = self.coupling(first).chunk(2, dim=1)
        return shift, F.logsigmoid(h + 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first, second = self.mix(self.norm(x)).chunk(2, dim=1)
        shift, logs = self._affine(first)
        places = x.shape[2] * x.shape[3]
        logdet = logs.sum((1, 2, 3)) + places * (self.norm.logs + self.mix.logs).sum()
        return torch.cat((first, (second + shift) * logs.exp()), dim=1), logdet

    def inverse(self, y: Tensor) -> Tensor:
        first, second = y.chunk(2, dim=1)
        shift, logs = self._affine(first)
        x = torch.cat((first, second * (-logs).exp() - shift), dim=1)
        return self.norm.inverse(self.mix.inverse(x))


class GlowNetwork(nn.Module):
    """`levels` times: squeeze 2 x 2 pixels into channels, `steps` steps, and half of the channels leave as latents.

    What leaves is Gaussian with a mean and log standard deviation from the half that stays; at the last level all
    leave, with learned ones. The paper's CIFAR-10 network (3, 32, 512) has 44,235,312 parameters, counted as in
    the codes: with the unused halves of the triangular matrices and the last prior's convolution of zeros.
    """

    def __init__(self, levels: int = 3, steps: int = 32, width: int = 512, *, channels: int = 3) -> None:
        super().__init__()
        self.channels = channels
        self.levels, self.priors = nn.ModuleList(), nn.ModuleList()
        for level in range(levels):
            channels = 4 * channels
            self.levels.append(nn.ModuleList(Step(channels, width) for _ in range(steps)))
            if level < levels - 1:
                self.priors.append(ZeroConv(channels // 2, channels))
                channels //= 2
        self.priors.append(ZeroConv(2 * channels, 2 * channels))

    def start(self, x: Tensor) -> None:
        """Initialise every actnorm by images (N, C, H, W): what leaves it has mean 0 and variance 1."""
        for module in self.modules():
            if isinstance(module, ActNorm):
                module.waiting = True
        with torch.no_grad():
            self(x)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images (N, C, H, W), sides multiples of 2^levels, to latents (N, C H W) and log |det| (N,)."""
        latents, logdet = [], x.new_zeros(len(x))
        for level, (steps, prior) in enumerate(zip(self.levels, self.priors, strict=True)):
            x = F.pixel_unshuffle(x, 2)
            for step in cast(nn.ModuleList, steps):
                x, change = step(x)
                logdet = logdet + change
            z = x
            if level < len(self.levels) - 1:
                x, z = x.chunk(2, dim=1)
            mean, logs = self._prior(prior, x, level)
            latents.append(((z - mean) * (-logs).exp()).flatten(1))
            logdet = logdet - logs.sum((1, 2, 3))
        return torch.cat(latents, dim=1), logdet

    def inverse(self, latents: Tensor, size: tuple[int, int]) -> Tensor:
        """Latents (N, C H W) to images (N, C, H, W) of `size` (H, W)."""
        last = len(self.levels) - 1
        shapes = [
            (self.channels * 2 ** (level + 1 + (level == last)), size[0] >> level + 1, size[1] >> level + 1)
            for level in range(last + 1)
        ]
        sizes = [math.prod(shape) for shape in shapes]
        parts = [z.reshape(-1, *shape) for z, shape in zip(torch.split(latents, sizes, 1), shapes, strict=True)]
        x = parts[last]
        for level in reversed(range(last + 1)):
            mean, logs = self._prior(self.priors[level], x, level)
            z = mean + parts[level] * logs.exp()
            x = z if level == last else torch.cat((x, z), dim=1)
            for step in reversed(cast(nn.ModuleList, self.levels[level])):
                x = cast(Step, step).inverse(x)
            x = F.pixel_shuffle(x, 2)
        return x

    def _prior(self, prior: nn.Module, x: Tensor, level: int) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation given `x`; at the last level those of an image of zeros."""
        if level == len(self.levels) - 1:
            x = x.new_zeros(1, 2 * x.shape[1], *x.shape[2:])
        mean, logs = prior(x).chunk(2, dim=1)
        return mean, logs

    def log_density(self, x: Tensor) -> Tensor:
        """log p(x) in nats (N,), of images (N, C, H, W)."""
        latents, logdet = cast(tuple[Tensor, Tensor], self(x))
        return logdet - 0.5 * (latents.square() + math.log(2 * math.pi)).sum(1)
