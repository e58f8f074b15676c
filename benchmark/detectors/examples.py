"""Inputs that belong to nobody, by which a saved detector is known again."""

from typing import Any

import torch
from torch import Tensor


def colours(count: int, size: int, seed: int) -> Tensor:
    """Images of smooth colours with some noise: uint8 (count, size, size, 3)."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 4, 4, generator=generator) * 255
    smooth = torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear", align_corners=False)
    noise = 20 * torch.randn(smooth.shape, generator=generator)
    return (smooth + noise).round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous()


def numbers(reader: Any) -> dict[str, Tensor]:
    """Eight rows of every feature that an encoder on features reads."""
    generator = torch.Generator().manual_seed(0)
    widths = {"embedding": reader.embedding, "logits": reader.logits, "layers": sum(reader.layers)}
    return {name: torch.rand(8, width, generator=generator) for name, width in widths.items() if width}
