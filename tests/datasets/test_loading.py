import gc
import threading
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets import loading, memory
from datasets.altered import AlteredSet
from datasets.images import ImageSet
from datasets.loading import batches, in_memory, select, select_balanced


class Drawn(ImageSet):
    """Images whose every pixel is their row number; `sizes` (height, width) go round. Counts what is read."""

    def __init__(self, n, *sizes, broken=None):
        super().__init__("drawn", "test", title="Drawn", labels=np.full(n, -1))
        self.sizes = sizes or ((4, 3),)
        self.broken = broken
        self.seen = []
        self.lock = threading.Lock()

    def read(self, rows):
        with self.lock:
            self.seen += rows
        if self.broken in rows:
            raise ValueError(f"image {self.broken} cannot be decoded")
        time.sleep(0.002 * (rows[0] % 3))  # tasks end out of order
        return [np.full((*self.sizes[row % len(self.sizes)], 3), row % 256, dtype=np.uint8) for row in rows]

    def content(self):
        return []


@pytest.mark.parametrize("workers", [None, 1, 5])
@pytest.mark.parametrize("batch_size", [1, 7, 64, 1000])
def test_batches_keep_the_order_and_leave_nothing_out(workers, batch_size):
    images = Drawn(300)
    rows = np.random.default_rng(0).permutation(300)[:201]
    got = list(batches(images, rows, batch_size, workers=workers))
    assert np.array_equal(np.concatenate([batch.rows for batch in got]), rows)
    assert [len(batch.rows) for batch in got[:-1]] == [batch_size] * (len(got) - 1)
    for batch in got:
        assert batch.images.shape == (len(batch.rows), 4, 3, 3)
        assert batch.images.dtype == torch.uint8
        assert batch.images[:, 0, 0, 0].tolist() == (batch.rows % 256).tolist()
    assert sorted(images.seen) == sorted(rows)  # each was read once


@pytest.mark.parametrize("sizes", [((4, 3),), ((4, 3), (2, 5))])
def test_kept_images_are_decoded_once_and_stay_as_they_were(sizes):
    images = Drawn(20, *sizes)
    for rows in (np.arange(5, 20), np.arange(20), np.arange(20)[::-1]):
        for batch in batches(images, rows, 6, keep=True):
            for row, image in zip(batch.rows, batch.images, strict=True):
                assert bool((image == row).all())
                image += 1  # what others do to a batch is not seen in the next
    assert sorted(images.seen) == list(range(20))
    list(batches(images, np.arange(20), 6))
    assert len(images.seen) == 40  # only where it is asked for


def test_only_small_sets_are_kept(monkeypatch):
    monkeypatch.setattr(memory, "SET_BYTES", 20 * 4 * 3 * 3)
    for n, passes in ((20, 1), (21, 2)):
        images = Drawn(n)
        for _ in range(2):
            list(batches(images, np.arange(n), 6, keep=True))
        assert len(images.seen) == n * passes


def test_all_sets_together_keep_no_more_than_there_is_room_for(monkeypatch):
    gc.collect()
    monkeypatch.setattr(memory, "KEPT_BYTES", memory.Kept._all + 30 * 4 * 3 * 3)
    sets = [Drawn(20), Drawn(20)]
    for _ in range(2):
        for images in sets:
            list(batches(images, np.arange(20), 6, keep=True))
    assert [len(images.seen) for images in sets] == [20, 20 + 10]  # of the second, ten images had room
    del sets, images
    gc.collect()
    after = Drawn(20)  # what is gone leaves its room to others
    for _ in range(2):
        list(batches(after, np.arange(20), 6, keep=True))
    assert len(after.seen) == 20


def test_an_altered_set_reads_the_id_set_through_its_memory():
    images = Drawn(20)
    list(batches(images, np.arange(20), 6, keep=True))
    for how in ("blurred", "enlarged"):
        list(batches(AlteredSet(images, how), np.arange(20), 6))
    assert len(images.seen) == 20


