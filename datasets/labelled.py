"""The images of a set that have labels: what an ID set is, where its files give only some."""

from collections.abc import Sequence

import numpy as np

from datasets.images import ImageSet, Pixels


def labelled(images: ImageSet) -> ImageSet:
    """The set itself where all of its images have a label, or none has; else those that have one, and it is told."""
    rows = np.flatnonzero(images.labels >= 0)
    return images if len(rows) in (0, len(images)) else _Labelled(images, rows)


class _Labelled(ImageSet):
    def __init__(self, images: ImageSet, rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> None:
        self._images, self._rows = images, rows
        without = len(images) - len(rows)
        super().__init__(
            images.name,
            images.split,
            title=images.title,
            labels=images.labels[rows],
            classes=images.classes,
            metadata=images.metadata,
            notes=(*images.notes, f"{without:,} of its {len(images):,} images without a label: left out"),
        )
        self.named, self.decoders = images.named, images.decoders
        self.digests = images.digests[rows]
        self.features = images.features and images.features.taken(rows)

    def read(self, rows: Sequence[int]) -> list[Pixels]:
        return self._images.read(self._rows[np.asarray(rows, dtype=np.int64)].tolist())

    def content(self) -> list[tuple[str, int, str]]:
        return self._images.content()
