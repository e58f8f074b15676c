"""Input complexity: how many bits a lossless image codec needs (Serra et al., ICLR 2020)."""

import io
import math
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from methods.base import nearest

# What Pillow's writer is told. WebP's `quality` is effort where it is lossless; `method` 6 beside it would save a
# tenth of the size of a digit (and 8 of a constant image's 38 bytes) at 30 times the cost.
CODECS: Mapping[str, dict[str, Any]] = {
    "png": {"format": "PNG", "compress_level": 9},
    "webp": {"format": "WEBP", "lossless": True, "quality": 100},
}


def compressed_bits(pixels: Tensor, codec: str) -> Tensor:
    """Compressed size in bits per dimension (N,), float64, of images (N, H, W, 3), uint8; on their device.

    L(x) = 8 bytes / (3 H W), container included. `codec`: "png" (level 9, the paper's) or "webp" (lossless; it
    stands in for FLIF, which is not packaged). ValueError for another one, and for pixels of another kind.
    """
    if codec not in CODECS:
        raise ValueError(f"codec {codec!r}; {nearest(codec, CODECS)}")
    if pixels.dtype != torch.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3:
        raise ValueError(f"pixels must be uint8 (N, H, W, 3), not {pixels.dtype} {tuple(pixels.shape)}")
    images, dimensions = pixels.cpu().numpy(), math.prod(pixels.shape[1:])
    with ThreadPoolExecutor(_threads()) as pool:  # both writers let go of the interpreter's lock
        sizes = list(pool.map(_writer(CODECS[codec]), images))
    return torch.tensor(sizes, dtype=torch.float64, device=pixels.device) * 8 / dimensions


def _writer(settings: dict[str, Any]) -> Callable[[np.ndarray[Any, Any]], int]:
    """The function from an image (H, W, 3) to the bytes of its file."""

    def size(image: np.ndarray[Any, Any]) -> int:
        file = io.BytesIO()
        Image.fromarray(image).save(file, **settings)
        return len(file.getbuffer())

    return size


def _threads() -> int:
    """As many as this process may use, 16 at most."""
    return min(16, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
