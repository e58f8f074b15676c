"""Sets of images in a folder: flat, or with a sub-folder for each class."""

from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path

import numpy as np

from datasets.images import IMAGE_BYTES, EncodedSet, counted_once, hashed_files
from datasets.walking import SUFFIXES, Listing, listed, printable


class FolderSet(EncodedSet):
    """The images of a folder, in the order of their sorted names; one that stands twice counts once.

    A class is a sub-folder (the first `class_depth` levels name it), its label the rank of its name. Without
    sub-folders, or with only one, there are no labels; images beside the class folders have none. `official`: a set of
    that many files is taken as it was released, with what stands twice in it. ValueError for an empty folder, and for a
    file that cannot be read.
    """

    def __init__(
        self,
        name: str,
        split: str,
        root: Path,
        *,
        title: str,
        class_depth: int = 1,
        official: int | None = None,
        listing: Listing | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        listing = listing or listed(root)
        notes = (*notes, *listing.notes)
        if not listing.images:
            raise ValueError("; ".join([f"{root} holds no images ({', '.join(SUFFIXES)})", *notes]))
        depth = _shared_depth(listing.images)
        self._root = root.joinpath(*listing.images[0].split("/")[:depth])
        self._files = ["/".join(path.split("/")[depth:]) for path in listing.images]
        tops = {path.split("/")[0] for path in self._files if "/" in path}
        hashes = hashed_files(name, [self._root / path for path in self._files], IMAGE_BYTES)
        digests = np.array([bytes.fromhex(digest)[:16] for _, digest in hashes], dtype="S16")
        rows, told = counted_once(digests, official)
        notes = (*notes, *told)
        self._files = [self._files[row] for row in rows]
        self._hashes = [hashes[row] for row in rows]
        self.digests = digests[rows]
        of_images = [tuple(path.split("/")[:-1][:class_depth]) for path in self._files]
        classes = sorted({folders for folders in of_images if len(folders) == class_depth})
        beside = sum(len(folders) < class_depth for folders in of_images)
        fault = ""
        if len(classes) < 2 or 2 * beside > len(self._files):
            classes = []
        else:
            if empty := {folders[depth] for folders in listing.folders if len(folders) == depth + 1} - tops:
                fault = f"its class {printable(min(empty))} holds no images; fill or remove the folder"
            if beside:
                notes = (*notes, f"{_files(beside, 'lies', 'lie')} beside its class folders: without a label")
        label = {folders: number for number, folders in enumerate(classes)}
        super().__init__(
            name,
            split,
            title=title,
            labels=np.array([label.get(folders, -1) for folders in of_images], dtype=np.int64),
            classes=tuple(printable("/".join(folders)) for folders in classes),
            fault=fault,
            notes=notes,
        )

    def sources(self, rows: Sequence[int]) -> Iterator[tuple[Path, str]]:
        where = f"{self.name} ({self.split})"
        names = map(self._files.__getitem__, rows)
        return ((self._root / name, f"{where}: {printable(name)}") for name in names)

    def content(self) -> list[tuple[str, int, str]]:
        return [(path, size, digest) for path, (size, digest) in zip(self._files, self._hashes, strict=True)]


def _shared_depth(images: list[str]) -> int:
    """How many folders every image lies in: an archive's own folder, or the one folder of a flat set."""
    first, last = images[0].split("/")[:-1], images[-1].split("/")[:-1]  # they are sorted: the others lie between
    same = (one == other for one, other in zip(first, last, strict=False))
    return sum(takewhile(bool, same))


def _files(count: int, one: str, several: str) -> str:
    return f"1 file that {one}" if count == 1 else f"{count:,} files that {several}"
