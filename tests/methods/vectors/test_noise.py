"""Noise that belongs to an image: its distribution, and what it may and may not depend on."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from methods.vectors.noise import _GOLDEN, _mix, _signed, derive, hashed, normal, uniform

N = 20_000
INDEX = torch.arange(N)
# Five standard deviations of a correlation of N independent pairs.
LARGEST_CORRELATION = 5 / math.sqrt(N)


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    return abs(float(torch.corrcoef(torch.stack((a, b)))[0, 1]))


def test_splitmix64_reference_sequence() -> None:
    # The first outputs for the seed 1234567, as Vigna's C code prints them (Rosetta Code, "SplitMix64").
    expected = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    states = [1234567 + (i + 1) * _GOLDEN for i in range(5)]
    assert [_mix(state) for state in states] == expected
    assert _mix(torch.tensor([_signed(state) for state in states])).tolist() == [_signed(e) for e in expected]


def test_normal_is_standard_normal() -> None:
    z = normal(torch.arange(4000), 25, seed=11).flatten().numpy()
    assert stats.kstest(z, "norm").pvalue > 0.001
    assert abs(stats.kurtosis(z)) < 5 * math.sqrt(24 / z.size)


@pytest.mark.parametrize("column", [0, 1, 6])
def test_every_column_is_standard_normal(column: int) -> None:  # both halves of Box-Muller, and a last odd one
    assert stats.kstest(normal(INDEX, 7, seed=5)[:, column].numpy(), "norm").pvalue > 0.001


def test_uniform_is_uniform_inside_the_open_interval() -> None:
    u = uniform(INDEX, seed=2)
    assert u.dtype == torch.float64
    assert bool(((u > 0) & (u < 1)).all())
    assert stats.kstest(u.numpy(), "uniform").pvalue > 0.001


def test_shape_and_type() -> None:
    z = normal(torch.tensor([5, 3]), 3, seed=0)
    assert (z.shape, z.dtype) == ((2, 3), torch.float32)


def test_columns_are_independent() -> None:
    correlations = torch.corrcoef(normal(INDEX, 6, seed=1).T).fill_diagonal_(0).abs()
    assert float(correlations.max()) < LARGEST_CORRELATION
    squares = torch.corrcoef(normal(INDEX, 6, seed=1).square().T).fill_diagonal_(0).abs()
    assert float(squares.max()) < LARGEST_CORRELATION


def test_neighbouring_images_seeds_and_streams_are_independent() -> None:
    z = normal(INDEX, 1, seed=0)[:, 0]
    assert correlation(z[1:], z[:-1]) < LARGEST_CORRELATION
    for other in (
        normal(INDEX, 1, seed=1),
        normal(INDEX, 1, seed=0, stream=1),
        normal(INDEX, 1, seed=1, stream=1),
    ):
        assert correlation(z, other[:, 0]) < LARGEST_CORRELATION
    seeds_swapped = normal(INDEX, 1, seed=1, stream=0), normal(INDEX, 1, seed=0, stream=1)
    assert correlation(seeds_swapped[0][:, 0], seeds_swapped[1][:, 0]) < LARGEST_CORRELATION


def test_uniform_and_normal_of_one_stream_are_independent() -> None:
    z, u = normal(INDEX, 2, seed=3), uniform(INDEX, seed=3)
    assert correlation(z[:, 0].double(), u) < LARGEST_CORRELATION
    assert correlation(z.double().square().sum(1), u) < LARGEST_CORRELATION


@settings(max_examples=30, deadline=None)
@given(
    index=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20),
    width=st.integers(1, 9),
    seed=st.integers(-5, 2**70),
    data=st.data(),
)
def test_a_value_depends_on_its_place_alone(index: list[int], width: int, seed: int, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(index))))
    whole = normal(torch.tensor(index), width, seed=seed, stream=4)
    shuffled = normal(torch.tensor(index)[list(order)], width, seed=seed, stream=4)
    assert torch.equal(shuffled, whole[list(order)])
    wider = normal(torch.tensor(index), width + 3, seed=seed, stream=4)
    assert torch.equal(wider[:, :width], whole)
    alone = torch.cat([normal(torch.tensor([i]), width, seed=seed, stream=4) for i in index])
    assert torch.equal(alone, whole)
    u = uniform(torch.tensor(index), seed=seed)
    assert torch.equal(torch.cat([uniform(torch.tensor([i]), seed=seed) for i in index]), u)


def test_blocks_of_a_large_set_agree() -> None:
    whole = normal(INDEX, 5, seed=9)
    assert torch.equal(torch.cat([normal(block, 5, seed=9) for block in INDEX.split(777)]), whole)


def test_torch_s_own_generator_is_neither_read_nor_moved() -> None:
    before = torch.random.get_rng_state()
    first = normal(INDEX[:9], 4, seed=0)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(123)
    assert torch.equal(normal(INDEX[:9], 4, seed=0), first)


def test_derived_seeds_differ_and_fit_a_generator() -> None:
    numbers = [(a, b) for a in range(40) for b in range(40)]
    seeds = {derive(*pair) for pair in numbers} | {derive(a) for a in range(40)}
    assert len(seeds) == 40 * 40 + 40
    assert all(0 <= seed < 2**63 for seed in seeds)
    torch.Generator().manual_seed(max(seeds))


def test_index_must_be_integers() -> None:
    with pytest.raises(ValueError, match=r"integers \(N,\), not torch.float32"):
        normal(torch.zeros(3), 2, seed=0)


def test_a_row_is_hashed_by_its_values_in_their_order_alone() -> None:
    rows = torch.randint(256, (2000, 5, 7, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    found = hashed(rows)
    assert found.dtype == torch.int64
    assert len(set(found.tolist())) == 2000
    order = torch.randperm(2000, generator=torch.Generator().manual_seed(1))
    assert torch.equal(hashed(rows[order]), found[order])
    assert torch.equal(hashed(rows[3:4]), found[3:4])
    other = rows[:1].clone()
    other[0, 4, 6, 2] ^= 1  # one bit of the last value
    swapped = rows[:1].flatten(1)[:, [1, 0, *range(2, 105)]]
    assert len({int(hashed(x)) for x in (rows[:1], other, swapped)}) == 3
