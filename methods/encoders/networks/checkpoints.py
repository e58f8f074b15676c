"""Weights from files that nobody vouches for: they have to be numbers, and to fit the network."""

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from methods.base import CannotRun, Head
from methods.device import tensors
from methods.device.files import open_regular
from methods.encoders.base import BadFile, HeadClasses
from methods.encoders.networks import openood

SUFFIXES = (".safetensors", ".pth", ".th")
# What people call the weights in the file of a training; their averages first, which are what is evaluated.
CONTAINERS = ("state_dict_ema", "model_ema", "ema_state_dict", "ema_model", "ema", "state_dict", "model", "net")
AVERAGED = ("model_ema.", "ema_model.", "ema.")
PREFIXES = (*AVERAGED, "module.", "_orig_mod.", "model.", "net.")  # and of DataParallel, torch.compile, Lightning
FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
MOST = 16 << 30  # bytes of a file of weights, whatever the network
HEAD_BYTES = 4 << 30
_ROUNDING = {torch.float16: 2.0**-11, torch.float32: 2.0**-24, torch.float64: 2.0**-24}
_WRAPPED = 3  # how often at most


def find(directory: Path | None, *stems: str) -> Path | None:
    """The first file `<directory>/<stem><suffix>` that is there; stems in order, safetensors first.

    BadFile for what lies there and is no regular file, or cannot be opened.
    """
    for stem in stems if directory is not None else ():
        for suffix in SUFFIXES:
            if (path := _regular(directory, f"{stem}{suffix}")) is not None:
                return path
    return None


def need(directory: Path | None, name: str) -> Path:
    """The file `name` in `directory`, whose suffix may be left out; CannotRun where it is not there."""
    path, released = find(directory, name) or _regular(directory, name), openood.released(name)
    if path is None and released is not None:
        path = _regular(directory, released.file)
    if path is None:
        where = directory or "the weights folder"
        also = "" if released is None else f", or as OpenOOD's {released.file}"
        raise CannotRun(f"there is no network {name} in {where}: put it there ({', '.join(SUFFIXES)}{also})")
    return path


def _regular(directory: Path | None, name: str) -> Path | None:
    if directory is None or not os.path.lexists(directory / name):
        return None
    try:
        open_regular(directory / name, MOST).close()
    except ValueError as error:
        raise BadFile(str(error)) from None
    except OSError as error:
        raise BadFile(f"{directory / name} cannot be opened: {error.strerror}") from None
    return directory / name


def read(path: Path, like: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
    """A file's tensors by the names that the network `like` has for them, on the CPU, and what its header says.

    Of a file of torch.save the weights are what one of `CONTAINERS` holds, where there is one, and the lists `mean`,
    `std` and `classes` and the text `trained_on` beside them are its header. To the header comes, as `read`, where in
    the file the weights were found, and as `unread` what was left beside them.
    ValueError where the file is unreadable, much larger than the network, or holds anything but plain tensors.
    """
    try:
        state, header = tensors.read(path, tensors.room(like))
    except OSError as error:
        raise ValueError(f"{path} cannot be opened: {error.strerror or error}") from None
    inner = next((name for name in CONTAINERS if isinstance(state, dict) and _is_state(state.get(name))), None)
    if inner is not None:
        header = {name: said for name in ("mean", "std", "classes") if (said := _as_json(state.get(name)))}
        header |= {"trained_on": state["trained_on"]} if isinstance(state.get("trained_on"), str) else {}
        state = state[inner]
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in state.items()
    ):
        raise ValueError(f"{path} holds no state dict (names and tensors): save the network's state_dict()")
    names = like.state_dict().keys()

    def misfit(prefix: str) -> tuple[int, bool]:  # of those that fit alike the averaged weights
        return sum(prefix + name not in state for name in names), not prefix.startswith(AVERAGED)

    prefix = min(_prefixes(state, _WRAPPED), key=misfit)
    where = [f"under {name!r}" for name in (inner, prefix) if name]
    beside = sorted(name for name in state if not name.startswith(prefix))
    header = {**header, **({"read": ", ".join(where)} if where else {})}
    if beside:
        header["unread"] = f"{len(beside)} tensors beside it left out ({', '.join(beside[:3])})"
    return tensors.under(prefix, state), header


