"""Features, fits and scores on disk.

An entry is a folder `<root>/<kind>/<2>/<key>` with a marker, written last. An entry may be made of `parts`, other
entries of its kind, whose arrays are its own one after the other. Whatever has no marker, or does not agree with it,
is a miss: told, and made again; never a crash, never zeros.
"""

import contextlib
import os
import shutil
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark.store import arrays as stored
from benchmark.store import files, locks, markers
from benchmark.store.arrays import Array
from benchmark.store.locks import Busy as Busy
from benchmark.store.markers import Marker, Markers

_STATE = "state.safetensors"
LONG = 10.0  # seconds: the disk takes some hundredths of one
Arrays = dict[str, Array]


class Store:
    """The entries below one folder. Several processes may use it at once. `say`: told of what is damaged."""

    def __init__(self, root: Path, say: Callable[[str], None] = lambda line: None) -> None:
        self.root = root
        self._say = say
        self._told: set[Path] = set()
        self._verified: set[Path] = set()
        self._unflushed: list[Path] = []
        self._markers = Markers()

    def folder(self, kind: str, key: str) -> Path:
        return Path(f"{self.root}/{kind}/{key[:2]}/{key}")  # at once: it is asked for ten times a job

    def workdir(self, key: str) -> Path:
        """A folder for the checkpoints of the job with this key; it goes when the entry is complete."""
        path = self.root / "work" / key
        if path.is_symlink():
            path.unlink()
        files.make_folder(path, self.root)
        return path

    def begun(self, key: str) -> bool:
        """Whether the job with this key left checkpoints when it was stopped: what took its time is not known then."""
        return any(self.workdir(key).iterdir())

    def _marker(self, kind: str, key: str) -> Marker | None:
        """The marker of an entry whose files all have the right size; None where there is none, or a damaged one."""
        folder = self.folder(kind, key)
        try:
            return self._markers.of(folder, kind, key)
        except (FileNotFoundError, NotADirectoryError):
            if os.path.lexists(folder):
                self.tell(folder, "it has no marker")
        except (OSError, ValueError) as error:
            self.tell(folder, str(error))
        return None

    def tell(self, folder: Path, why: str) -> None:
        """Say once that an entry is not used, and why."""
        if folder not in self._told:
            self._told.add(folder)
            self._say(f"note: {folder} is not used, and made again where it is needed: {why}")

    def has(self, kind: str, key: str) -> bool:
        """Whether the entry is there and sound; its checksums are read once a process."""
        marker, folder = self._marker(kind, key), self.folder(kind, key)
        if marker is None:
            self._verified.discard(folder)
            return False
        if folder not in self._verified:
            try:
                for name, file in marker.files.items():
                    if markers.crc_of(folder / name) != file.crc32:
                        raise ValueError(f"{name} has changed")
                for path in self._paths(marker).values():
                    stored.mapped(path)
            except (OSError, ValueError) as error:
                self.tell(folder, " ".join(str(error).split()))
                return False
            self._verified.add(folder)
        return all(self.has(kind, part) for part in marker.parts)

    def there(self, kind: str, key: str) -> bool:
        """Whether the entry is complete and its files have their sizes; what is in them is not read."""
        marker = self._marker(kind, key)
        return marker is not None and all(self.there(kind, part) for part in marker.parts)

    def holds(self, kind: str, key: str, fits: Callable[[Arrays], str]) -> bool:
        """Whether the entry is there, sound, and what its key means: `fits` of its arrays says "" or what is wrong."""
        if not self.has(kind, key):
            return False
        if wrong := fits(self.arrays(kind, key)):
            self.tell(self.folder(kind, key), wrong)
        return not wrong

    def size(self, kind: str, key: str) -> int:
        """Bytes of the files of an entry and of its parts."""
        marker = self._whole(kind, key)
        own = sum(file.bytes for file in marker.files.values())
        return own + sum(self.size(kind, part) for part in marker.parts)

    def meta(self, kind: str, key: str) -> dict[str, Any]:
        return dict(self._whole(kind, key).meta)

    def arrays(self, kind: str, key: str, names: Container[str] | None = None) -> Arrays:
        """The arrays of an entry (None: all), memory-mapped copy-on-write: what is done to them stays in memory."""
        marker = self._whole(kind, key)
        found = {name: stored.mapped(path) for name, path in self._paths(marker, names).items()}
        parts = [self._paths(self._whole(kind, part), names) for part in marker.parts]
        return found | {name: stored.joined([part[name] for part in parts]) for name in (parts or [{}])[0]}

    def _paths(self, marker: Marker, names: Container[str] | None = None) -> dict[str, Path]:
        """The files of an entry's own arrays."""
        folder = self.folder(marker.kind, marker.key)
        own = [name.removesuffix(".npy") for name in sorted(marker.files) if name.endswith(".npy")]
        return {name: folder / f"{name}.npy" for name in own if names is None or name in names}

    def tensors(self, kind: str, key: str) -> dict[str, Any]:
        there = _STATE in self._whole(kind, key).files
        return stored.load_tensors(self.folder(kind, key) / _STATE) if there else {}

    def _whole(self, kind: str, key: str) -> Marker:
        marker = self._marker(kind, key)
        if marker is None:
            raise FileNotFoundError(f"{self.folder(kind, key)} is not complete")
        return marker

    def put(
        self,
        kind: str,
        key: str,
        *,
        arrays: Mapping[str, Array] | None = None,
        tensors: Mapping[str, Any] | None = None,
        meta: Mapping[str, Any],
        parts: Sequence[str] = (),
        durable: bool = True,
    ) -> None:
        """Write a whole entry at once; `durable`: as `seal` has it."""
        partial = self.partial(kind, key)
        files.clear(partial)
        files.make_folder(partial, self.root)
        self.seal(kind, key, arrays or {}, tensors, meta, parts, durable=durable)

    def partial(self, kind: str, key: str) -> Path:
        """Where an entry grows until it is complete."""
        folder = self.folder(kind, key)
        return folder.with_name(f"{folder.name}.partial")

    def seal(
        self,
        kind: str,
        key: str,
        arrays: Mapping[str, Array],
        tensors: Mapping[str, Any] | None,
        meta: Mapping[str, Any],
        parts: Sequence[str] = (),
        *,
        durable: bool = True,
    ) -> None:
        """Add what is small to a partial entry, write its marker last, and give it its name.

        durable: it is flushed to the disk: at once where it took LONG to make, or nobody knows how long; else by
        `flush`. Until then a power cut may tear it, which its marker shows.
        """
        partial, folder = self.partial(kind, key), self.folder(kind, key)
        for name, values in arrays.items():
            with files.new(partial / f"{name}.npy") as file:
                stored.write(file, values)
        if tensors is not None:
            stored.save_tensors(partial / _STATE, tensors)
        seconds = meta.get("seconds")
        at_once = durable and (seconds is None or seconds >= LONG)
        names = markers.write(partial, kind, key, meta, parts, flush=at_once)
        files.clear(folder)  # an unsound one
        partial.replace(folder)
        if durable and not at_once:
            self._unflushed += [folder / name for name in names]
        self._verified.add(folder)
        self._told.discard(folder)
        shutil.rmtree(self.root / "work" / key, ignore_errors=True)

    def flush(self) -> None:
        """Wait until all is on the disk that is worth it."""
        paths, self._unflushed = self._unflushed, []
        files.flush(paths)

    def welcome(self) -> None:
        """Tell once of what an older version left here: it is not read."""
        stamp = self.root / "schema.json"
        try:
            if files.read_sealed(stamp)["schema"] == markers.SCHEMA:
                return
        except (OSError, ValueError, KeyError):
            pass
        old = [path for path in self.root.glob("*/??/*") if path.is_dir()]
        size = sum(file.stat().st_size for path in old for file in path.rglob("*") if file.is_file())
        files.write_atomically(stamp, files.text(files.sealed({"schema": markers.SCHEMA})), within=self.root)
        if old:
            self._say(
                f"note: {self.root} holds {len(old):,} entries ({size / 2**20:,.0f} MiB) of an older version, which "
                f"are not read; to delete them: find '{self.root}' -mindepth 3 -maxdepth 3 -path '*/??/*' "
                f"! -newer '{stamp}' -exec rm -r {{}} +"
            )

    @contextlib.contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Hold the lock of a key; Busy, with its owner and age, where another process holds it."""
        path = self._lock(key)
        files.make_folder(path.parent, self.root)
        with locks.held(path):
            yield

    def owner(self, key: str) -> locks.Owner | None:
        """Who holds the lock of a key."""
        return locks.read_owner(self._lock(key))

    def forget_owner(self, key: str) -> None:
        """Whoever held the lock of a key is dead: the lock is free, and what said so goes."""
        with contextlib.suppress(Busy), self.lock(key):  # another has it by now
            pass

    def _lock(self, key: str) -> Path:
        return self.root / "locks" / f"{key}.lock"
