"""Tensors from files that nobody vouches for: no code runs, and what would be unpacked is counted before it is."""

import argparse
import json
import pickletools
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor, nn

from methods.device.files import open_regular

HEADER_BYTES = 8 << 20
REASON = 120  # characters of what a library says of a file that are passed on
# What a pickle of plain tensors and numbers is made of; whatever else torch would allow can ask for any memory.
_PLAIN = re.compile(
    r"torch \w+|torch\.storage \w+|torch\._utils _rebuild_(tensor|tensor_v2|tensor_v3|parameter)"
    r"|torch\.nn\.parameter Parameter|collections (OrderedDict|Counter)|_codecs encode|torch\.serialization _get_layout"
    r"|argparse Namespace"  # the arguments of a training script, beside its weights
)


def room(network: nn.Module) -> int:
    """Bytes that a file with this network may unpack to: eight times its size in float64, and 64 MiB.

    Weights, their average and an optimiser's state are ordinary.
    """
    numbers: int = sum(tensor.numel() for tensor in network.state_dict().values())
    return 8 * 8 * numbers + (64 << 20)


def read(path: Path, limit: int) -> tuple[Any, dict[str, str]]:
    """What a file holds, on the CPU: tensors by name and the header's metadata; or what torch.save was given, and {}.

    Of a `.npz` file its arrays, by name, and {}.

    ValueError, in one line, for what is no regular file, is broken, unpacks to more than `limit` bytes or holds
    anything but plain tensors; OSError for what is absent.
    """
    with open_regular(path, limit) as file:
        try:
            if path.suffix == ".npz":
                return _arrays(file, limit), {}
            return _safetensors(file) if path.suffix == ".safetensors" else (_saved(file, limit), {})
        except _Refused as error:
            raise ValueError(f"{path} {error}") from None
        except Exception as error:  # broken input makes the readers raise anything
            said = str(error)
            known = said and "\n" not in said and len(said) <= REASON and "weights_only" not in said
            reason = said if known else type(error).__name__
            raise ValueError(f"{path} cannot be read as weights ({reason}): get the file again") from None


class _Refused(Exception):
    """Why a file that may be whole is not loaded."""


def header(path: Path) -> dict[str, str]:
    """What the header of a safetensors file says beside its tensors; nothing of another file, or a broken one."""
    try:
        with open_regular(path) as file:
            length = int.from_bytes(file.read(8), "little")
            found = json.loads(file.read(length)) if length <= HEADER_BYTES else {}
            return {str(name): str(said) for name, said in found.get("__metadata__", {}).items()}
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}


def _safetensors(file: BinaryIO) -> tuple[dict[str, Tensor], dict[str, str]]:
    from safetensors.torch import load

    content = file.read()  # its tensors lie in it as they are: it unpacks to no more
    length = int.from_bytes(content[:8], "little")
    if length > HEADER_BYTES:
        raise _Refused(f"has a header of {length:,} bytes; at most {HEADER_BYTES:,} are read")
    tensors = load(content)
    return tensors, dict(json.loads(content[8 : 8 + length]).get("__metadata__", {}))


def _arrays(file: BinaryIO, limit: int) -> dict[str, Tensor]:
    with zipfile.ZipFile(file) as archive:
        _bounded(archive, limit)
    file.seek(0)
    with np.load(file, allow_pickle=False) as arrays:
        return {name: torch.from_numpy(np.ascontiguousarray(arrays[name])) for name in arrays.files}


def _bounded(archive: zipfile.ZipFile, limit: int) -> None:
    unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > limit:
        raise _Refused(f"unpacks to {unpacked:,} bytes; at most {limit:,} are read for this network")


def _saved(file: BinaryIO, limit: int) -> Any:
    if file.read(4) == b"PK\x03\x04":
        with zipfile.ZipFile(file) as archive:
            _bounded(archive, limit)
            if (torn := archive.testzip()) is not None:  # torch itself does not look at the checksums
                raise _Refused(f"is damaged ({torn}): get the file again")
            for name in archive.namelist():
                if name.endswith(".pkl"):
                    with archive.open(name) as stream:
                        _check_plain(stream)
    else:
        file.seek(0)
        for _ in range(4):  # of the old form: three pickles that say what it is, then the content
            _check_plain(file)
    file.seek(0)
    with torch.serialization.safe_globals([argparse.Namespace]):
        return torch.load(file, map_location="cpu", weights_only=True)


def _check_plain(stream: Any) -> None:
    for code, argument, _ in pickletools.genops(stream):
        known = code.name != "GLOBAL" or _PLAIN.fullmatch(str(argument)) is not None
        if not known or code.name == "STACK_GLOBAL":
            raise _Refused("holds more than plain tensors: not loaded; convert it to safetensors")


def under(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The entries whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
