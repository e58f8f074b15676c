"""Arrays and tensors on disk, without pickled objects, and with the disk's own errors."""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

Array = np.ndarray[Any, Any]


def write(file: BinaryIO, values: Array) -> None:
    """As np.save, which does not say why a write failed: that the disk is full."""
    write_header(file, values, len(values))
    file.write(np.ascontiguousarray(values).data)


def write_header(file: BinaryIO, values: Array, rows: int) -> None:
    """The header of an array of `rows` rows like those of `values`."""
    shape = (rows, *values.shape[1:])
    header = {"descr": np.lib.format.dtype_to_descr(values.dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def mapped(path: Path) -> Array:
    """An array on disk, memory-mapped copy-on-write: what is done to it stays in memory.

    ValueError for what is no plain array of numbers; pickled objects are never loaded.
    """
    try:
        found: Array = np.lib.format.open_memmap(path, mode="c")
    except OSError:
        raise
    except Exception:  # numpy's reader of headers raises anything on broken input
        raise ValueError(f"{path.name} is no array") from None
    return _of_numbers(found, path.name)


def parse(content: bytes, name: str) -> Array:
    """The array in the bytes of a file; ValueError as `mapped`. No more memory is taken than there are bytes."""
    file = BytesIO(content)
    try:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        found = np.frombuffer(file.read(), dtype).reshape(shape)
    except Exception:
        raise ValueError(f"{name} is no array") from None
    return _of_numbers(found, name)


def _of_numbers(found: Array, name: str) -> Array:
    if found.dtype.kind not in "biuf":
        raise ValueError(f"{name} holds no numbers")
    return found


def save_tensors(path: Path, tensors: Mapping[str, Any]) -> None:
    """A safetensors file."""
    from safetensors.torch import save_file

    save_file({name: values.contiguous() for name, values in tensors.items()}, path)


def load_tensors(path: Path) -> dict[str, Any]:
    """What `save_tensors` wrote. ValueError for any other file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        found: dict[str, Any] = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path.name} is no safetensors file: {error}") from None
    return found
