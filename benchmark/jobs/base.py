"""What a job is: one step of a plan.

A job is a pure function of what its key covers and writes only under its key, so that any process that sees the same
store can carry it out.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from benchmark.jobs.worker import Worker
from benchmark.store.entries import Store

BLOCK_BYTES = 64 * 2**20


@dataclass(frozen=True, eq=False)
class Job(ABC):
    """One step of the plan. `needs` are carried out before it."""

    kind: ClassVar[str]

    @property
    @abstractmethod
    def key(self) -> str: ...

    @property
    @abstractmethod
    def title(self) -> str: ...

    @property
    @abstractmethod
    def needs(self) -> tuple["Job", ...]: ...

    def done(self, store: Store) -> bool:
        return store.has(self.kind, self.key)

    def fault(self) -> str:
        """A file of the results folder that this job has to make again, and why; "" where all fit, or are absent."""
        return ""

    @abstractmethod
    def run(self, worker: Worker) -> None: ...


def walk(targets: Iterable[Job]) -> list[Job]:
    """Jobs and all that they need, each once and after what it needs."""
    found: dict[str, Job] = {}

    def add(job: Job) -> None:
        if job.key not in found:
            for before in job.needs:
                add(before)
            found[job.key] = job

    for target in targets:
        add(target)
    return list(found.values())
