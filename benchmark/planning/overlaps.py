"""Images that stand in two sets, by the content of their files: they stay and count in both, and it is told."""

import numpy as np

from benchmark.jobs.inputs import Selection
from datasets.images import Digests

ALSO_IN = "are also in the ID"  # what the notes say, and findings look for


class Overlaps:
    """The ID set's images, by their digests."""

    def __init__(self, train: Selection, test: Selection) -> None:
        self._known = {
            "test": np.unique(test.images.digests),
            "training": np.unique(train.images.digests),
        }

    def notes(self, images: Selection, *splits: str) -> tuple[str, ...]:
        """`20 of its 40 images are also in the ID test set`, for each of the ID set's splits that holds any."""
        digests = images.images.digests[images.rows]
        counts = {split: _count(digests, self._known[split]) for split in splits}
        of = f"of its {len(digests):,} images {ALSO_IN}"
        return tuple(f"{count:,} {of} {split} set" for split, count in counts.items() if count)


def _count(digests: Digests, known: Digests) -> int:
    """How many of the digests are among the known ones, which are sorted; b"" is none."""
    if not len(known):
        return 0
    places = np.searchsorted(known, digests)
    found = known[np.minimum(places, len(known) - 1)] == digests
    return int((found & (digests != b"")).sum())
