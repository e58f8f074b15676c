"""What becomes of a job whose worker died: Ray's own retries are off, as they repeat the same."""

from dataclasses import dataclass, replace
from typing import Literal

from benchmark.running.base import Ready
from benchmark.running.resources import Needs
from benchmark.shown import human_size

Death = Literal["worker", "memory", "node"]
MOST_NODES = 5  # that one job may lose: it may be what takes them down


@dataclass(frozen=True)
class Try:
    """A job as it is submitted, and of what it died before."""

    ready: Ready
    needs: Needs
    deaths: tuple[Death, ...] = ()

    def again(self, death: Death, most: int) -> "Try | str":
        """How it is tried once more, `most` being the memory of the largest node; or why it is not.

        A worker that was killed is given twice the memory: the system does not say whether it killed it for that. Where
        Ray says so, all of a node comes after that.
        """
        deaths = (*self.deaths, death)
        times, had = deaths.count(death), self.needs.memory
        if death == "node":
            return replace(self, deaths=deaths) if times < MOST_NODES else f"it lost {times} nodes"
        if death == "worker" and times > 1:
            return "its worker died twice"
        if death == "memory" and had >= most:
            return f"out of memory, with {human_size(had)} declared, which is all that a node has"
        memory = min(2 * had, most) if times == 1 else most
        return replace(self, needs=replace(self.needs, memory=max(had, memory)), deaths=deaths)
