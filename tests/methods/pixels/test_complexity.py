"""Compressed sizes: the floors of both codecs, measured apart from this code, and what they must order."""

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from methods.pixels.complexity import CODECS, compressed_bits


def images(values: object, n: int = 3) -> Tensor:
    return torch.from_numpy(np.broadcast_to(values, (n, 32, 32, 3)).astype(np.uint8))


CONSTANT = images(128)
NOISE = torch.randint(256, (16, 32, 32, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
BLACK_AND_WHITE = NOISE[:3, :, :, :1].expand(-1, -1, -1, 3) // 128 * 255  # one bit in three values


# Measured: 97 and 3,172 bytes a PNG, 38 and about 3,178 a WebP; other builds of the libraries differ a little.
@pytest.mark.parametrize(("codec", "least", "most"), [("png", 0.253, 8.260), ("webp", 0.099, 8.276)])
def test_floors(codec: str, least: float, most: float) -> None:
    assert compressed_bits(CONSTANT, codec).tolist() == pytest.approx([least] * 3, abs=0.02)
    assert float(compressed_bits(NOISE, codec).mean()) == pytest.approx(most, abs=0.02)
    assert bool((compressed_bits(BLACK_AND_WHITE, codec) > 1 / 3).all())
    assert bool((compressed_bits(BLACK_AND_WHITE, codec) < 1.5).all())


@pytest.mark.parametrize("codec", CODECS)
def test_noise_does_not_compress(codec: str) -> None:
    # 8 bits a value is the entropy of uniform noise; what is above is the container.
    assert bool((compressed_bits(NOISE, codec) > 8).all())


def test_png_by_hand() -> None:
    for image, bits in zip(NOISE[:4], compressed_bits(NOISE[:4], "png").tolist(), strict=True):
        file = io.BytesIO()
        Image.fromarray(image.numpy()).save(file, format="PNG", compress_level=9)
        assert bits == 8 * len(file.getvalue()) / (32 * 32 * 3)


@pytest.mark.parametrize("codec", CODECS)
def test_the_codec_is_lossless(codec: str) -> None:
    file = io.BytesIO()
    Image.fromarray(NOISE[0].numpy()).save(file, **CODECS[codec])
    assert np.array_equal(np.asarray(Image.open(file).convert("RGB")), NOISE[0].numpy())


@pytest.mark.parametrize("codec", CODECS)
def test_each_image_alone(codec: str) -> None:
    mixed = torch.cat([CONSTANT, NOISE[:5], BLACK_AND_WHITE])
    order = torch.randperm(len(mixed), generator=torch.Generator().manual_seed(1))
    bits = compressed_bits(mixed, codec)
    assert bits.dtype == torch.float64
    assert torch.equal(compressed_bits(mixed[order], codec), bits[order])
    assert torch.equal(torch.cat([compressed_bits(image[None], codec) for image in mixed]), bits)


def test_sizes_are_per_dimension() -> None:
    tiny = torch.zeros(1, 2, 2, 3, dtype=torch.uint8)
    file = io.BytesIO()
    Image.fromarray(tiny[0].numpy()).save(file, format="PNG", compress_level=9)
    assert float(compressed_bits(tiny, "png")) == 8 * len(file.getvalue()) / math.prod(tiny.shape)


def test_nothing_in_nothing_out() -> None:
    assert compressed_bits(NOISE[:0], "png").shape == (0,)


def test_what_is_not_taken() -> None:
    with pytest.raises(ValueError, match="did you mean 'png'"):
        compressed_bits(CONSTANT, "pnk")
    with pytest.raises(ValueError, match=r"uint8 \(N, H, W, 3\)"):
        compressed_bits(CONSTANT.float(), "png")
    with pytest.raises(ValueError, match=r"uint8 \(N, H, W, 3\)"):
        compressed_bits(CONSTANT.permute(0, 3, 1, 2), "png")
