"""What the principal directions of the embedding leave over (ViM's residual)."""

import torch
from torch import Tensor

from methods.base import CannotRun, Head
from methods.vectors.statistics import covariance


def residual(z: Tensor, head: Head, dim: int | None, device: str) -> tuple[Tensor, Tensor]:
    """u = -pinv(W) b (D,) and R (D, D - dim), the eigenvectors of mean((z - u)(z - u)^T) beyond the `dim` largest.

    `dim` None: 1000 for D >= 2048, 512 for D >= 768, else D // 2, as ViM's authors. CannotRun where `dim` is not
    below D, or the images do not leave these directions.
    """
    size = z.shape[1]
    if dim is None:
        dim = 1000 if size >= 2048 else 512 if size >= 768 else size // 2
    if dim >= size:
        raise CannotRun(f"dim is {dim}; it must be below the embedding's {size}")
    weight = head.weight.to(device).double()
    # weights are of float32: what is smaller than its rounding, or a float64 tolerance, would count as a direction
    rtol = max(weight.shape) * torch.finfo(torch.float32).eps
    origin: Tensor = -torch.linalg.pinv(weight, rtol=rtol) @ head.bias.to(device).double()
    variances, directions = torch.linalg.eigh(covariance(z, origin[None], device=device))
    if variances[: size - dim].sum() <= variances[-1] * size * torch.finfo(variances.dtype).eps:
        raise CannotRun(
            f"{len(z)} training images leave nothing outside {dim} principal directions: lower dim or take more images"
        )
    return origin, directions[:, : size - dim].contiguous()  # eigh sorts upwards
