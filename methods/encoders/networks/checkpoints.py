"""Weights from files that nobody vouches for: tensors are read, code never runs, and they have to fit."""

import json
import math
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from methods.base import CannotRun

SUFFIXES = (".safetensors", ".pth", ".th")


def find(directory: Path | None, *stems: str) -> Path | None:
    """The first file `<directory>/<stem><suffix>` that is there; stems in order, safetensors first."""
    if directory is None:
        return None
    paths = (directory / f"{stem}{suffix}" for stem in stems for suffix in SUFFIXES)
    return next((path for path in paths if path.is_file()), None)


def need(directory: Path | None, name: str) -> Path:
    """The file of a network that somebody named: `<directory>/<name>`, its suffix may be left out. CannotRun: absent."""
    if directory is not None and name.endswith(SUFFIXES) and (directory / name).is_file():
        return directory / name
    if (path := find(directory, name)) is None:
        where = directory or "the weights folder"
        raise CannotRun(f"there is no network {name} in {where}: put it there ({', '.join(SUFFIXES)})")
    return path


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """A file's tensors by name, on the CPU, and the metadata of its header.

    Of a .pth or .th file only `state_dict` is read, where there is one, and the lists `mean` and `std` beside
    it as metadata; the prefix `module.` of DataParallel is dropped.
    ValueError where the file is unreadable, or holds anything but plain tensors.
    """
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ValueError(f"{path} cannot be opened: {error.strerror or error}") from None
    except Exception as error:  # broken input makes torch.load raise anything
        if isinstance(error, pickle.UnpicklingError) and "GLOBAL" in str(error):
            raise ValueError(f"{path} holds more than plain tensors: not loaded; convert it to safetensors") from None
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} cannot be read as weights ({reason}): get the file again") from error
    metadata = {}
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        metadata = {name: json.dumps(state[name]) for name in ("mean", "std") if isinstance(state.get(name), list)}
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in state.items()
    ):
        raise ValueError(f"{path} holds no state dict (names and tensors): save the network's state_dict()")
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}, metadata


def header(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file, without its tensors; empty where there is none."""
    if path.suffix != ".safetensors":
        return {}
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {})


def normalisation(metadata: Mapping[str, str], path: Path) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and std a channel, from the lists `mean` and `std` of a header; None where it has neither."""
    if "mean" not in metadata and "std" not in metadata:
        return None
    try:
        mean, std = (tuple(float(x) for x in json.loads(metadata[name])) for name in ("mean", "std"))
    except (KeyError, TypeError, ValueError):
        mean, std = (), ()
    if len(mean) != 3 or len(std) != 3 or not all(map(math.isfinite, mean + std)) or min(std) <= 0:
        raise ValueError(f"{path}: mean and std in the header have to be lists of 3 numbers, std above 0")
    return mean, std


def own_normalisation(metadata: Mapping[str, str], path: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """`normalisation`, of a file that alone can say it: ValueError where its header does not."""
    if (found := normalisation(metadata, path)) is None:
        raise ValueError(f"{path} does not say its mean and std: save it as safetensors with both in the header")
    return found


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


def trained_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights in a `trained_state`."""
    return {name.removeprefix("network."): value for name, value in state.items() if name.startswith("network.")}


def load(network: nn.Module, state: Mapping[str, Tensor], *, name: str, path: Path) -> None:
    """Strictly load `state`; ValueError, in one line, naming what does not fit."""
    there = network.state_dict()
    faults = {
        "missing": [key for key in there if key not in state],
        "unexpected": [key for key in state if key not in there],
        "wrong shape": [
            f"{key} {tuple(state[key].shape)} for {tuple(there[key].shape)}"
            for key in there
            if key in state and state[key].shape != there[key].shape
        ],
    }
    found = [
        f"{len(keys)} {fault} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
        for fault, keys in faults.items()
        if keys
    ]
    if found:
        raise ValueError(f"{path} does not fit {name}: {'; '.join(found)}")
    network.load_state_dict(state)
