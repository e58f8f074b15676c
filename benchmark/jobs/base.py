"""What a job is: one step of a plan.

A job is a pure function of what its key covers and writes only under its key, so that any process that sees the same
store can carry it out.
"""

from abc import ABC, abstractmethod
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

    @abstractmethod
    def run(self, worker: Worker) -> None: ...
