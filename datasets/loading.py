"""From a set of images to uint8 batches, which rows of it, and at which size."""

import os
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datasets import memory
from datasets.ahead import ahead
from datasets.decoders import TOGETHER
from datasets.images import ImageSet, Labels, Pixels
from datasets.memory import Flight

Rows = NDArray[np.int64]
Images = Tensor | list[Tensor]
Shrink = Callable[[Tensor], Tensor]

BATCH_BYTES = 64 << 20
_TASK_BYTES = 4 << 20

# of images that a set keeps, which are copied before anyone may write to them
warnings.filterwarnings("ignore", message="The given NumPy array is not writable")


@dataclass(frozen=True)
class Batch:
    """`rows` (n,) of the set, and their images: uint8 (n, H, W, 3) where all have one size, else n times (H, W, 3)."""

    rows: Rows
    images: Images


def batches(
    images: ImageSet,
    rows: NDArray[Any],
    batch_size: int,
    *,
    keep: bool = False,
    shrink: Shrink | None = None,
    workers: int | None = None,
) -> Iterator[Batch]:
    """The images `rows`, in that order, in batches of at most `batch_size` images and 64 MiB of pixels.

    Decoded by at most `workers` threads (default: one a core, at most 16), and put together one ahead of what is used.
    `shrink`: what each image goes through where it is decoded; uint8 (H, W, 3), which it does not change. `keep`: the
    pixels of a small set, as they were before, stay in memory for the next pass (`ImageSet.recall`). ValueError naming
    the image where one cannot be decoded.
    """
    if batch_size < 1:
        raise ValueError(f"the batch size is {batch_size}; it must be at least 1")
    reading = _Reading(images.recall if keep else images.each, shrink)
    threads = workers or min(16, os.cpu_count() or 1)
    yield from ahead(_batches(reading, np.asarray(rows, dtype=np.int64), threads, batch_size))


def _batches(reading: "_Reading", rows: Rows, workers: int, batch_size: int) -> Generator[Batch]:
    start, size = 0, 0
    waiting: list[Pixels] = []
    for image in _decoded(reading, rows, workers, batch_size):
        if waiting and size + image.nbytes > BATCH_BYTES:
            yield Batch(rows[start : start + len(waiting)], _together(waiting))
            start, size = start + len(waiting), 0
            waiting.clear()
        waiting.append(image)
        size += image.nbytes
        del image
        if len(waiting) == batch_size or size >= BATCH_BYTES:
            yield Batch(rows[start : start + len(waiting)], _together(waiting))
            start, size = start + len(waiting), 0
            waiting.clear()
    if waiting:
        yield Batch(rows[start:], _together(waiting))


