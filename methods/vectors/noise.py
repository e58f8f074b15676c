"""Random numbers that belong to an image: pure functions of (seed, stream, image index, column).

A counter-based generator (the output function of SplitMix64, Steele et al., OOPSLA 2014) in plain tensor
arithmetic, so that a score does not depend on how images are blocked, ordered or shared out over devices.
"""

import math
from typing import overload

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15  # the increment of SplitMix64
_FACTORS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_BITS = (1 << 64) - 1
_NORMAL, _UNIFORM = 1, 2  # separate families, so that normal and uniform draws of one stream are independent


def _signed(number: int) -> int:
    """The int64 with the same 64 bits: torch has no arithmetic for uint64."""
    number &= _BITS
    return number - (1 << 64) if number >> 63 else number


@overload
def _mix(x: int) -> int: ...
@overload
def _mix(x: Tensor) -> Tensor: ...
def _mix(x: int | Tensor) -> int | Tensor:
    """SplitMix64's bijection of 64 bits; products wrap, shifts bring in zeros."""
    if isinstance(x, int):
        x &= _BITS
        x = ((x ^ (x >> 30)) * _FACTORS[0]) & _BITS
        x = ((x ^ (x >> 27)) * _FACTORS[1]) & _BITS
        return x ^ (x >> 31)
    first, second = (_signed(factor) for factor in _FACTORS)
    x = (x ^ _shift(x, 30)) * first
    x = (x ^ _shift(x, 27)) * second
    return x ^ _shift(x, 31)


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical right shift of int64 (torch's own keeps the sign)."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def derive(*numbers: int) -> int:
    """A seed (0 <= seed < 2**63) from integers, e.g. (seed, epoch, step); their order matters."""
    state = 0
    for number in numbers:
        state = _mix(state + _GOLDEN + number)
    return state >> 1


def _rows(index: Tensor, family: int, seed: int, stream: int) -> Tensor:
    """One 64-bit key an image, from which its columns count on."""
    if index.is_floating_point() or index.ndim != 1:
        raise ValueError(f"index must be integers (N,), not {index.dtype} {tuple(index.shape)}")
    key = _signed(derive(family, seed, stream) << 1)
    return _mix(_mix(index.long() * _signed(_GOLDEN) + key) ^ key)


def hashed(rows: Tensor) -> Tensor:
    """An int64 for each of N rows of uint8 (N, ...), by its values in their order alone: an index of what it holds."""
    flat = rows.flatten(1)
    words = torch.nn.functional.pad(flat, (0, -flat.shape[1] % 8)).contiguous().view(torch.int64)
    places = torch.arange(1, words.shape[1] + 1, device=rows.device) * _signed(_GOLDEN)
    return _mix(words + places).sum(dim=1)


def normal(index: Tensor, width: int, *, seed: int, stream: int = 0) -> Tensor:
    """Standard normal (N, width) float32 on the device of `index` (N,) int64.

    Element (i, j) depends on seed, stream, index[i] and j alone. Box-Muller, two columns a 64-bit word.
    """
    pairs = torch.arange(1, (width + 1) // 2 + 1, device=index.device) * _signed(_GOLDEN)
    words = _mix(_rows(index, _NORMAL, seed, stream)[:, None] + pairs)
    # In float64: the last digit of a float32 logarithm depends on its place in a SIMD register: on the block.
    radius = _shift(words, 32).double().add_(0.5).mul_(2.0**-32).log_().mul_(-2).sqrt_()
    angle = (words & 0xFFFFFFFF).double().mul_(2 * math.pi * 2.0**-32)
    pair = torch.stack((radius * angle.cos(), radius * angle.sin()), dim=-1)
    return pair.flatten(1)[:, :width].float()


def uniform(index: Tensor, *, seed: int, stream: int = 0) -> Tensor:
    """Uniform (N,) float64 in the open interval (0, 1), on the device of `index` (N,) int64."""
    words = _mix(_rows(index, _UNIFORM, seed, stream) + _signed(_GOLDEN))
    return _shift(words, 12).double().add_(0.5).mul_(2.0**-52)
