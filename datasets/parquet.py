"""Sets of images in parquet shards, in the layout of Hugging Face."""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO, TypeVar

import numpy as np

from datasets import provenance
from datasets.ahead import ahead
from datasets.catalogue import Entry
from datasets.classes import spelled
from datasets.files import open_regular
from datasets.hashing import Hashing
from datasets.images import Digests, EncodedSet, content_digests, counted_once
from datasets.labels import from_column
from datasets.pages import Chunk, Pages, pages, row_groups
from datasets.thrift import Unsound

IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMNS = ("label", "fine_label", "labels", "class")
CACHE_BYTES = 128 << 20
BLOCK_BYTES = 32 << 20  # of encoded images that are read at once
PAGE_BYTES = 320 << 20  # of one page, stored and unpacked: pyarrow reads it whole
LABEL_ROWS = 1 << 16
FILE_BYTES = 64 << 30
_HOW: dict[str, Any] = {"page_checksum_verification": True}  # of pages that were written with one
_BUFFER_BYTES = 1 << 20  # of a column that are read ahead; else pyarrow reads a row group's at once
_UNPACKED = 100  # times the bytes that are stored, where they are more than a block: encoded images hardly shrink

T = TypeVar("T")


def _reading(path: Path, read: Callable[[], T]) -> T:
    """`read()`, with a broken file as one line."""
    import pyarrow

    try:
        return read()
    except (pyarrow.ArrowException, OSError, Unsound) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} is not a sound parquet file: {reason}; get it again") from None


@dataclass
class _Group:
    """A row group: where it is, its first row in the files, and how many of its rows are read at once.

    `repeats`: whether all of its images are in its dictionary, to be read as places in it.
    """

    path: Path
    footer: Any
    number: int
    column: str
    start: int
    rows: int
    block: int
    repeats: bool
    reader: tuple[Any, int] | None = None  # an open pass, and the block that comes next


