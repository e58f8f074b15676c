"""What is timed on a GPU, with the device's part replaced: this one says that it is a GPU, and computes on the CPU."""

import weakref
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmark.jobs import timing
from benchmark.jobs.scoring import Score
from benchmark.records import throughput
from benchmark.records.throughput import Speed
from datasets.loading import Batch
from methods.base import Features


class GPU(str):
    __slots__ = ()

    def startswith(self, prefix, *_):
        return prefix == "cuda"


@pytest.fixture
def world(monkeypatch):
    """A clock that work moves, a set of 10 images, and what was decoded and encoded."""
    world = SimpleNamespace(now=0.0, decoded=Counter(), encoded=[], batch_seconds=1 / 64)  # exact in binary

    def batches(images, rows, size, shrink):
        for start in range(0, len(rows), size):
            world.now += world.batch_seconds
            world.decoded.update(rows[start : start + size].tolist())
            yield Batch(rows[start : start + size], torch.zeros(len(rows[start : start + size]), 2, 2, 3))

    def encode(use, images):
        world.now += 1 / 256
        world.encoded.append(len(images))
        return {"embedding": images}

    monkeypatch.setattr(timing, "batches", batches)
    monkeypatch.setattr(timing, "encode_key", lambda use, images: str(id(world)))
    monkeypatch.setattr(throughput, "clock", lambda: world.now)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    world.images = SimpleNamespace(images=None, rows=np.arange(10))
    world.use = SimpleNamespace(chain=(None,), shrink=None)
    world.batch_size = 16
    world.worker = SimpleNamespace(device=GPU("cpu"), batch_size_of=lambda use: world.batch_size, encode=encode)
    return world


def test_on_a_gpu_the_pipeline_goes_round_the_set_for_a_second(world):
    loaded, encoded = timing._encoder_speeds(world.worker, world.use, world.images)
    # A fifth of a second a repeat: 12.8 batches of 16 to decode, 51.2 to encode.
    assert (loaded.batch, encoded.batch) == (13 * 16, 52 * 16)
    assert (loaded.images_per_second, encoded.images_per_second) == (16 * 64, 16 * 256)
    assert min(world.decoded.values()) > 90  # each image again and again
    assert set(world.encoded) == {16}
    before = world.now
    assert timing._encoder_speeds(world.worker, world.use, world.images) == (loaded, encoded)
    assert world.now == before  # once an encoder


def test_on_the_cpu_it_is_the_first_64_images_as_ever(world):
    world.worker.device = "cpu"
    world.images.rows = np.arange(100)
    world.batch_size = 256
    loaded, encoded = timing._encoder_speeds(world.worker, world.use, world.images)
    assert (loaded.batch, encoded.batch, loaded.repeats) == (64, 64, 5)
    assert set(world.decoded) == set(range(64))


@pytest.mark.parametrize(("seconds", "expected"), [(10.0, 4), (0.06, 4), (0.01, 20), (1e-6, 256)])
def test_batches_of_a_repeat(seconds, expected):
    assert throughput.batches_a_repeat(Speed.of(64, [seconds])) == expected


def test_the_slower_of_decoding_and_the_rest_counts():
    decoding, encoder, method = Speed.of(100, [2.0, 1.0]), Speed.of(50, [0.4, 0.4]), Speed.of(1000, [2.0, 4.0])
    both = throughput.overlap(decoding, encoder, method)
    # An image: .02 and .01 s to decode; .008 + .002 = .01 and .008 + .004 = .012 s for the rest. 50 of them.
    assert both.seconds == pytest.approx((1.0, 0.6))
    assert both.batch == 50
    with pytest.raises(ValueError, match="argument"):
        throughput.overlap(decoding, Speed.of(50, [1.0]))


class Greedy:
    """A method that has room for 5 images at a time."""

    def score(self, x):
        if len(x) > 5:
            raise RuntimeError("CUDA error: out of memory")
        return x.index


def test_a_method_that_does_not_fit_is_timed_on_half_as_many(world):
    world.worker.device = "cpu"
    x = Features(index=torch.arange(3))
    assert timing._method_speed(world.worker, Greedy(), x, 16).batch == 4
    with pytest.raises(RuntimeError, match="illegal"):
        timing._method_speed(world.worker, SimpleNamespace(score=_broken), x, 16)


def test_what_did_not_fit_is_gone_before_the_next_is_made(world):
    """Else a device would hold both."""
    made = []

    class Blocks(Features):
        def to(self, device):
            assert all(block() is None for block in made)
            there = super().to(device)
            made.append(weakref.ref(there))
            return there

    world.worker.device = "cpu"
    assert timing._method_speed(world.worker, Greedy(), Blocks(index=torch.arange(3)), 16).batch == 4
    assert len(made) == 3  # 16, 8, 4


def _broken(x):
    raise RuntimeError("CUDA error: an illegal memory access was encountered")


def test_a_block_that_does_not_fit_is_scored_in_halves_and_another_fault_is_not_taken_for_that():
    worker = SimpleNamespace(device="cpu")
    x = Features(index=torch.arange(23))
    assert Score.scored(Greedy(), x, worker).tolist() == list(range(23))
    with pytest.raises(RuntimeError, match="illegal"):
        Score.scored(SimpleNamespace(score=_broken), x, worker)


def test_the_cells_of_a_row_share_the_scores_of_its_id_set():
    read = []
    scores = np.array([3.0, 1.0, 2.0])

    class Stored:
        def arrays(self, kind, key):
            return read.append(key) or {"scores": scores}

        def meta(self, kind, key):
            return {"seconds": 1.5}

    store, job = Stored(), SimpleNamespace(key="a key")
    for _ in range(3):
        left = Score.left(job, store)
        assert left.values.tolist() == [3, 1, 2]
        assert left.ordered.tolist() == [1, 2, 3]
        assert left.quantiles[0] == 1
        assert left.quantiles[-1] == 3
    assert read == ["a key"]
    for values in (left.values, left.ordered):
        with pytest.raises(ValueError, match="read-only"):
            values[0] = 7
