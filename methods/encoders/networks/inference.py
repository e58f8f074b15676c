"""How every network of an encoder is run."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from methods.base import nearest
from methods.device import memory

PRECISIONS = ("32", "bf16")


def check_precision(precision: str) -> str:
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r}: {nearest(precision, PRECISIONS)}")
    return precision


@contextmanager
def inference(device: str, precision: str) -> Iterator[None]:
    """No gradients; autocast to bfloat16 where `precision` says so."""
    memory.keep_freed()
    with (
        torch.inference_mode(),
        torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bf16"),
    ):
        yield
