"""Images drawn by class: how many of each, always the same, and never in the order of a list."""

import torch

from methods.vectors.drawing import by_class, permutation

CLASSES = torch.tensor([0] * 50 + [1] * 20 + [2] * 3)


def counts(rows: torch.Tensor) -> list[int]:
    return CLASSES[rows].bincount(minlength=3).tolist()


def test_as_many_of_each_class_as_wanted_or_there() -> None:
    rows = by_class(CLASSES, torch.tensor([5, 4, 9]), seed=0)
    assert counts(rows) == [5, 4, 3]
    assert rows.tolist() == sorted(set(rows.tolist()))


def test_more_of_each_until_there_are_enough() -> None:
    assert counts(by_class(CLASSES, torch.tensor([2, 2, 2]), least=12, seed=0)) == [5, 4, 3]
    assert counts(by_class(CLASSES, torch.tensor([2, 2, 2]), least=1000, seed=0)) == [50, 20, 3]
    assert counts(by_class(CLASSES, torch.tensor([2, 2, 2]), least=6, seed=0)) == [2, 2, 2]


def test_the_seed_decides() -> None:
    wanted = torch.tensor([5, 4, 1])
    assert torch.equal(by_class(CLASSES, wanted, seed=1), by_class(CLASSES, wanted, seed=1))
    assert not torch.equal(by_class(CLASSES, wanted, seed=1), by_class(CLASSES, wanted, seed=2))
    assert by_class(CLASSES, wanted, seed=1).tolist() != [0, 1, 2, 3, 4, 50, 51, 52, 53, 70]
    drawn = torch.stack([by_class(CLASSES, wanted, seed=seed) for seed in range(400)]).flatten()
    first = drawn.bincount(minlength=73)[:50]
    assert 10 < int(first.min()) <= int(first.max()) < 80  # 40 each: a deviation is 6


def test_a_permutation_of_everything() -> None:
    assert sorted(permutation(100, 3).tolist()) == list(range(100))
    assert not torch.equal(permutation(100, 3), permutation(100, 4))
