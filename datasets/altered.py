"""The ID test set itself, blurred or enlarged: taken as OOD, it shows which detectors detect resolution."""

import hashlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

from datasets import memory
from datasets.images import ImageSet, Pixels

# What each does, with the factors of the sizes that an image goes through, one after the other.
ALTERATIONS = {
    "blurred": ("to half its size and back, bicubic with antialiasing", (0.5, 1.0)),
    "enlarged": ("to twice its size, bicubic", (2.0,)),
}


class AlteredSet(ImageSet):
    """The images of another set, altered; the labels stay. `how`: a name in ALTERATIONS (KeyError for others)."""

    def __init__(self, images: ImageSet, how: str) -> None:
        self._images = images
        self._what, self._factors = ALTERATIONS[how]
        super().__init__(
            how,
            images.split,
            title=f"{images.title}, {how}",
            labels=images.labels,
            classes=images.classes,
            metadata=images.metadata,
            notes=(f"the ID test set itself, each image brought {self._what}", *images.notes),
        )
        self.decoders = images.decoders

    def read(self, rows: Sequence[int]) -> list[Pixels]:
        return [self._altered(image) for image in self._images.recall(rows)]

    def _altered(self, pixels: Pixels) -> Pixels:
        image = Image.fromarray(pixels)
        width, height = image.size
        for factor in self._factors:
            size = max(1, round(width * factor)), max(1, round(height * factor))
            memory.admit(7 * size[0] * size[1])  # Pillow's image and our copy
            image = image.resize(size, Image.Resampling.BICUBIC)
        return np.array(image)

    def content(self) -> list[tuple[str, int, str]]:
        return [*self._images.content(), (self.name, 0, hashlib.sha256(self._what.encode()).hexdigest())]
