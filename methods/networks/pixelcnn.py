"""PixelCNN++ (Salimans et al., ICLR 2017): every pixel's distribution from the pixels above it and to its left.

Images are (N, 3, H, W) in [-1, 1], their 256 values 2 / 255 apart; H and W are multiples of 4.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

from methods.base import CannotRun

Stream = Literal["down", "right"]
_KERNELS = {"down": (2, 3), "right": (2, 2)}
_SMALLEST_LOG_SCALE = -7.0


def concat_elu(x: Tensor) -> Tensor:
    """ELU of x and of -x: twice the channels."""
    return F.elu(torch.cat((x, -x), dim=1))


class Shifted(nn.Module):
    """A convolution that looks no further than its own row ("down") or its own row and column ("right")."""

    def __init__(
        self, enter: int, leave: int, stream: Stream, *, kernel: tuple[int, int] | None = None, stride: int = 1
    ) -> None:
        super().__init__()
        height, width = kernel = kernel or _KERNELS[stream]
        sides = (width // 2, width // 2) if stream == "down" else (width - 1, 0)
        self.padding = (*sides, height - 1, 0)
        self.convolution = weight_norm(nn.Conv2d(enter, leave, kernel, stride))

    def forward(self, x: Tensor) -> Tensor:
        return self.convolution(F.pad(x, self.padding))  # type: ignore[no-any-return]


def _doubled(filters: int, stream: Stream) -> nn.Module:
    """The transposed convolution to twice the height and width; one norm an output channel, as everywhere."""
    side = int(stream == "down")
    double = nn.ConvTranspose2d(filters, filters, _KERNELS[stream], 2, padding=(0, side), output_padding=(0, side))
    return weight_norm(double, dim=1)  # type: ignore[no-any-return]


class GatedResnet(nn.Module):
    """x + a sigmoid(b), (a, b) from two convolutions of the stream; `shortcut` channels join after the first."""

    def __init__(self, filters: int, stream: Stream, shortcut: int, dropout: float) -> None:
        super().__init__()
        self.enter = Shifted(2 * filters, filters, stream)
        self.shortcut = weight_norm(nn.Conv2d(2 * shortcut, filters, 1)) if shortcut else None
        self.dropout = nn.Dropout(dropout)
        self.leave = Shifted(2 * filters, 2 * filters, stream)

    def forward(self, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        h = self.enter(concat_elu(x))
        if self.shortcut is not None and shortcut is not None:
            h = h + self.shortcut(concat_elu(shortcut))
        a, b = self.leave(self.dropout(concat_elu(h))).chunk(2, dim=1)
        return x + a * b.sigmoid()  # type: ignore[no-any-return]


class Stage(nn.Module):
    """Gated resnet blocks of both streams at one resolution. Going `back` up they take what was kept going down."""

    def __init__(self, blocks: int, filters: int, dropout: float, *, back: bool) -> None:
        super().__init__()
        down, right = (filters, 2 * filters) if back else (0, filters)
        self.down = nn.ModuleList(GatedResnet(filters, "down", down, dropout) for _ in range(blocks))
        self.right = nn.ModuleList(GatedResnet(filters, "right", right, dropout) for _ in range(blocks))

    def forward(self, d: Tensor, r: Tensor, kept: list[tuple[Tensor, Tensor]], *, back: bool) -> tuple[Tensor, Tensor]:
        for down, right in zip(self.down, self.right, strict=True):
            if back:
                kept_d, kept_r = kept.pop()
                d = down(d, kept_d)
                r = right(r, torch.cat((d, kept_r), dim=1))
            else:
                d = down(d)
                r = right(r, d)
                kept.append((d, r))
        return d, r


class PixelCNN(nn.Module):
    """Images (N, 3, H, W) to the parameters (N, 10 mixtures, H, W) of `log_likelihood`, pixel by pixel.

    Two streams, one of the rows above, one of these and of the pixels to the left; three resolutions, each a
    half of the last; one block more on the way back, where the shortcuts are. The published network
    (5 blocks, 160 filters, 10 mixtures) has 53,659,080 parameters, weight normalisation's lengths included.
    """

    def __init__(self, *, blocks: int = 5, filters: int = 160, mixtures: int = 10, dropout: float = 0.5) -> None:
        super().__init__()
        self.above = Shifted(4, filters, "down")
        self.row_above = Shifted(4, filters, "down", kernel=(1, 3))
        self.left = Shifted(4, filters, "right", kernel=(2, 1))
        self.stages = nn.ModuleList(Stage(blocks, filters, dropout, back=False) for _ in range(3))
        self.stages_back = nn.ModuleList(Stage(blocks + (i > 0), filters, dropout, back=True) for i in range(3))
        self.halve_down = nn.ModuleList(Shifted(filters, filters, "down", stride=2) for _ in range(2))
        self.halve_right = nn.ModuleList(Shifted(filters, filters, "right", stride=2) for _ in range(2))
        self.double_down = nn.ModuleList(_doubled(filters, "down") for _ in range(2))
        self.double_right = nn.ModuleList(_doubled(filters, "right") for _ in range(2))
        self.leave = weight_norm(nn.Conv2d(filters, 10 * mixtures, 1))

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2] % 4 or x.shape[3] % 4:
            raise CannotRun(f"pixelcnn: height and width must be multiples of 4, not {x.shape[2]} x {x.shape[3]}")
        x = torch.cat((x, torch.ones_like(x[:, :1])), dim=1)  # ones tell the image from the padding
        d = _shift_down(self.above(x))
        r = _shift_down(self.row_above(x)) + F.pad(self.left(x), (1, -1))
        kept = [(d, r)]
        for i, stage in enumerate(self.stages):
            d, r = stage(d, r, kept, back=False)
            if i < 2:
                d, r = self.halve_down[i](d), self.halve_right[i](r)
                kept.append((d, r))
        kept.pop()  # where the way back begins
        for i, stage in enumerate(self.stages_back):
            d, r = stage(d, r, kept, back=True)
            if i < 2:
                d, r = self.double_down[i](d), self.double_right[i](r)
        return self.leave(F.elu(r))  # type: ignore[no-any-return]

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        """Weight normalisation's data-dependent start (Salimans and Kingma, 2016) from a batch of images.

        Directions are N(0, 0.05); then every convolution's outputs have mean 0 and deviation 1 (0.1 where a
        residual is added) over `x`.
        """
        residual = {block.leave.convolution for block in self.modules() if isinstance(block, GatedResnet)}

        def standardise(layer: nn.Module, _: object, output: Tensor) -> Tensor:
            scale = (0.1 if layer in residual else 1.0) / (output.var((0, 2, 3), correction=0) + 1e-8).sqrt()
            mean = output.mean((0, 2, 3))
            parameters = dict(layer.named_parameters())
            length, bias = parameters["parametrizations.weight.original0"], parameters["bias"]
            length.mul_(scale.view(length.shape))
            bias.sub_(mean).mul_(scale)
            return (output - mean[:, None, None]) * scale[:, None, None]

        layers = [layer for layer in self.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
        for layer in layers:
            layer.weight = torch.randn_like(layer.weight) * 0.05
        hooks = [layer.register_forward_hook(standardise) for layer in layers]
        try:
            self(x)
        finally:
            for hook in hooks:
                hook.remove()


def log_likelihood(x: Tensor, parameters: Tensor) -> Tensor:
    """Log-probability (natural) of each pixel, all three values together: (N, H, W).

    `x` (N, 3, H, W); `parameters` (N, 10 K, H, W) as `PixelCNN` predicts them: a mixture of K logistics, cut
    into the 256 values' intervals, the outermost ones open; green's mean moves with red, blue's with both.
    """
    weights, means, log_scales, coefficients = _unpacked(parameters)
    red, green, _ = x.unsqueeze(2).unbind(1)
    means = torch.stack(
        (
            means[:, 0],
            means[:, 1] + coefficients[:, 0] * red,
            means[:, 2] + coefficients[:, 1] * red + coefficients[:, 2] * green,
        ),
        dim=1,
    )
    x = x.unsqueeze(2)
    centred, precision = x - means, (-log_scales).exp()
    upper, lower, middle = (precision * (centred + shift) for shift in (1 / 255, -1 / 255, 0))
    inside = upper.sigmoid() - lower.sigmoid()
    density = middle - log_scales - 2 * F.softplus(middle)
    # A float32 difference of sigmoids has no digits left below 1e-5: there the density times the width stands in.
    # The floor of 1e-12 is never a result: it keeps the gradient of the branch that is not taken finite.
    values = torch.where(inside > 1e-5, inside.clamp(min=1e-12).log(), density - math.log(127.5))
    values = torch.where(x > 0.999, -F.softplus(lower), values)
    values = torch.where(x < -0.999, upper - F.softplus(upper), values)
    return (values.sum(dim=1) + weights).logsumexp(dim=1)


def _unpacked(parameters: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(N, 10 K, ...) to log-weights (N, K, ...), and means, log-scales and coefficients (N, 3, K, ...)."""
    mixtures = parameters.shape[1] // 10
    weights, rest = parameters[:, :mixtures].log_softmax(dim=1), parameters[:, mixtures:]
    means, log_scales, coefficients = rest.view(-1, 3, 3, mixtures, *rest.shape[2:]).unbind(1)
    return weights, means, log_scales.clamp(min=_SMALLEST_LOG_SCALE), coefficients.tanh()


