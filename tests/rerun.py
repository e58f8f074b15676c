"""A graph for machines without a GPU: it runs the captured function again, into the same result."""

from collections.abc import Callable, Iterable

from torch import Tensor


class Rerun:
    """In the place of a GPU's part of `methods.device.graphs`.

    `changed`: as a graph, which knows their addresses alone, it takes no other tensors in the place of these.
    """

    def __init__(self, changed: Callable[[], Iterable[Tensor]] = list) -> None:
        self.changed = changed
        self.warmed = self.recorded = self.replayed = 0

    def warm_up(self, work: Callable[[], Tensor]) -> None:
        self.warmed += 1
        work()

    def record(self, work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        self.recorded += 1
        result = work().detach().clone()
        there = [(tensor, tensor.data_ptr()) for tensor in self.changed()]

        def replay() -> None:
            self.replayed += 1
            now = [(tensor, tensor.data_ptr()) for tensor in self.changed()]
            same = all(a is b and p == q for (a, p), (b, q) in zip(there, now, strict=True))
            assert same, "another tensor took the place of one that the graph knows"
            result.copy_(work().detach())

        return replay, result
