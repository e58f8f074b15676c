"""From uint8 images of any size to what a network reads: resized on the device, in batches of one size."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from methods.encoders.base import Images

ON_DEVICE_BYTES = 2 * 2**30
BLOCK_BYTES = 256 * 2**20  # of float32 pixels before, in and after the resize: large images go a few at a time


def stretch(images: Images, resolution: int, device: str | torch.device) -> Tensor:
    """Every image at exactly resolution x resolution, its aspect ratio not kept (DLSR, paper.md 2.1).

    Bilinear, antialiased where it shrinks, which is PIL's bilinear but for the rounding. Returns float32
    (N, 3, R, R) from 0 to 255, in the order given.
    """
    return _by_size(images, resolution, device, lambda height, width: (resolution, resolution), "bilinear")


def resize_and_crop(
    images: Images, resolution: int, device: str | torch.device, *, mode: str = "bilinear", short: int | None = None
) -> Tensor:
    """The short side to `short` (None: R), then the centre: torchvision's Resize, CenterCrop(R), antialiased.

    As DICE and the common protocol treat images that are not of the ID set's size; one that already is
    R x R comes out unchanged. Returns float32 (N, 3, R, R) in the order given; 0 to 255, which "bicubic"
    overshoots.
    """

    def size(height: int, width: int) -> tuple[int, int]:
        least, wanted = min(height, width), short or resolution
        return height * wanted // least, width * wanted // least

    return _by_size(images, resolution, device, size, mode)


def to_size(images: Images, resolution: int, device: str | torch.device) -> Tensor:
    """Images brought to the ID set's size: short side, centre crop, antialiased bicubic. uint8 (N, R, R, 3)."""
    pixels = resize_and_crop(images, resolution, device, mode="bicubic")
    return pixels.round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def normalise(pixels: Tensor, mean: Sequence[float] | Tensor, std: Sequence[float] | Tensor) -> Tensor:
    """(pixels / 255 - mean) / std a channel; pixels float32 (N, 3, H, W) from 0 to 255.

    mean, std: float32 tensors on the same device need not be copied there, for which a batch waits.
    """
    centre, scale = (
        torch.as_tensor(values, dtype=pixels.dtype, device=pixels.device).view(3, 1, 1) * 255 for values in (mean, std)
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
    """Training images, uint8: on the device where they are at most 2 GiB, else where they are."""
    return pixels.to(device) if pixels.numel() <= ON_DEVICE_BYTES else pixels


def _resize(block: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    if tuple(block.shape[2:]) == size:
        return block
    return functional.interpolate(block, size, mode=mode, align_corners=False, antialias=True)


Size = Callable[[int, int], tuple[int, int]]  # height and width of an image -> those that it is resized to


def _by_size(images: Images, resolution: int, device: str | torch.device, size: Size, mode: str) -> Tensor:
    """The centre of each image resized to `size`, in blocks of one size each; in the order of the images."""
    out = torch.empty((len(images), 3, resolution, resolution), device=device).contiguous(
        memory_format=torch.channels_last
    )
    for rows, block in _blocks(images, size):
        # NHWC seen as NCHW is channels_last already: no copy beside the conversion to float
        pixels = block.to(device).permute(0, 3, 1, 2)
        height, width = size(*pixels.shape[2:])
        top, left = round((height - resolution) / 2), round((width - resolution) / 2)
        if _bytes(pixels.shape[2:], (height, width)) <= BLOCK_BYTES:
            whole = _resize(pixels.float(), (height, width), mode)
            out[rows] = whole[:, :, top : top + resolution, left : left + resolution]
        else:
            out[rows] = _window(pixels, (height, width), (top, left), resolution, mode)
    return out


def _bytes(before: Sequence[int], after: Sequence[int]) -> int:
    """The largest of an image's float32 pixels before, between and after the two passes of its resize."""
    return 12 * max(before[0], after[0]) * max(before[1], after[1])


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


def _blocks(images: Images, size: Size) -> Iterator[tuple[slice | list[int], Tensor]]:
    """Images of one size, BLOCK_BYTES at most: their places in the batch, and (n, H, W, 3) uint8."""
    if isinstance(images, Tensor):
        _check(images, 4)
        step = _images_a_block(images.shape[1:], size)
        for start in range(0, len(images), step):
            yield slice(start, start + step), images[start : start + step]
        return
    groups: dict[torch.Size, list[int]] = defaultdict(list)
    for place, image in enumerate(images):
        _check(image, 3)
        groups[image.shape].append(place)
    for shape, places in groups.items():
        step = _images_a_block(shape, size)
        for start in range(0, len(places), step):
            rows = places[start : start + step]
            yield rows, torch.stack([images[row] for row in rows])


def _images_a_block(shape: torch.Size, size: Size) -> int:
    height, width = shape[:2]
    return max(1, BLOCK_BYTES // _bytes((height, width), size(height, width)))


def _check(images: Tensor, dimensions: int) -> None:
    if images.dtype != torch.uint8 or images.ndim != dimensions or images.shape[-1] != 3 or 0 in images.shape[-3:-1]:
        wanted = "(N, H, W, 3)" if dimensions == 4 else "(H, W, 3)"
        raise ValueError(f"images are uint8 {wanted}, not {images.dtype} {tuple(images.shape)}")
