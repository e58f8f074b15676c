"""The exact search: against a sort of all distances in float64, whatever finds the candidates."""

import sys

import numpy as np
import pytest
import torch
from torch import Tensor

from methods.vectors import neighbours as module
from methods.vectors.neighbours import neighbours

WIDTH = 24


def draw(rows: int, *, seed: int = 0, width: int = WIDTH) -> Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


def brute(bank: Tensor, x: Tensor, k: int) -> tuple[np.ndarray, np.ndarray]:
    """By numpy: all distances in float64, sorted by (distance, index)."""
    differences = x.double().numpy()[:, None] - bank.double().numpy()[None]
    distances = np.sqrt((differences**2).sum(axis=2))
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, order, axis=1), order


@pytest.fixture(params=["faiss", "matrix product", "parts"])
def candidates(request, monkeypatch):
    """Who finds the candidates. "parts": blocks so small that bank and images come in many."""
    if request.param != "faiss":
        monkeypatch.setitem(sys.modules, "faiss", None)
    if request.param == "parts":  # as where a GPU has no room for the bank
        monkeypatch.setattr(module, "BLOCK", 4096)
        monkeypatch.setattr(module, "_fits", lambda bank, device: False)


@pytest.mark.usefixtures("candidates")
@pytest.mark.parametrize("k", [1, 7, 50, 292, 293, 299, 300])
def test_distances_and_index_are_those_of_a_whole_sort(k):
    bank, x = draw(300), draw(40, seed=1)
    distances, index = neighbours(bank).search(x, k)
    expected, order = brute(bank, x, k)
    assert (distances.dtype, index.dtype) == (torch.float64, torch.int64)
    np.testing.assert_allclose(distances.numpy(), expected, rtol=1e-12)
    np.testing.assert_array_equal(index.numpy(), order)
    np.testing.assert_array_equal(neighbours(bank).kth(x, k).numpy(), distances[:, -1].numpy())


@pytest.mark.usefixtures("candidates")
@pytest.mark.parametrize("copies", [5, 40, 200])
def test_of_equal_distances_the_lower_index_comes_first(copies):
    # Whole numbers: every distance of one kind is exactly equal, and far more of them than the margin.
    bank = torch.cat([torch.ones(copies, WIDTH), torch.zeros(copies, WIDTH), 2 * torch.ones(copies, WIDTH)])
    bank = bank[torch.randperm(len(bank), generator=torch.Generator().manual_seed(0))]
    x = torch.stack([torch.zeros(WIDTH), torch.ones(WIDTH), torch.full((WIDTH,), 9.0)])
    for k in (1, copies, copies + 3, 3 * copies):
        distances, index = neighbours(bank).search(x, k)
        expected, order = brute(bank, x, k)
        np.testing.assert_array_equal(index.numpy(), order)
        np.testing.assert_allclose(distances.numpy(), expected, rtol=1e-15)
        np.testing.assert_allclose(neighbours(bank).kth(x, k).numpy(), expected[:, -1], rtol=1e-15)


@pytest.mark.usefixtures("candidates")
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_rows_that_are_nearer_to_each_other_than_the_fast_form_resolves(offset):
    # 200 rows within 1e-4 of each other (at an offset of 1e4 float32 has steps of 1e-3): |a|^2 + |b|^2 - 2ab is off
    # by more than their squared distances. Among them and far from them there is an order, and it is found.
    close = 1 + 1e-4 * draw(200) if not offset else offset + 0.01 * draw(200)
    bank = torch.cat([close, offset + draw(100, seed=2)])
    x = close[:20] + (1e-5 if not offset else 0.002) * draw(20, seed=3)
    for k in (1, 10, 150):
        expected, order = brute(bank, x, k)
        distances, index = neighbours(bank).search(x, k)
        np.testing.assert_array_equal(index.numpy(), order)
        np.testing.assert_allclose(distances.numpy(), expected, rtol=1e-9)
        np.testing.assert_allclose(neighbours(bank).kth(x, k).numpy(), expected[:, -1], rtol=1e-9)


def test_far_from_the_origin_the_margin_is_enough(monkeypatch):
    """About their mean the rows are searched as if they lay at the origin: no image needs a second look."""
    bank, x = draw(2000, width=64), draw(30, seed=1, width=64)
    looks = []
    search = module.Neighbours._search
    monkeypatch.setattr(module.Neighbours, "_search", lambda *given: looks.append(given[4]) or search(*given))
    for offset in (0, 1000):
        neighbours(bank + offset).search(x + offset, 10)
    assert looks == [module.EXTRA] * 2