class ParquetSet(EncodedSet):
    """Images in parquet: a column `image` or `img` (struct of bytes and path, or plain bytes), and maybe `label`.

    One that stands twice counts once, but in a set of the official number of images (`counted_once`). Read in blocks of
    about 32 MiB of encoded images as they are needed; at most 128 MiB (or one block) stay in memory.
    """

    def __init__(
        self,
        name: str,
        split: str,
        files: Sequence[Path],
        *,
        title: str,
        entry: Entry | None,
        notes: tuple[str, ...] = (),
    ) -> None:
        hashing = Hashing(files, FILE_BYTES)
        self._files = hashing.once()
        if twice := len(files) - len(self._files):
            notes = (*notes, f"left out: parquet files that stand twice ({twice})")
        self._groups: list[_Group] = []
        self._cache: OrderedDict[tuple[int, int], Any] = OrderedDict()
        self._cached_bytes = 0
        self._lock = Lock()
        said, labels = [], []
        rows, column = 0, None
        for path in self._files:
            found = _reading(path, partial(_looked_at, path, rows))
            column = column or found.label
            said.append((found.metadata, found.rows))
            labels += found.labels
            self._groups += found.groups
            rows += found.rows
        if not rows:
            raise ValueError(f"{self._files[0]} holds no images")
        metadata = provenance.merged(said, column)
        names = provenance.class_names(metadata)
        numbers, classes, fault = from_column(labels, names)
        digests = self._digests()
        self._hashes = [hashing.of(path) for path in self._files]
        self._rows, told = counted_once(digests, None if entry is None else entry.splits.get(split))
        if entry is not None and (numbers >= 0).any():
            classes = spelled(classes, entry.class_names, numbered=True)
        super().__init__(
            name,
            split,
            title=title,
            labels=numbers[self._rows],
            classes=classes,
            fault=f"of the column {column!r}: {fault}" if fault else "",
            metadata=metadata,
            notes=(*provenance.phrases(metadata, rows, entry, split), *told, *notes),
        )
        self.digests = digests[self._rows]
        self._starts = [group.start for group in self._groups]

    def __getstate__(self) -> dict[str, Any]:
        """For another process, which reads the files for itself."""
        return {**self.__dict__, "_cache": OrderedDict(), "_cached_bytes": 0, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=Lock())

    def sources(self, rows: Sequence[int]) -> Iterator[tuple[bytes, str]]:
        last: tuple[int, int] | None = None
        images: Any = None
        for row in self._rows[np.asarray(rows, dtype=np.int64)].tolist():
            number = bisect_right(self._starts, row) - 1
            group = self._groups[number]
            block, within = divmod(row - group.start, group.block)
            if (number, block) != last:
                last, images = (number, block), self._block(number, block)
            where = f"{self.name} ({self.split}): image {row} ({group.path.name})"
            data = images[within].as_py()
            if data is None:
                raise ValueError(f"{where} has no bytes; embed the images in the parquet file")
            yield data, where

    def _block(self, number: int, block: int) -> Any:
        """Encoded images of a row group, as an arrow array; those used last are kept."""
        with self._lock:
            if (array := self._cache.get((number, block))) is not None:
                self._cache.move_to_end((number, block))
                return array
            group = self._groups[number]
            array = _reading(group.path, lambda: _read_block(group, block))
            self._cache[number, block] = array
            self._cached_bytes += array.nbytes
            while self._cached_bytes > CACHE_BYTES and len(self._cache) > 1:
                _, oldest = self._cache.popitem(last=False)
                self._cached_bytes -= oldest.nbytes
            return array

    def content(self) -> list[tuple[str, int, str]]:
        return [(path.name, *hashed) for path, hashed in zip(self._files, self._hashes, strict=True)]

    def _digests(self) -> Digests:
        """Of every row of the files: each is read here once, whole."""
        blocks = (
            _reading(group.path, lambda: _read_block(group, block))  # noqa: B023 it is called at once
            for group in self._groups
            for block in range(-(-group.rows // group.block))
        )
        return np.concatenate([_digests_of(block) for block in ahead(blocks)])


def _digests_of(images: Any) -> Digests:
    """Of the encoded images in an arrow array; one that is repeated in it is hashed once."""
    import pyarrow.types as kinds

    if not kinds.is_dictionary(images.type):
        return content_digests(images.to_pylist())
    known = content_digests(images.dictionary.to_pylist())
    found: Digests = np.append(known, b"")[images.indices.fill_null(-1).to_numpy()]
    return found


@dataclass
class _File:
    rows: int
    metadata: Any
    label: str | None
    labels: list[Any]
    groups: list[_Group]


def _looked_at(path: Path, start: int) -> _File:
    """What a shard says of itself, checked, and its labels. `start`: its first row in the set."""
    import pyarrow
    import pyarrow.parquet as pq

    with open_regular(path) as source, pq.ParquetFile(source) as file:
        schema, footer = file.schema_arrow, file.metadata
        column = _image_column(path, schema)
        known = provenance.label_column(schema.metadata)
        label = next((name for name in (*LABEL_COLUMNS, known) if name in schema.names), None)
        groups = row_groups(source)
        if (there := sum(count for count, _ in groups)) != footer.num_rows:
            raise ValueError(f"{path} says that it has {footer.num_rows:,} rows, and has {there:,}; get it again")
        if there > (size := path.stat().st_size):
            raise ValueError(f"{path} says that it has {there:,} images in {size:,} bytes; get it again")
        found = _File(there, schema.metadata, label, [pyarrow.nulls(there)] if label is None else [], [])
        for number, (count, columns) in enumerate(groups):
            chunks = {chunk.column: chunk for chunk in columns}
            if not count:
                continue
            of_image = _checked(path, column, count, chunks.get(column), source)
            if label in chunks:  # labels of structs or lists have other columns, and are not read
                _checked(path, str(label), count, chunks[label], source)
            block = _rows_a_block(of_image, count)
            found.groups.append(_Group(path, footer, number, column, start, count, block, of_image.repeats))
            start += count
    if label is not None:
        found.labels = _labels(path, label, schema.field(label).type, there)
        if (read := sum(map(len, found.labels))) != there:
            raise ValueError(f"{path} says that it has {there:,} rows, and {read:,} labels were read; get it again")
    return found


def _checked(path: Path, name: str, rows: int, chunk: Chunk | None, source: BinaryIO) -> Pages:
    """The pages of a column chunk. ValueError where they have not as many values as rows, or unpack to too much."""
    if chunk is None:
        raise ValueError(f"{path} has a row group without the column {name!r}; get it again")
    found = pages(source, chunk)
    if not chunk.values == found.values == rows:
        raise ValueError(
            f"{path} says that it has {rows:,} rows, and has {found.values:,} values of {name!r}; get it again"
        )
    if found.unpacked > max(BLOCK_BYTES, _UNPACKED * chunk.stored):
        sizes = f"{chunk.stored:,} bytes to {found.unpacked >> 20:,} MiB"
        raise ValueError(f"{path}: {name!r} unpacks from {sizes}, as no images do; write it without compression")
    if found.largest > PAGE_BYTES:
        sizes = f"{found.largest >> 20:,} MiB, more than {PAGE_BYTES >> 20}"
        raise ValueError(f"{path}: {name!r} has a page of {sizes}; write the file with smaller row groups")
    return found


def _rows_a_block(of_column: Pages, rows: int) -> int:
    """How many rows are read at once: they take about a block, even where every row is the same large image."""
    worst = 0 if of_column.repeats else of_column.dictionary / 2
    longest = max(of_column.unpacked / rows, worst, 1)
    return max(1, min(rows, int(BLOCK_BYTES // longest)))


def _labels(path: Path, name: str, kind: Any, rows: int) -> list[Any]:
    import pyarrow
    import pyarrow.parquet as pq
    import pyarrow.types as kinds

    if kinds.is_nested(kind):
        return [pyarrow.nulls(rows, kind)]
    texts = [name] if kinds.is_string(kind) or kinds.is_large_string(kind) else None  # each text once
    with open_regular(path) as source, pq.ParquetFile(source, read_dictionary=texts, **_HOW) as file:
        return [batch.column(0) for batch in file.iter_batches(LABEL_ROWS, columns=[name])]


def _read_block(group: _Group, block: int) -> Any:
    """The blocks of a row group come one after the other; who asks for an earlier one starts again."""
    if group.reader is None or group.reader[1] > block:
        group.reader = _blocks(group), 0
    blocks, coming = group.reader
    for place in range(coming, block + 1):
        array = next(blocks, None)
        wanted = min(group.block, group.rows - place * group.block)
        if array is None or len(array) != wanted:
            raise ValueError(f"{group.path} has fewer images than it says; get it again")
    last = (block + 1) * group.block >= group.rows
    group.reader = None if last else (blocks, block + 1)
    return array


def _blocks(group: _Group) -> Iterator[Any]:
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    how = {**_HOW, "buffer_size": _BUFFER_BYTES, "read_dictionary": [group.column] if group.repeats else None}
    with open_regular(group.path) as source, pq.ParquetFile(source, metadata=group.footer, **how) as file:
        # one column: pyarrow's threads would only hand it over
        for batch in file.iter_batches(
            group.block, row_groups=[group.number], columns=[group.column], use_threads=False
        ):
            values = batch.column(0)
            values.validate(full=True)  # places beyond the dictionary
            yield pc.struct_field(values, "bytes") if "." in group.column else values


def _image_column(path: Path, schema: Any) -> str:
    """The parquet name of the column with the encoded images."""
    import pyarrow.types as kinds

    for name in IMAGE_COLUMNS:
        if name in schema.names:
            kind, column = schema.field(name).type, name
            if kinds.is_struct(kind) and kind.get_field_index("bytes") >= 0:
                kind, column = kind.field("bytes").type, f"{name}.bytes"
            if kinds.is_binary(kind) or kinds.is_large_binary(kind):
                return column
            raise ValueError(f"{path}: the column {column!r} holds {str(kind)[:60]}, not encoded images")
    names = ", ".join(schema.names)[:200]
    raise ValueError(f"{path} has no column {' or '.join(map(repr, IMAGE_COLUMNS))}; it has {names}")
