"""From uint8 images of any size to what a network reads: shrunk where they are decoded, the rest on the device."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from methods.encoders.base import Images

ON_DEVICE_BYTES = 2 * 2**30
BLOCK_BYTES = 256 * 2**20  # of float32 pixels before, in and after the resize: large images go a few at a time
SHRINK_BYTES = 64 * 2**20  # of uint8 pixels in a resize, where they are more than the image itself


@dataclass(frozen=True)
class Shrinking:
    """How images get to the size that a network reads: `size` x `size`, stretched, or (`crop`) the short side and then
    the centre.

    Called on one image, it shrinks it where it is larger on either side, on the CPU and in uint8, as Pillow does: the
    same pixels whatever encodes them, and a small part of the bytes to send. Any other comes back as it is, and is
    enlarged on the device; with `always`, for what ends as uint8, that happens here as well.
    """

    size: int
    mode: Literal["bilinear", "bicubic"] = "bilinear"
    crop: bool = False
    always: bool = False
    centre: int | None = None  # the side of the square that is read of what comes out; None: all of it

    def described(self) -> dict[str, Any]:
        """For keys and records."""
        return {**asdict(self), "shrunk_in": "uint8"}

    def whole(self, height: int, width: int) -> tuple[int, int]:
        """Height and width that an image of this size is resized to, before any crop."""
        if not self.crop:
            return self.size, self.size
        short = min(height, width)
        return height * self.size // short, width * self.size // short

    def corner(self, after: tuple[int, int]) -> tuple[int, int]:
        """Where the square begins in an image that was resized to `after`.

        So that its own centre is the centre of the whole, to the pixel.
        """
        side = self.centre or self.size
        top, left = (round((length - side) / 2) - round((self.size - side) / 2) for length in after)
        return top, left

    def __call__(self, image: Tensor) -> Tensor:
        """image: uint8 (H, W, 3) on the CPU. Returns uint8 (H', W', 3)."""
        _check(image, 3)
        before = (image.shape[0], image.shape[1])
        after = self.whole(*before)
        if before == (self.size, self.size) or not (self.always or after[0] < before[0] or after[1] < before[1]):
            return image
        top, left = self.corner(after)
        pixels = image[None].permute(0, 3, 1, 2)  # channels last, also by the strides of one image: nothing is copied
        if _area(before, after) * 3 <= max(SHRINK_BYTES, image.numel()):
            first = _first_pass(before, after)
            # along the rows first, as torch does by itself: in one call, which takes half the time
            for size in (first, after) if first[1] == before[1] else (after,):
                pixels = _resize(pixels, size, self.mode)
            pixels = pixels[:, :, top : top + self.size, left : left + self.size]
        else:
            pixels = _window(pixels, after, (top, left), self.size, self.mode).round_().clamp_(0, 255).byte()
        return pixels[0].permute(1, 2, 0).contiguous()


def stretch(images: Images, resolution: int, device: str | torch.device) -> Tensor:
    """Every image at exactly resolution x resolution, its aspect ratio not kept (DLSR, paper.md 2.1).

    Bilinear, antialiased where it shrinks, which is PIL's bilinear; what it enlarges is not rounded. Returns float32
    (N, 3, R, R) from 0 to 255, in the order given.
    """
    return _on_device(images, Shrinking(resolution), device)


def resize_and_crop(images: Images, resolution: int, device: str | torch.device) -> Tensor:
    """The short side to `resolution`, then the centre: torchvision's Resize(R), CenterCrop(R), antialiased.

    As DICE and the common protocol treat images that are not of the ID set's size; one that already is
    R x R comes out unchanged. Returns float32 (N, 3, R, R) from 0 to 255, in the order given.
    """
    return _on_device(images, Shrinking(resolution, crop=True), device)


def prepared(images: Images, shrinking: Shrinking, device: str | torch.device) -> Tensor:
    """What is read of each image: float32 (N, 3, C, C) from 0 to 255, C the `centre` or else the `size`."""
    side = shrinking.centre or shrinking.size
    corner = round((shrinking.size - side) / 2)
    whole = _on_device(images, shrinking, device).clamp_(0, 255)  # which "bicubic" overshoots
    return whole[:, :, corner : corner + side, corner : corner + side]


def to_size(images: Images, resolution: int, device: str | torch.device) -> Tensor:
    """Images brought to the ID set's size: short side, centre crop, antialiased bicubic. uint8 (N, R, R, 3)."""
    there = _shrunk(images, to_id_size(resolution))
    return (there if isinstance(there, Tensor) else torch.stack(list(there))).to(device)


