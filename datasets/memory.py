"""Memory in flight: the decoded bytes of one pass over images, counted over all its threads.

Whoever decodes says what it takes before it takes it (`admit`). A thread that decodes ahead and finds no room gives up
(`Later`). Images that are wanted now always get it: they wait until no thread is at work, and what was decoded ahead
is thrown away, to be decoded again when its turn comes.
"""

from collections.abc import Callable
from contextvars import ContextVar
from threading import Condition

import numpy as np
from numpy.typing import NDArray

BYTES = 384 << 20  # of all images in flight; a batch and its copy take at most 128 MiB beside them
ALONE = 448 << 20  # of one image, where it is alone
TASK_BYTES = 16 << 20  # a task ends early where its images are this large together

Pixels = NDArray[np.uint8]
_task: ContextVar["tuple[Flight, int] | None"] = ContextVar("task", default=None)


class Later(Exception):
    """There is no room to decode ahead."""


def admit(size: int) -> None:
    """Take `size` bytes (give them back, where it is negative) for the images that this thread decodes."""
    if (task := _task.get()) is not None:
        task[0].take(task[1], size)


class Flight:
    """One pass: tasks of images, each known by the place of its first image, decoded by `read`."""

    def __init__(self, read: Callable[[list[int]], list[Pixels]]) -> None:
        self._read = read
        self._wanted = -1  # the task that the consumer decodes itself, as it waits for it
        self._held: dict[int, int] = {}
        self._found: dict[int, list[Pixels]] = {}
        self._running = 0
        self._changed = Condition()

    def ahead(self, start: int, rows: list[int]) -> None:
        """Decode the images `rows`, the `start`-th of the pass and those behind it, as far as there is room."""
        with self._changed:
            self._running += 1
        try:
            images = self._decoded(start, rows)
            with self._changed:
                self._found[start] = images
        except Later:
            self.free(start)
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def wanted(self, start: int, rows: list[int]) -> list[Pixels]:
        """The images `rows`, or the first of them where they are large: what was decoded ahead, else decoded now."""
        with self._changed:
            images = self._found.pop(start, None)
        if images is None:
            self._wanted = start
            images = self._decoded(start, rows)
            self._wanted = -1
        return images

    def _decoded(self, start: int, rows: list[int]) -> list[Pixels]:
        token = _task.set((self, start))
        images: list[Pixels] = []
        size = 0
        try:
            for row in rows:
                if size >= TASK_BYTES:
                    break
                images += self._read([row])
                size += images[-1].nbytes
        finally:
            _task.reset(token)
        return images

    def take(self, start: int, size: int) -> None:
        with self._changed:
            if size > 0 and self._full(size):
                if start != self._wanted:
                    raise Later
                while self._running and self._full(size):
                    self._changed.wait()
                while self._found and self._full(size):
                    last = max(self._found)
                    del self._found[last], self._held[last]
            self._held[start] = self._held.get(start, 0) + size

    def free(self, start: int) -> None:
        """The images of this task are gone."""
        with self._changed:
            self._held.pop(start, None)
            self._changed.notify_all()

    def _full(self, size: int) -> bool:
        return sum(self._held.values()) + size > BYTES
