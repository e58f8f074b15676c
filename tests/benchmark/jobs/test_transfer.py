"""Copies to a device and back, with the device's part replaced: a copy is made only when someone waits for it."""

from itertools import pairwise

import pytest
import torch

from benchmark.jobs import transfer
from benchmark.jobs.transfer import Ring, Transfer


class Copy:
    """The end of a copy that has not begun before it is waited for, as on a slow device."""

    def __init__(self, out, source):
        self.out, self.source, self.over = out, source, False

    def synchronize(self):
        if not self.over:
            self.out.copy_(self.source)
        self.over = True


class Slow:
    """A device that is the CPU. `refuses`: no pinned memory; `full`: no memory on the device, so many times."""

    def __init__(self, *, refuses=False, full=0):
        self.refuses, self.full = refuses, full
        self.made, self.waiting = [], []

    def buffer(self, size):
        if self.refuses:
            raise RuntimeError("CUDA error: out of memory")
        self.made.append(size)
        return torch.empty(size, dtype=torch.uint8)

    def send(self, source):
        if self.full:
            self.full -= 1
            raise torch.OutOfMemoryError("CUDA out of memory")
        there = torch.zeros_like(source)
        copy = Copy(there, source)
        self.waiting.append(copy)
        return there, copy

    def fetch(self, source, out):
        return Copy(out, source)

    def compute(self):
        """What waits on the device's side: all copies that were begun."""
        for copy in self.waiting:
            copy.synchronize()
        self.waiting.clear()


def images(seed, *sizes):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(0, 256, (*size, 3), dtype=torch.uint8, generator=generator) for size in sizes]


@pytest.mark.parametrize("refuses", [False, True])
def test_images_arrive_as_they_were_however_many_follow_one_another(refuses):
    link = Slow(refuses=refuses)
    there = Transfer("cuda", (link, Slow()))
    sent = [torch.stack(images(seed, *[(4, 5)] * 3)) for seed in range(10)]
    arrived = [there.send(batch) for batch in sent]  # more than there are buffers: none is filled before it was copied
    link.compute()
    assert all(torch.equal(one, other) for one, other in zip(sent, arrived, strict=True))
    several = images(11, (4, 5), (1, 1), (7, 2))
    arrived = there.send(several)
    link.compute()
    assert [one.shape for one in arrived] == [one.shape for one in several]
    assert all(torch.equal(one, other) for one, other in zip(several, arrived, strict=True))


def test_buffers_are_made_once_and_grow():
    link = Slow()
    there = Transfer("cuda", (link, Slow()))
    for _ in range(10):
        there.send(torch.zeros((2, 4, 4, 3), dtype=torch.uint8))
    assert link.made == [96] * transfer.BUFFERS
    there.send(torch.zeros((2, 8, 8, 3), dtype=torch.uint8))
    assert link.made[transfer.BUFFERS :] == [384]


def test_a_device_without_memory_leaves_the_ring_whole():
    link = Slow(full=10)
    there = Transfer("cuda", (link, Slow()))
    batch = torch.stack(images(0, (4, 4), (4, 4)))
    for _ in range(10):  # more often than there are buffers
        with pytest.raises(torch.OutOfMemoryError):
            there.send(batch)
    arrived = there.send(batch)
    link.compute()
    assert torch.equal(arrived, batch)


def test_features_come_back_as_they_were_computed():
    there = Transfer("cuda", (Slow(), Slow()))
    made = [
        {
            "embedding": torch.randn(3, 5, generator=torch.Generator().manual_seed(seed)),
            "pixels": torch.stack(images(seed, *[(3, 3)] * 3)),
            "layers": torch.arange(12.0).view(4, 3).T + seed,  # not contiguous
        }
        for seed in range(7)
    ]
    for first, second in pairwise(made):  # two on their way at a time
        coming = [there.fetch(features) for features in (first, second)]
        for features, fetched in zip((first, second), coming, strict=True):
            arrays = fetched.arrays()
            assert list(arrays) == list(features)
            for name, values in features.items():
                assert (arrays[name] == values.numpy()).all()
                assert arrays[name].dtype == values.numpy().dtype


def test_a_device_that_fails_leaves_nobody_waiting():
    """Who fetches may be ahead of who reads by all buffers: each that is not given back would be waited for."""

    class Failing(Slow):
        def fetch(self, source, out):
            return Broken()

    class Broken:
        def synchronize(self):
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    there = Transfer("cuda", (Slow(), Failing()))
    coming = [there.fetch({"embedding": torch.zeros(3, 2)}) for _ in range(transfer.BUFFERS)]
    for fetched in coming:
        with pytest.raises(RuntimeError, match="illegal"):
            fetched.arrays()
    assert [there._rings[1].take(24).numel() for _ in coming] == [32, 32, 32]  # in multiples of 16


def test_the_cpu_copies_nothing():
    batch = torch.zeros((2, 3, 3, 3), dtype=torch.uint8)
    there = Transfer("cpu")
    assert there.send(batch) is batch
    values = torch.ones(2, 3)
    assert there.fetch({"embedding": values}).arrays()["embedding"].ctypes.data == values.data_ptr()


def test_a_ring_waits_for_the_copy_out_of_the_buffer_that_it_gives():
    ring = Ring(Slow())
    waited = []

    class Mark:
        def __init__(self, number):
            self.number = number

        def synchronize(self):
            waited.append(self.number)

    for number in range(transfer.BUFFERS + 2):
        ring.give(ring.take(10), Mark(number))
    assert waited == [0, 1]


def test_images_as_a_callers_network_reads_them_arrive_as_they_are():
    link = Slow()
    batch = torch.randn(3, 2, 5, 7, generator=torch.Generator().manual_seed(0)).to(memory_format=torch.channels_last)
    there = Transfer("cuda", (link, link)).send(batch)
    link.compute()
    assert there.dtype == torch.float32
    assert torch.equal(there, batch)
