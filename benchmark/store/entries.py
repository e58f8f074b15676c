"""Features, fits and scores on disk.

An entry is a folder `<root>/<kind>/<key>`; its marker `done.json`, written last, holds every file's size and CRC-32.
Whatever has no marker, or does not agree with it, is a miss: never a crash, never zeros.
"""

import contextlib
import json
import os
import shutil
import socket
import time
import zlib
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.store.files import write_atomically

MARKER = "done.json"
Arrays = dict[str, np.ndarray[Any, Any]]


class Busy(Exception):
    """Another process is at work on this entry."""


def _crc(path: Path, start: int = 0, stop: int | None = None) -> int:
    crc = 0
    with path.open("rb") as file:
        file.seek(start)
        left = path.stat().st_size - start if stop is None else stop - start
        while left > 0 and (block := file.read(min(left, 1 << 22))):
            crc = zlib.crc32(block, crc)
            left -= len(block)
    return crc


class Store:
    """The entries below one folder. Several processes may use it at once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._verified: set[Path] = set()

    def folder(self, kind: str, key: str) -> Path:
        return self.root / kind / key[:2] / key

    def workdir(self, key: str) -> Path:
        """A folder for the checkpoints of the job with this key; it goes when the entry is complete."""
        path = self.root / "work" / key
        path.mkdir(parents=True, exist_ok=True)
        return path

    def marker(self, kind: str, key: str) -> dict[str, Any] | None:
        """The marker of an entry whose files all have the right size, else None."""
        folder = self.folder(kind, key)
        try:
            marker: dict[str, Any] = json.loads((folder / MARKER).read_text(encoding="utf-8"))
            sizes_agree = all((folder / name).stat().st_size == file["bytes"] for name, file in marker["files"].items())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return marker if sizes_agree else None

    def has(self, kind: str, key: str) -> bool:
        """Whether the entry is there and sound; its checksums are read once a process."""
        marker, folder = self.marker(kind, key), self.folder(kind, key)
        if marker is None:
            self._verified.discard(folder)
            return False
        if folder not in self._verified:
            try:
                sound = all(_crc(folder / name) == file["crc32"] for name, file in marker["files"].items())
            except OSError:
                sound = False
            if not sound:
                return False
            self._verified.add(folder)
        return True

    def meta(self, kind: str, key: str) -> dict[str, Any]:
        marker = self.marker(kind, key)
        if marker is None:
            raise FileNotFoundError(f"{self.folder(kind, key)} is not complete")
        return dict(marker["meta"])

    def arrays(self, kind: str, key: str, names: Container[str] | None = None) -> Arrays:
        """The arrays of an entry (None: all), memory-mapped copy-on-write: what is done to them stays in memory."""
        paths = sorted(self.folder(kind, key).glob("*.npy"))
        return {path.stem: np.load(path, mmap_mode="c") for path in paths if names is None or path.stem in names}

    def tensors(self, kind: str, key: str) -> dict[str, Any]:
        from safetensors.torch import load_file

        path = self.folder(kind, key) / "state.safetensors"
        return load_file(path) if path.exists() else {}

    def put(
        self,
        kind: str,
        key: str,
        *,
        arrays: Mapping[str, np.ndarray[Any, Any]] | None = None,
        tensors: Mapping[str, Any] | None = None,
        meta: Mapping[str, Any],
    ) -> None:
        """Write a whole entry at once."""
        partial = self._partial(kind, key)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for name, values in (arrays or {}).items():
            np.save(partial / f"{name}.npy", values)
        if tensors is not None:
            self._save_tensors(partial, tensors)
        self._seal(kind, key, meta)

    def _save_tensors(self, folder: Path, tensors: Mapping[str, Any]) -> None:
        from safetensors.torch import save_file

        save_file({name: values.contiguous() for name, values in tensors.items()}, folder / "state.safetensors")

    def _partial(self, kind: str, key: str) -> Path:
        folder = self.folder(kind, key)
        return folder.with_name(f"{folder.name}.partial")

    def _seal(self, kind: str, key: str, meta: Mapping[str, Any]) -> None:
        """Flush the files of a partial entry, write its marker last, and give it its name."""
        partial, folder = self._partial(kind, key), self.folder(kind, key)
        files = {}
        for path in sorted(partial.iterdir()):
            with path.open("rb") as file:
                os.fsync(file.fileno())
            files[path.name] = {"bytes": path.stat().st_size, "crc32": _crc(path)}
        write_atomically(partial / MARKER, json.dumps({"files": files, "meta": dict(meta)}))
        shutil.rmtree(folder, ignore_errors=True)  # an unsound one
        partial.replace(folder)
        self._verified.add(folder)
        shutil.rmtree(self.root / "work" / key, ignore_errors=True)

    def chunks(self, kind: str, key: str, rows: int) -> "ChunkWriter":
        """Write the arrays of an entry chunk by chunk; goes on where a killed run stopped."""
        return ChunkWriter(self, kind, key, rows)

    @contextlib.contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Hold the lock of a key; Busy, with its owner and age, where another process holds it.

        The operating system frees the lock of a process that dies, however it dies.
        """
        from filelock import FileLock, Timeout

        folder = self.root / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        lock, owner = FileLock(folder / f"{key}.lock"), folder / f"{key}.json"
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise Busy(_describe(owner)) from None
        try:
            me = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.time()}
            owner.write_text(json.dumps(me), encoding="utf-8")  # for people: not worth a wait for the disk
            yield
        finally:
            owner.unlink(missing_ok=True)
            lock.release()


