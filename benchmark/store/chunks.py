"""The arrays of one entry, written chunk by chunk, so that a killed run goes on at its last whole chunk."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from pydantic import BaseModel, NonNegativeInt, PositiveInt, ValidationError

from benchmark.store import arrays as stored
from benchmark.store import files
from benchmark.store.arrays import Array
from benchmark.store.entries import Store
from benchmark.store.markers import crc_of
from datasets.files import read_regular

_JOURNAL = "journal"
JOURNAL_BYTES = 64 << 20
_OPEN = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class _Chunk(BaseModel):
    """A line of the journal: `rows` are safe once it is there; of each file, where it ends then, and its CRC-32."""

    key: str
    rows: PositiveInt
    files: dict[str, tuple[PositiveInt, NonNegativeInt]]
    about: dict[str, str] = {}


def begun(store: Store, kind: str, key: str) -> dict[str, str]:
    """How the first chunk of an entry that is not complete was made; empty where there is none."""
    try:
        first = read_regular(store.partial(kind, key) / _JOURNAL, JOURNAL_BYTES).decode().partition("\n")[0]
        chunk = _Chunk.model_validate(files.parse(first))
    except (OSError, ValueError, ValidationError):
        return {}
    return chunk.about if chunk.key == key else {}


class ChunkWriter:
    """Appends rows to the arrays of one entry. A journal says which chunks are whole; the rest is written again.

    Plain appends, not a memory map: a full disk is then an error that can be told, not a killed process.
    """

    def __init__(self, store: Store, kind: str, key: str, rows: int) -> None:
        self._store, self._kind, self._key, self._total = store, kind, key, rows
        self._folder = store.partial(kind, key)
        if self._folder.is_symlink():
            self._folder.unlink()
        files.make_folder(self._folder, store.root)
        self._journal = self._folder / _JOURNAL
        self._ends: dict[str, int] = {}
        self.position = 0
        """Rows that are written and noted, or the last of all."""
        self.about: dict[str, str] = {}
        """How they were made, as far as those that follow should be made so as well; noted with each chunk."""
        self._resume()

    def _resume(self) -> None:
        good = []
        noted = self._noted()
        for line in noted:
            try:
                chunk = _Chunk.model_validate(files.parse(line))
                if not self._is_next(chunk):
                    break
            except (OSError, ValueError, ValidationError):
                break
            good.append(line)
            self.position, self.about = chunk.rows, chunk.about
            self._ends = {name: end for name, (end, _) in chunk.files.items()}
        for path in self._folder.iterdir():  # what came after the last whole chunk
            if path.name in self._ends:
                with self._appending(path) as file:
                    file.truncate(self._ends[path.name])
            elif path != self._journal:
                files.clear(path)
        if len(good) < len(noted):
            self._store.tell(self._folder, f"its journal is damaged behind row {self.position:,}")
        text = "".join(line.decode() + "\n" for line in good)
        files.write_atomically(self._journal, text, durable=bool(good))  # an empty one says what none does

    def _noted(self) -> list[bytes]:
        try:
            return read_regular(self._journal, JOURNAL_BYTES).splitlines()
        except FileNotFoundError:
            return []
        except (OSError, ValueError):
            return [b""]  # a line that is none

    def _is_next(self, chunk: _Chunk) -> bool:
        """Whether a chunk is of this entry, follows the last one, and its bytes are there as they were written."""
        return (
            chunk.key == self._key
            and self.position < chunk.rows <= self._total
            and (not self._ends or chunk.files.keys() == self._ends.keys())
            and all(
                Path(name).name == name
                and (self._folder / name).stat().st_size >= end
                and crc_of(self._folder / name, self._ends.get(name, 0), end) == crc
                for name, (end, crc) in chunk.files.items()
            )
        )

    @contextmanager
    def _appending(self, path: Path) -> Iterator[BinaryIO]:
        """A file of this entry, open at its end: a new one, or one whose beginning is in the journal."""
        new = path.name not in self._ends and path != self._journal
        with os.fdopen(os.open(path, files.NEW if new else _OPEN, 0o666), "ab") as file:
            yield file

    def append(self, arrays: Mapping[str, Array]) -> None:
        """Write one chunk of rows and note it in the journal. OSError where the disk is full.

        Not flushed: a kill does not reach what is written, and what a power cut tears shows by its checksum. The last
        one is not noted: `finish` follows at once.
        """
        written: dict[str, tuple[int, int]] = {}
        rows = 0
        for name, values in arrays.items():
            rows = len(values)
            path = self._folder / f"{name}.npy"
            start = self._ends.get(path.name, 0)
            with self._appending(path) as file:
                if start == 0:
                    stored.write_header(file, values, self._total, page=True)
                file.write(np.ascontiguousarray(values).data)
                end = file.tell()
            if self.position + rows < self._total:
                written[path.name] = (end, crc_of(path, start, end))
        self.position += rows
        if self.position == self._total:
            return
        self._ends = {name: end for name, (end, _) in written.items()}
        line = files.sealed({"key": self._key, "rows": self.position, "files": written, "about": self.about})
        with self._appending(self._journal) as file:
            file.write(files.text(line).encode())

    def finish(self, *, arrays: Mapping[str, Array], tensors: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
        """Add the small arrays and tensors that stand beside the chunks, and complete the entry."""
        if self.position != self._total:
            raise ValueError(f"{self.position} of {self._total} rows were written")
        self._journal.unlink()
        self._store.seal(self._kind, self._key, arrays, tensors, meta)
