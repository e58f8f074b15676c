"""The ID test set, blurred or enlarged."""

from collections.abc import Sequence

import numpy as np
import pytest

from datasets.altered import AlteredSet
from datasets.images import ImageSet, Pixels


class Two(ImageSet):
    """A checkerboard of single pixels, and one grey."""

    def read(self, rows: Sequence[int]) -> list[Pixels]:
        board = np.indices((8, 12)).sum(axis=0) % 2 * 255
        images = [np.repeat(board[:, :, None], 3, axis=2).astype(np.uint8), np.full((8, 12, 3), 90, np.uint8)]
        return [images[row] for row in rows]

    def content(self) -> list[tuple[str, int, str]]:
        return [("two", 2, "00")]


TWO = Two("two", "test", title="Two", labels=np.array([4, 0]))


def test_blurred_has_the_size_but_not_the_detail() -> None:
    board, grey = AlteredSet(TWO, "blurred").read([0, 1])
    assert board.shape == grey.shape == (8, 12, 3)
    assert board[2:-2, 2:-2].std() < 0.05 * TWO.read([0])[0].std()  # the finest detail is gone
    assert abs(int(board.mean()) - 127) <= 2  # and the brightness is not
    assert (grey == 90).all()


def test_enlarged_is_twice_the_size_and_the_same_picture() -> None:
    board, grey = AlteredSet(TWO, "enlarged").read([0, 1])
    assert board.shape == grey.shape == (16, 24, 3)
    assert (grey == 90).all()
    halved = board.reshape(8, 2, 12, 2, 3).mean(axis=(1, 3))
    assert np.corrcoef(halved[1:-1, 1:-1].ravel(), TWO.read([0])[0][1:-1, 1:-1].ravel())[0, 1] > 0.99


def test_it_is_another_set_with_the_labels_of_the_first() -> None:
    blurred, enlarged = AlteredSet(TWO, "blurred"), AlteredSet(TWO, "enlarged")
    assert len({TWO.fingerprint, blurred.fingerprint, enlarged.fingerprint}) == 3
    assert (blurred.labels.tolist(), blurred.name, blurred.title) == ([4, 0], "blurred", "Two, blurred")
    assert any("itself" in note for note in blurred.notes)
    with pytest.raises(KeyError):
        AlteredSet(TWO, "squeezed")