@pytest.mark.parametrize("keep", [False, True])
def test_images_are_shrunk_where_they_are_decoded_and_kept_as_they_were(keep):
    images = Drawn(12, (40, 30), (8, 4))
    threads = set()

    def half(image):
        threads.add(threading.get_ident())
        return image if image.shape[0] < 10 else image[::2, ::2].contiguous()

    for shrink, sizes in ((half, [(20, 15), (8, 4)]), (None, [(40, 30), (8, 4)])):  # two encoders, one after the other
        for batch in batches(images, np.arange(12), 6, keep=keep, shrink=shrink):
            for row, image in zip(batch.rows, batch.images, strict=True):
                assert tuple(image.shape[:2]) == sizes[row % 2]
                assert bool((image == row).all())
                image += 1
    assert len(images.seen) == (12 if keep else 24)
    assert in_memory(Drawn(4, (40, 30)), np.arange(4), shrink=half).shape == (4, 20, 15, 3)


def test_photographs_that_become_small_still_make_small_tasks(monkeypatch):
    """As many at once as their decoded size allows, not that of what is left of them: all threads have some."""
    monkeypatch.setattr(loading, "_TASK_BYTES", 2 * 100 * 100 * 3)
    images = Drawn(64, (100, 100))
    stream = batches(images, np.arange(64), 4, workers=1, shrink=lambda image: image[:2, :2].contiguous())
    next(stream)
    time.sleep(0.05)
    assert len(images.seen) <= 2 * 4 + 1 + 2 * 2  # the batch, the next, the rest of a task, and two tasks waiting
    stream.close()


def test_images_of_several_sizes_stay_apart():
    images = Drawn(10, (4, 3), (2, 5))
    got = list(batches(images, np.arange(10), 4))
    assert [len(batch.rows) for batch in got] == [4, 4, 2]
    for batch in got:
        assert isinstance(batch.images, list)
        for row, image in zip(batch.rows, batch.images, strict=True):
            assert image.shape == (*images.sizes[row % 2], 3)
            assert bool((image == row).all())


def test_large_photographs_make_small_batches(monkeypatch):
    monkeypatch.setattr(loading, "BATCH_BYTES", 10_000)
    images = Drawn(12, (40, 40), (10, 10), (100, 100))  # 4,800, 300 and 30,000 bytes
    got = [batch.rows.tolist() for batch in batches(images, np.arange(12), 8)]
    assert got == [[0, 1], [2], [3, 4], [5], [6, 7], [8], [9, 10], [11]]


def test_little_is_decoded_ahead(monkeypatch):
    monkeypatch.setattr(loading, "_TASK_BYTES", 5 * 36)  # five images of 4 x 3
    images = Drawn(1000)
    stream = batches(images, np.arange(1000), 10, workers=2)
    next(stream)
    time.sleep(0.05)
    assert len(images.seen) <= 2 * 10 + 5 + 3 * 5  # the batch, the next, the rest of a task, and three tasks waiting
    stream.close()
    there = len(images.seen)
    time.sleep(0.05)
    assert len(images.seen) == there


@pytest.mark.parametrize(("room", "ahead"), [(10**9, 50), (20 * 36, 20)])
def test_while_a_batch_is_computed_on_the_next_is_decoded(monkeypatch, room, ahead):
    monkeypatch.setattr(loading, "_TASK_BYTES", 2 * 36)
    monkeypatch.setattr(loading, "BATCH_BYTES", room)
    images = Drawn(1000)
    stream = batches(images, np.arange(1000), 50, workers=2)
    least = len(next(stream).rows) + ahead
    until = time.monotonic() + 5
    while len(images.seen) < least and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(0.05)
    assert least <= len(images.seen) <= least + 1 + 3 * 2  # the rest of a task, and three tasks waiting
    stream.close()


def test_while_a_batch_is_used_the_next_is_put_together(monkeypatch):
    together, put = loading._together, threading.Semaphore(0)
    monkeypatch.setattr(loading, "_together", lambda images: (together(images), put.release())[0])
    stream = batches(Drawn(100), np.arange(100), 10)
    next(stream)
    assert put.acquire(timeout=5)
    assert put.acquire(timeout=5)
    assert not put.acquire(timeout=0.05)  # no third one
    stream.close()