def _is_state(value: Any) -> bool:
    return isinstance(value, dict) and any(isinstance(tensor, Tensor) for tensor in value.values())


def _as_json(value: Any) -> str | None:
    """A list of numbers or texts as JSON."""
    plain = isinstance(value, list) and all(isinstance(one, str | int | float) for one in value)
    return json.dumps(value) if plain else None


def _prefixes(state: Mapping[str, Tensor], times: int, before: str = "") -> Iterator[str]:
    """What wrappers may have put before a network's own names: nothing, or one of `PREFIXES` after the other."""
    yield before
    for prefix in PREFIXES if times else ():
        if any(name.startswith(before + prefix) for name in state):
            yield from _prefixes(state, times - 1, before + prefix)


def normalisation(header: Mapping[str, str], path: Path) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and std a channel, from the lists `mean` and `std` of a header; None where it has neither.

    They are of pixels from 0 to 1: ValueError for those of 0 to 255.
    """
    if "mean" not in header and "std" not in header:
        return None
    mean, std = (_numbers(header.get(name)) for name in ("mean", "std"))
    if len(mean) != 3 or len(std) != 3 or not all(map(math.isfinite, mean + std)) or min(std) <= 0:
        raise ValueError(f"{path}: mean and std in the header have to be lists of 3 numbers, std above 0")
    if max(mean + std) > 1 or min(mean) < 0:
        raise ValueError(
            f"{path}: mean {list(mean)} and std {list(std)} in the header are not of pixels from 0 to 1: "
            "divide those of 0 to 255 by 255"
        )
    return mean, std


def _numbers(text: str | None) -> tuple[float, ...]:
    """The numbers of a JSON list; none where it is anything else."""
    try:
        found = json.loads(text or "")
        numbers = isinstance(found, list) and all(type(one) in (int, float) for one in found)
        return tuple(float(one) for one in found) if numbers else ()
    except (ValueError, OverflowError, RecursionError):
        return ()


def said(mean: Sequence[float], std: Sequence[float]) -> dict[str, str]:
    """Mean and std as a header that `normalisation` reads."""
    return {"mean": json.dumps(list(mean)), "std": json.dumps(list(std))}


def own_normalisation(header: Mapping[str, str], path: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """`normalisation`, of a file that alone can say it: ValueError where its header does not."""
    if (found := normalisation(header, path)) is None:
        raise ValueError(f"{path} does not say its mean and std: save it as safetensors with both in the header")
    return found


def classes_in(state: Mapping[str, Tensor], head: Sequence[str]) -> int | None:
    """The number of outputs of the linear layer whose weight has one of the names `head`; None where there is none."""
    weight = next((state[name] for name in head if name in state), None)
    return len(weight) if weight is not None and weight.ndim == 2 else None


def head_classes(
    state: Mapping[str, Tensor], header: Mapping[str, str], head: Sequence[str], like: nn.Module, path: Path
) -> HeadClasses:
    """The classes of the head in a file that `read` gave. ValueError where it has none, or names do not fit it."""
    count = classes_in(state, head)
    if not count:
        raise ValueError(f"{path} holds no classifier ({' or '.join(head)})")
    if 8 * next(state[name] for name in head if name in state).numel() > tensors.room(like):
        raise ValueError(f"{path} has a head of {count:,} classes, far more than the network: not loaded")
    try:
        names = json.loads(header.get("classes", "null"))
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, list):  # a number there says no more than the head does
        return HeadClasses(count, None, header.get("trained_on"))
    texts = tuple(str(name) for name in names)
    if len(texts) != count or len(set(texts)) != count:
        raise ValueError(f"{path}: `classes` in the header are {len(set(texts))} different names for {count} outputs")
    return HeadClasses(count, texts, header.get("trained_on"))


def trained_state(
    network: nn.Module, mean: Sequence[float], std: Sequence[float], losses: Sequence[float]
) -> dict[str, Tensor]:
    """What a training leaves: `mean`, `std` and `losses`, and the weights behind `network.`, on the CPU."""
    learned = {
        "mean": torch.tensor(mean),
        "std": torch.tensor(std),
        "losses": torch.tensor(losses, dtype=torch.float64),
    }
    # contiguous: safetensors does not take channels_last
    return learned | {f"network.{name}": weight.cpu().contiguous() for name, weight in network.state_dict().items()}


def load(
    network: nn.Module, state: Mapping[str, Tensor], *, name: str, path: Path, beside: tuple[str, ...] = ()
) -> None:
    """Strictly load `state`; ValueError, in one line, naming what does not fit or is no number.

    Parameters and running statistics: any of `FLOATS`, finite, variances not below 0. Other buffers: of their own type.
    `num_batches_tracked`, which nothing here reads, may be absent. beside: prefixes of what is there and not taken.
    """
    there = network.state_dict()
    taken = {key: state[key] for key in there if key in state}
    faults = {
        "missing": [key for key in there if key not in taken and not key.endswith("num_batches_tracked")],
        "unexpected": [key for key in sorted(state) if key not in there and not key.startswith(beside)],
        "wrong shape": [
            f"{key} {tuple(tensor.shape)} for {tuple(there[key].shape)}"
            for key, tensor in taken.items()
            if tensor.shape != there[key].shape
        ],
        "wrong type": [
            f"{key} {_type(tensor)} for {_type(there[key])}"
            for key, tensor in taken.items()
            if tensor.layout is not torch.strided
            or tensor.dtype not in (FLOATS if there[key].is_floating_point() else (there[key].dtype,))
        ],
    }
    if not any(faults.values()):
        # only now, and as the network will hold them: what is finite in float64 need not be so in float32
        taken = {key: tensor.to(there[key].dtype) for key, tensor in taken.items()}
        faults["not finite"] = [key for key, tensor in taken.items() if not bool(tensor.isfinite().all())]
        faults["below 0"] = [
            key for key, tensor in taken.items() if key.endswith("running_var") and bool((tensor < 0).any())
        ]
    found = [
        f"{len(keys)} {fault} ({', '.join(key[:80] for key in keys[:3])}{', ...' if len(keys) > 3 else ''})"
        for fault, keys in faults.items()
        if keys
    ]
    if found:
        raise ValueError(f"{path} does not fit {name}: {'; '.join(found)}")
    network.load_state_dict({**there, **taken})


def _type(tensor: Tensor) -> str:
    kind = str(tensor.dtype).removeprefix("torch.")
    return kind if tensor.layout is torch.strided else f"{kind} ({str(tensor.layout).removeprefix('torch.')})"


def read_head(path: Path) -> tuple[Head, float]:
    """The head in a `.npz` or `.safetensors` file, and the relative error that it was stored with; else BadFile."""
    try:
        found, _ = tensors.read(path, HEAD_BYTES)
    except ValueError as error:
        raise BadFile(str(error)) from None
    absent = [name for name in ("weight", "bias") if name not in found]
    if absent:
        there = ", ".join(map(str, found)) or "nothing"
        raise BadFile(f"{path} holds no {' and no '.join(absent)}, but {there:.100}: a head is weight and bias")
    for name in ("weight", "bias"):
        if (kind := found[name].dtype) not in _ROUNDING:
            raise BadFile(f"{path}: {name} is {str(kind).removeprefix('torch.')}; float16, 32 and 64 are read")
        if not bool(found[name].float().isfinite().all()):
            raise BadFile(f"{path}: {name} holds NaN or infinity")
    try:
        head = Head(found["weight"], found["bias"])
    except ValueError as error:
        raise BadFile(f"{path}: {error}") from None
    return head, max(_ROUNDING[found[name].dtype] for name in ("weight", "bias"))