def _describe(owner: Path) -> str:
    try:
        who = json.loads(owner.read_text(encoding="utf-8"))
        age = max(0, round(time.time() - who["since"]))
        return f"process {who['pid']} on {who['host']}, for {age} s"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


class ChunkWriter:
    """Appends rows to the arrays of one entry. A journal says which chunks are whole; the rest is written again.

    Plain appends, not a memory map: a full disk is then an error that can be told, not a killed process.
    """

    def __init__(self, store: Store, kind: str, key: str, rows: int) -> None:
        self._store, self._kind, self._key, self._total = store, kind, key, rows
        self._folder = store._partial(kind, key)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._journal = self._folder / "journal"
        self._ends: dict[str, int] = {}
        self.position = 0
        """Rows that are safely on the disk."""
        self._resume()

    def _resume(self) -> None:
        try:
            lines = [json.loads(line) for line in self._journal.read_text(encoding="utf-8").splitlines()]
        except (OSError, ValueError):
            lines = []
        good = []
        for line in lines:
            try:
                sound = all(
                    _crc(self._folder / name, self._ends.get(name, 0), end) == crc
                    and (self._folder / name).stat().st_size >= end
                    for name, (end, crc) in line["files"].items()
                )
            except (OSError, KeyError, TypeError, ValueError):
                sound = False
            if not sound:
                break
            good.append(line)
            self.position = line["rows"]
            self._ends = {name: end for name, (end, _) in line["files"].items()}
        for path in self._folder.iterdir():  # what came after the last whole chunk
            if path.name in self._ends:
                os.truncate(path, self._ends[path.name])
            elif path != self._journal:
                path.unlink()
        write_atomically(self._journal, "".join(json.dumps(line) + "\n" for line in good))

    def append(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Write one chunk of rows and note it in the journal. OSError where the disk is full."""
        files: dict[str, tuple[int, int]] = {}
        rows = 0
        for name, values in arrays.items():
            rows = len(values)
            path = self._folder / f"{name}.npy"
            start = self._ends.get(path.name, 0)
            with path.open("ab") as file:
                if start == 0:
                    header = {
                        "descr": np.lib.format.dtype_to_descr(values.dtype),
                        "fortran_order": False,
                        "shape": (self._total, *values.shape[1:]),
                    }
                    np.lib.format.write_array_header_1_0(file, header)
                file.write(np.ascontiguousarray(values).data)
                file.flush()
                os.fsync(file.fileno())
                end = file.tell()
            files[path.name] = (end, _crc(path, start, end))
        self._ends = {name: end for name, (end, _) in files.items()}
        self.position += rows
        with self._journal.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"rows": self.position, "files": files}) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def finish(
        self,
        *,
        arrays: Mapping[str, np.ndarray[Any, Any]],
        tensors: Mapping[str, Any],
        meta: Mapping[str, Any],
    ) -> None:
        """Add the small arrays and tensors that stand beside the chunks, and complete the entry."""
        if self.position != self._total:
            raise ValueError(f"{self.position} of {self._total} rows were written")
        self._journal.unlink()
        for name, values in arrays.items():
            np.save(self._folder / f"{name}.npy", values)
        self._store._save_tensors(self._folder, tensors)
        self._store._seal(self._kind, self._key, meta)