class _Reading:
    """Images read and shrunk, and how large they were in the mean before that."""

    def __init__(self, each: Callable[[list[int]], Iterable[Pixels]], shrink: Shrink | None) -> None:
        self._each, self._shrink = each, shrink
        self._images, self._bytes = 0, 0

    def __call__(self, rows: list[int]) -> Iterator[Pixels]:
        for image in self._each(rows):
            size = image.nbytes
            if self._shrink is not None:  # a large one is not held any more
                image = self._shrunk(image, self._shrink)
            self._images, self._bytes = self._images + 1, self._bytes + size
            yield image

    @staticmethod
    def _shrunk(image: Pixels, shrink: Shrink) -> Pixels:
        before = torch.from_numpy(image)
        after = shrink(before)
        if after is before:
            return image
        memory.admit(after.nbytes - image.nbytes)
        return after.numpy()

    @property
    def mean_bytes(self) -> int:
        return max(1, self._bytes // max(1, self._images))


def _decoded(reading: _Reading, rows: Rows, workers: int, batch_size: int) -> Iterator[Pixels]:
    """The images one by one.

    A task is about 4 MiB of pixels as they are decoded, so that large photographs do not fill the memory, and no more
    than a thread's share of a batch, so that the first one comes soon. `Flight` bounds what is decoded at once,
    whatever the images are.
    """
    pool = ThreadPoolExecutor(workers)
    flight = Flight(reading)
    tasks: deque[tuple[int, int, Future[None]]] = deque()  # first and last place, and its work
    position, per_task = 0, 1

    def task(start: int, end: int) -> tuple[int, int, Future[None]]:
        return start, end, pool.submit(flight.ahead, start, rows[start:end].tolist())

    try:
        while tasks or position < len(rows):
            while position < len(rows) and len(tasks) <= workers:
                tasks.append(task(position, min(position + per_task, len(rows))))
                position = tasks[-1][1]
            start, end, work = tasks.popleft()
            work.result()
            done = flight.wanted(start, rows[start:end].tolist())
            if start + len(done) < end:
                tasks.appendleft(task(start + len(done), end))
            share = max(TOGETHER, -(-batch_size // workers))
            per_task = max(1, min(share, _TASK_BYTES // reading.mean_bytes))
            done.reverse()
            while done:
                yield done.pop()
            flight.free(start)
    finally:
        pool.shutdown(cancel_futures=True)


def _together(images: list[Pixels]) -> Images:
    if len(images) == 1 and images[0].flags.writeable:  # a large one is not copied; what a set keeps is read-only
        return torch.from_numpy(images[0][None])
    if len({image.shape for image in images}) == 1:
        return torch.from_numpy(np.stack(images))
    return [torch.from_numpy(image if image.flags.writeable else image.copy()) for image in images]


def in_memory(images: ImageSet, rows: NDArray[Any], *, shrink: Shrink | None = None) -> Tensor:
    """The images `rows`, shrunk, as one tensor, uint8 (N, H, W, 3). ValueError where they differ in size."""
    whole: Tensor | None = None
    start = 0
    for batch in batches(images, rows, 1024, shrink=shrink):
        if whole is None:
            whole = torch.empty((len(rows), *batch.images[0].shape), dtype=torch.uint8)
        for row, image in zip(batch.rows, batch.images, strict=True):
            if image.shape != whole.shape[1:]:
                (height, width), (other, another) = whole.shape[1:3], image.shape[:2]
                raise ValueError(
                    f"{images.name} ({images.split}): image {row} is {other} x {another}, "
                    f"others are {height} x {width}; bring them to one size first"
                )
        whole[start : start + len(batch.rows)] = (
            batch.images if isinstance(batch.images, Tensor) else torch.stack(batch.images)
        )
        start += len(batch.rows)
    if whole is None:
        raise ValueError(f"{images.name} ({images.split}): no image was chosen")
    return whole


def select(n: int, limit: int | None) -> Rows:
    """`limit` of `n` rows (None: all), sorted: the first of a fixed permutation, so a greater limit holds a smaller."""
    _check_limit(limit)
    if limit is None or limit >= n:
        return np.arange(n)
    return np.sort(np.random.default_rng(0).permutation(n)[:limit])


def select_balanced(labels: Labels, limit: int | None) -> Rows:
    """As `select`, with as many rows of each class as of any other, give or take one, while the class has some left.

    Where an image has no label (-1) it is plain `select`.
    """
    _check_limit(limit)
    n = len(labels)
    if limit is None or limit >= n or (labels < 0).any():
        return select(n, limit)
    rng = np.random.default_rng(0)
    order = rng.permutation(n)
    _, classes = np.unique(labels[order], return_inverse=True)
    counts = np.bincount(classes)
    by_class = np.argsort(classes, kind="stable")
    rank = np.empty(n, dtype=np.int64)  # the how-manieth of its class a row is, in the permutation
    rank[by_class] = np.arange(n) - np.repeat(np.cumsum(counts) - counts, counts)
    turn = rng.permutation(len(counts))  # which class comes first where the limit cuts a round
    return np.sort(order[np.lexsort((turn[classes], rank))[:limit]])


def _check_limit(limit: int | None) -> None:
    if limit is not None and limit < 1:
        raise ValueError(f"the limit is {limit}; it must be at least 1 image (leave it out for all)")
