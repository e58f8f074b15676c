"""Arrays and tensors on disk, without pickled objects, and with the disk's own errors."""

import ctypes
import mmap
import os
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from datasets.files import open_regular

Array = np.ndarray[Any, Any]
PAGE = 4096  # bytes
_BEFORE = 10  # bytes before the text of a header: magic, version, and the text's length
_FIXED, _NORESERVE = 0x10, getattr(mmap, "MAP_NORESERVE", 0x4000)  # of <sys/mman.h>


def write(file: BinaryIO, values: Array) -> None:
    """As np.save, which does not say why a write failed: that the disk is full."""
    write_header(file, values, len(values))
    file.write(np.ascontiguousarray(values).data)


def write_header(file: BinaryIO, values: Array, rows: int, *, page: bool = False) -> None:
    """The header of an array of `rows` rows like those of `values`; `page`: as long as one, as `joined` needs it."""
    shape = (rows, *values.shape[1:])
    header = {"descr": np.lib.format.dtype_to_descr(values.dtype), "fortran_order": False, "shape": shape}
    short = BytesIO()
    np.lib.format.write_array_header_1_0(short, header)
    text = short.getvalue()[_BEFORE:]
    if page:
        text = text.rstrip().ljust(PAGE - _BEFORE - 1) + b"\n"
    file.write(np.lib.format.magic(1, 0) + len(text).to_bytes(2, "little") + text)


def mapped(path: Path) -> Array:
    """An array on disk, memory-mapped copy-on-write: what is done to it stays in memory.

    ValueError for what is no plain array of numbers; pickled objects are never loaded.
    """
    try:
        found: Array = np.lib.format.open_memmap(os.fspath(path), mode="c")  # a path it would resolve
    except OSError:
        raise
    except Exception:  # numpy's reader of headers raises anything on broken input
        raise ValueError(f"{path.name} is no array") from None
    return _of_numbers(found, path.name)


def joined(paths: Sequence[Path]) -> Array:
    """Arrays on disk one after the other as one, memory-mapped as by `mapped`: nothing is read before it is used.

    A part that does not begin and end with a page is read into memory instead. ValueError where their rows differ.
    """
    parts = [mapped(path) for path in paths]
    if len({(part.dtype, part.shape[1:], part.flags.c_contiguous) for part in parts}) != 1:
        raise ValueError(f"the parts of {paths[0].name} hold different rows")
    first, rows = parts[0], sum(map(len, parts))
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NORESERVE
    room = mmap.mmap(-1, max(1, sum(part.nbytes for part in parts)), flags=flags)
    whole = np.frombuffer(room, first.dtype, rows * first[0].size).reshape(rows, *first.shape[1:])
    row = 0
    for path, part in zip(paths, parts, strict=True):
        here = whole[row : row + len(part)]
        row += len(part)
        if here.ctypes.data % mmap.PAGESIZE or part.offset % mmap.PAGESIZE:  # type: ignore[attr-defined]
            here[:] = part
        else:
            _map(path, part.offset, here)  # type: ignore[attr-defined]
    return whole


def _map(path: Path, offset: int, there: Array) -> None:
    """Put a file, from `offset` on, in the place of the memory of an array, copy-on-write; OSError where it cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    with open_regular(path) as file:
        protection, flags = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | _FIXED
        found = libc.mmap(there.ctypes.data, there.nbytes, protection, flags, file.fileno(), offset)
    if found != there.ctypes.data:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))


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
