"""How exactly float32 is computed: strictly, with TF32 in matrix products and convolutions, or in bfloat16."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from methods.base import nearest

PRECISIONS = ("32", "tf32", "bf16")


def check(precision: str) -> str:
    """`precision`; ValueError where there is no such one."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r}: {nearest(precision, PRECISIONS)}")
    return precision


def resolve(asked: str, device: str, *, every: bool = False) -> str:
    """What `asked` (auto, 32, tf32, bf16) comes to on `device`: "auto" is tf32 on a GPU that has it, else 32.

    `every`: on all GPUs of this machine, of which a job may get any. ValueError for tf32 or bf16 where the device has
    none. On the CPU bf16 is autocast, and there is no TF32.
    """
    devices = [device]
    if every and _on_cuda(device):
        devices = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    if asked == "auto":
        return "tf32" if all(_on_cuda(each) and _has("tf32", each) for each in devices) else "32"
    if asked == "tf32" and not _on_cuda(device):
        raise ValueError("precision tf32: only a GPU has it; take 32, or bf16")
    for each in devices:
        usable(asked, each)
    return asked


def usable(precision: str, device: str | torch.device) -> str:
    """`precision`; ValueError where there is no such one, or where the GPU has it not.

    That of a cluster's worker may be an older one than the driver's, and would compute strictly what records call tf32.
    """
    check(precision)
    if precision != "32" and _on_cuda(device) and not _has(precision, device):
        raise ValueError(f"precision {precision}: {torch.cuda.get_device_name(device)} has none; take 32")
    return precision


def _has(precision: str, device: str | torch.device) -> bool:
    with torch.cuda.device(device):  # both of torch's questions are about the current one
        if precision == "tf32":
            return bool(torch.cuda.is_tf32_supported())
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))


@contextmanager
def switches(precision: str, device: str | torch.device) -> Iterator[None]:
    """Inside, float32 is computed on a GPU as `precision` says, whatever the environment or the caller had set.

    The process' own switches are put back afterwards. They are read and set as `fp32_precision`, which holds what a
    caller of the older `allow_tf32` set as well, while to read that raises where the two were mixed. No CUDA is touched
    for the CPU.
    """
    check(precision)
    if not _on_cuda(device):
        yield
        return
    switched = _switches()
    before = [switch.fp32_precision for switch in switched]
    try:
        for switch in switched:
            switch.fp32_precision = "ieee" if precision == "32" else "tf32"
        yield
    finally:
        for switch, value in zip(switched, before, strict=True):
            switch.fp32_precision = value


def _switches() -> tuple[Any, ...]:
    cuda: Any = torch.backends.cuda
    cudnn: Any = torch.backends.cudnn
    return cuda.matmul, cudnn.conv, cudnn.rnn


def _on_cuda(device: str | torch.device) -> bool:
    return torch.device(device).type == "cuda"
