"""Sets of images that a list names: lines of "path label", as OpenOOD has them."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from datasets.catalogue import Entry
from datasets.files import read_regular
from datasets.images import IMAGE_BYTES, EncodedSet, Labels, hashed_files
from datasets.walking import printable

LIST_BYTES = 1 << 28  # twice what the names of ImageNet's training images take


@dataclass(frozen=True)
class ImageList:
    """The images of a set as a list names them: paths below a folder, each once, and a label for each (-1 = none)."""

    names: tuple[str, ...]
    labels: Labels
    repeated: int = 0
    source: str = "its list"

    @property
    def sha256(self) -> str:
        """Of the sorted `folder/file` names, by which a list is known."""
        names = sorted("/".join(name.split("/")[-2:]) for name in self.names)
        return hashlib.sha256("\n".join(names).encode()).hexdigest()

    @classmethod
    def together(cls, lists: Sequence["ImageList"]) -> "ImageList":
        """The images of lists that share none, in order."""
        labels = {name: label for one in lists for name, label in zip(one.names, one.labels.tolist(), strict=True)}
        return cls.of(labels, sum(one.repeated for one in lists), " and ".join(one.source for one in lists))

    @classmethod
    def of(cls, labels: Mapping[str, int], repeated: int, source: str) -> "ImageList":
        names = sorted(labels, key=lambda name: name.split("/"))
        return cls(tuple(names), np.array([labels[name] for name in names], dtype=np.int64), repeated, source)


def read_list(path: Path) -> ImageList:
    """A list, its names sorted by their parts.

    ValueError, in one line, for what is no list, names a file outside of the folder of images, or gives one image two
    labels; OSError where it cannot be read.
    """
    try:
        lines = read_regular(path, LIST_BYTES).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no list of images: it is no UTF-8 text") from None
    labels: dict[str, int] = {}
    count = 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, _, label = line.strip().rpartition(" ")
        name, where = name.strip(), f"{path}, line {number}"
        try:
            value = int(label)
        except ValueError:
            value = -2
        if not name or not -1 <= value < 1 << 31:
            raise ValueError(f"{where}: {line!r:.80} is no path and label of an image")
        parts = PurePosixPath(name).parts
        if name.startswith("/") or ".." in parts or "\0" in name or not parts:
            raise ValueError(f"{where} names a file outside of the folder of images ({name!r:.80}): refused")
        if labels.setdefault(name := "/".join(parts), value) != value:
            raise ValueError(f"{where} gives {name!r:.80} another label than a line before")
        count += 1
    if not labels:
        raise ValueError(f"{path} names no images")
    return ImageList.of(labels, count - len(labels), str(path))


class ListedSet(EncodedSet):
    """The images below `root` that a list names, in its order; ValueError where one is not there.

    Labels are the list's own numbers, places in `classes`.
    """

    def __init__(
        self,
        entry: Entry,
        split: str,
        root: Path,
        listed: ImageList,
        classes: tuple[str, ...],
        notes: tuple[str, ...] = (),
    ) -> None:
        self._root, self._files = root, listed.names
        absent = [name for name in listed.names if not (root / name).is_file()]
        if absent:
            raise ValueError(
                f"{len(absent):,} of the {len(listed.names):,} images that {listed.source} names are not in {root}, "
                f"the first is {printable(absent[0])}: unpack the set whole"
            )
        hashes = hashed_files(entry.name, [root / name for name in listed.names], IMAGE_BYTES)
        self._content = [(name, *hashed) for name, hashed in zip(listed.names, hashes, strict=True)]
        twice = f"{listed.repeated:,} lines of its list name an image again: each counts once"
        super().__init__(
            entry.name,
            split,
            title=entry.title,
            labels=listed.labels,
            classes=classes if (listed.labels >= 0).any() else (),
            notes=(*notes, *([twice] if listed.repeated else [])),
        )
        self.digests = np.array([bytes.fromhex(digest)[:16] for _, _, digest in self._content], dtype="S16")

    def sources(self, rows: Sequence[int]) -> Iterator[tuple[Path, str]]:
        where = f"{self.name} ({self.split})"
        names = map(self._files.__getitem__, rows)
        return ((self._root / name, f"{where}: {printable(name)}") for name in names)

    def content(self) -> list[tuple[str, int, str]]:
        return self._content
