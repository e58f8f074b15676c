"""Arrays in files that came from outside: `.npz`, `.safetensors`, or a folder of `.npy`, read block by block.

Nothing is unpickled, and no array is in memory whole but one that lies column by column in an archive.
"""

import os
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from datasets.files import open_regular

SUFFIXES = (".npz", ".safetensors")
WHOLE_BYTES = 1 << 30  # of an array that cannot be read row by row
UNPACKED = 100  # times its size, and 1 GiB: more no archive of features unpacks to
_TYPES = {"F16": "f2", "F32": "f4", "F64": "f8", "BOOL": "?"} | {  # of safetensors
    f"{kind}{8 * size}": f"{kind.lower()}{size}" for kind in "IU" for size in (1, 2, 4, 8)
}

Array = NDArray[Any]


class Refused(ValueError):
    """What is wrong with a file, with its path."""


class Column(Protocol):
    """An array of a file; `read` gives rows of it, never any before those that were read last."""

    dtype: Any
    shape: tuple[int, ...]
    read: Callable[[int, int], Array]


@contextmanager
def opened(path: Path, keys: Collection[str]) -> Iterator[Mapping[str, Any]]:
    """The arrays in a file or folder, by key; None for those that are not among `keys`, which are not opened.

    Whatever is raised inside by what reads them is a ValueError with the path.
    """
    try:
        with ExitStack() as stack:
            if os.path.isdir(path):
                files = [file for file in sorted(path.glob("*.npy")) if not file.name.startswith(".")]
                yield {file.stem: _Mapped(file) if file.stem in keys else None for file in files}
            elif path.suffix.lower() == ".npz":
                yield _members(stack.enter_context(open_regular(path)), path, keys, stack)
            else:
                yield _tensors(path, keys, stack)
    except (Refused, OSError):
        raise
    except Exception as error:  # broken input makes the readers raise anything
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        if isinstance(error, ValueError) and reason.startswith(f"{path}"):
            raise
        raise ValueError(f"{path} cannot be read as features ({reason}): write it again") from None


class _Mapped:
    """An array in a file of its own, memory-mapped."""

    def __init__(self, path: Path) -> None:
        open_regular(path).close()
        try:
            self._values: Array = np.load(path, mmap_mode="r", allow_pickle=False)
        except OSError:
            raise
        except Exception as error:
            kind = "Python objects, which are never loaded" if "objects" in str(error) else "no array"
            raise Refused(f"{path} holds {kind}; save numbers or texts, as np.save does") from None
        self.dtype, self.shape = self._values.dtype, self._values.shape

    def read(self, start: int, stop: int) -> Array:
        return self._values[start:stop]


class _Member:
    """An array in an archive, read on from where it is."""

    def __init__(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, stack: ExitStack) -> None:
        self._file = stack.enter_context(archive.open(info))
        version = np.lib.format.read_magic(self._file)
        header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        self.shape, by_column, self.dtype = header(self._file)
        self._start = self._file.tell()
        self._row_bytes = self.dtype.itemsize * int(np.prod(self.shape[1:], dtype=object))
        if not self.dtype.hasobject and info.file_size - self._start != self._row_bytes * self.shape[0]:
            raise ValueError(f"{info.filename} is not as long as it says")
        self._by_column = by_column and len(self.shape) > 1
        self._whole: Array | None = None

    def read(self, start: int, stop: int) -> Array:
        if self._by_column:
            if self._whole is None:
                size = self._row_bytes * self.shape[0]
                if size > WHOLE_BYTES:
                    raise ValueError(
                        "an array of more than 1 GiB lies column by column: save np.ascontiguousarray of it"
                    )
                self._whole = np.frombuffer(self._file.read(size), self.dtype).reshape(self.shape, order="F")
            return self._whole[start:stop]
        self._file.seek(self._start + start * self._row_bytes)
        content = self._file.read((stop - start) * self._row_bytes)
        return np.frombuffer(content, self.dtype).reshape(stop - start, *self.shape[1:])


def _members(file: Any, path: Path, keys: Collection[str], stack: ExitStack) -> Mapping[str, Any]:
    archive = stack.enter_context(zipfile.ZipFile(file))
    entries = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    size = os.fstat(file.fileno()).st_size
    unpacked = sum(info.file_size for name, info in entries.items() if name in keys)
    if unpacked > max(WHOLE_BYTES, UNPACKED * size):
        raise Refused(f"{path} has {size:,} bytes and unpacks to {unpacked:,}: these are no features")
    return {name: _Member(archive, info, stack) if name in keys else None for name, info in entries.items()}


class _Tensor:
    """An array in a safetensors file."""

    def __init__(self, found: Any) -> None:
        self._found = found
        kind = found.get_dtype()
        self.dtype = np.dtype(_TYPES[kind]) if kind in _TYPES else kind.replace("BF", "bfloat")
        self.shape = tuple(found.get_shape())

    def read(self, start: int, stop: int) -> Array:
        found: Array = self._found[start:stop]
        return found


def _tensors(path: Path, keys: Collection[str], stack: ExitStack) -> Mapping[str, Any]:
    from safetensors import safe_open

    open_regular(path).close()
    file = stack.enter_context(safe_open(path, framework="numpy"))
    names = list(file.keys())
    return {name: _Tensor(file.get_slice(name)) if name in keys else None for name in names}
