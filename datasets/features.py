"""Features in files: what a user's own network made of images, texts or anything else, an array a key.

A set is a `.npz` or `.safetensors` file, or a folder of `.npy`, with the keys `embedding`, `logits`, `layers` (and
`layer_sizes`) and `labels`, as far as they are there. Nothing is unpickled, and no array is ever in memory whole.
"""

import os
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets import labels as labelling
from datasets.arrays import SUFFIXES, WHOLE_BYTES, Column, Refused, opened
from datasets.images import Digests, ImageSet, Labels, Pixels, content_digests, file_sha256
from datasets.walking import printable

FEATURES = ("embedding", "logits", "layers")
KEYS = (*FEATURES, "layer_sizes", "labels")
BLOCK_BYTES = 16 << 20
BLOCK_ROWS = 4096
LAYERS = 10_000
_ROUNDING = {"float16": 2.0**-11, "float32": 2.0**-24, "float64": 2.0**-24}  # they are all float32 once read


@dataclass(frozen=True)
class FeatureFile:
    """Where the features of a set lie, and their form: known from the headers alone.

    `widths`: columns of each of FEATURES that is there. `rounding`: the relative error that embedding and logits were
    stored with. `rows` of the file are the set's, ascending; None: all. ValueError, in one line, for what cannot be.
    """

    path: Path
    n: int
    widths: Mapping[str, int]
    layer_sizes: tuple[int, ...]
    rounding: float
    unread: tuple[str, ...]
    rows: NDArray[np.int64] | None = None

    @classmethod
    def of(cls, path: Path) -> "FeatureFile":
        with opened(path, KEYS) as columns:
            there = [name for name in FEATURES if name in columns]
            if not there:
                keys = ", ".join(map(printable, sorted(columns))) or "nothing"
                raise Refused(f"{path} holds none of {', '.join(FEATURES)}, but {keys:.200}")
            for name in there:
                _check_form(path, name, columns[name], 2)
            n = columns[there[0]].shape[0]
            for name in there:
                if columns[name].shape[0] != n:
                    other = columns[name].shape[0]
                    raise Refused(f"{path}: {there[0]} has {n:,} rows, {name} has {other:,}: one row an image each")
            if not n:
                raise Refused(f"{path} holds no rows")
            widths = {name: columns[name].shape[1] for name in there}
            sizes = _layer_sizes(path, columns, widths)
            rounding = max(_ROUNDING[columns[name].dtype.name] for name in there)
            return cls(path, n, widths, sizes, rounding, tuple(sorted(columns.keys() - {*KEYS})))

    def taken(self, rows: NDArray[np.int64]) -> "FeatureFile":
        """Of the rows of the set, these, ascending."""
        return replace(self, rows=rows if self.rows is None else self.rows[rows])

    def blocks(self, rows: NDArray[np.int64] | None = None) -> Generator[dict[str, NDArray[np.float32]]]:
        """The rows (ascending) of the set, in blocks of at most 16 MiB, each feature float32 (n, columns)."""
        wanted = self.rows if rows is None else self.taken(rows).rows
        size = max(1, min(BLOCK_ROWS, BLOCK_BYTES // (8 * sum(self.widths.values()))))
        with opened(self.path, KEYS) as columns:
            for start in range(0, self.n, size):
                stop = min(start + size, self.n)
                chosen: slice | NDArray[np.int64] = slice(None)
                if wanted is not None:
                    first, last = np.searchsorted(wanted, (start, stop))
                    if first == last:
                        continue
                    chosen = wanted[first:last] - start
                with np.errstate(over="ignore"):  # infinity, which is refused
                    yield {
                        name: np.ascontiguousarray(columns[name].read(start, stop)[chosen], dtype=np.float32)
                        for name in self.widths
                    }


class FeatureSet(ImageSet):
    """A set of which only features are there; whatever they were made of is called an image. ValueError as above."""

    def __init__(self, name: str, split: str, path: Path, *, title: str, notes: tuple[str, ...] = ()) -> None:
        self.features = features = FeatureFile.of(path)
        here = [path / f"{key}.npy" for key in KEYS] if path.is_dir() else [path]
        self._files = [file for file in here if file.exists()]
        self._hashes = [file_sha256(file) for file in self._files]
        self.digests = _checked(features)
        labels, classes, fault = _labels(path, features.n)
        fault = f"of the key 'labels': {fault}" if fault else ""
        if features.unread:
            unread = ", ".join(map(printable, features.unread))
            notes = (*notes, f"keys that are not read: {unread:.200}")
        super().__init__(name, split, title=title, labels=labels, classes=classes, fault=fault, notes=notes)

    def read(self, rows: Sequence[int]) -> list[Pixels]:
        raise ValueError(f"{self.name} ({self.split}) holds features, no images")

    def content(self) -> list[tuple[str, int, str]]:
        return [(file.name, size, digest) for file, (size, digest) in zip(self._files, self._hashes, strict=True)]


def _checked(features: FeatureFile) -> Digests:
    """The digest of each row; ValueError where a number is NaN or infinite."""
    found, start = [], 0
    for block in features.blocks():
        for name, values in block.items():
            if not (finite := np.isfinite(values).all(axis=1)).all():
                first = start + int(finite.argmin())
                raise Refused(f"{features.path}: {name} of row {first:,} (from 0) is NaN or infinite")
        values = next(iter(block.values()))
        found.append(content_digests(row.data.cast("B") for row in values))
        start += len(values)
    return np.concatenate(found)


def is_features(path: Path) -> bool:
    """Whether a file or folder is a set of features."""
    if path.suffix.lower() in SUFFIXES and not os.path.isdir(path):
        return os.path.lexists(path)
    return any(os.path.lexists(path / f"{key}.npy") for key in FEATURES)


def of_split(folder: Path, names: Sequence[str]) -> Path | None:
    """The features of the first of these splits that a folder has; None where it holds images, or there is none."""
    entries = {printable(entry.name).casefold(): entry for entry in sorted(folder.iterdir())}
    for name in names:
        there = [
            entry for suffix in ("", *SUFFIXES) if (entry := entries.get(f"{name}{suffix}")) and is_features(entry)
        ]
        if len(there) > 1:
            raise ValueError(f"{folder} holds {name} twice: {', '.join(entry.name for entry in there)}; keep one")
        if there or name in entries:
            return there[0] if there else None
    return None


def head_beside(path: Path) -> Path | None:
    """The file of the head that lies beside the features of a training set; ValueError where two do."""
    there = [file for suffix in SUFFIXES if os.path.lexists(file := path.parent / f"head{suffix}")]
    if len(there) > 1:
        raise ValueError(f"{path.parent} holds two heads: {', '.join(file.name for file in there)}; keep one")
    return there[0] if there else None


def _check_form(path: Path, name: str, column: Column, dimensions: int) -> None:
    if (kind := _said(column.dtype)) not in _ROUNDING:
        raise Refused(f"{path}: {name} is {kind}; float16, float32 and float64 are read")
    if len(column.shape) != dimensions or 0 in column.shape[1:]:
        raise Refused(f"{path}: {name} is {tuple(column.shape)}; it must be (rows, columns)")
    if 8 * column.shape[1] > BLOCK_BYTES:
        raise Refused(f"{path}: {name} has {column.shape[1]:,} columns; at most {BLOCK_BYTES // 8:,} are read")


def _layer_sizes(path: Path, columns: Mapping[str, Column], widths: Mapping[str, int]) -> tuple[int, ...]:
    if "layers" not in widths:
        return ()
    column = columns.get("layer_sizes")
    if column is None:
        raise Refused(f"{path} holds layers and no layer_sizes: how many of its columns are of each layer")
    if _said(column.dtype).rstrip("0123456789") not in ("int", "uint") or len(column.shape) != 1:
        raise Refused(f"{path}: layer_sizes is {_said(column.dtype)} {tuple(column.shape)}, no list of whole numbers")
    if column.shape[0] > LAYERS:
        raise Refused(f"{path}: layer_sizes has {column.shape[0]:,} numbers; at most {LAYERS:,} are read")
    sizes = tuple(map(int, column.read(0, column.shape[0])))
    if min(sizes, default=0) < 1 or sum(sizes) != widths["layers"]:
        raise Refused(f"{path}: layer_sizes {sizes!s:.100} do not add up to the {widths['layers']:,} columns of layers")
    return sizes


def _labels(path: Path, n: int) -> tuple[Labels, tuple[str, ...], str]:
    """As `datasets.labels`: whole numbers, or the names of classes, which are sorted; none where the key is absent."""
    import pyarrow

    with opened(path, KEYS) as columns:
        column = columns.get("labels")
        if column is None:
            return np.full(n, -1), (), ""
        if _said(column.dtype) == "object":
            raise Refused(f"{path}: labels are Python objects, which are never loaded: save labels.astype(str)")
        if tuple(column.shape) != (n,):
            raise Refused(f"{path}: labels are {tuple(column.shape)}; it must be ({n:,},), one for each row")
        if n * column.dtype.itemsize > WHOLE_BYTES:
            raise Refused(f"{path}: labels have {n * column.dtype.itemsize:,} bytes; at most {WHOLE_BYTES:,} are read")
        values = column.read(0, n)
        if values.dtype.kind == "f" and values.dtype.itemsize == 2:  # which arrow does not count with
            values = values.astype(np.float32)
        native = values.astype(values.dtype.newbyteorder("="))
        return labelling.from_column([pyarrow.array(native)], ())


def _said(dtype: Any) -> str:
    """The name of a type, as numpy or the file has it."""
    return str(getattr(dtype, "name", dtype))
