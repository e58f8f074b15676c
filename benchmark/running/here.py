"""Carries jobs out in this process, one after the other."""

from types import TracebackType
from typing import Self

from benchmark.jobs.worker import Worker
from benchmark.running.base import DiskFull, Ended, Ready, carry


class Here:
    """The first way: one worker, which is this process."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._given: Ready | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        pass

    @property
    def room(self) -> int:
        return 0 if self._given else 1

    def give(self, ready: Ready) -> None:
        self._given = ready

    def wait(self) -> list[Ended]:
        if self._given is None:
            return []
        job, self._given = self._given.job, None
        ended = carry(job, self._worker)
        if ended.full:  # it would be full for all that follows
            raise DiskFull(job)
        return [ended]

    def doing(self) -> str:
        return ""
