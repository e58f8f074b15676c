"""The images of a set that have labels: what an ID set is, where its files give only some."""

import numpy as np

from datasets.images import ImageSet
from datasets.part import Part


def labelled(images: ImageSet) -> ImageSet:
    """The set itself where all of its images have a label, or none has; else those that have one, and it is told."""
    rows = np.flatnonzero(images.labels >= 0)
    if len(rows) in (0, len(images)):
        return images
    without = len(images) - len(rows)
    return Part(images, rows, f"{without:,} of its {len(images):,} images without a label: left out")
