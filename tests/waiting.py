"""Operations at which a program waits for a GPU, seen on any device: a captured step may have none of them."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_FETCH = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "_unique2", "bincount", "repeat_interleave")


class Waits(TorchDispatchMode):
    """Inside, the names of such operations on tensors of `device` are noted in `found`; not while `paused`.

    Not seen: `torch.as_tensor` of numbers with a device, which no dispatch passes. `seen` counts all operations.
    """

    def __init__(self, device: str = "cpu") -> None:
        super().__init__()
        self.device = torch.device(device)
        self.found: list[str] = []
        self.seen: Counter[str] = Counter()
        self.paused = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        self.seen[name] += 1
        if not self.paused and self._waits(name, args, kwargs):
            self.found.append(name)
        return func(*args, **kwargs)

    def _waits(self, name: str, args: Any, kwargs: Mapping[str, Any]) -> bool:
        if name == "_to_copy":
            device = kwargs.get("device")
            moved = device is not None and device != args[0].device and self.device in (device, args[0].device)
            return moved and not kwargs.get("non_blocking")
        if not args or not isinstance(args[0], Tensor) or args[0].device != self.device:
            return False
        if name in ("index", "index_put", "index_put_"):  # by a mask: how many there are must be known
            return any(isinstance(rows, Tensor) and rows.dtype in (torch.bool, torch.uint8) for rows in args[1])
        return name in _FETCH or name == "lift_fresh"  # the latter: made of Python's numbers, which are sent