def to_id_size(resolution: int) -> Shrinking:
    """Of `pixels`, and of every image where all are first brought to the ID set's size."""
    return Shrinking(resolution, "bicubic", crop=True, always=True)


def normalise(pixels: Tensor, mean: Sequence[float] | Tensor, std: Sequence[float] | Tensor) -> Tensor:
    """(pixels / 255 - mean) / std a channel; pixels float32 (N, 3, H, W) from 0 to 255.

    mean, std: three numbers each, or float32 tensors, which need not be copied where they are on the same device.
    """
    # without waiting for what the device still has to do: three numbers are out of pageable memory when this returns
    centre, scale = (
        torch.as_tensor(values, dtype=pixels.dtype).to(pixels.device, non_blocking=True).view(3, 1, 1) * 255
        for values in (mean, std)
    )
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
    """Training images, uint8: on the device where they take little of its memory, else where they are."""
    return pixels.to(device) if pixels.numel() <= _room(device) else pixels


def _room(device: str) -> int:
    """Bytes of images that may stay on a device: a tenth of a GPU's memory."""
    if torch.device(device).type != "cuda":
        return ON_DEVICE_BYTES
    return int(torch.cuda.get_device_properties(device).total_memory // 10)


def _resize(block: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    if tuple(block.shape[2:]) == size:
        return block
    return functional.interpolate(block, size, mode=mode, align_corners=False, antialias=True)


def _shrunk(images: Images, shrinking: Shrinking) -> Images:
    """The images as they come from where they are decoded; those that were not shrunk there are shrunk here."""
    if isinstance(images, Tensor):
        _check(images, 4)
        shape = (images.shape[1], images.shape[2])
        after = shrinking.whole(*shape)
        larger = after[0] < shape[0] or after[1] < shape[1]
        if not (larger or (shrinking.always and shape != (shrinking.size, shrinking.size))):
            return images
        return torch.stack([shrinking(image) for image in images.cpu()])
    return [shrinking(image.cpu()) for image in images]


def _on_device(images: Images, shrinking: Shrinking, device: str | torch.device) -> Tensor:
    """float32 (N, 3, R, R): shrunk where larger, enlarged in blocks of one size each; in the order of the images."""
    images = _shrunk(images, shrinking)
    resolution, mode = shrinking.size, shrinking.mode
    out = torch.empty((len(images), 3, resolution, resolution), device=device).contiguous(
        memory_format=torch.channels_last
    )
    for rows, block in _blocks(images, shrinking):
        # NHWC seen as NCHW is channels_last already: no copy beside the conversion to float
        pixels = block.to(device).permute(0, 3, 1, 2)
        height, width = shrinking.whole(*pixels.shape[2:])
        top, left = round((height - resolution) / 2), round((width - resolution) / 2)
        if _bytes(pixels.shape[2:], (height, width)) <= BLOCK_BYTES:
            whole = _resize(pixels.float(), (height, width), mode)
            out[rows] = whole[:, :, top : top + resolution, left : left + resolution]
        else:
            out[rows] = _window(pixels, (height, width), (top, left), resolution, mode)
    return out


def _first_pass(before: tuple[int, int], after: tuple[int, int]) -> tuple[int, int]:
    """The size between the two passes, each of which rounds: as Pillow 13, along the rows but for tall images."""
    tall = before[0] - after[0] > 2 * max(before[1] - after[1], 0)
    return (after[0], before[1]) if tall else (before[0], after[1])


def _area(before: Sequence[int], after: Sequence[int]) -> int:
    """The most pixels of an image before, between and after the two passes of its resize."""
    return max(before[0], after[0]) * max(before[1], after[1])


def _bytes(before: Sequence[int], after: Sequence[int]) -> int:
    """Of an image's float32 pixels, the same."""
    return 12 * _area(before, after)


def _window(pixels: Tensor, size: tuple[int, int], corner: tuple[int, int], resolution: int, mode: str) -> Tensor:
    """A square of what `_resize` to `size` would give, from the pixels that it depends on alone.

    The same kernels, axis by axis, the longer first; no more than a few rows or columns are float32 at a time.
    pixels: (n, 3, H, W), any dtype. Returns float32 (n, 3, R, R).
    """
    for axis in sorted((2, 3), key=lambda axis: -pixels.shape[axis]):
        across = pixels.permute(0, axis, 5 - axis, 1)  # (n, this axis, the other, 3)
        lines = []
        for place in range(corner[axis - 2], corner[axis - 2] + resolution):
            first, weights = _kernel(place, pixels.shape[axis], size[axis - 2], mode)
            part = across[:, first : first + len(weights)]
            lines.append((weights.to(pixels.device) @ part.flatten(2).float()).view(len(part), *part.shape[2:]))
        done = torch.stack(lines, dim=1)
        pixels = done.permute(0, 3, 1, 2) if axis == 2 else done.permute(0, 3, 2, 1)
    return pixels


def _kernel(place: int, before: int, after: int, mode: str) -> tuple[int, Tensor]:
    """What pixel `place` of `after` is made of: the first of `before`, and the weights from there on.

    As torch's antialiased interpolation: a triangle, or Keys' cubic with a = -0.5, as wide as the scale where it
    shrinks; in float32 as well, where that can tell the pixels apart.
    """
    dtype = torch.float32 if max(before, after) < 2**20 else torch.float64
    scale = torch.tensor(before, dtype=dtype) / after
    wide = scale.clamp_min(1)
    support = wide * (1 if mode == "bilinear" else 2)
    centre = scale * (place + 0.5)
    first, end = max(int(centre - support + 0.5), 0), min(int(centre + support + 0.5), before)
    x = ((torch.arange(first, end) - centre + 0.5) / wide).abs()
    if mode == "bilinear":
        weights = (1 - x).clamp_min(0)
    else:
        far = ((-0.5 * x + 2.5) * x - 4) * x + 2
        weights = torch.where(x < 1, (1.5 * x - 2.5) * x * x + 1, torch.where(x < 2, far, torch.zeros_like(x)))
    return first, (weights / weights.sum()).float()


def _blocks(images: Images, shrinking: Shrinking) -> Iterator[tuple[slice | list[int], Tensor]]:
    """Images of one size, BLOCK_BYTES at most: their places in the batch, and (n, H, W, 3) uint8."""
    if isinstance(images, Tensor):
        _check(images, 4)
        step = _images_a_block(images.shape[1:], shrinking)
        for start in range(0, len(images), step):
            yield slice(start, start + step), images[start : start + step]
        return
    groups: dict[torch.Size, list[int]] = defaultdict(list)
    for place, image in enumerate(images):
        _check(image, 3)
        groups[image.shape].append(place)
    for shape, places in groups.items():
        step = _images_a_block(shape, shrinking)
        for start in range(0, len(places), step):
            rows = places[start : start + step]
            yield rows, torch.stack([images[row] for row in rows])


def _images_a_block(shape: torch.Size, shrinking: Shrinking) -> int:
    height, width = shape[:2]
    return max(1, BLOCK_BYTES // _bytes((height, width), shrinking.whole(height, width)))


def _check(images: Tensor, dimensions: int) -> None:
    if images.dtype != torch.uint8 or images.ndim != dimensions or images.shape[-1] != 3 or 0 in images.shape[-3:-1]:
        wanted = "(N, H, W, 3)" if dimensions == 4 else "(H, W, 3)"
        raise ValueError(f"images are uint8 {wanted}, not {images.dtype} {tuple(images.shape)}")
