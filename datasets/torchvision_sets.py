"""Sets of images that torchvision has downloaded: it says which there are, and our own readers read them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datasets.catalogue import Entry, Torchvision
from datasets.classes import spelled
from datasets.images import IMAGE_BYTES, ImageSet, Pixels, decode, hashed_files
from datasets.memory import MAX_PIXELS
from datasets.walking import printable

_OLD = ".pt"  # torchvision once kept its own copy of MNIST so, and would read it first


def build(spec: Torchvision, split: str, root: Path, *, download: bool = False) -> Any:
    """The torchvision data set of a split. RuntimeError where its files are not there or have the wrong checksum."""
    import torchvision

    return getattr(torchvision.datasets, spec.cls)(str(root), **spec.arguments[split], download=download)


class TorchvisionSet(ImageSet):
    """One split of a torchvision data set below `root`; ValueError where its files are damaged.

    Every file is regular, of at most 512 MiB, and hashed before torchvision opens any. Images that lie in files are
    decoded as those of a folder; others it keeps in memory, as small arrays.
    """

    def __init__(self, entry: Entry, split: str, root: Path) -> None:
        spec = entry.torchvision
        if spec is None:
            raise ValueError(f"torchvision has no {entry.title}")
        files = sorted(_files(root), key=lambda path: path.parts)
        hashes = hashed_files(entry.name, [root / path for path in files], IMAGE_BYTES)
        self._content = [(path.as_posix(), *hashed) for path, hashed in zip(files, hashes, strict=True)]
        try:
            if old := next((path for path in files if path.suffix == _OLD), None):
                raise ValueError(f"{old} is of an old version")
            self._images = build(spec, split, root)
            self._paths = _paths(self._images)
            found = getattr(self._images, spec.labels) if spec.labels else np.full(len(self._images), -1)
            labels = np.asarray(found, dtype=np.int64)
            self._check(entry, labels, root)
        except Exception as error:  # any of its parsers may fail on a damaged file
            reason = printable(" ".join(str(error).split())[:200])
            raise ValueError(f"{root} is damaged ({reason}); delete it and download again") from None
        classes = tuple(map(str, getattr(self._images, "classes", ()))) if spec.labels else ()
        super().__init__(
            entry.name,
            split,
            title=entry.title,
            labels=labels,
            classes=spelled(classes, entry.class_names, numbered=bool(spec.labels)),
        )
        if self._paths:
            of_file = {root / path: bytes.fromhex(digest)[:16] for path, _, digest in self._content}
            self.digests = np.array([of_file[path] for path in self._paths], dtype="S16")

    def _check(self, entry: Entry, labels: np.ndarray[Any, Any], root: Path) -> None:
        """ValueError for anything but one label an image, images that are there, arrays of the official size."""
        if labels.shape != (len(self._images),):
            raise ValueError(f"labels of shape {labels.shape} for {len(self._images):,} images")
        there = {root / path for path, *_ in self._content}
        if absent := next((path for path in self._paths if path not in there), None):
            raise ValueError(f"{absent.name} is not there")
        if not self._paths:
            width, height = self._images[0][0].size
            if width * height > MAX_PIXELS or entry.size not in (None, width) or width != height:
                raise ValueError(f"images of {width:,} x {height:,} pixels")

    def read(self, rows: Sequence[int]) -> list[Pixels]:
        return list(self.each(rows))

    def each(self, rows: Sequence[int]) -> Iterator[Pixels]:
        if self._paths:
            where = f"{self.name} ({self.split})"
            paths = map(self._paths.__getitem__, rows)
            return self.decoders.each(((path, f"{where}: {printable(path.name)}") for path in paths), decode)
        return (np.array(self._images[int(row)][0].convert("RGB")) for row in rows)

    def content(self) -> list[tuple[str, int, str]]:
        return self._content


def _files(root: Path) -> list[Path]:
    """What lies below `root`, relative to it, without our marker and what a desktop adds."""
    below = [path.relative_to(root) for path in root.rglob("*") if not path.is_dir()]
    own = [path for path in below if not any(part.startswith((".", "__MACOSX")) for part in path.parts)]
    return [path for path in own if path.parent != Path() or path.suffix != ".json"]


def _paths(images: Any) -> list[Path]:
    """The file of each image, for the classes that read files; none for those that keep arrays."""
    if hasattr(images, "imgs"):  # Places365
        return [Path(path) for path, _ in images.imgs]
    if hasattr(images, "filename"):  # CelebA
        return [Path(images.root, images.base_folder, "img_align_celeba", name) for name in images.filename]
    return []
