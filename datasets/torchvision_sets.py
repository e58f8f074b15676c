"""Sets of images that torchvision has downloaded, read through its classes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datasets.catalogue import Entry, Torchvision
from datasets.classes import spelled
from datasets.images import ImageSet, Pixels, file_sha256


def build(spec: Torchvision, split: str, root: Path, *, download: bool = False) -> Any:
    """The torchvision data set of a split. RuntimeError where its files are not there or have the wrong checksum."""
    import torchvision

    return getattr(torchvision.datasets, spec.cls)(str(root), **spec.arguments[split], download=download)


class TorchvisionSet(ImageSet):
    """One split of a torchvision data set below `root`; ValueError where its files are damaged."""

    def __init__(self, entry: Entry, split: str, root: Path) -> None:
        spec = entry.torchvision
        if spec is None:
            raise ValueError(f"torchvision has no {entry.title}")
        self._root = root
        try:
            self._images = build(spec, split, root)
        except Exception as error:  # any of its parsers may fail on a damaged file
            raise ValueError(
                f"{root} is damaged ({' '.join(str(error).split())}); delete it and download again"
            ) from None
        labels = getattr(self._images, spec.labels) if spec.labels else np.full(len(self._images), -1)
        classes = tuple(map(str, getattr(self._images, "classes", ()))) if spec.labels else ()
        super().__init__(
            entry.name,
            split,
            title=entry.title,
            labels=np.asarray(labels, dtype=np.int64),
            classes=spelled(classes, entry.class_names, numbered=bool(spec.labels)),
        )

    def read(self, rows: Sequence[int]) -> list[Pixels]:
        return [np.array(self._images[int(row)][0].convert("RGB")) for row in rows]

    def content(self) -> list[tuple[str, int, str]]:
        below = (path.relative_to(self._root) for path in self._root.rglob("*") if path.is_file())
        paths = sorted(
            (path for path in below if not any(part.startswith((".", "__MACOSX")) for part in path.parts)),
            key=lambda path: path.parts,
        )
        files = [path for path in paths if path.parent != Path() or path.suffix != ".json"]  # not our marker
        return [(path.as_posix(), *file_sha256(self._root / path)) for path in files]
