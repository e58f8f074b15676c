"""Features go to the disk in a thread, so that neither the journal nor a slow disk keeps the encoder waiting."""

from queue import Queue
from threading import Thread
from types import TracebackType
from typing import Protocol, Self

import numpy as np

from benchmark.jobs.base import BLOCK_BYTES
from benchmark.jobs.transfer import Arrays
from benchmark.store.chunks import ChunkWriter

CHUNK_IMAGES = 512  # a kill loses no more encoding than this, what waited for the disk, and the batches at either end
WAITING = 2  # batches


class Coming(Protocol):
    """The features of a batch, maybe on their way."""

    def arrays(self) -> Arrays: ...


class WritingThread:
    """Writes what is put into it, in order, in chunks of at least CHUNK_IMAGES rows, of more while the disk is slower.

    A context: at its end all is on the disk. An error of the disk reaches whoever puts the next batch in, or leaves the
    context. Where the context ends in an error, what does not fill a chunk is left out.
    """

    def __init__(self, writer: ChunkWriter) -> None:
        self._writer = writer
        self._queue: Queue[Coming | None] = Queue(WAITING)
        self._error: BaseException | None = None
        self._parts: list[Arrays] = []
        self._thread = Thread(target=self._run, name="writing", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def put(self, features: Coming) -> None:
        if self._error is not None:
            raise self._error
        self._queue.put(features)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._queue.put(None)
        self._thread.join()
        if kind is not None:
            return
        if self._error is not None:
            raise self._error
        if self._parts:
            self._write()

    def _run(self) -> None:
        while (features := self._queue.get()) is not None:
            try:
                arrays = features.arrays()  # after an error as well: its buffer is waited for
                if self._error is None:
                    self._parts.append(arrays)
                    if self._is_a_chunk():
                        self._write()
            except BaseException as error:
                self._error = self._error or error
            del features

    def _is_a_chunk(self) -> bool:
        images = sum(len(next(iter(part.values()))) for part in self._parts)
        size = sum(values.nbytes for part in self._parts for values in part.values())
        return size >= BLOCK_BYTES or (images >= CHUNK_IMAGES and self._queue.empty())

    def _write(self) -> None:
        parts, self._parts = self._parts, []
        self._writer.append({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})
