"""Work that takes turns with a yardstick, a second each, so that what else a machine does hits both alike.

Each is a process of its own, stopped while the other has its turn. The yardstick goes on and on and counts what it
did. So a piece of work is as long as so many of the yardstick's steps, whatever the machine gave both of them.
"""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from multiprocessing.sharedctypes import RawValue
from time import perf_counter
from types import TracebackType
from typing import Any, Self

SLICE = 1.0  # seconds
Tell = Callable[[Any], None]  # once when it is ready, then at the end of each piece of work
Count = Any  # a shared number: .value are the steps that were done


@dataclass(frozen=True)
class Piece:
    """A piece of work: its seconds, and steps and seconds of the yardstick in the turns beside it."""

    told: Any
    seconds: float
    steps: int
    beside: float

    @property
    def length(self) -> float:
        """In steps of the yardstick."""
        return self.seconds * self.steps / self.beside


class Halted(AbstractContextManager["Halted"]):
    """A process that runs `target(tell, count, *given)`, only while it has its turn; its end is the context's."""

    def __init__(self, target: Callable[..., None], *given: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._count = RawValue("q", 0)  # without a lock, which a stopped process might hold
        self._told, tells = context.Pipe(duplex=False)
        self._process = context.Process(target=_begin, args=(target, tells, self._count, given), daemon=True)

    def __enter__(self) -> Self:
        self._process.start()
        self._told.recv()
        self._signal(signal.SIGSTOP)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._process.kill()
        self._process.join()

    def turn(self, seconds: float) -> tuple[float, int, bool]:
        """At most so long: seconds and steps that it was, and whether a piece of work came to its end."""
        before = self._count.value
        start = perf_counter()
        self._signal(signal.SIGCONT)
        ended = self._told.poll(seconds)
        self._signal(signal.SIGSTOP)
        return perf_counter() - start, self._count.value - before, ended

    def told(self) -> Any:
        """What it said at the end of the piece of work; EOFError where it failed."""
        return self._told.recv()

    def _signal(self, number: int) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)


def _begin(target: Callable[..., None], tells: Any, count: Count, given: tuple[Any, ...]) -> None:
    target(tells.send, count, *given)


def pieces(work: Halted, yardstick: Halted, slice_seconds: float = SLICE) -> Iterator[Piece]:
    """The pieces of work, one after another, as long as they are asked for."""
    while True:
        seconds, steps, beside, ended = 0.0, 0, 0.0, False
        while not ended:
            taken, _, ended = work.turn(slice_seconds)
            seconds += taken
            passed, done, _ = yardstick.turn(slice_seconds)
            steps, beside = steps + done, beside + passed
        yield Piece(work.told(), seconds, steps, beside)
