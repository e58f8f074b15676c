"""Sets of images in parquet shards, in the layout of Hugging Face."""

import re
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import numpy as np

from datasets import provenance
from datasets.catalogue import Entry
from datasets.images import ImageSet, Labels, Pixels, decode, file_sha256

IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMNS = ("label", "fine_label")
CACHE_BYTES = 512 << 20

T = TypeVar("T")


def shards(folder: Path, split: str) -> list[Path]:
    """The files `<split>-*.parquet` of a folder, sorted. ValueError where shards of a numbered series are absent."""
    files = sorted(folder.glob(f"{split}-*.parquet"))
    numbered = [re.search(r"-(\d{5})-of-(\d{5})", path.name) for path in files]
    if files and all(numbered):
        series = {match[2] for match in numbered if match}
        if len(series) > 1:
            raise ValueError(f"{folder} holds {split} shards of several series; keep those of one")
        count, there = int(series.pop()), {int(match[1]) for match in numbered if match}
        absent = sorted(set(range(count)) - there)
        if absent:
            raise ValueError(
                f"{folder} holds {len(files)} of the {count} {split} shards; number {absent[0]:05d} is absent"
            )
    return files


def _reading(path: Path, read: Callable[[], T]) -> T:
    """`read()`, with a broken file as one line."""
    import pyarrow

    try:
        return read()
    except (pyarrow.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} is not a sound parquet file: {reason}; get it again") from None


class ParquetSet(ImageSet):
    """Images in parquet: a column `image` or `img` (struct of bytes and path, or plain bytes), and maybe `label`.

    Row groups are read as they are needed; at most 512 MiB of encoded images (or one row group) stay in memory.
    """

    def __init__(self, name: str, split: str, files: Sequence[Path], *, title: str, entry: Entry | None) -> None:
        import pyarrow.parquet as pq

        self._files = list(files)
        self._columns: list[str] = []
        self._groups: list[tuple[int, int]] = []  # (file, row group in it)
        self._starts: list[int] = []  # the first row of each
        self._cache: OrderedDict[int, Any] = OrderedDict()
        self._cached_bytes = 0
        self._lock = Lock()
        labels: list[Labels] = []
        said = []
        rows = 0
        for number, path in enumerate(self._files):
            file = _reading(path, partial(pq.ParquetFile, path))
            with file:
                self._columns.append(_image_column(path, file.schema_arrow))
                labels.append(_reading(path, partial(_labels, path, file)))
                said.append((file.schema_arrow.metadata, file.metadata.num_rows))
                for group in range(file.metadata.num_row_groups):
                    self._groups.append((number, group))
                    self._starts.append(rows)
                    rows += file.metadata.row_group(group).num_rows
        if not rows:
            raise ValueError(f"{self._files[0]} holds no images")
        metadata = provenance.merged(said)
        super().__init__(
            name,
            split,
            title=title,
            labels=np.concatenate(labels),
            classes=provenance.class_names(metadata),
            metadata=metadata,
            notes=provenance.phrases(metadata, rows, entry, split),
        )

    def read(self, rows: Sequence[int]) -> list[Pixels]:
        images = []
        for row in rows:
            number = bisect_right(self._starts, row) - 1
            within = int(row) - self._starts[number]
            file = self._files[self._groups[number][0]].name
            where = f"{self.name} ({self.split}): image {row} ({file})"
            data = self._group(number)[within].as_py()
            if data is None:
                raise ValueError(f"{where} has no bytes; embed the images in the parquet file")
            images.append(decode(data, where))
        return images

    def _group(self, number: int) -> Any:
        """The encoded images of a row group, as an arrow array; those used last are kept."""
        with self._lock:
            if number in self._cache:
                self._cache.move_to_end(number)
                return self._cache[number]
            array = self._load(number)
            self._cache[number] = array
            self._cached_bytes += array.nbytes
            while self._cached_bytes > CACHE_BYTES and len(self._cache) > 1:
                _, oldest = self._cache.popitem(last=False)
                self._cached_bytes -= oldest.nbytes
            return array

    def _load(self, number: int) -> Any:
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        file_number, group = self._groups[number]
        path, column = self._files[file_number], self._columns[file_number]

        def load() -> Any:
            with pq.ParquetFile(path) as file:
                values = file.read_row_group(group, columns=[column]).column(0)
            return pc.struct_field(values, "bytes") if "." in column else values

        return _reading(path, load)

    def content(self) -> list[tuple[str, int, str]]:
        return [(path.name, path.stat().st_size, file_sha256(path)) for path in self._files]


def _image_column(path: Path, schema: Any) -> str:
    """The parquet name of the column with the encoded images."""
    import pyarrow.types as kinds

    for name in IMAGE_COLUMNS:
        if name in schema.names:
            kind = schema.field(name).type
            if kinds.is_struct(kind) and kind.get_field_index("bytes") >= 0:
                return f"{name}.bytes"
            if kinds.is_binary(kind) or kinds.is_large_binary(kind):
                return name
            raise ValueError(f"{path}: the column {name!r} holds {kind}, not encoded images")
    raise ValueError(f"{path} has no column {' or '.join(map(repr, IMAGE_COLUMNS))}; it has {', '.join(schema.names)}")


def _labels(path: Path, file: Any) -> Labels:
    import pyarrow.types as kinds

    for name in LABEL_COLUMNS:
        if name in file.schema_arrow.names:
            if not kinds.is_integer(file.schema_arrow.field(name).type):
                kind = file.schema_arrow.field(name).type
                raise ValueError(f"{path}: the column {name!r} holds {kind}, not whole numbers")
            column = file.read(columns=[name]).column(0).fill_null(-1)
            return np.asarray(column.to_numpy(), dtype=np.int64)
    return np.full(file.metadata.num_rows, -1, dtype=np.int64)
