"""Sets that need no file of anyone: scikit-learn's digits, and four OOD sets brought through the digits' own pipeline.

Their ink counts are shipped, as `datasets/drawing.py` made them: the same images with every version of the libraries
that drew them, and none of these is imported to read them. All are enlarged to 32 x 32, and grey.
"""

import hashlib
from collections.abc import Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.catalogue import Entry
from datasets.images import Digests, ImageSet, Labels, Pixels, content_digests

Counts = NDArray[np.integer[Any]]  # (N, 8, 8), 0 to 16

COUNTS = Path(__file__).with_name("embedded.npz")
CLASSES = {"digits": tuple("0123456789"), "letters": tuple("ABCDEFGHIJ")}


class ArraySet(ImageSet):
    """Images that lie in memory: uint8 (N, H, W, 3)."""

    def __init__(
        self, name: str, title: str, split: str, images: Pixels, labels: Labels, classes: tuple[str, ...]
    ) -> None:
        super().__init__(name, split, title=title, labels=labels, classes=classes)
        self._images = images

    def read(self, rows: Sequence[int]) -> list[Pixels]:
        return list(self._images[np.asarray(rows, dtype=np.int64)])

    @cached_property
    def digests(self) -> Digests:
        data = np.ascontiguousarray(self._images)
        return content_digests(image.data.cast("B") for image in data)

    def content(self) -> list[tuple[str, int, str]]:
        data = np.ascontiguousarray(self._images)
        return [("pixels", data.nbytes, hashlib.sha256(data.tobytes()).hexdigest())]


def load(entry: Entry, split: str) -> ImageSet:
    """An embedded set; the same images everywhere, and the same object: what is known of it is found out once."""
    return _loaded(entry.name, entry.title, split)


@cache
def _loaded(name: str, title: str, split: str) -> ImageSet:
    counts, labels = _shipped()[f"{name}.{split}"], _shipped().get(f"{name}.{split}.labels")
    labels = np.full(len(counts), -1) if labels is None else labels
    return ArraySet(name, title, split, enlarge(counts), labels.astype(np.int64), CLASSES.get(name, ()))


def enlarge(counts: Counts) -> Pixels:
    """Ink counts as grey images: (N, 8, 8) of 0 to 16 -> uint8 (N, 32, 32, 3), each value a block of 4 x 4."""
    grey = np.rint(counts * (255 / 16)).astype(np.uint8)
    return np.repeat(grey.repeat(4, axis=1).repeat(4, axis=2)[..., None], 3, axis=3)


@cache
def _shipped() -> dict[str, NDArray[Any]]:
    """Ink counts (N, 8, 8) of 0 to 16 by set and split, and labels (N,) of those that have classes."""
    with np.load(COUNTS) as file:
        return {name: file[name] for name in file.files}
