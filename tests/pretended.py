"""A GPU that is pretended on the CPU: tensors know where they would be, and operations refuse what CUDA would refuse.

So code that leaves a tensor behind on one of the two devices is found where there is no GPU. What runs below torch's
Python functions is not seen: gradients are where their tensors are, and optimisers are not looked into.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any, Self
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten

GPU = torch.device("cuda", 0)
_COPIES = {"copy_", "__set__", "__setitem__", "__getitem__", "index_put_", "to", "type_as", "index"}


def there(value: Any) -> bool:
    """Whether a tensor is on the GPU."""
    return bool(value.__dict__.get("_there", False))


def _is_gpu(device: Any) -> bool:
    return device is not None and not isinstance(device, int) and torch.device(device).type == "cuda"


class Pretended(TorchFunctionMode):
    """Inside, `cuda` is a device."""

    def __enter__(self) -> Self:
        self._patched = ExitStack()
        self._patched.enter_context(patch.multiple(nn.Module, to=_to, _apply=_apply))
        self._patched.enter_context(patch.object(nn.Parameter, "__deepcopy__", _copied))
        return super().__enter__()

    def __exit__(self, *how: Any) -> None:
        super().__exit__(*how)
        self._patched.close()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        owner = getattr(getattr(func, "__self__", None), "__name__", "")
        found = list(_tensors((args, kwargs)))
        gpu = any(map(there, found))
        if name == "__get__" and owner == "device":
            return GPU if gpu else func(*args, **kwargs)
        if name == "__get__" and owner in ("is_cuda", "is_cpu"):
            return gpu == (owner == "is_cuda")
        if name in ("numpy", "__array__") and gpu:
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy it first.")
        if name == "cpu":
            return _put(args[0].clone(), False)
        if name == "cuda":
            return _put(args[0].clone(), True)
        if name == "to":
            return self._to(func, args, kwargs)
        if name == "_parse_to":  # of `nn.Module.to`
            return func(*args, **kwargs)
        if name == "__deepcopy__":  # its other argument is what was copied before
            return _put(func(*args, **kwargs), there(args[0]))
        wanted = kwargs.pop("device", None)
        if wanted is not None and not _is_gpu(wanted):
            kwargs["device"] = wanted
        self._check(name, args, found)
        result = func(*args, **kwargs)
        on_gpu = gpu if wanted is None else _is_gpu(wanted)
        if name in ("copy_", "__setitem__", "__set__"):
            return result
        if name in ("__getitem__", "index"):
            on_gpu = there(args[0])
        return _put(result, on_gpu) if name not in _PLAIN else result

    def _to(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        on_gpu = there(args[0])
        plain = [args[0]]
        for value in args[1:]:
            if isinstance(value, Tensor):
                on_gpu = there(value)
                value = value.dtype
            elif isinstance(value, str | torch.device):
                on_gpu = _is_gpu(value)
                continue
            plain.append(value)
        if (device := kwargs.pop("device", None)) is not None:
            on_gpu = _is_gpu(device)
        moved = on_gpu != there(args[0])
        plain = [value for value in plain if value is not None and not isinstance(value, bool)]  # non_blocking, copy
        result = func(*plain, **kwargs) if len(plain) > 1 or kwargs else args[0]
        return _put(result.clone() if moved and result is args[0] else result, on_gpu)

    def _check(self, name: str, args: Any, found: list[Tensor]) -> None:
        """As CUDA: all on one device, but for single numbers, copies, and indices on the CPU."""
        if name in ("__getitem__", "index", "__setitem__", "index_put_", "index_put"):
            values = list(_tensors(args[2:])) if name != "__getitem__" else []
            indices = list(_tensors(args[1]))
            if not there(args[0]) and any(map(there, indices)):
                raise RuntimeError(f"{name}: indices should be either on cpu or on the same device (cpu)")
            if name != "__getitem__" and indices and any(there(v) != there(args[0]) and v.ndim for v in values):
                raise RuntimeError(f"{name}: expected all tensors to be on the same device")
            return
        if name in _COPIES:
            return
        on_gpu = [tensor for tensor in found if there(tensor)]
        here = [tensor for tensor in found if not there(tensor) and tensor.ndim]
        if on_gpu and here:
            raise RuntimeError(f"{name}: Expected all tensors to be on the same device, but found cuda:0 and cpu")


_module_to, _module_apply, _parameter_copied = nn.Module.to, nn.Module._apply, nn.Parameter.__deepcopy__


def _copied(parameter: nn.Parameter, memo: Any) -> nn.Parameter:
    copied: nn.Parameter = _put(_parameter_copied(parameter, memo), there(parameter))
    return copied


def _apply(module: nn.Module, change: Any, recurse: bool = True) -> nn.Module:
    """What changes a module's parameters sets what they hold below all that can be seen: they are where they were."""
    before = {name: there(tensor) for name, tensor in module.named_parameters()}
    _module_apply(module, change, recurse)
    for name, tensor in module.named_parameters():
        _put(tensor, before[name])
    return module


def _to(module: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
    device, dtype, _, memory_format = torch._C._nn._parse_to(*args, **kwargs)
    _module_to(module, **{k: v for k, v in (("dtype", dtype), ("memory_format", memory_format)) if v is not None})
    if device is not None:
        _put([*module.parameters(), *module.buffers()], _is_gpu(device))
    return module


_PLAIN = {"tolist", "item", "__len__", "size", "__bool__", "__float__", "__int__", "__repr__", "__format__", "stride"}


def _tensors(values: Any) -> Iterator[Tensor]:
    return (value for value in tree_flatten(values)[0] if isinstance(value, Tensor))


def _put(result: Any, on_gpu: bool) -> Any:
    for tensor in _tensors(result):
        tensor.__dict__["_there"] = on_gpu
    return result
