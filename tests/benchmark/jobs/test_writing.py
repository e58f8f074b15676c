"""What is written in a thread: everything, in order, in whole chunks; and what happens when the disk does not."""

import errno
import threading
import time
from itertools import chain

import numpy as np
import pytest

from benchmark.jobs import writing
from benchmark.jobs.writing import WritingThread


class Writer:
    """Keeps what is appended. `broken`: the append, counted from 0, that finds the disk full. `slow`: seconds each."""

    def __init__(self, broken=None, slow=0.0):
        self.broken, self.slow = broken, slow
        self.chunks, self.threads = [], set()

    def append(self, arrays):
        self.threads.add(threading.get_ident())
        time.sleep(self.slow)
        if len(self.chunks) == self.broken:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.chunks.append(arrays["embedding"][:, 0].tolist())


class Batch:
    def __init__(self, first, count):
        self.values, self.taken = np.arange(first, first + count, dtype=np.float32)[:, None], 0

    def arrays(self):
        self.taken += 1
        return {"embedding": self.values}


def batches(count, size=4):
    return [Batch(first, size) for first in range(0, count * size, size)]


@pytest.fixture(autouse=True)
def chunks_of_ten(monkeypatch):
    monkeypatch.setattr(writing, "CHUNK_IMAGES", 10)


@pytest.mark.parametrize("slow", [0.0, 0.01])
def test_all_is_written_in_order_in_another_thread(slow):
    writer = Writer(slow=slow)
    with WritingThread(writer) as thread:
        for batch in batches(25):
            thread.put(batch)
            time.sleep(0.002 - slow / 10)
    assert list(chain.from_iterable(writer.chunks)) == list(range(100))
    assert all(len(chunk) >= 10 for chunk in writer.chunks[:-1])
    assert len(writer.threads - {threading.get_ident()}) == 1


def test_while_the_disk_is_slow_chunks_grow_to_a_bound(monkeypatch):
    monkeypatch.setattr(writing, "BLOCK_BYTES", 24 * 4)
    writer = Writer(slow=0.02)
    with WritingThread(writer) as thread:
        for batch in batches(25):
            thread.put(batch)
    assert list(chain.from_iterable(writer.chunks)) == list(range(100))
    assert max(map(len, writer.chunks)) <= 24
    assert max(map(len, writer.chunks)) > 12


def test_a_full_disk_reaches_who_puts_the_next_batch_in_and_no_buffer_is_lost():
    writer, put = Writer(broken=1), batches(100)
    with pytest.raises(OSError, match="No space left"), WritingThread(writer) as thread:  # noqa: PT012
        for batch in put:
            thread.put(batch)
            time.sleep(0.002)
    assert len(writer.chunks) == 1
    taken = [batch.taken for batch in put]
    assert 3 < sum(taken) < 60  # it stopped soon after
    assert taken == sorted(taken, reverse=True)  # each batch that was put in was waited for


def test_a_disk_that_is_full_at_the_end_is_told_as_well():
    with pytest.raises(OSError, match="No space left"), WritingThread(Writer(broken=0)) as thread:
        thread.put(Batch(0, 4))


def test_an_error_of_the_encoder_is_that_error_and_whole_chunks_stay():
    writer = Writer()
    with pytest.raises(RuntimeError, match="the encoder"), WritingThread(writer) as thread:  # noqa: PT012
        for batch in batches(4):
            thread.put(batch)
            time.sleep(0.01)
        raise RuntimeError("the encoder")
    assert writer.chunks == [list(range(12))]
    assert threading.active_count() < 50
