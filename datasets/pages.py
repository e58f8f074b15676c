"""What the pages of a parquet column say of themselves, read without unpacking any.

The footer of a file may say anything; a reader allocates what the header before each page says. pyarrow does not show
these headers (Thrift's compact protocol, parquet.thrift: PageHeader), so they are read here.
"""

from dataclasses import dataclass
from typing import Any, BinaryIO

_HEADER_BYTES = 2048
_MOST_HEADER_BYTES = 64 << 20
_DICTIONARY = 2
# Kinds of data pages -> the field with what is said of their values, and in it that of their encoding.
_ABOUT: dict[Any, tuple[int, int]] = {0: (5, 2), 3: (8, 4)}
_IN_DICTIONARY = (2, 8)  # encodings: places in the dictionary
_DEPTH = 8


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


def pages(file: BinaryIO, chunk: Any) -> Pages:
    """The pages of a column chunk, as pyarrow describes it. ValueError where they cannot be read."""
    at = chunk.data_page_offset
    if chunk.has_dictionary_page:
        at = min(at, chunk.dictionary_page_offset)
    end = at + chunk.total_compressed_size
    values = unpacked = dictionary = largest = 0
    repeats = True
    while at < end:
        header, length = _header(file, at)
        kind, size, packed = (header.get(field) for field in (1, 2, 3))
        if not (isinstance(size, int) and isinstance(packed, int)) or size < 0 or packed < 0:
            raise ValueError("a page without its size")
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
            return _struct(data, 0, 0)
        except IndexError:  # it may be longer: statistics hold whole values
            if len(data) < size:
                break
            size *= 16
    raise ValueError("a page without its header")


def _struct(data: bytes, at: int, depth: int) -> tuple[dict[int, Any], int]:
    if depth > _DEPTH:
        raise ValueError("a page with a header of many levels")
    fields: dict[int, Any] = {}
    number = 0
    while (head := data[at]) != 0:
        at += 1
        if head >> 4:
            number += head >> 4
        else:
            number, at = _whole(data, at)
        fields[number], at = _value(data, at, head & 15, depth)
    return fields, at + 1


def _value(data: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in (1, 2):  # true and false
        return kind == 1, at
    if kind in (4, 5, 6):
        return _whole(data, at)
    if kind == 8:
        length, at = _varint(data, at)
        if at + length > len(data):
            raise IndexError
        return None, at + length
    if kind == 12:
        return _struct(data, at, depth + 1)
    raise ValueError("a page with a header of another kind")


def _whole(data: bytes, at: int) -> tuple[int, int]:
    value, at = _varint(data, at)
    return (value >> 1) ^ -(value & 1), at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        if data[at] < 128:
            return value, at + 1
        at, shift = at + 1, shift + 7
        if shift > 63:
            raise ValueError("a page with a number of many bytes")
