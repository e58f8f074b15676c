"""Latents of Stable Diffusion as the vectors of 64 numbers that OAL trains on."""

import hashlib
from pathlib import Path

from torch import Tensor

from methods.base import CannotRun
from methods.device import tensors
from methods.device.files import read_regular

BYTES = 1 << 30  # of a file: 16,384 latents of [4, 64, 64]
SIDE = 64  # of a latent, for images of 512 pixels


def sha256(path: Path) -> str | None:
    """Of the file's content, in hex; None where it is not there. ValueError for what is no regular file."""
    try:
        return hashlib.sha256(read_regular(path, BYTES)).hexdigest()
    except OSError:
        return None


def read(path: Path) -> Tensor:
    """(N, 64) float32 from a file of one tensor: .safetensors, or torch.save's (tensors only).

    [N, 64] as it is; [N, 4, 64, 64] averaged over the channels, then over the rows, as OAL's code does.
    CannotRun where there is no such file, ValueError for what is no such tensor.
    """
    try:
        content, _ = tensors.read(path, BYTES)
    except OSError:
        raise CannotRun(f"no latents at {path}: save a tensor of [N, 64] or [N, 4, 64, 64] there") from None
    if isinstance(content, dict) and len(content) == 1:
        (content,) = content.values()
    if not isinstance(content, Tensor):
        raise ValueError(f"{path} has to hold one tensor of [N, 64] or [N, 4, 64, 64]")
    shape = tuple(content.shape)
    if not content.is_floating_point() or shape[1:] not in ((SIDE,), (4, SIDE, SIDE)) or not len(content):
        raise ValueError(f"{path}: latents are floats of [N, 64] or [N, 4, 64, 64], not {content.dtype} {shape}")
    values = content.float()
    if values.ndim == 4:
        values = values.mean(1).mean(1)
    if not bool(values.isfinite().all()):
        raise ValueError(f"{path} holds NaN or infinity: generate the latents again")
    return values
