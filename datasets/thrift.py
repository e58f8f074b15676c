"""Thrift's compact protocol, as far as parquet uses it: structs as dictionaries by the numbers of their fields.

IndexError where the bytes end too early, Unsound where they are none of it.
"""

from struct import unpack_from
from typing import Any

_DEPTH = 16
_BYTES, _DOUBLE, _LIST, _SET, _STRUCT = 8, 7, 9, 10, 12


class Unsound(ValueError):
    """What a file says of itself cannot be."""


def struct(data: bytes, at: int, depth: int = 0) -> tuple[dict[int, Any], int]:
    """The struct that begins at a place, and where it ends."""
    if depth > _DEPTH:
        raise Unsound("a header of many levels")
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
    if kind == 3:
        return data[at], at + 1
    if kind in (4, 5, 6):
        return _whole(data, at)
    if kind == _DOUBLE:
        return unpack_from("<d", data, at)[0], at + 8
    if kind == _BYTES:
        length, at = _varint(data, at)
        if at + length > len(data):
            raise IndexError
        return data[at : at + length], at + length
    if kind in (_LIST, _SET):
        return _list(data, at, depth)
    if kind == _STRUCT:
        return struct(data, at, depth + 1)
    raise Unsound("a header of another kind")


def _list(data: bytes, at: int, depth: int) -> tuple[list[Any], int]:
    head, at = data[at], at + 1
    length, kind = head >> 4, head & 15
    if length == 15:
        length, at = _varint(data, at)
    if at + length > len(data):  # each takes a byte at least
        raise IndexError
    values = []
    for _ in range(length):
        value, at = (data[at] == 1, at + 1) if kind in (1, 2) else _value(data, at, kind, depth + 1)
        values.append(value)
    return values, at


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
            raise Unsound("a number of many bytes")
