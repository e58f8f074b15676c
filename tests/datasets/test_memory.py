"""What is decoded at once is bounded: ahead of time only where there is room, what is wanted always."""

import threading

import numpy as np
import pytest

from datasets import memory
from datasets.images import ImageSet
from datasets.loading import batches

SIZE = 1000 * 3


class Counted(ImageSet):
    """Images of 3,000 bytes that take ten times as much to decode; counts what is decoded, and the most at once."""

    def __init__(self, n, pause):
        super().__init__("counted", "test", title="Counted", labels=np.full(n, -1))
        self.pause, self.lock = pause, threading.Lock()
        self.decoded, self.now, self.most = [], 0, 0

    def read(self, rows):
        memory.admit(10 * SIZE)
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        self.pause.wait(0.002)
        with self.lock:
            self.now -= 1
            self.decoded += rows
        memory.admit(-9 * SIZE)
        return [np.full((10, 100, 3), row % 256, dtype=np.uint8) for row in rows]

    def content(self):
        return []


@pytest.mark.parametrize(("room", "at_once"), [(10, 1), (25, 2), (1000, 5)])
def test_no_more_is_decoded_at_once_than_there_is_room_for(monkeypatch, room, at_once):
    monkeypatch.setattr(memory, "BYTES", room * SIZE)
    monkeypatch.setattr("datasets.loading._TASK_BYTES", 1)
    images = Counted(60, threading.Event())
    rows = [row for batch in batches(images, np.arange(60), 7, workers=4) for row in batch.images[:, 0, 0, 0].tolist()]
    assert rows == list(range(60))  # all, in order, whatever was decoded again
    assert set(images.decoded) == set(range(60))
    assert images.most <= at_once


def test_a_task_of_large_images_ends_early(monkeypatch):
    monkeypatch.setattr(memory, "TASK_BYTES", 2 * SIZE)
    flight = memory.Flight(Counted(60, threading.Event()).read)
    assert len(flight.wanted(0, list(range(60)))) == 2


def test_what_is_wanted_throws_away_what_was_decoded_ahead(monkeypatch):
    monkeypatch.setattr(memory, "BYTES", 10 * SIZE)
    images = Counted(9, threading.Event())
    flight = memory.Flight(images.read)
    flight.ahead(3, [3])
    flight.ahead(6, [6])  # no room: nothing
    assert images.decoded == [3]
    flight.free(3)
    flight.ahead(3, [3])
    assert flight.wanted(0, [0])[0][0, 0, 0] == 0
    assert flight.wanted(3, [3])[0][0, 0, 0] == 3
    assert images.decoded == [3, 3, 0, 3]


def test_without_a_pass_nothing_is_counted():
    memory.admit(1 << 60)
