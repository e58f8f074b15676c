"""Random changes to a batch of training images, on its device, from a given generator."""

import torch
from torch import Tensor
from torch.nn import functional


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
