"""Markers of entries: `done.json`, written last, says that an entry is complete, and what is in it.

It holds the entry's kind and key, every file's size and CRC-32, and a checksum of its own.
"""

import os
import stat
import zlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from pydantic import BaseModel, NonNegativeInt, ValidationError

from benchmark.store import files
from datasets.files import open_regular

MARKER = "done.json"
SCHEMA = 2  # of markers; the first had no checksum and no key
KNOWN = 1024  # markers that stay in memory


class File(BaseModel):
    bytes: NonNegativeInt
    crc32: NonNegativeInt


class Marker(BaseModel):
    kind: str
    key: str
    files: dict[str, File]
    meta: dict[str, Any]
    parts: list[str] = []  # keys


class _Known(NamedTuple):
    """A marker as it was read. stamp: of its file; None where that was too new to tell."""

    stamp: files.Stamp | None
    content: bytes
    marker: Marker


class Markers:
    """The markers of entries, as they were read last."""

    def __init__(self) -> None:
        self._known: OrderedDict[Path, _Known] = OrderedDict()

    def of(self, folder: Path, kind: str, key: str) -> Marker:
        """The marker of an entry whose files all have the right size.

        FileNotFoundError or NotADirectoryError where there is none, another OSError or a ValueError that says what is
        wrong with it or with the entry.
        """
        try:
            marker = self._read(folder / MARKER)
        except ValidationError:
            raise ValueError("its marker has another form") from None
        if (marker.kind, marker.key) != (kind, key):
            raise ValueError("it is that of another entry")
        for name, file in marker.files.items():
            try:
                about = os.lstat(f"{folder}/{name}")
            except OSError:
                about = None
            if os.path.basename(name) != name or about is None or not stat.S_ISREG(about.st_mode):
                raise ValueError(f"{name} is not there")
            if about.st_size != file.bytes:
                raise ValueError(f"{name} has another size")
        return marker

    def _read(self, path: Path) -> Marker:
        """A marker, read again only where its file may have changed, and understood anew only where it has."""
        stamp, known = files.stamp(path), self._known.get(path)
        if known is not None and stamp is not None and known.stamp == stamp:
            return known.marker
        content = files.read(path)
        same = known is not None and known.content == content
        marker = known.marker if known and same else Marker.model_validate(files.parse(content))
        self._known[path] = _Known(stamp, content, marker)
        if len(self._known) > KNOWN:
            self._known.popitem(last=False)
        return marker


def write(
    folder: Path, kind: str, key: str, meta: Mapping[str, Any], parts: Sequence[str], *, flush: bool
) -> list[str]:
    """Mark the entry in `folder` as complete with the files that lie there; their names, and the marker's.

    flush: all of them, to the disk.
    """
    paths = sorted(folder.iterdir())
    if flush:
        files.flush(paths)
    marker = {"schema": SCHEMA, "kind": kind, "key": key, "files": {path.name: _about(path) for path in paths}}
    marker |= {"meta": dict(meta)} | ({"parts": list(parts)} if parts else {})
    with files.new(folder / MARKER) as file:
        file.write(files.text(files.sealed(marker)).encode())
        file.flush()
        if flush:
            os.fsync(file.fileno())
    return [*(path.name for path in paths), MARKER]


def _about(path: Path) -> dict[str, int]:
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        return {"bytes": size, "crc32": _crc(file, 0, size)}


def crc_of(path: Path, start: int = 0, stop: int | None = None) -> int:
    """CRC-32 of a regular file's bytes from `start` to `stop` (None: the end)."""
    with open_regular(path) as file:
        return _crc(file, start, os.fstat(file.fileno()).st_size if stop is None else stop)


def _crc(file: BinaryIO, start: int, stop: int) -> int:
    crc, left = 0, stop - start
    file.seek(start)
    while left > 0 and (block := file.read(min(left, 1 << 22))):
        crc = zlib.crc32(block, crc)
        left -= len(block)
    return crc
