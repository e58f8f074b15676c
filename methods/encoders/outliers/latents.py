"""Latents of Stable Diffusion as the vectors of 64 numbers that OAL trains on."""

import pickle
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from methods.base import CannotRun

SIDE = 64  # of a latent, for images of 512 pixels


def read(path: Path) -> Tensor:
    """(N, 64) float32 from a file of one tensor: .safetensors, or torch.save's (tensors only).

    [N, 64] as it is; [N, 4, 64, 64] averaged over the channels, then over the rows, as OAL's code does.
    CannotRun where there is no such file, ValueError for what is no such tensor.
    """
    if not path.is_file():
        raise CannotRun(f"no latents at {path}: save a tensor of [N, 64] or [N, 4, 64, 64] there")
    try:
        if path.suffix == ".safetensors":
            content: object = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError(f"{path} holds more than plain tensors: not loaded; convert it to safetensors") from None
    except Exception as error:  # torn or hostile: whatever the reader raises
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} cannot be read as a tensor ({reason}): save it again") from error
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