@pytest.mark.usefixtures("candidates")
def test_bad_rows_touch_no_other_and_there_may_be_none():
    bank, x = draw(300), draw(5, seed=1)
    x[1, 3], x[3, 0] = torch.nan, torch.inf
    distances, _ = neighbours(bank).search(x, 4)
    assert distances[1].isnan().all()
    assert not distances[3].isfinite().any()
    expected, _ = brute(bank, x[::2], 4)
    np.testing.assert_allclose(distances[::2].numpy(), expected, rtol=1e-12)
    kth = neighbours(bank).kth(x, 4)
    assert kth[1::2].isfinite().tolist() == [False, False]
    np.testing.assert_allclose(kth[::2].numpy(), expected[:, -1], rtol=1e-12)
    assert [tuple(part.shape) for part in neighbours(bank).search(x[:0], 4)] == [(0, 4), (0, 4)]
    assert neighbours(bank).kth(x[:0], 4).shape == (0,)
    for k in (0, 301):
        with pytest.raises(ValueError, match=f"k is {k}; there are 300 rows"):
            neighbours(bank).search(x, k)
        with pytest.raises(ValueError, match=f"k is {k}; there are 300 rows"):
            neighbours(bank).kth(x, k)


@pytest.mark.parametrize(
    ("rows", "width", "images", "by_faiss"),
    [
        (3000, module.WIDE, module.BLAS_QUERIES, False),
        (3000, module.WIDE, 3, True),
        (3000, module.WIDE - 1, 100, True),
        (1000, module.WIDE - 1, 100, False),
    ],
)
def test_faiss_finds_the_candidates_of_few_images_and_of_many_narrow_rows(monkeypatch, rows, width, images, by_faiss):
    import faiss

    bank, x, asked = draw(rows, width=width), draw(images, seed=1, width=width), []
    knn = faiss.knn
    monkeypatch.setattr(faiss, "knn", lambda *given: asked.append(1) or knn(*given))
    distances, index = neighbours(bank).search(x, 10)
    expected, order = brute(bank, x, 10)
    np.testing.assert_allclose(distances.numpy(), expected, rtol=1e-12)
    np.testing.assert_array_equal(index.numpy(), order)
    assert bool(asked) == by_faiss


@pytest.mark.parametrize("columns", [58, 300, 937, 5003])
@pytest.mark.parametrize("count", [1, 58])
def test_the_least_of_groups_are_the_least_of_all(columns, count):
    values = draw(7, width=columns).round(decimals=1)  # with ties
    values[2, 5:9], values[3] = torch.inf, torch.nan
    least, index = module._least(values, count)
    expected = np.sort(values.numpy(), axis=1)[:, :count]
    np.testing.assert_array_equal(least.numpy(), expected)
    np.testing.assert_array_equal(values.gather(1, index).numpy(), expected)
    assert all(len(set(row)) == count for row in index.tolist())


def test_the_bank_stays_as_it_is_and_is_not_copied():
    bank = draw(300)
    before = bank.clone()
    found = neighbours(bank)
    found.search(bank, 3)
    assert torch.equal(bank, before)
    assert found.rows.data_ptr() == bank.data_ptr()


@pytest.mark.parametrize("free", [8 * 300 * WIDTH, 8 * 300 * WIDTH - 1])
def test_a_bank_goes_to_a_gpu_that_has_room_for_two_of_it(monkeypatch, free):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 80 << 30))
    assert module._fits(draw(300), torch.device("cuda:1")) == (free == 8 * 300 * WIDTH)
    assert module._fits(draw(300), torch.device("cpu"))


def test_a_bank_that_stays_elsewhere_goes_by_once_for_as_many_images_as_there_is_room_for(monkeypatch):
    bank, x = draw(300), draw(40, seed=1)
    expected = neighbours(bank).search(x, 5)
    monkeypatch.setattr(module, "_fits", lambda bank, device: False)
    monkeypatch.setattr(module, "_faiss", lambda width: None)
    monkeypatch.setattr(module, "BLOCK", 4 * WIDTH * 50)  # parts of 50 rows; the distances of 24 images to one
    parts = []
    least = module._least
    monkeypatch.setattr(module, "_least", lambda values, count: parts.append(values.shape) or least(values, count))
    found = neighbours(bank).search(x, 5)
    assert all(torch.equal(one, other) for one, other in zip(expected, found, strict=True))
    assert {shape[1] for shape in parts} == {50}
    assert len(parts) == 6 * 2
