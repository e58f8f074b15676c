"""What a parquet file says of itself, read without unpacking any of it: its footer, and the header before each page.

Both may say anything; a reader allocates what a page's header says, and pyarrow shows no such header. It shows the
footer, but where one contradicts itself its `row_group(i).column(j)` ends the process (std::terminate: no exception can
pass). Both are Thrift's (parquet.thrift: FileMetaData, PageHeader).
"""

from dataclasses import dataclass
from typing import Any, BinaryIO

from datasets import thrift
from datasets.thrift import Unsound

_HEADER_BYTES = 2048
_MOST_HEADER_BYTES = 64 << 20
_FOOTER_BYTES = 64 << 20
_DICTIONARY = 2
# Kinds of data pages -> the field with what is said of their values, and in it that of their encoding.
_ABOUT: dict[Any, tuple[int, int]] = {0: (5, 2), 3: (8, 4)}
_IN_DICTIONARY = (2, 8)  # encodings: places in the dictionary


@dataclass(frozen=True)
class Chunk:
    """A column of a row group: its name, how many values it says it has, where its pages begin and their bytes."""

    column: str
    values: int
    start: int
    stored: int


@dataclass(frozen=True)
class Pages:
    """`values`: in all data pages. Bytes once unpacked: `unpacked` of all pages, `dictionary` of the dictionary's.

    `largest`: of one page, stored and unpacked. `repeats`: whether all values are places in the dictionary.
    """

    values: int
    unpacked: int
    dictionary: int
    largest: int
    repeats: bool


def row_groups(file: BinaryIO) -> list[tuple[int, list[Chunk]]]:
    """Rows and columns of each row group, as the footer says. Unsound where it cannot be read."""
    size = file.seek(0, 2)
    file.seek(max(0, size - 8))
    length = int.from_bytes(file.read(4), "little")
    if length > min(_FOOTER_BYTES, size - 8):
        raise Unsound(f"a footer of {length:,} bytes")
    file.seek(size - 8 - length)
    try:
        footer, _ = thrift.struct(file.read(length), 0)
        return [(_count(group[3]), [_chunk(column[3]) for column in group[1]]) for group in footer[4]]
    except (IndexError, KeyError, TypeError):
        raise Unsound("a footer that is not whole") from None


def _chunk(said: dict[int, Any]) -> Chunk:
    values, stored, data = (_count(said[field]) for field in (5, 7, 9))
    dictionary = _count(said.get(11, 0))
    name = b".".join(said[3]).decode(errors="replace")
    return Chunk(name, values, min(data, dictionary) if dictionary else data, stored)


def _count(said: Any) -> int:
    if not isinstance(said, int) or said < 0:
        raise TypeError
    return said


def pages(file: BinaryIO, chunk: Chunk) -> Pages:
    """The pages of a column. Unsound where they cannot be read."""
    at = chunk.start
    end = at + chunk.stored
    values = unpacked = dictionary = largest = 0
    repeats = True
    while at < end:
        header, length = _header(file, at)
        kind, size, packed = (header.get(field) for field in (1, 2, 3))
        if not (isinstance(size, int) and isinstance(packed, int)) or size < 0 or packed < 0:
            raise Unsound("a page without its size")
        field, encoding = _ABOUT.get(kind, (0, 0))
        if isinstance(about := header.get(field), dict):
            values += count if isinstance(count := about.get(1), int) else 0
            repeats = repeats and about.get(encoding) in _IN_DICTIONARY
        unpacked += size
        largest = max(largest, size + packed)
        dictionary += size if kind == _DICTIONARY else 0
        at += length + packed
    return Pages(values, unpacked, dictionary, largest, repeats and dictionary > 0)


def _header(file: BinaryIO, at: int) -> tuple[dict[int, Any], int]:
    """The header that begins at a place, by the numbers of its fields, and its length."""
    size = _HEADER_BYTES
    while size <= _MOST_HEADER_BYTES:
        file.seek(at)
        data = file.read(size)
        try:
            return thrift.struct(data, 0)
        except IndexError:  # it may be longer: statistics hold whole values
            if len(data) < size:
                break
            size *= 16
    raise Unsound("a page without its header")
