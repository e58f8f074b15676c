"""Real images against the checksums that their files carry (`pytest -m real`, ../shared/data beside the checkout)."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from datasets.loading import in_memory
from datasets.sources import find

DATA = Path(__file__).parents[3] / "shared" / "data"


@pytest.mark.real
@pytest.mark.parametrize("name", ["kmnist", "mnist"])
def test_pixels_and_labels_have_the_recorded_checksums(name):
    found = find(name, "test", DATA)
    pixels = in_memory(found, np.arange(len(found))).numpy()
    assert (pixels == pixels[..., :1]).all()
    grey = np.ascontiguousarray(pixels[..., 0])  # the record is of one channel
    assert hashlib.sha256(grey.tobytes()).hexdigest() == found.metadata["pixels_sha256"]
    assert hashlib.sha256(found.labels.astype("<i8").tobytes()).hexdigest() == found.metadata["labels_sha256"]
    assert found.notes == ("subset: 2,000 of 10,000",)
