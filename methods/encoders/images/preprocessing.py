"""From uint8 images of any size to what a network reads: resized on the device, in batches of one size."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from methods.encoders.base import Images

ON_DEVICE_BYTES = 2 * 2**30
BLOCK_BYTES = 256 * 2**20  # of float32 pixels before the resize: large images go through a few at a time


def stretch(images: Images, resolution: int, device: str | torch.device) -> Tensor:
    """Every image at exactly resolution x resolution, its aspect ratio not kept (DLSR, paper.md 2.1).

    Bilinear, antialiased where it shrinks, which is PIL's bilinear but for the rounding. Returns float32
    (N, 3, R, R) from 0 to 255, in the order given.
    """
    size = (resolution, resolution)
    return _by_size(images, resolution, device, lambda block: _resize(block, size, "bilinear"))


def resize_and_crop(images: Images, resolution: int, device: str | torch.device, *, mode: str = "bilinear") -> Tensor:
    """The short side to `resolution`, then the centre: torchvision's Resize(R), CenterCrop(R), antialiased.

    As DICE and the common protocol treat images that are not of the ID set's size; one that already is
    R x R comes out unchanged. Returns float32 (N, 3, R, R) in the order given; 0 to 255, which "bicubic"
    overshoots.
    """

    def change(block: Tensor) -> Tensor:
        height, width = block.shape[2:]
        short = min(height, width)
        if short != resolution:
            height, width = height * resolution // short, width * resolution // short
            block = _resize(block, (height, width), mode)
        top, left = round((height - resolution) / 2), round((width - resolution) / 2)
        return block[:, :, top : top + resolution, left : left + resolution]

    return _by_size(images, resolution, device, change)


def to_size(images: Images, resolution: int, device: str | torch.device) -> Tensor:
    """Images brought to the ID set's size: short side, centre crop, antialiased bicubic. uint8 (N, R, R, 3)."""
    pixels = resize_and_crop(images, resolution, device, mode="bicubic")
    return pixels.round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def normalise(pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(pixels / 255 - mean) / std a channel; pixels float32 (N, 3, H, W) from 0 to 255."""
    centre = pixels.new_tensor(mean).view(3, 1, 1) * 255
    scale = pixels.new_tensor(std).view(3, 1, 1) * 255
    return (pixels - centre) / scale


def statistics(pixels: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std a channel of all training images, from 0 to 1; a std of 0 is taken as one grey level.

    pixels: uint8 (N, H, W, 3).
    """
    total, squares = torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    for start in range(0, len(pixels), 1024):
        values = pixels[start : start + 1024].double().flatten(0, 2) / 255
        total, squares = total + values.sum(0), squares + values.square().sum(0)
    count = pixels.numel() // 3
    mean = total / count
    std = (squares / count - mean.square()).clamp_min(0).sqrt().clamp_min(1 / 255)
    return tuple(mean.float().tolist()), tuple(std.float().tolist())


def to_train_on(pixels: Tensor, device: str) -> Tensor:
    """Training images, uint8: on the device where they are at most 2 GiB, else where they are."""
    return pixels.to(device) if pixels.numel() <= ON_DEVICE_BYTES else pixels


def _resize(block: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    if tuple(block.shape[2:]) == size:
        return block
    return functional.interpolate(block, size, mode=mode, align_corners=False, antialias=True)


def _by_size(images: Images, resolution: int, device: str | torch.device, change: Callable[[Tensor], Tensor]) -> Tensor:
    """`change` on float32 blocks (n, 3, H, W) of one size each; the results in the order of the images."""
    out = torch.empty((len(images), 3, resolution, resolution), device=device).contiguous(
        memory_format=torch.channels_last
    )
    for rows, block in _blocks(images):
        # NHWC seen as NCHW is channels_last already: no copy beside the conversion to float
        out[rows] = change(block.to(device).permute(0, 3, 1, 2).float())
    return out


def _blocks(images: Images) -> Iterator[tuple[slice | list[int], Tensor]]:
    """Images of one size, BLOCK_BYTES at most: their places in the batch, and (n, H, W, 3) uint8."""
    if isinstance(images, Tensor):
        _check(images, 4)
        step = _images_a_block(images.shape[1:])
        for start in range(0, len(images), step):
            yield slice(start, start + step), images[start : start + step]
        return
    groups: dict[torch.Size, list[int]] = defaultdict(list)
    for place, image in enumerate(images):
        _check(image, 3)
        groups[image.shape].append(place)
    for shape, places in groups.items():
        step = _images_a_block(shape)
        for start in range(0, len(places), step):
            rows = places[start : start + step]
            yield rows, torch.stack([images[row] for row in rows])


def _images_a_block(shape: torch.Size) -> int:
    return max(1, BLOCK_BYTES // (4 * shape.numel()))


def _check(images: Tensor, dimensions: int) -> None:
    if images.dtype != torch.uint8 or images.ndim != dimensions or images.shape[-1] != 3 or 0 in images.shape[-3:-1]:
        wanted = "(N, H, W, 3)" if dimensions == 4 else "(H, W, 3)"
        raise ValueError(f"images are uint8 {wanted}, not {images.dtype} {tuple(images.shape)}")
