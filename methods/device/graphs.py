"""A function that a GPU repeats as one graph: Python, which would launch its kernels one by one, is out of the way."""

from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from typing import Any, Protocol

import torch
from torch import Tensor

WARM_UP = 3  # calls before a capture, in which libraries make what they keep: handles, workspaces, the best kernels


class Recorder(Protocol):
    """The device's part of a capture."""

    def warm_up(self, work: Callable[[], Tensor]) -> None:
        """Do `work` as it is, where it will be recorded."""

    def record(self, work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        """What repeats the kernels of `work` on the same memory, and the tensor that each repetition writes anew."""


def recorder(device: torch.device) -> Recorder | None:
    """None where there is nothing to be gained: the CPU runs a function as it is."""
    return _Cuda(device) if device.type == "cuda" else None


class Captured:
    """`function(*tensors)`, a tensor, captured at its first call with tensors of these shapes and replayed ever after.

    `changed` lists the tensors that a call changes. Those are put back, in place, after the calls that warm it up:
    a graph knows addresses, and whatever took a tensor's place would never be looked at. One that only these calls
    have made is set to 0, with which an optimiser starts. `generators`, which `function` may draw from, are put back
    as well. The result is the same tensor at each call of a shape: use it before the next one.
    """

    def __init__(
        self,
        function: Callable[..., Tensor],
        changed: Callable[[], Iterable[Tensor]],
        generators: Sequence[torch.Generator],
        recorder: Recorder,
    ) -> None:
        self._function, self._changed, self._generators = function, changed, generators
        self._recorder = recorder
        self._graphs: dict[tuple[torch.Size, ...], tuple[list[Tensor], Callable[[], None], Tensor]] = {}

    def __call__(self, *tensors: Tensor) -> Tensor:
        shapes = tuple(tensor.shape for tensor in tensors)
        if shapes not in self._graphs:
            self._graphs[shapes] = self._capture([tensor.clone() for tensor in tensors])
        buffers, replay, result = self._graphs[shapes]
        for buffer, tensor in zip(buffers, tensors, strict=True):
            buffer.copy_(tensor, non_blocking=True)
        replay()
        return result

    def _capture(self, buffers: list[Tensor]) -> tuple[list[Tensor], Callable[[], None], Tensor]:
        before = {tensor: tensor.detach().clone() for tensor in self._changed()}  # by identity: so tensors are hashed
        states = [generator.get_state() for generator in self._generators]
        work = partial(self._function, *buffers)
        for _ in range(WARM_UP):
            self._recorder.warm_up(work)
        replay, result = self._recorder.record(work)
        with torch.no_grad():
            for tensor in self._changed():
                if tensor in before:
                    tensor.copy_(before[tensor])
                else:
                    tensor.zero_()
        for generator, state in zip(self._generators, states, strict=True):
            generator.set_state(state)
        return buffers, replay, result


@cache
def _stream(device: torch.device) -> Any:
    """One for all captures of a device: cuBLAS keeps a workspace of 64 MiB for each stream that it has seen."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


class _Cuda:
    """One stream that warms up and captures, so that nothing is made anew inside a capture, and one pool of memory.

    The graphs share the pool: they run one after another, and each computes anew all that it reads in it.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = _stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    def warm_up(self, work: Callable[[], Tensor]) -> None:
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            work()
        current.wait_stream(self._stream)

    def record(self, work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        graph = torch.cuda.CUDAGraph()
        # thread_local: what other threads ask of CUDA meanwhile (one that pins memory) is no part of this capture
        how: dict[str, Any] = {"pool": self._pool, "stream": self._stream, "capture_error_mode": "thread_local"}
        with torch.cuda.device(self._device), torch.cuda.graph(graph, **how):
            result = work()
        return graph.replay, result
