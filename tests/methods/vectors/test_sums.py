"""A fit that is sums: the same to the bit in one piece and in shards, and what the formula says."""

import pytest
import torch

import methods
from methods.base import Features, Head
from methods.vectors.statistics import covariance, means
from methods.vectors.sums import BLOCK, Summed, added, mean_and_covariance, moments

N = 2 * BLOCK + 300
SUMMED = [name for name in methods.names() if issubclass(methods.get(name), Summed)]


@pytest.fixture(scope="module")
def train():
    torch.manual_seed(0)
    embedding = torch.randn(N, 12) * torch.linspace(0.1, 3, 12) + 5
    head = Head(torch.randn(7, 12), torch.randn(7))
    pixels = torch.randint(256, (N, 6, 6, 3), dtype=torch.uint8)
    return Features(embedding=embedding, logits=head(embedding), pixels=pixels, head=head)


def test_some_methods_are_sums():
    assert {"nci", "pnml", "lowlevel"} <= set(SUMMED)


@pytest.mark.parametrize("name", SUMMED)
def test_a_fit_over_shards_is_the_fit_over_all(train, name, monkeypatch):
    monkeypatch.setattr("methods.vectors.sums.SHARD", BLOCK)
    whole = methods.create(name).fit(train)
    apart = [methods.create(name).over(shard, "cpu") for shard in train.blocks(BLOCK)]  # each by a process of its own
    assert all(values.dtype == torch.float64 for values in apart[0].values())
    sharded = methods.create(name).fit_sums(added(apart))
    for what, values in whole.state().items():
        assert torch.equal(values, sharded.state()[what])
    assert torch.equal(whole.score(train[:50]), sharded.score(train[:50]))


def test_moments_are_those_of_two_passes(train):
    z = train.embedding
    mean, spread = mean_and_covariance(added(moments(part) for part in z.split(BLOCK)))
    torch.testing.assert_close(mean[None], means(z, device="cpu"), rtol=1e-13, atol=0)
    torch.testing.assert_close(spread, covariance(z, mean[None], device="cpu"), rtol=1e-11, atol=1e-13)
