"""Sets of the catalogue that are not here, as far as their release is known: for what a run of them would take."""

from collections.abc import Sequence

import numpy as np

from datasets.catalogue import Entry
from datasets.images import Digests, ImageSet, Pixels

UNKNOWN = 256  # pixels, of images of many sizes


class CountedSet(ImageSet):
    """As many images as the release has, in classes of one size; each is noise, of the set's size where it has one.

    Its fingerprint is that of no set that is here.
    """

    def __init__(self, entry: Entry, split: str, listed: int | None = None) -> None:
        """`listed`: how many of them a protocol's list names, where it names some."""
        n, classes = listed or entry.splits.get(split), entry.classes
        if n is None:
            raise ValueError(f"how many images {entry.name} ({split}) has is not known")
        labels = np.full(n, -1) if classes is None else np.arange(n) % classes
        super().__init__(entry.name, split, title=entry.title, labels=labels, classes=entry.class_names)
        self._size = entry.size or UNKNOWN

    @property
    def digests(self) -> Digests:
        """None is known."""
        return np.full(len(self), b"", dtype="S16")

    def read(self, rows: Sequence[int]) -> list[Pixels]:
        shape = (self._size, self._size, 3)
        return [np.random.default_rng(row).integers(256, size=shape, dtype=np.uint8) for row in rows]

    def content(self) -> list[tuple[str, int, str]]:
        return [(f"{self.name} ({self.split}), counted", len(self), "")]
