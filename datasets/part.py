"""Some images of a set, as a set."""

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from datasets.images import ImageSet, Pixels


class Part(ImageSet):
    """The images `rows` of a set, and what is told of them behind what is told of the whole.

    split: the name of a part that was drawn, whose rows no file says.
    """

    def __init__(self, images: ImageSet, rows: NDArray[np.int64], note: str, *, split: str | None = None) -> None:
        self._images, self._rows = images, rows
        digest = hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest()
        self._drawn = [] if split is None else [(split, len(rows), digest)]
        super().__init__(
            images.name,
            split or images.split,
            title=images.title,
            labels=images.labels[rows],
            classes=images.classes,
            metadata=images.metadata,
            notes=(*images.notes, note),
        )
        self.named, self.decoders = images.named, images.decoders
        self.digests = images.digests[rows]
        self.features = images.features and images.features.taken(rows)

    def read(self, rows: Sequence[int]) -> list[Pixels]:
        return list(self.each(rows))

    def each(self, rows: Sequence[int]) -> Iterator[Pixels]:
        return self._images.each(self._rows[np.asarray(rows, dtype=np.int64)].tolist())

    def content(self) -> list[tuple[str, int, str]]:
        return [*self._images.content(), *self._drawn]
