"""Memory in flight: the decoded bytes of one pass over images, counted over all its threads.

Whoever decodes says what it takes before it takes it (`admit`). A thread that decodes ahead and finds no room gives up
(`Later`). Images that are wanted now always get it: they wait until no thread is at work, and what was decoded ahead
is thrown away, to be decoded again when its turn comes.
"""

import weakref
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from threading import Condition, RLock

import numpy as np
from numpy.typing import NDArray

BYTES = 384 << 20  # of all images in flight; two batches and the copy of one take at most 192 MiB beside them
ALONE = 448 << 20  # of one image, where it is alone
MAX_PIXELS = 64_000_000  # of one image
TASK_BYTES = 16 << 20  # a task ends early where its images are this large together

KEPT_BYTES = 2 << 30  # of decoded images that sets keep for the next pass, in all
SET_BYTES = 256 << 20  # of one set

Pixels = NDArray[np.uint8]
_task: ContextVar["tuple[Flight, int] | None"] = ContextVar("task", default=None)


class Later(Exception):
    """There is no room to decode ahead."""


def admit(size: int) -> None:
    """Take `size` bytes (give them back, where it is negative) for the images that this thread decodes."""
    if (task := _task.get()) is not None:
        task[0].take(task[1], size)


class Kept:
    """The decoded images of one set that stay in memory, where the set is small and there is room beside the others'.

    Read-only, each once. Several threads may look and keep at once.
    """

    _all = 0
    _lock = RLock()  # a set may be collected while another keeps an image

    def __init__(self) -> None:
        self._images: dict[int, Pixels] = {}
        weakref.finalize(self, Kept._gone, self._images).atexit = False

    def __reduce__(self) -> tuple[type["Kept"], tuple[()]]:
        return Kept, ()  # another process decodes for itself

    def get(self, row: int) -> Pixels | None:
        return self._images.get(row)

    def keep(self, row: int, pixels: Pixels, count: int) -> Pixels:
        """These pixels. `count`: the images of the set; one larger than its share of the set's room is not kept."""
        if pixels.nbytes * count > SET_BYTES:
            return pixels
        with Kept._lock:
            if row not in self._images and Kept._all + pixels.nbytes <= KEPT_BYTES:
                Kept._all += pixels.nbytes
                pixels.flags.writeable = False
                self._images[row] = pixels
        return pixels

    @staticmethod
    def _gone(images: dict[int, Pixels]) -> None:
        with Kept._lock:
            Kept._all -= sum(pixels.nbytes for pixels in images.values())


class Flight:
    """One pass: tasks of images, each known by the place of its first image, decoded by `each`, one after the other."""

    def __init__(self, each: Callable[[list[int]], Iterable[Pixels]]) -> None:
        self._each = each
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
            for image in self._each(rows):
                images.append(image)
                size += image.nbytes
                if size >= TASK_BYTES:
                    break
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
