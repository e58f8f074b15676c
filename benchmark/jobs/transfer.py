"""Images to the device and features back, beside what it computes.

On a GPU a batch is packed into one of a few buffers that stay, in memory that the device reads by itself (pinned), and
copied on a stream of its own; features come back likewise. On the CPU nothing is copied.
"""

from collections.abc import Mapping
from queue import SimpleQueue
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

BUFFERS = 3  # one way: one is filled, one on its way, one waits for whoever takes it
_ALIGNED = 16  # bytes

Arrays = dict[str, np.ndarray[Any, np.dtype[Any]]]


class Mark(Protocol):
    """The end of a copy."""

    def synchronize(self) -> object: ...


class Link(Protocol):
    """What copies between memory and a device. Tests put another in the place of `Gpu`."""

    def buffer(self, size: int) -> Tensor:
        """`size` bytes that the device reads and writes by itself; RuntimeError where the system refuses them."""
        ...

    def send(self, source: Tensor) -> tuple[Tensor, Mark]:
        """A copy on the device, which what is computed from now on waits for."""
        ...

    def fetch(self, source: Tensor, out: Tensor) -> Mark:
        """Fill `out` with what the device will have computed, as far as it was launched until now."""
        ...


class Gpu:
    """A stream of its own for the copies of one direction."""

    def __init__(self, device: str) -> None:
        self._device, self._stream = torch.device(device), torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def buffer(self, size: int) -> Tensor:
        return torch.empty(size, dtype=torch.uint8, pin_memory=True)

    def send(self, source: Tensor) -> tuple[Tensor, Mark]:
        with torch.cuda.stream(self._stream):
            there = source.to(self._device, non_blocking=True)
            event = self._stream.record_event()
        computing = torch.cuda.current_stream(self._device)
        computing.wait_event(event)
        there.record_stream(computing)
        return there, event

    def fetch(self, source: Tensor, out: Tensor) -> Mark:
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            out.copy_(source, non_blocking=True)
            mark: Mark = self._stream.record_event()
        if source.is_cuda:
            source.record_stream(self._stream)
        return mark


class Ring:
    """A few buffers, used in turn: each again when the copy out of it is over, or when it is given back."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._free: SimpleQueue[tuple[Tensor, Mark | None]] = SimpleQueue()
        for _ in range(BUFFERS):
            self._free.put((torch.empty(0, dtype=torch.uint8), None))

    def take(self, size: int) -> Tensor:
        """A buffer of at least `size` bytes; waits until one is free. Pageable where the system pins no more."""
        buffer, mark = self._free.get()
        if mark is not None:
            mark.synchronize()
        if buffer.numel() >= size:
            return buffer
        del buffer
        try:
            return self._link.buffer(size)
        except RuntimeError:
            return torch.empty(size, dtype=torch.uint8)

    def give(self, buffer: Tensor, mark: Mark | None = None) -> None:
        """It is free, once `mark` is reached."""
        self._free.put((buffer, mark))


class Fetched:
    """The features of one batch, on their way."""

    def __init__(self, ring: Ring, buffer: Tensor, marks: list[Mark], parts: dict[str, Tensor]) -> None:
        self._ring, self._buffer, self._marks, self._parts = ring, buffer, marks, parts

    def arrays(self) -> Arrays:
        """To be called once, in any thread: waits for them; the buffer is free then, also where the device has failed,
        so that nobody waits for it for ever."""
        try:
            for mark in self._marks:
                mark.synchronize()
            return {name: values.numpy().copy() for name, values in self._parts.items()}
        finally:
            self._ring.give(self._buffer)


class Here:
    """The features of one batch that are in memory already."""

    def __init__(self, features: Mapping[str, Tensor]) -> None:
        self._features = features

    def arrays(self) -> Arrays:
        return {name: values.cpu().numpy() for name, values in self._features.items()}


class Transfer:
    """Both ways, for one process. `links`: of images and of features; none on the CPU."""

    def __init__(self, device: str, links: tuple[Link, Link] | None = None) -> None:
        if links is None and device.startswith("cuda"):
            links = Gpu(device), Gpu(device)
        self._links = links
        self._rings = None if links is None else (Ring(links[0]), Ring(links[1]))

    def send(self, images: Tensor | list[Tensor]) -> Tensor | list[Tensor]:
        """The images on the device, each in its shape: uint8, or of one type as a caller's own network reads them."""
        if self._links is None or self._rings is None:
            return images
        given = images if isinstance(images, list) else [images]
        parts = [part.contiguous().view(torch.uint8) for part in given]  # as bytes
        ends = np.cumsum([part.numel() for part in parts]).tolist()
        buffer = self._rings[0].take(ends[-1])
        mark: Mark | None = None
        try:
            for part, end in zip(parts, ends, strict=True):
                buffer[end - part.numel() : end].view(part.shape).copy_(part)
            there, mark = self._links[0].send(buffer[: ends[-1]])
        finally:  # out of memory, too, leaves the ring whole
            self._rings[0].give(buffer, mark)
        views = [
            there[end - part.numel() : end].view(of.dtype).view(of.shape)
            for part, of, end in zip(parts, given, ends, strict=True)
        ]
        return views if isinstance(images, list) else views[0]

    def fetch(self, features: Mapping[str, Tensor]) -> Fetched | Here:
        """Have the features of a batch copied back; the device may still be at work on them."""
        if self._links is None or self._rings is None:
            return Here(features)
        sizes = [-(-values.nbytes // _ALIGNED) * _ALIGNED for values in features.values()]
        buffer = self._rings[1].take(sum(sizes))
        parts: dict[str, Tensor] = {}
        start = 0
        marks: list[Mark] = []
        try:
            for (name, values), size in zip(features.items(), sizes, strict=True):
                out = buffer[start : start + values.nbytes].view(values.dtype).view(values.shape)
                marks.append(self._links[1].fetch(values, out))
                parts[name] = out
                start += size
        except BaseException:
            self._rings[1].give(buffer, marks[-1] if marks else None)
            raise
        return Fetched(self._rings[1], buffer, marks, parts)
