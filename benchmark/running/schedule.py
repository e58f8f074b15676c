"""Which job comes next: the order in which every run, and the estimate of one, goes through a plan."""

import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from benchmark.jobs.base import Job
from benchmark.running.base import Ended, Ready


@dataclass
class _Node:
    """A job that is to be carried out."""

    ready: Ready
    place: int  # among all jobs: each after what it needs
    missing: set[str] = field(default_factory=set)  # needs that are to be carried out before it
    after: set[str] = field(default_factory=set)  # what waits for it
    targets: list[int] = field(default_factory=list)  # that it is itself
    given: bool = False


class Schedule:
    """The jobs of a run, opened target by target: of the plan no more is held than what is under way.

    `done`: whether a job need not be carried out; what it needs is then not looked at.
    """

    def __init__(self, targets: Iterable[Job], done: Callable[[Job], bool]) -> None:
        self._coming = iter(enumerate(targets))
        self._done = done
        self._nodes: dict[str, _Node] = {}
        self._ready: list[tuple[int, str]] = []
        self._finished: set[str] = set()
        self._stopped: dict[str, Ended] = {}
        self._settled: list[tuple[int, Ended | None]] = []
        self._places = 0

    def next(self) -> Ready | None:
        """The first job, in the plan's order, that can be carried out now; None where all others wait for one."""
        while True:
            while self._ready:
                _, key = heapq.heappop(self._ready)
                node = self._nodes.get(key)
                if node is not None and not node.given:
                    node.given = True
                    return node.ready
            if not self._open_next():
                return None

    def settled(self) -> Iterator[tuple[int, Ended | None]]:
        """The targets that came to an end since the last call, by their place; None: they were done before."""
        settled, self._settled = self._settled, []
        yield from settled

    def end(self, ended: Ended) -> None:
        """A job that `next` gave has ended. Busy: it will be given again."""
        node = self._nodes[ended.key]
        if ended.status == "busy":
            node.given = False
            heapq.heappush(self._ready, (node.place, ended.key))
        elif ended.status == "done":
            del self._nodes[ended.key]
            self._finished.add(ended.key)
            self._settled += [(target, ended) for target in node.targets]
            for key in node.after:
                self._nodes[key].missing.discard(ended.key)
                self._offer(self._nodes[key])
        else:
            self._stop(node, ended)

    def _open_next(self) -> bool:
        """Open the next target; False where there is none."""
        number, target = next(self._coming, (-1, None))
        if target is None:
            return False
        self._open(target, (number,))
        if (node := self._nodes.get(target.key)) is not None:
            node.targets.append(number)
        else:
            self._settled.append((number, self._stopped.get(target.key)))
        return True

    def _open(self, job: Job, path: tuple[int, ...]) -> None:
        """Make a job known, with all that it needs: finished, stopped, or a node."""
        key = job.key
        if key in self._finished or key in self._stopped or key in self._nodes:
            return
        if self._done(job):
            self._finished.add(key)
            return
        missing: set[str] = set()
        for number, need in enumerate(job.needs):
            self._open(need, (*path, number))
            if need.key in self._stopped:
                self._stopped[key] = self._stopped[need.key]
                for other in missing:
                    self._leave(other)
                return
            if need.key in self._nodes:
                missing.add(need.key)
        for other in missing:
            self._nodes[other].after.add(key)
        node = self._nodes[key] = _Node(Ready(job, path), self._places, missing)
        self._places += 1
        self._offer(node)

    def _offer(self, node: _Node) -> None:
        if not node.missing:
            heapq.heappush(self._ready, (node.place, node.ready.job.key))

    def _stop(self, node: _Node, why: Ended) -> None:
        """A job cannot be had, nor all that waits for it; what only these wanted is not wanted any more."""
        key = node.ready.job.key
        del self._nodes[key]
        self._stopped[key] = why
        self._settled += [(target, why) for target in node.targets]
        for other in node.after:
            if other in self._nodes:
                self._stop(self._nodes[other], why)
        for other in node.missing:
            if other in self._nodes:
                self._nodes[other].after.discard(key)
                self._leave(other)

    def _leave(self, key: str) -> None:
        """Forget a job that nobody waits for, and what it alone waits for."""
        node = self._nodes[key]
        if node.after or node.targets or node.given:
            return
        del self._nodes[key]
        for other in node.missing:
            if other in self._nodes:
                self._nodes[other].after.discard(key)
                self._leave(other)
