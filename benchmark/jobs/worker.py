"""What a job is carried out with: the store, the device, and the networks that are open."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

import methods
from benchmark.jobs.batching import batch_size
from benchmark.jobs.inputs import EncoderUse
from benchmark.jobs.transfer import Transfer
from benchmark.store import keys
from benchmark.store.entries import Store
from methods.base import Method
from methods.device.memory import out_of_memory
from methods.device.precision import switches
from methods.encoders import registry
from methods.encoders.base import Encoder
from methods.encoders.networks.rerun import Rerun


@dataclass(frozen=True)
class Engine:
    """What an encoder's network is to run on. `stands`: features of it that were made so are there already.

    `if_faster`: only where it is faster than torch on this processor with so many threads; "": in any case.
    """

    name: str
    stands: bool = False
    if_faster: str = ""


class Worker:
    """The resources of one process. No job knows more of who runs it."""

    def __init__(self, store: Store, *, device: str, batch_size: int | None = None) -> None:
        self.store, self.device, self.batch_size = store, device, batch_size
        self.transfer = Transfer(device)
        self.passes: dict[str, int] = {}
        """Images that went through each encoder in this process."""
        self.engines: Mapping[str, Engine] = {}
        """By the key of an encoder, as they were chosen for the run; all others run on torch."""
        self._batch_sizes: dict[EncoderUse, int] = {}  # where halves went on
        self._encoders: dict[EncoderUse, Encoder] = {}
        self._method: tuple[str, Method] | None = None

    def say(self, line: str) -> None:
        """A note for people, on stderr, that leaves progress bars whole."""
        tqdm.write(line, file=sys.stderr)

    def clock(self, key: str) -> Callable[[float], float | None]:
        """Asked when a training has ended: its seconds, and those before it that it is told of.

        None where an earlier process began it: what that took was not counted.
        """
        started, begun = time.perf_counter(), self.store.begun(key)
        return lambda before: None if begun else before + time.perf_counter() - started

    @contextmanager
    def progress(self, title: str, total: int, done: int = 0) -> Iterator["tqdm[Any]"]:
        """A progress bar in images, for what takes longer than two seconds."""
        with tqdm(
            desc=title,
            total=total,
            initial=done,
            unit="img",
            delay=2,
            leave=False,
            dynamic_ncols=True,
            position=1,
        ) as bar:
            yield bar

    def open(self, use: EncoderUse) -> Encoder:
        """The encoder, open and trained; the last one stays open, and those that it stands on.

        RuntimeError, in one line, where its network does not fit into the device's memory.
        """
        if use not in self._encoders:
            below = use.chain  # others are closed before this one takes their place
            self._encoders = {other: encoder for other, encoder in self._encoders.items() if other in below}
            self._give_back()
            try:
                self._encoders[use] = self._opened(use)
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                raise RuntimeError(
                    f"{use.name}: the network does not fit into the memory of {self.device}: --device cpu"
                ) from None
        return self._encoders[use]

    def _opened(self, use: EncoderUse) -> Encoder:
        if use.note:
            self.say(f"note: {use.name}: {use.note}")
        encoder = registry.create(use.kind, **use.settings)
        if use.of is not None:  # with its own copy of that network, which it may run as no other does
            assert isinstance(encoder, Rerun)
            network = registry.create(use.of.kind, **use.of.settings)
            encoder.prepare(network)
            encoder.stand_on(self._loaded(network, use.of))
            return encoder
        return self._loaded(encoder, use)

    def _loaded(self, encoder: Encoder, use: EncoderUse) -> Encoder:
        encoder.open(use.weights, device=self.device, precision=use.precision)
        if use.trained_here:
            encoder.load_state(self.store.tensors("fit", use.training_key))
        return encoder

    def _give_back(self) -> None:
        """Let other processes, and other kinds of memory, have what nothing here holds any more."""
        if self.device.startswith("cuda"):
            torch.cuda.empty_cache()

    def fitted(self, name: str, settings: Mapping[str, Any], fit: str | None) -> Method:
        """The method with what the fit of that key learned; the last one stays in memory."""
        key = keys.digest(name=name, settings=dict(settings), fit=fit)
        if self._method is None or self._method[0] != key:
            self._method = None
            method = methods.create(name, **settings)
            if fit is not None:
                method.load_state(self.store.tensors("fit", fit), device=self.device)
            self._method = (key, method)
        return self._method[1]

    def batch_size_of(self, use: EncoderUse) -> int:
        """How many images go through this encoder at once."""
        return self._batch_sizes.get(use) or batch_size(
            self.batch_size, self.device, use.resolution, reruns=use.encoder.reruns
        )

    def encode(self, use: EncoderUse, images: Tensor | list[Tensor]) -> dict[str, Tensor]:
        """Features of one batch, on the device, which may still be at work on them.

        Out of GPU memory: half the batch, for this encoder from then on.
        """
        size = self.batch_size_of(use)
        if len(images) <= size:
            try:
                with switches("32", self.device):  # a network's pass has its own inside
                    return self.open(use).encode(self.transfer.send(images))
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                if len(images) == 1:
                    raise RuntimeError(
                        f"{use.name}: not enough memory on {self.device} for one image: --device cpu"
                    ) from None
            self._give_back()  # out of the handler, whose traceback holds what was computed
            size = self._batch_sizes[use] = len(images) // 2
            self.say(f"note: out of memory on {self.device}: {use.name} goes on with a batch size of {size}")
        parts = [self.encode(use, images[start : start + size]) for start in range(0, len(images), size)]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
