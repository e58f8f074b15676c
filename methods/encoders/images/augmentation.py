"""Random changes to a batch of training images, on its device, from a given generator."""

import math

import torch
from torch import Tensor
from torch.nn import functional

TRIES = 10  # of RandomResizedCrop, to find a part that lies within the image


def random_crop(images: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    """Each image (N, C, H, W) shifted by up to `padding` pixels either way, on zeros: torchvision's RandomCrop."""
    height, width = images.shape[2:]
    shifts = torch.randint(2 * padding + 1, (2, len(images), 1), generator=generator, device=images.device)
    rows = shifts[0] + torch.arange(height, device=images.device)
    columns = shifts[1] + torch.arange(width, device=images.device)
    padded = functional.pad(images, (padding,) * 4).permute(0, 2, 3, 1)
    image = torch.arange(len(images), device=images.device)[:, None, None]
    return padded[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def random_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image (N, C, H, W) mirrored left to right with probability 1/2."""
    flipped = torch.rand(len(images), 1, 1, 1, generator=generator, device=images.device) < 0.5
    return torch.where(flipped, images.flip(3), images)


def random_resized_crop(images: Tensor, scale: tuple[float, float], generator: torch.Generator) -> Tensor:
    """Of each square image (N, C, R, R) a random part, back at R x R: torchvision's RandomResizedCrop.

    The part is a share of the area within `scale`, its aspect ratio log-uniform in 3/4 to 4/3.
    """
    n, side = len(images), images.shape[-1]
    draw = torch.rand(4, n, TRIES, generator=generator, device=images.device)
    area = (scale[0] + (scale[1] - scale[0]) * draw[0]) * side**2
    ratio = ((2 * draw[1] - 1) * math.log(4 / 3)).exp()
    width, height = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()
    fits = (width <= side) & (height <= side)
    first = fits.int().argmax(1, keepdim=True)  # the first try that fits; after TRIES the whole image
    any_fits = fits.any(1)
    width, height = (
        values.gather(1, first).squeeze(1).where(any_fits, torch.full_like(area[:, 0], side))
        for values in (width, height)
    )
    top = (draw[2, :, 0] * (side - height + 1)).floor()
    left = (draw[3, :, 0] * (side - width + 1)).floor()
    return resized_crop(images, top, left, height, width)


def resized_crop(images: Tensor, top: Tensor, left: Tensor, height: Tensor, width: Tensor) -> Tensor:
    """Of each image (N, C, H, W) its own part, whole pixels (N,) each, resized to H x W (bilinear)."""

    def places(start: Tensor, length: Tensor, side: int) -> Tensor:
        """Where along one axis each pixel of the result is read, (N, side), from -1 to 1 over the image."""
        within = (torch.arange(side, device=images.device) + 0.5) * (length / side)[:, None] - 0.5
        within = within.clamp_min(0).minimum((length - 1)[:, None])  # the part's edge, not what lies beyond it
        return 2 * (start[:, None] + within) / (side - 1) - 1

    rows, columns = places(top, height, images.shape[2]), places(left, width, images.shape[3])
    shape = (len(images), *images.shape[2:])
    grid = torch.stack((columns[:, None, :].expand(shape), rows[:, :, None].expand(shape)), 3)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=True)


def color_jitter(
    images: Tensor,
    generator: torch.Generator,
    *,
    strength: tuple[float, float, float, float],
    probability: float,
) -> Tensor:
    """Images (N, 3, H, W) from 0 to 255 in other light: torchvision's ColorJitter, with `probability` each.

    strength: of brightness, contrast, saturation and hue. Each image has its own factors and order of the four.
    """
    n, device = len(images), images.device
    draw = 2 * torch.rand(n, 4, generator=generator, device=device) - 1
    amounts = draw * draw.new_tensor(strength) + draw.new_tensor((1, 1, 1, 0))
    order = torch.rand(n, 4, generator=generator, device=device).argsort(1)
    chosen = torch.rand(n, 1, generator=generator, device=device) < probability
    turns = order.where(chosen, -1).cpu()  # once: which images go where must be known, and each look waits
    images = images.clone()
    for turn in range(4):
        for which, change in enumerate((brightness, contrast, saturation, hue)):
            rows = (turns[:, turn] == which).nonzero().flatten().to(device, non_blocking=True)
            if len(rows):
                images[rows] = change(images[rows], amounts[rows, which])
    return images


def random_greyscale(images: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Each image (N, 3, H, W) without its colours, with `probability`."""
    chosen = torch.rand(len(images), 1, 1, 1, generator=generator, device=images.device) < probability
    return torch.where(chosen, greyscale(images), images)


def greyscale(images: Tensor) -> Tensor:
    """The luma (N, 1, H, W) of ITU-R BT.601."""
    return (images * images.new_tensor((0.2989, 0.587, 0.114)).view(3, 1, 1)).sum(1, keepdim=True)


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Times a factor (N,) an image."""
    return _blend(images, torch.zeros_like(images[:, :1]), factor)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """From the mean grey of each image: 0 is all grey, 1 the image, factor (N,)."""
    return _blend(images, greyscale(images).mean((2, 3), keepdim=True), factor)


def saturation(images: Tensor, factor: Tensor) -> Tensor:
    """From each image's greyscale: 0 is grey, 1 the image, factor (N,)."""
    return _blend(images, greyscale(images), factor)


def _blend(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    return torch.lerp(other.expand_as(images), images, factor.view(-1, 1, 1, 1)).clamp(0, 255)


def hue(images: Tensor, turn: Tensor) -> Tensor:
    """The hue of HSV turned by a share (N,) of the circle, -0.5 to 0.5; value and saturation stay."""
    high, low = images.amax(1, keepdim=True), images.amin(1, keepdim=True)
    chroma = high - low
    red, green, blue = images[:, 0:1], images[:, 1:2], images[:, 2:3]
    scale = chroma.where(chroma > 0, 1)
    sixths = torch.where(
        high == red,
        (green - blue) / scale,
        torch.where(high == green, 2 + (blue - red) / scale, 4 + (red - green) / scale),
    )
    sixths = sixths + 6 * turn.view(-1, 1, 1, 1)
    # channel n of HSV to RGB: V - C * clamp(min(k, 4 - k), 0, 1) with k = (n + H) mod 6, n = 5, 3, 1
    k = (sixths + images.new_tensor((5.0, 3.0, 1.0)).view(3, 1, 1)) % 6
    return high - chroma * torch.minimum(k, 4 - k).clamp(0, 1)