def draw(parameters: Tensor, generator: torch.Generator) -> Tensor:
    """One pixel (N, 3) from each of the mixtures (N, 10 K), exactly as `log_likelihood` distributes it."""
    weights, *rest = _unpacked(parameters)
    device, (count, mixtures) = parameters.device, weights.shape
    # Drawn on the CPU: the same on every device. In float64, whose logarithms see deep into the tails.
    gumbel = -(-torch.rand(count, mixtures, generator=generator, dtype=torch.float64).log()).log()
    logistic = torch.rand(count, 3, generator=generator, dtype=torch.float64).logit()
    component = (weights + gumbel.to(device)).argmax(dim=1).view(-1, 1, 1).expand(-1, 3, 1)
    means, log_scales, coefficients = (values.gather(2, component)[..., 0] for values in rest)
    spread = log_scales.exp() * logistic.float().to(device)
    red = _rounded(means[:, 0] + spread[:, 0])
    green = _rounded(means[:, 1] + coefficients[:, 0] * red + spread[:, 1])
    blue = _rounded(means[:, 2] + coefficients[:, 1] * red + coefficients[:, 2] * green + spread[:, 2])
    return torch.stack((red, green, blue), dim=1)


def _rounded(x: Tensor) -> Tensor:
    """The nearest of the 256 values: what lies beyond the outermost belongs to them."""
    return to_unit(((x + 1) * 127.5).round().clamp(0, 255))


def to_unit(pixels: Tensor) -> Tensor:
    """0 .. 255 to [-1, 1]."""
    return (pixels - 127.5) / 127.5


@torch.no_grad()
def sample(network: PixelCNN, count: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """`count` images, uint8 (count, H, W, 3), pixel by pixel: H x W passes. `generator` is on the CPU."""
    device = next(network.parameters()).device
    x = torch.zeros(count, 3, height, width, device=device)
    with parametrize.cached():
        for row in range(height):
            seen = x[:, :, : row // 4 * 4 + 4]  # no prediction looks below its row; the network halves twice
            for column in range(width):
                x[:, :, row, column] = draw(network(seen)[:, :, row, column], generator)
    return ((x + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)


def _shift_down(x: Tensor) -> Tensor:
    """One row down: zeros come in at the top, the last row leaves."""
    return F.pad(x, (0, 0, 1, -1))