def test_the_first_batch_waits_for_no_more_than_its_threads_shares():
    class Told(Drawn):
        def each(self, rows):
            tasks.append(len(rows))
            return super().each(rows)

    tasks = []
    assert sum(len(batch.rows) for batch in batches(Told(500), np.arange(500), 64, workers=2)) == 500
    assert max(tasks) == 32
    tasks.clear()
    list(batches(Told(500), np.arange(500), 64, workers=16))
    assert max(tasks) == 32  # small images are decoded so many at a time
    tasks.clear()
    list(batches(Told(500), np.arange(500), 400, workers=2))
    assert max(tasks) == 200


def test_a_broken_image_ends_the_batches():
    stream = batches(Drawn(500, broken=450), np.arange(500), 10, workers=2)
    assert next(stream).rows.tolist() == list(range(10))
    with pytest.raises(ValueError, match="image 450 cannot be decoded"):
        list(stream)


def test_no_rows_and_no_batch_size():
    assert list(batches(Drawn(3), np.arange(0), 2)) == []
    with pytest.raises(ValueError, match="the batch size is 0"):
        list(batches(Drawn(3), np.arange(3), 0))


def test_in_memory():
    rows = np.array([5, 2, 2000])
    whole = in_memory(Drawn(2500), rows)
    assert whole.shape == (3, 4, 3, 3)
    assert whole[:, 0, 0, 0].tolist() == [5, 2, 2000 % 256]
    assert in_memory(Drawn(2500), np.arange(2500))[:, 3, 2, 2].tolist() == [row % 256 for row in range(2500)]
    with pytest.raises(ValueError, match=r"drawn \(test\): image 1 is 2 x 5, others are 4 x 3"):
        in_memory(Drawn(4, (4, 3), (2, 5)), np.arange(4))
    with pytest.raises(ValueError, match="no image was chosen"):
        in_memory(Drawn(4), np.arange(0))


@given(n=st.integers(1, 500), small=st.integers(1, 600), more=st.integers(0, 600))
def test_a_greater_limit_holds_a_smaller_one(n, small, more):
    few, many = select(n, small), select(n, small + more)
    assert set(few) <= set(many)
    assert len(few) == min(n, small)
    assert (np.diff(few) > 0).all()
    assert few.min() >= 0
    assert few.max() < n


@given(
    labels=st.lists(st.integers(0, 5), min_size=1, max_size=200), small=st.integers(1, 250), more=st.integers(0, 250)
)
@settings(max_examples=60)
def test_a_balanced_limit(labels, small, more):
    labels = np.array(labels)
    few, many = select_balanced(labels, small), select_balanced(labels, small + more)
    assert set(few) <= set(many)
    assert len(few) == min(len(labels), small)
    assert (np.diff(few) > 0).all()
    there = np.bincount(labels, minlength=6)
    chosen = np.bincount(labels[few], minlength=6)
    left = chosen < there  # a class that has images left is at most one behind any other
    if left.any():
        assert chosen[left].min() >= chosen.max() - 1


def test_the_choice_is_fixed_and_not_the_first_rows():
    assert np.array_equal(select(1000, 100), np.sort(np.random.default_rng(0).permutation(1000)[:100]))
    assert select(1000, 100).max() > 900
    labels = np.repeat(np.arange(10), 100)
    chosen = select_balanced(labels, 50)
    assert np.bincount(labels[chosen]).tolist() == [5] * 10
    assert (chosen % 100).max() > 50
    assert np.array_equal(chosen, select_balanced(labels, 50))


def test_all_or_none():
    assert select(4, None).tolist() == select(4, 4).tolist() == select(4, 9).tolist() == [0, 1, 2, 3]
    assert select_balanced(np.array([1, 0, 1]), None).tolist() == [0, 1, 2]
    unlabelled = np.full(100, -1)
    assert select_balanced(unlabelled, 10).tolist() == select(100, 10).tolist()
    for limit in (0, -5):
        with pytest.raises(ValueError, match="it must be at least 1 image"):
            select(4, limit)
        with pytest.raises(ValueError, match="it must be at least 1 image"):
            select_balanced(np.array([0, 1]), limit)
