"""Histograms of rows: numpy's, and the ends of entries that come in blocks."""

import numpy as np
import torch

from methods.vectors import statistics
from methods.vectors.histograms import histogram, spread


def test_the_ends_are_those_of_all_blocks() -> None:
    blocks = [torch.tensor([[3.0, 1]]), torch.tensor([[0.0, 2]]), torch.tensor([[5.0, 4]])]
    assert spread(iter(blocks)).tolist() == [0, 5]
    assert spread(iter(blocks[::-1])).tolist() == [0, 5]


def test_entries_are_counted_as_numpy_counts_them(monkeypatch) -> None:
    monkeypatch.setattr(statistics, "CACHE", 1 << 12)  # several rows at a time
    values = torch.randn(60, 50, generator=torch.Generator().manual_seed(0)).double()
    values[:, 0], values[:, 1] = -1.0, 2.0  # the ends: [low, ..), and the last bin closed
    values[3] = 9.0  # above all bins, as values[4] is below
    values[4] = -9.0
    found = histogram(values, torch.tensor([-1.0, 2.0]).double(), 12)
    expected = [np.histogram(row, bins=12, range=(-1.0, 2.0))[0] for row in values.numpy()]
    np.testing.assert_array_equal(found.numpy(), expected)
