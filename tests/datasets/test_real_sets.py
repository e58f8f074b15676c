"""Real images against the checksums that their files carry, where the files are at hand."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from datasets.loading import in_memory
from datasets.sources import find, present

DATA = Path(__file__).parents[3] / "shared" / "data"


@pytest.mark.parametrize("name", ["kmnist", "mnist"])
def test_pixels_and_labels_have_the_recorded_checksums(name):
    if not DATA.is_dir() or not present(name, DATA, "test"):
        pytest.skip(f"{name} is not at hand")
    found = find(name, "test", DATA)
    pixels = in_memory(found, np.arange(len(found))).numpy()
    assert (pixels == pixels[..., :1]).all()
    grey = np.ascontiguousarray(pixels[..., 0])  # the record is of one channel
    assert hashlib.sha256(grey.tobytes()).hexdigest() == found.metadata["pixels_sha256"]
    assert hashlib.sha256(found.labels.astype("<i8").tobytes()).hexdigest() == found.metadata["labels_sha256"]
    assert found.notes == ("subset: 2,000 of 10,000",)
