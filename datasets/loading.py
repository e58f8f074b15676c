"""From a set of images to uint8 batches, which rows of it, and at which size."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datasets.images import ImageSet, Labels, Pixels
from datasets.memory import Flight

Rows = NDArray[np.int64]
Images = Tensor | list[Tensor]

BATCH_BYTES = 64 << 20
_TASK_BYTES = 4 << 20
_TASK_IMAGES = 256
_SMALL_BYTES = 8 << 10  # below 53 x 53 threads lose more time over Python's lock than they win


@dataclass(frozen=True)
class Batch:
    """`rows` (n,) of the set, and their images: uint8 (n, H, W, 3) where all have one size, else n times (H, W, 3)."""

    rows: Rows
    images: Images


def batches(
    images: ImageSet, rows: NDArray[Any], batch_size: int, *, keep: bool = False, workers: int | None = None
) -> Iterator[Batch]:
    """The images `rows`, in that order, in batches of at most `batch_size` images and 64 MiB of pixels.

    Decoded by at most `workers` threads (default: one a core, at most 8), large ones a little ahead of what is asked
    for. `keep`: the pixels of a small set stay in memory for the next pass (`ImageSet.recall`). ValueError naming the
    image where one cannot be decoded.
    """
    if batch_size < 1:
        raise ValueError(f"the batch size is {batch_size}; it must be at least 1")
    rows = np.asarray(rows, dtype=np.int64)
    start, size = 0, 0
    waiting: list[Pixels] = []
    read = images.recall if keep else images.read
    for image in _decoded(read, rows, workers or min(8, os.cpu_count() or 1)):
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


def _decoded(read: Callable[[list[int]], list[Pixels]], rows: Rows, workers: int) -> Iterator[Pixels]:
    """The images one by one.

    A task is about 4 MiB of pixels, so that large photographs do not fill the memory. Small images are decoded one task
    at a time. `Flight` bounds what is decoded at once, whatever the images are.
    """
    pool = ThreadPoolExecutor(workers)
    flight = Flight(read)
    tasks: deque[tuple[int, int, Future[None]]] = deque()  # first and last place, and its work
    position, per_task, ahead = 0, 1, workers + 1

    def task(start: int, end: int) -> tuple[int, int, Future[None]]:
        return start, end, pool.submit(flight.ahead, start, rows[start:end].tolist())

    try:
        while tasks or position < len(rows):
            while len(tasks) < ahead and position < len(rows):
                tasks.append(task(position, min(position + per_task, len(rows))))
                position = tasks[-1][1]
            start, end, work = tasks.popleft()
            work.result()
            done = flight.wanted(start, rows[start:end].tolist())
            if start + len(done) < end:
                tasks.appendleft(task(start + len(done), end))
            mean = max(1, sum(image.nbytes for image in done) // len(done))
            per_task = max(1, min(_TASK_IMAGES, _TASK_BYTES // mean))
            ahead = 1 if mean < _SMALL_BYTES else workers + 1
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
    return [torch.from_numpy(np.array(image)) for image in images]  # copies: a set may keep its own


def in_memory(images: ImageSet, rows: NDArray[Any]) -> Tensor:
    """The images `rows` as one tensor, uint8 (N, H, W, 3). ValueError where they differ in size."""
    whole: Tensor | None = None
    start = 0
    for batch in batches(images, rows, 1024):
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
